//! REST: who is asking, API tokens, and the audit log.

use serde::{Deserialize, Serialize};

use crate::{
    ids::Timestamp,
    rights::{Action, Permitted, Role},
};

/// Response of `GET /v1/whoami`: who the caller is and what it may do.
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
    /// What the user may do, by the order of the API's list of actions; what is not
    /// here is refused.
    #[serde(default)]
    pub actions: Vec<Permitted>,
    /// Name of the token that asks, itself or by a session or ticket that was got with it. A server
    /// of before 2026-12 tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When that token ends, by the server's clock. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
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

/// When a token expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TokenLife {
    /// It does not end.
    Never,
    /// So many seconds after it was made, by the server's clock.
    AfterSeconds(u64),
}

/// Body of `POST /v1/tokens`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateToken {
    /// What the token is for: 1 to 63 lower-case letters, digits and hyphens. Unique among
    /// the user's tokens.
    pub name: String,
    /// Whose it is; default: the caller's. Admins only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it ends; default: after `api.token-days` of the server's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<TokenLife>,
    /// Actions that it is for, of those that its user may do. Default: all of them, or those of the
    /// token that makes it. `who-am-i` is always among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<Action>>,
    /// It is for the actions that read what is no secret, and for those of `scope`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A token just made. Its secret is shown this once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct CreatedToken {
    /// Name of the token, unique among those of its user.
    pub name: String,
    /// The bearer token: `bp_` and 43 base64url characters.
    pub token: String,
    /// When it ends, by the server's clock. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Token {
    /// Name of the token, unique among those of its user.
    pub name: String,
    /// The user that it belongs to.
    pub user: String,
    /// When the server created the token.
    pub created: Timestamp,
    /// When it ends, by the server's clock. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The actions that it is for. `None`: all that its user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Vec<Action>>,
    /// When it was used last, to the minute. `None`: never, or before the server kept
    /// this (2026-12).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// The address that it was used from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_source: Option<String>,
}

/// A token is told to end soon so long before at most, seconds: two weeks.
pub const TOKEN_NOTICE_SECONDS: i64 = 14 * 86_400;

/// From when on a token that was made and ends at these times is told to end soon: two weeks
/// before, and a quarter of its life before where it lives shorter, so that what is renewed in time
/// raises no alarm.
#[must_use]
pub fn token_notice_from(created: Timestamp, expires: Timestamp) -> Timestamp {
    let quarter = (expires.0.saturating_sub(created.0) / 4).max(0);
    Timestamp(expires.plus_seconds(-TOKEN_NOTICE_SECONDS).0.max(expires.0.saturating_sub(quarter)))
}

/// Title of the refusal of a token that has ended: its detail says whose it is, since when,
/// and what to do.
pub const TOKEN_EXPIRED: &str = "the token has expired";

/// A session that was begun by `POST /v1/session`. Its secret is in the cookie alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Session {
    /// When the server created the session, at the login.
    pub created: Timestamp,
    /// When it ends at the latest.
    pub ends: Timestamp,
    /// Without a request for so long, it ends earlier.
    pub idle_seconds: u64,
}

/// Response of `DELETE /v1/users/{name}/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct EndedSessions {
    /// Number of sessions that the request ended.
    pub ended: u64,
}

/// Body of `POST /v1/tickets`: the one request that the ticket is for.
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
    /// Time of the request, by the server's clock.
    pub at: Timestamp,
    /// Name of the user or service that made the request.
    pub principal: String,
    /// What was done: `POST`, or a word of the server's own such as `create-admin`.
    pub action: String,
    /// To what: `/v1/nodes/n1`.
    pub subject: String,
    /// How it ended: an HTTP status code, or a word. `committed`: it is done, and the server ended
    /// before it had answered; `begun`: the server ended in the middle of it.
    pub outcome: String,
    /// What was changed: names, identifiers. Empty: the subject says it all, or a release of before
    /// 2026-12 wrote the line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// How it was changed, where that is told: a JSON object of the values before and after, by
    /// their paths; several of them for several objects. Secrets are left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub difference: String,
    /// The address that the request came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The name of the token that the request came with, or that the session was begun with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// What the hash covers: 1 the fields up to the outcome, 2 all.
    #[serde(default = "first_form", skip_serializing_if = "is_first_form")]
    pub form: u32,
    /// SHA-256 over the previous line's hash and this line, 64 hexadecimal digits.
    pub hash: String,
}

/// The form of lines that tell none.
fn first_form() -> u32 {
    1
}

fn is_first_form(form: &u32) -> bool {
    *form == 1
}

/// `GET /v1/audit/head`: the last line of the audit log, signed by the server. Kept outside of the
/// server it proves later that the log up to this line is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct AuditHead {
    /// The line's number; 0 if there is none yet.
    pub number: u64,
    /// The line's time.
    pub at: Timestamp,
    /// The line's hash, 64 hexadecimal digits.
    pub hash: String,
    /// The server's public key for this, Ed25519, 64 hexadecimal digits.
    pub key: String,
    /// Ed25519 over `bedplate audit head 1`, a line feed, number, time (microseconds since 1970)
    /// and hash; the numbers as 8 bytes, big endian. 128 hexadecimal digits.
    pub signature: String,
}

/// `GET /v1/audit/cut`: up to where the server has removed the oldest lines of the audit log. The
/// first line that is left follows the last one that was removed, so the chain is checked from here
/// on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct AuditCut {
    /// The number of the last line that was removed.
    pub number: u64,
    /// That line's time.
    pub at: Timestamp,
    /// That line's hash, 64 hexadecimal digits.
    pub hash: String,
    /// When the lines were removed.
    pub cut_at: Timestamp,
    /// For what: `audit.keep-days` or `audit.max-gib`, keys of the server's configuration.
    pub why: String,
    /// The server's public key for this, Ed25519, 64 hexadecimal digits.
    pub key: String,
    /// Ed25519 over `bedplate audit cut 1`, a line feed, number, time, hash, time of the cut, and
    /// the length and bytes of `why`; numbers and times (microseconds since 1970) as 8 bytes, big
    /// endian. 128 hexadecimal digits.
    pub signature: String,
}
