//! Names, addresses and digests: newtypes that are valid by construction.
//!
//! All of them serialise as the string that [`std::fmt::Display`] prints and refuse anything else.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a string is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {kind}: {rule}")]
pub struct InvalidId {
    /// What the string should have been, for example "node name".
    pub kind: &'static str,
    /// The string as given, cut to 80 characters.
    pub value: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidId {
    pub(crate) fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        Self { kind, value: value.chars().take(80).collect(), rule }
    }
}

/// Serialises a type through its `Display` and `FromStr`.
macro_rules! string_serde {
    ($name:ident, $example:literal $(, $pattern:literal)?) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .examples([$example])
                    $(.pattern(Some($pattern)))?
                    .build()
                    .into()
            }
        }
    };
}

pub(crate) use string_serde;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                check_label($kind, text).map(|()| Self(text.to_owned()))
            }
        }
        // The rule of `check_label`.
        string_serde!($name, $example, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");
    };
}

label! {
    /// Name of a node: an RFC 1123 host label, because it becomes the host name.
    NodeName, "node name", "n0001"
}
label! {
    /// Name of a profile.
    ProfileName, "profile name", "default"
}
label! {
    /// Name of an OS image, without its version.
    ImageName, "image name", "debian-node"
}
label! {
    /// Name of an overlay: the name of its directory.
    OverlayName, "overlay name", "hostname"
}

/// RFC 1123 label: lower-case letters, digits and inner hyphens, at most 63 characters.
fn check_label(kind: &'static str, text: &str) -> Result<(), InvalidId> {
    const RULE: &str =
        "use 1 to 63 lower-case letters, digits and hyphens, no hyphen first or last";
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let valid = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if valid { Ok(()) } else { Err(InvalidId::new(kind, text, RULE)) }
}

/// Identity of a node for its whole life, through renames and new network cards.
///
/// Made at random when the node is added; the machine-id of its OS is derived from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub uuid::Uuid);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}
impl FromStr for NodeId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| InvalidId::new("node id", text, "use a UUID (RFC 9562)"))
    }
}
string_serde!(NodeId, "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11");

/// A 48-bit MAC address. Prints as `52:54:00:12:34:56`; also reads `-` and `.` forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address with hyphens, as iPXE's `${mac:hexhyp}` prints it.
    #[must_use]
    pub fn hyphenated(&self) -> String {
        String::from_utf8_lossy(&self.separated_by(b'-')).into_owned()
    }

    /// Two hexadecimal digits for each byte, with this between them.
    fn separated_by(self, separator: u8) -> [u8; 17] {
        let mut text = [separator; 17];
        for (digits, byte) in text.chunks_mut(3).zip(self.0) {
            // Two places for one byte: it fits.
            let _ = hex::encode_to_slice([byte], &mut digits[..2]);
        }
        text
    }
}
impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(&self.separated_by(b':')))
    }
}
impl FromStr for MacAddr {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let error = || {
            InvalidId::new(
                "MAC address",
                text,
                "use six hexadecimal bytes, as in 52:54:00:12:34:56",
            )
        };
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-' | '.')).collect();
        if digits.len() != 12 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut bytes = [0; 6];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}
string_serde!(MacAddr, "52:54:00:12:34:56");

/// A SHA-256 digest. Prints as `sha256:` and 64 hexadecimal digits, as in the OCI
/// image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The 64 hexadecimal digits without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut digits = [0; 64];
        // Two places for each byte: it fits. `hex::encode` makes the text character by character.
        let _ = hex::encode_to_slice(self.0, &mut digits);
        String::from_utf8_lossy(&digits).into_owned()
    }
}
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}
impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let error = || InvalidId::new("digest", text, "use sha256: and 64 hexadecimal digits");
        let digits = text.strip_prefix("sha256:").ok_or_else(error)?;
        if digits.len() != 64 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(bytes))
    }
}
string_serde!(Digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

/// Microseconds since 1970-01-01 00:00 UTC. Prints as RFC 3339 only at the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Whole seconds since the epoch.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
    /// This time and `seconds` more.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
    /// Seconds from `earlier` to this time; negative if `earlier` is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a duration for display")]
        let micros = self.0.saturating_sub(earlier.0) as f64;
        micros / 1e6
    }
}
impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with whole seconds; the calendar is the proleptic Gregorian one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.seconds().div_euclid(86_400);
        let second = self.seconds().rem_euclid(86_400);
        // Civil from days: years start in March, eras have 146,097 days.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        for good in ["a", "n0001", "a-b", &"x".repeat(63)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_reads_three_forms_and_prints_one() {
        for text in ["52:54:00:ab:CD:ef", "52-54-00-ab-cd-ef", "5254.00ab.cdef"] {
            assert_eq!(
                text.parse::<MacAddr>().map(|m| m.to_string()),
                Ok("52:54:00:ab:cd:ef".to_owned())
            );
        }
        assert!("52:54:00:ab:cd".parse::<MacAddr>().is_err());
    }

    #[test]
    fn timestamps_print_as_rfc_3339() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(951_782_400_000_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(Timestamp(1_795_464_000_999_999).to_string(), "2026-11-23T20:00:00Z");
    }
}
