//! REST: who is asking, API tokens, and the audit log.

use serde::{Deserialize, Serialize};

use crate::{
    ids::Timestamp,
    rights::{Permitted, Role},
};

/// `GET /v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Whoami {
    /// Name of the user that the token belongs to.
    pub name: String,
    /// May do everything: has the role `admin`.
    pub admin: bool,
    /// Roles of the user, from its record. A server of before 2026-12 tells none.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Names of the groups that the user is in. No groups are built yet, so it is empty.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What the user may do, by the order of the API's list of actions; what is not here is refused.
    #[serde(default)]
    pub actions: Vec<Permitted>,
}

/// A user, as whom workflows run. Numbers are those of the site's file systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct User {
    /// 1 to 63 lower-case letters, digits and inner hyphens.
    pub name: String,
    /// May do everything.
    #[serde(default)]
    pub admin: bool,
    /// The numbers that the user's jobs run with. A user without them runs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// A remark for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Numeric identity on nodes and file systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Account {
    /// User id, never 0.
    pub uid: u32,
    /// Group id, never 0.
    pub gid: u32,
    /// Supplementary groups, none of them 0.
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateToken {
    /// What the token is for: 1 to 63 lower-case letters, digits and hyphens. Unique among the user's tokens.
    pub name: String,
    /// Whose it is; default: the caller's. Admins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A token just made. Its secret is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct CreatedToken {
    /// Its name.
    pub name: String,
    /// The bearer token: `bp_` and 43 base64url characters.
    pub token: String,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Token {
    /// Its name.
    pub name: String,
    /// The user that it belongs to.
    pub user: String,
    /// When it was made.
    pub created: Timestamp,
}

/// A session that was begun by `POST /v1/session`. Its secret is in the cookie alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    /// When it began.
    pub created: Timestamp,
    /// When it ends at the latest.
    pub ends: Timestamp,
    /// Without a request for so long, it ends earlier.
    pub idle_seconds: u64,
}

/// `DELETE /v1/users/{name}/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct EndedSessions {
    /// How many there were.
    pub ended: u64,
}

/// `POST /v1/tickets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateTicket {
    /// Method of the request that it is for: `GET`, as event streams and WebSockets begin.
    pub method: String,
    /// Path of that request without its query: `/v1/nodes/watch`.
    pub path: String,
}

/// A ticket: good for one request, as the query parameter `ticket`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Ticket {
    /// `bpt_` and 43 base64url characters.
    pub ticket: String,
    /// Until when it is good.
    pub expires: Timestamp,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct AuditEntry {
    /// Place in the log, from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub principal: String,
    /// What was done: `POST`, or a word of the server's own such as `create-admin`.
    pub action: String,
    /// To what: `/v1/nodes/n1`.
    pub subject: String,
    /// How it ended: an HTTP status code, or a word.
    pub outcome: String,
    /// SHA-256 over the previous line's hash and this line, 64 hexadecimal digits.
    pub hash: String,
}
