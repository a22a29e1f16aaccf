//! REST: what wants an admin's attention before it fails, and the certificates of the server.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Timestamp};

/// The condition that an alarm reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// A token that has no end.
    TokenWithoutEnd,
    /// A token that expires soon: within two weeks, and within the last quarter of its life.
    TokenExpires,
    /// A certificate that ends soon, or has ended, or begins only later: then the server's
    /// clock is wrong.
    Certificate,
    /// The audit log does not fit the heads of it that were kept.
    AuditLogBroken,
    /// The audit log comes near the size at which its oldest lines are removed.
    AuditLogFilling,
    /// The key of the audit log was lost, and another one was made when the server started.
    AuditKeyNew,
    /// The server cannot do its work, as `GET /v1/health` says.
    Health,
    /// An alarm of a newer server.
    #[serde(other)]
    Unknown,
}

impl AlarmKind {
    /// The kinds that this release raises.
    pub const ALL: [Self; 7] = [
        Self::TokenWithoutEnd,
        Self::TokenExpires,
        Self::Certificate,
        Self::AuditLogBroken,
        Self::AuditLogFilling,
        Self::AuditKeyNew,
        Self::Health,
    ];

    /// The word in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenWithoutEnd => "token-without-end",
            Self::TokenExpires => "token-expires",
            Self::Certificate => "certificate",
            Self::AuditLogBroken => "audit-log-broken",
            Self::AuditLogFilling => "audit-log-filling",
            Self::AuditKeyNew => "audit-key-new",
            Self::Health => "health",
            Self::Unknown => "unknown",
        }
    }
}

/// `GET /v1/alarms`: one thing that wants attention. It is there for as long as its cause is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Alarm {
    /// The condition that the alarm reports.
    pub alarm: AlarmKind,
    /// Of what: `ann/laptop` for a token of a user, `authority` for a certificate,
    /// `server` for itself.
    pub subject: String,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// What is wrong and how to mend it, for people.
    pub text: String,
}

/// `GET /v1/certificates`: a certificate of the server, or those of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Certificate {
    /// Which: `authority` (the CA), `server` (what its ports present), `site` (`api.certificate`),
    /// `nodes` (those that it issues to agents). The words are those of the metric.
    pub certificate: String,
    /// SHA-256 of its DER form. `None` for `nodes`, which has many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Digest>,
    /// Start of the certificate's validity (`notBefore`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<Timestamp>,
    /// When it ends. `None` for `nodes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// Whole days until then by the server's clock; negative when it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days_left: Option<i64>,
    /// Validity of one certificate from issue to expiry, seconds; set by the server.
    pub life_seconds: i64,
    /// Who renews it, and when, for people.
    pub renewal: String,
    /// What is wrong and how to mend it, for people. `None`: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_json() {
        for kind in AlarmKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
        assert_eq!(serde_json::from_str::<AlarmKind>("\"disk\"").unwrap(), AlarmKind::Unknown);
    }
}
