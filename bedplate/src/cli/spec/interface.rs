//! `--interface NAME:KEY=VALUE,…`.

use std::str::FromStr;

use api::machine::InterfaceSpec;
use serde_json::{Map, Value, json};

/// What is said of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its key.
    pub(crate) name: String,
    /// A merge patch on it.
    pub(crate) patch: Value,
}

/// Why a text says nothing of an interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InterfaceError {
    #[error("write NAME:KEY=VALUE,… such as lan1:mac=52:54:00:12:34:56,address=10.2.0.11/24")]
    Form,
    #[error("{key}={value} is not a number")]
    NotANumber { key: String, value: String },
    #[error(
        "{0} is no key of an interface; known: mac, address, gateway, mtu, vlan, parent, bond, members"
    )]
    UnknownKey(String),
    #[error("{0} is given twice")]
    Twice(String),
    #[error("a bond needs bond=MODE and members=A+B")]
    HalfABond,
    #[error(transparent)]
    Value(serde_json::Error),
}

impl FromStr for Interface {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let named = text.split_once(':').filter(|(name, _)| !name.is_empty());
        let (name, rest) = named.ok_or(InterfaceError::Form)?;
        let (mut patch, mut bond) = (Map::new(), Map::new());
        for pair in rest.split(',') {
            let (key, value) = pair.split_once('=').ok_or(InterfaceError::Form)?;
            let before = match key {
                "mac" | "address" | "gateway" | "parent" => {
                    patch.insert(key.to_owned(), json!(value))
                }
                "mtu" | "vlan" => {
                    let number: u32 = value.parse().map_err(|_| InterfaceError::NotANumber {
                        key: key.to_owned(),
                        value: value.to_owned(),
                    })?;
                    patch.insert(key.to_owned(), json!(number))
                }
                "bond" => bond.insert("mode".to_owned(), json!(value)),
                "members" => {
                    bond.insert("members".to_owned(), value.split('+').collect::<Vec<_>>().into())
                }
                other => return Err(InterfaceError::UnknownKey(other.to_owned())),
            };
            if before.is_some() {
                return Err(InterfaceError::Twice(key.to_owned()));
            }
        }
        if !bond.is_empty() {
            patch.insert("bond".to_owned(), Value::Object(bond));
        }
        let patch = Value::Object(patch);
        // The server would say the same later and less close to the flag.
        serde_json::from_value::<InterfaceSpec>(patch.clone()).map_err(|error| {
            match error.to_string().contains("missing field") {
                true => InterfaceError::HalfABond,
                false => InterfaceError::Value(error),
            }
        })?;
        Ok(Self { name: name.to_owned(), patch })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: &Expect) {
        let read = text.parse::<Interface>();
        let text = read
            .map_or_else(|error| error.to_string(), |read| format!("{} {}", read.name, read.patch));
        expected.assert_eq(&text);
    }

    #[test]
    fn interfaces() {
        check(
            "lan1:mac=52-54-00-12-34-56,address=10.2.0.11/24,mtu=9000",
            &expect![[r#"lan1 {"mac":"52-54-00-12-34-56","address":"10.2.0.11/24","mtu":9000}"#]],
        );
        check("v100:vlan=100,parent=lan0", &expect![[r#"v100 {"vlan":100,"parent":"lan0"}"#]]);
        check(
            "bond0:bond=802.3ad,members=lan0+lan1",
            &expect![[r#"bond0 {"bond":{"mode":"802.3ad","members":["lan0","lan1"]}}"#]],
        );
    }

    #[test]
    fn diagnostics() {
        check(
            "lan1",
            &expect![
                "write NAME:KEY=VALUE,… such as lan1:mac=52:54:00:12:34:56,address=10.2.0.11/24"
            ],
        );
        check(
            "lan1:mac",
            &expect![
                "write NAME:KEY=VALUE,… such as lan1:mac=52:54:00:12:34:56,address=10.2.0.11/24"
            ],
        );
        check(
            "lan1:mca=1",
            &expect![
                "mca is no key of an interface; known: mac, address, gateway, mtu, vlan, parent, bond, members"
            ],
        );
        check(
            "lan1:mac=1",
            &expect![[
                r#""1" is not a valid MAC address: use six hexadecimal bytes, as in 52:54:00:12:34:56"#
            ]],
        );
        check("lan1:mtu=big", &expect!["mtu=big is not a number"]);
        check("lan1:mtu=1,mtu=2", &expect!["mtu is given twice"]);
        check("bond0:members=lan0", &expect!["a bond needs bond=MODE and members=A+B"]);
        check("lan1:vlan=70000", &expect!["invalid value: integer `70000`, expected u16"]);
    }
}
