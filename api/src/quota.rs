//! REST: what one user may have at the server, and has. `/v1/users/{name}/quotas`.
//!
//! A quota has a name, a unit, and a limit: by default, by the configuration, or the user's own.
//! The words are those of the configuration's section `quotas`, of `bedplate user set --quota` and
//! of the API.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

/// A resource that a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaName {
    /// Number of tokens.
    Tokens,
    /// Sessions of browsers.
    Sessions,
    /// Requests that are being answered, with streams that are open.
    Requests,
    /// Workflows that are not over.
    Workflows,
    /// Tasks of workflows that are not over.
    Tasks,
    /// Ephemeral volumes of workflows that are not over.
    Volumes,
    /// Bytes that the ephemeral volumes of workflows that are not over may hold.
    VolumeBytes,
    /// Bytes of documents and plans of all workflows that are kept.
    Documents,
    /// Bytes of the inline files of workflows that are not over.
    Files,
    /// Bytes of logs at the server.
    Logs,
    /// Bytes of files that workflows brought to the server for their user.
    Results,
    /// Bytes of job images that the user's workflows were the first to pull.
    Images,
}

/// Number of quotas.
pub const QUOTAS: usize = 12;

impl QuotaName {
    /// All of them, in the order of the declaration.
    pub const ALL: [Self; QUOTAS] = [
        Self::Tokens,
        Self::Sessions,
        Self::Requests,
        Self::Workflows,
        Self::Tasks,
        Self::Volumes,
        Self::VolumeBytes,
        Self::Documents,
        Self::Files,
        Self::Logs,
        Self::Results,
        Self::Images,
    ];

    /// Their words, in the same order.
    pub const WORDS: [&'static str; QUOTAS] = [
        "tokens",
        "sessions",
        "requests",
        "workflows",
        "tasks",
        "volumes",
        "volume-bytes",
        "documents",
        "files",
        "logs",
        "results",
        "images",
    ];

    /// The word: `logs`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// Unit of the quota's values.
    #[must_use]
    pub fn unit(self) -> QuotaUnit {
        match self {
            Self::VolumeBytes
            | Self::Documents
            | Self::Files
            | Self::Logs
            | Self::Results
            | Self::Images => QuotaUnit::Bytes,
            Self::Tokens
            | Self::Sessions
            | Self::Requests
            | Self::Workflows
            | Self::Tasks
            | Self::Volumes => QuotaUnit::Count,
        }
    }

    /// What is counted, for people, behind "ann has 5 bytes of" or "ann has 5":
    /// `logs at the server`.
    #[must_use]
    pub fn things(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Sessions => "sessions",
            Self::Requests => "requests and streams under way",
            Self::Workflows => "workflows that are not over",
            Self::Tasks => "tasks of workflows that are not over",
            Self::Volumes => "ephemeral volumes of workflows that are not over",
            Self::VolumeBytes => "sizes of ephemeral volumes of workflows that are not over",
            Self::Documents => "documents and plans of workflows",
            Self::Files => "inline files of workflows that are not over",
            Self::Logs => "logs at the server",
            Self::Results => "files of workflows at the server",
            Self::Images => "job images at the server",
        }
    }

    /// How a user gets room again.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Tokens => "revoke one with `bedplate token delete`",
            Self::Sessions => "end them with `bedplate user logout`",
            Self::Requests => "wait for some to end, or end watches and streams that are open",
            Self::VolumeBytes => {
                "give volumes a smaller `size` in the document, wait for workflows to end, or stop some \
                 with `bedplate workflow stop`"
            }
            Self::Workflows | Self::Tasks | Self::Volumes | Self::Files => {
                "wait for workflows to end, or stop some with `bedplate workflow stop`"
            }
            Self::Documents | Self::Logs | Self::Results => {
                "delete workflows that are over with `bedplate workflow delete`"
            }
            Self::Images => {
                "images that no workflow uses go within minutes; else wait for workflows to end, or stop \
                 some with `bedplate workflow stop`"
            }
        }
    }
}

/// There is no quota of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quota; there are {words}", words = QuotaName::WORDS.join(", "))]
pub struct UnknownQuota(pub String);

impl FromStr for QuotaName {
    type Err = UnknownQuota;

    fn from_str(text: &str) -> Result<Self, UnknownQuota> {
        let named = Self::ALL.into_iter().find(|name| name.as_str() == text);
        named.ok_or_else(|| UnknownQuota(text.chars().take(80).collect()))
    }
}

/// What the numbers of a quota are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QuotaUnit {
    /// A number of objects.
    Count,
    /// A size, bytes.
    Bytes,
    /// A unit of a newer server.
    #[serde(other)]
    Unknown,
}

impl QuotaUnit {
    /// A number of it for people: `12`, `21474836480 bytes`.
    #[must_use]
    pub fn format_amount(self, number: u64) -> String {
        match self {
            Self::Bytes => format!("{number} bytes"),
            Self::Count | Self::Unknown => number.to_string(),
        }
    }
}

/// Largest limit that can be said; more is `none`. What the database holds in one number.
pub const MAX_LIMIT: u64 = i64::MAX.cast_unsigned();

/// A text that is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It is no number.
    #[error("{text:?} is no limit: write a number{sizes}, or `none` for no limit")]
    Form {
        /// As given, cut to 80 characters.
        text: String,
        /// What may stand behind the number.
        sizes: &'static str,
    },
    /// It is larger than numbers are.
    #[error("{text} is more than {MAX_LIMIT}: write `none` for no limit")]
    TooLarge {
        /// As given.
        text: String,
    },
}

/// Reads a limit: `100`, `20GiB` where bytes are counted, `none`. `Ok(None)`: no limit.
///
/// # Errors
/// [`LimitError`].
pub fn parse_limit(unit: QuotaUnit, text: &str) -> Result<Option<u64>, LimitError> {
    if text == "none" {
        return Ok(None);
    }
    let sizes = if unit == QuotaUnit::Bytes { " of bytes such as 512MiB or 20GiB" } else { "" };
    let cut = || text.chars().take(80).collect::<String>();
    let form = || LimitError::Form { text: cut(), sizes };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, word) = text.split_at(digits);
    if number.is_empty() {
        return Err(form());
    }
    let shift = match word {
        "" => 0,
        "KiB" if unit == QuotaUnit::Bytes => 10,
        "MiB" if unit == QuotaUnit::Bytes => 20,
        "GiB" if unit == QuotaUnit::Bytes => 30,
        "TiB" if unit == QuotaUnit::Bytes => 40,
        _ => return Err(form()),
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64 << shift));
    let limit = number.filter(|limit| *limit <= MAX_LIMIT);
    limit.map(Some).ok_or_else(|| LimitError::TooLarge { text: cut() })
}

/// Amounts of what quotas count, one for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts([u64; QUOTAS]);

impl Amounts {
    /// The amount of one resource.
    #[must_use]
    pub fn get(&self, name: QuotaName) -> u64 {
        self.0[name as usize]
    }

    /// Sets the amount of one resource, in its own unit (a count, or bytes).
    pub fn set(&mut self, name: QuotaName, amount: u64) {
        self.0[name as usize] = amount;
    }

    /// The same with one set.
    #[must_use]
    pub fn with(mut self, name: QuotaName, amount: u64) -> Self {
        self.set(name, amount);
        self
    }

    /// These and others.
    pub fn increase(&mut self, more: &Self) {
        for (amount, more) in self.0.iter_mut().zip(more.0) {
            *amount = amount.saturating_add(more);
        }
    }

    /// These without others.
    pub fn decrease(&mut self, less: &Self) {
        for (amount, less) in self.0.iter_mut().zip(less.0) {
            *amount = amount.saturating_sub(less);
        }
    }
}

/// Response of `GET /v1/users/{name}/quotas`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct UserQuotas {
    /// Name of the user.
    pub user: String,
    /// Every quota. A newer server may have more.
    pub quotas: Vec<QuotaUse>,
}

/// One quota of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct QuotaUse {
    /// Name of the quota: `logs`.
    pub name: String,
    /// Unit of `used` and `limit`.
    pub unit: QuotaUnit,
    /// Amount that the user holds now, in `unit`.
    pub used: u64,
    /// What the user may have; `null`: as much as there is.
    pub limit: Option<u64>,
    /// The limit was given to this user (`PUT`), and is not that of everybody.
    #[serde(default)]
    pub own: bool,
}

/// `PUT /v1/users/{name}/quotas`: the user's own limits, all of them; what is not there is as for
/// everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetQuotas {
    /// By word; `null`: no limit.
    pub limits: BTreeMap<String, Option<u64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_the_order_of_their_names() {
        for (index, name) in QuotaName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, index);
            assert_eq!(name.as_str().parse(), Ok(name));
        }
        let unknown = "disk".parse::<QuotaName>().unwrap_err();
        assert!(
            unknown.to_string().starts_with("\"disk\" is no quota; there are tokens, "),
            "{unknown}"
        );
    }

    #[test]
    fn limits_are_numbers_and_sizes() {
        let bytes = |text: &str| parse_limit(QuotaUnit::Bytes, text);
        assert_eq!(bytes("20GiB"), Ok(Some(20 << 30)));
        assert_eq!(bytes("512MiB"), Ok(Some(512 << 20)));
        assert_eq!([bytes("7"), bytes("0"), bytes("none")], [Ok(Some(7)), Ok(Some(0)), Ok(None)]);
        assert_eq!(parse_limit(QuotaUnit::Count, "100"), Ok(Some(100)));
        for wrong in ["", "GiB", "-1", "1.5GiB", "20GB", "20 GiB", "unlimited", "é1"] {
            assert!(matches!(bytes(wrong), Err(LimitError::Form { .. })), "{wrong}");
        }
        assert!(matches!(parse_limit(QuotaUnit::Count, "1KiB"), Err(LimitError::Form { .. })));
        for large in ["9223372036854775808", "8388608TiB", "99999999999999999999"] {
            assert!(matches!(bytes(large), Err(LimitError::TooLarge { .. })), "{large}");
        }
    }

    #[test]
    fn amounts_are_never_less_than_nothing() {
        let one = Amounts::default().with(QuotaName::Logs, 5).with(QuotaName::Tasks, u64::MAX);
        let mut sum = one;
        sum.increase(&one);
        assert_eq!((sum.get(QuotaName::Logs), sum.get(QuotaName::Tasks)), (10, u64::MAX));
        sum.decrease(&Amounts::default().with(QuotaName::Logs, 11));
        assert_eq!(sum.get(QuotaName::Logs), 0);
    }
}
