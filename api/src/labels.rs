//! Labels: public facts about a node that people give it, `rack=a1`, and selectors over them.
//!
//! Admins write them on nodes and profiles; everybody reads them, and documents of workflows ask
//! for them. What only admins may read is a template variable (`tags`) instead.
//!
//! ```text
//! key       [PREFIX/]NAME       example.org/zone, rack
//! selector  TERM[,TERM]*        rack=a1,tier!=test,gpu,!old
//! ```
//!
//! A NAME has 1 to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a
//! digit; a PREFIX is a DNS name of at most 253 bytes (RFC 1123); a value is like a NAME, or empty.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// Most labels of one node with its profiles, of one profile, and in one job's wishes: everybody
/// reads them, and a queue compares them.
pub const MAX_LABELS: usize = 64;

/// Longest name of a key, and longest value, bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// Longest prefix of a key, bytes: that of a DNS name.
pub const MAX_PREFIX_BYTES: usize = 253;

/// Longest selector, bytes.
pub const MAX_SELECTOR_BYTES: usize = 4_096;

/// Most terms of a selector: each is looked at for every node.
pub const MAX_TERMS: usize = 32;

/// Before the key of a label in a specification: takes away the one that a profile brings.
pub const REMOVES: char = '~';

/// Why a text is not a valid label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The part of a key behind its prefix.
    #[error(
        "the name of a label has 1 to 63 letters, digits, `-`, `_` and `.`, and begins and ends with \
         a letter or a digit"
    )]
    Name,
    /// The part of a key before its slash.
    #[error("the prefix of a label is a DNS name of at most 253 bytes, such as example.org/")]
    Prefix,
    /// A value.
    #[error(
        "the value of a label is empty, or has up to 63 letters, digits, `-`, `_` and `.`, and begins \
         and ends with a letter or a digit"
    )]
    Value,
}

/// Whether this can be the key of a label.
///
/// # Errors
/// [`LabelError::Name`], [`LabelError::Prefix`].
pub fn check_key(key: &str) -> Result<(), LabelError> {
    let name = match key.split_once('/') {
        Some((prefix, _)) if !is_prefix(prefix) => return Err(LabelError::Prefix),
        Some((_, name)) => name,
        None => key,
    };
    if is_name(name) { Ok(()) } else { Err(LabelError::Name) }
}

/// Whether this can be the value of a label.
///
/// # Errors
/// [`LabelError::Value`].
pub fn check_value(value: &str) -> Result<(), LabelError> {
    if value.is_empty() || is_name(value) { Ok(()) } else { Err(LabelError::Value) }
}

fn is_name(text: &str) -> bool {
    let ends = |end: Option<u8>| end.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= MAX_NAME_BYTES
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_prefix(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part.len() <= MAX_NAME_BYTES
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= MAX_PREFIX_BYTES && text.split('.').all(is_part)
}

/// A label as people write it: `rack=a1`.
#[must_use]
pub fn shown(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// All labels in one line, `-` for none.
#[must_use]
pub fn line(labels: &Labels) -> String {
    match labels.is_empty() {
        true => "-".to_owned(),
        false => labels.iter().map(|(key, value)| shown(key, value)).collect::<Vec<_>>().join(","),
    }
}

/// Why a text is not a valid selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Too long, or of too many terms.
    #[error("a selector has at most {MAX_SELECTOR_BYTES} bytes and {MAX_TERMS} terms")]
    TooLong,
    /// Nothing stands between two commas, or there is nothing at all.
    #[error("a term is missing; write KEY=VALUE, KEY!=VALUE, KEY or !KEY, joined by commas")]
    Missing,
    /// A term that has no label in it.
    #[error("{term:?}: {diagnostic}")]
    Term {
        /// The term.
        term: String,
        /// Why the label is not valid.
        diagnostic: LabelError,
    },
}

/// Which nodes are meant, by their labels: those that all terms are true of.
///
/// | term | is true of a node |
/// |---|---|
/// | `KEY=VALUE`, `KEY==VALUE` | whose label has this value |
/// | `KEY!=VALUE` | that has another value, or not the label |
/// | `KEY` | that has the label |
/// | `!KEY` | that does not have it |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Is { key: String, value: String },
    IsNot { key: String, value: String },
    Has { key: String },
    HasNot { key: String },
}

impl Selector {
    /// Whether a node with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is { key, value } => labels.get(key) == Some(value),
            Term::IsNot { key, value } => labels.get(key) != Some(value),
            Term::Has { key } => labels.contains_key(key),
            Term::HasNot { key } => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES || text.split(',').count() > MAX_TERMS {
            return Err(SelectorError::TooLong);
        }
        text.split(',').map(term).collect::<Result<_, _>>().map(Self)
    }
}

fn term(text: &str) -> Result<Term, SelectorError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(SelectorError::Missing);
    }
    let (key, value, is) = if let Some((key, value)) = text.split_once("!=") {
        (key, Some(value), false)
    } else if let Some((key, value)) = text.split_once('=') {
        (key, Some(value.strip_prefix('=').unwrap_or(value)), true)
    } else {
        (text.strip_prefix('!').unwrap_or(text), None, !text.starts_with('!'))
    };
    let (key, value) = (key.trim().to_owned(), value.map(|value| value.trim().to_owned()));
    let wrong = |diagnostic| SelectorError::Term { term: text.to_owned(), diagnostic };
    check_key(&key).map_err(wrong)?;
    check_value(value.as_deref().unwrap_or_default()).map_err(wrong)?;
    Ok(match (value, is) {
        (Some(value), true) => Term::Is { key, value },
        (Some(value), false) => Term::IsNot { key, value },
        (None, true) => Term::Has { key },
        (None, false) => Term::HasNot { key },
    })
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, term) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match term {
                Term::Is { key, value } => write!(f, "{key}={value}")?,
                Term::IsNot { key, value } => write!(f, "{key}!={value}")?,
                Term::Has { key } => f.write_str(key)?,
                Term::HasNot { key } => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keys_and_values() {
        let long = "x".repeat(MAX_NAME_BYTES);
        for good in
            ["rack", "a", "Rack-1", "a.b_c", "example.org/zone", "nvidia.com/gpu.model", &long]
        {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        let longer = "x".repeat(MAX_NAME_BYTES + 1);
        for bad in
            ["", "-a", "a-", ".a", "a b", "a=b", "a,b", "~a", "!a", "a/", "a/b/c", "ä", &longer]
        {
            assert_eq!(check_key(bad), Err(LabelError::Name), "{bad}");
        }
        let prefix = format!("{}/a", "x.".repeat(127) + "x");
        for bad in ["/a", "Example.org/a", "a..b/c", "-a/b", "a_b/c", &prefix] {
            assert_eq!(check_key(bad), Err(LabelError::Prefix), "{bad}");
        }
        for (value, is_good) in
            [("", true), ("a1", true), (&*long, true), (&*longer, false), ("a b", false)]
        {
            assert_eq!(check_value(value).is_ok(), is_good, "{value:?}");
        }
    }

    #[test]
    fn a_selector_is_all_of_its_terms() {
        let node = labels(&[("rack", "a1"), ("example.org/zone", "north"), ("empty", "")]);
        for (text, is_meant) in [
            ("rack=a1", true),
            ("rack==a1", true),
            (" rack = a1 , example.org/zone = north ", true),
            ("rack=a2", false),
            ("rack!=a2", true),
            ("rack!=a1", false),
            ("nothing!=a1", true),
            ("rack", true),
            ("nothing", false),
            ("!nothing", true),
            ("!rack", false),
            ("empty=", true),
            ("empty!=", false),
            ("rack=a1,nothing", false),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&node), is_meant, "{text}");
            assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector, "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_says_why() {
        let refused = |text: &str| text.parse::<Selector>().unwrap_err().to_string();
        assert!(refused("").starts_with("a term is missing"));
        assert!(refused("rack=a1,").starts_with("a term is missing"));
        assert!(refused("rack=a=b").starts_with("\"rack=a=b\": the value of a label"));
        assert!(refused("=a").starts_with("\"=a\": the name of a label"));
        assert!(refused(&vec!["a"; MAX_TERMS + 1].join(",")).starts_with("a selector has at most"));
        assert!(refused(&"a".repeat(MAX_SELECTOR_BYTES + 1)).starts_with("a selector has at most"));
    }

    #[test]
    fn labels_in_a_line() {
        assert_eq!(line(&Labels::new()), "-");
        assert_eq!(line(&labels(&[("b", ""), ("a", "1")])), "a=1,b=");
    }
}
