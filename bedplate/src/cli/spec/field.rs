//! Fields that `--unset` clears.

use std::str::FromStr;

use serde_json::{Map, Value};

use super::super::error::Usage;

/// Fields of a specification, and what may stand behind their dot.
const FIELDS: &[(&str, Inner)] = &[
    ("comment", Inner::None),
    ("profiles", Inner::None),
    ("image", Inner::None),
    ("kernel", Inner::None),
    ("kernel-args", Inner::None),
    ("root", Inner::Keys(&["writable-size"])),
    ("interfaces", Inner::Interfaces),
    ("dns", Inner::Keys(&["servers", "search"])),
    ("boot-overlays", Inner::None),
    ("runtime-overlays", Inner::None),
    ("bmc", Inner::Keys(&["address"])),
    ("groups", Inner::None),
    ("labels", Inner::Free),
    ("tags", Inner::Free),
];

/// Keys of an interface.
const INTERFACE_KEYS: &[&str] = &["mac", "address", "gateway", "mtu", "vlan", "parent", "bond"];

#[derive(Debug, Clone, Copy)]
enum Inner {
    /// Nothing.
    None,
    /// One of these.
    Keys(&'static [&'static str]),
    /// The name of an interface, and maybe one of [`INTERFACE_KEYS`].
    Interfaces,
    /// Any key, dots included.
    Free,
}

/// A field by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field(Vec<String>);

/// Why a path names no field that can be cleared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    #[error("there is no such field; known: {}", known_fields())]
    Unknown,
    #[error("nothing follows the dot")]
    NoKey,
    #[error("{field} is cleared as a whole: leave out the rest")]
    Whole { field: String },
    #[error("{parent} has {}", keys.join(", "))]
    UnknownKey { parent: String, keys: &'static [&'static str] },
}

fn known_fields() -> String {
    FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Field {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<Self, FieldError> {
        let (head, rest) = match text.split_once('.') {
            Some((head, rest)) => (head, Some(rest)),
            None => (text, None),
        };
        let Some((_, inner)) = FIELDS.iter().find(|(name, _)| *name == head) else {
            return Err(FieldError::Unknown);
        };
        let mut path = vec![head.to_owned()];
        match (inner, rest) {
            (_, None) => {}
            (_, Some("")) => return Err(FieldError::NoKey),
            (Inner::None, Some(_)) => {
                return Err(FieldError::Whole { field: head.to_owned() });
            }
            (Inner::Free, Some(key)) => path.push(key.to_owned()),
            (Inner::Keys(keys), Some(key)) => path.push(one_of(head, key, keys)?),
            (Inner::Interfaces, Some(rest)) => match rest.split_once('.') {
                None => path.push(rest.to_owned()),
                Some((name, key)) => {
                    path.extend([name.to_owned(), one_of(name, key, INTERFACE_KEYS)?])
                }
            },
        }
        Ok(Self(path))
    }
}

fn one_of(parent: &str, key: &str, keys: &'static [&'static str]) -> Result<String, FieldError> {
    match keys.contains(&key) {
        true => Ok(key.to_owned()),
        false => Err(FieldError::UnknownKey { parent: parent.to_owned(), keys }),
    }
}

impl Field {
    /// A field within another.
    pub(crate) fn of(path: [&str; 2]) -> Self {
        Self(path.map(str::to_owned).into())
    }

    /// Puts `null` into a merge patch. What a flag sets is not cleared.
    pub(crate) fn clear(&self, patch: &mut Map<String, Value>) -> Result<(), Usage> {
        let both = || Usage(format!("{} is set and cleared at once", self.0.join(".")));
        let Some((last, parents)) = self.0.split_last() else { return Ok(()) };
        let mut map = patch;
        for key in parents {
            let below = map.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
            map = below.as_object_mut().ok_or_else(both)?;
        }
        match map.insert(last.clone(), Value::Null) {
            Some(_) => Err(both()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let path = |text: &str| match text.parse::<Field>() {
            Ok(field) => Ok(field.0.join("|")),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(path("image"), Ok("image".to_owned()));
        assert_eq!(path("interfaces.lan0.mtu"), Ok("interfaces|lan0|mtu".to_owned()));
        assert_eq!(path("tags.a.b"), Ok("tags|a.b".to_owned()));
        assert_eq!(path("dns.search"), Ok("dns|search".to_owned()));
        assert_eq!(
            path("image.x"),
            Err("image is cleared as a whole: leave out the rest".to_owned())
        );
        assert_eq!(
            path("interfaces.lan0.mca"),
            Err("lan0 has mac, address, gateway, mtu, vlan, parent, bond".to_owned())
        );
        assert!(path("imgae").unwrap_err().starts_with("there is no such field; known: comment"));
    }

    /// The list above and the API have the same fields.
    #[test]
    fn every_field_of_the_api_can_be_cleared() {
        let yaml = "{comment: a, profiles: [a], image: a, kernel: a, kernel-args: [a], root: {writable-size: 1GiB}, \
            interfaces: {a: {}}, dns: {search: [a]}, boot-overlays: [a], runtime-overlays: [a], \
            bmc: {address: 10.0.0.1}, groups: [a], labels: {a: b}, tags: {a: b}}";
        let spec: api::machine::MachineSpec = serde_saphyr::from_str(yaml).unwrap();
        let value = serde_json::to_value(&spec).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
