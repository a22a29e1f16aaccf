//! The shape of a machine specification, and the walk that holds a tree against it and finds every mistake.
//!
//! The table says again what `api::machine` says in types, because a decoder stops at its first error; a test holds
//! the two together.

use api::{ids::MacAddr, problem::Mistake};
use serde_json::{Map, Value};

use super::tree::{Kind, Location, Tree};
use crate::suggest::did_you_mean;

/// What a value must be.
#[derive(Debug)]
pub(super) enum Shape {
    /// Any scalar, as text.
    Text,
    /// A whole number from zero to a limit.
    Number(u32),
    /// A scalar that a parser accepts.
    Parsed { what: &'static str, example: &'static str, accepts: fn(&str) -> bool },
    /// A list.
    List(&'static Shape),
    /// A map with free keys.
    Map(&'static Shape),
    /// A map with known keys.
    Object(&'static [Field]),
}

/// One key of an object.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    shape: Shape,
    required: bool,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false }
}

const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: true }
}

const MAC: Shape = Shape::Parsed {
    what: "a hardware address",
    example: "52:54:00:12:34:56",
    accepts: |text| text.parse::<MacAddr>().is_ok(),
};
const NETWORK: Shape = Shape::Parsed {
    what: "an address with prefix length",
    example: "10.1.0.11/24",
    accepts: |text| text.parse::<ipnet::IpNet>().is_ok(),
};
const ADDRESS: Shape = Shape::Parsed {
    what: "an IP address",
    example: "10.1.0.1",
    accepts: |text| text.parse::<std::net::IpAddr>().is_ok(),
};

static INTERFACE: Shape = Shape::Object(&[
    field("mac", MAC),
    field("address", NETWORK),
    field("gateway", ADDRESS),
    field("mtu", Shape::Number(u32::MAX)),
    field("vlan", Shape::Number(65_535)),
    field("parent", Shape::Text),
    field(
        "bond",
        Shape::Object(&[required("mode", Shape::Text), required("members", Shape::List(&Shape::Text))]),
    ),
]);

/// A node or a profile.
pub(super) static MACHINE: Shape = Shape::Object(&[
    field("comment", Shape::Text),
    field("profiles", Shape::List(&Shape::Text)),
    field("image", Shape::Text),
    field("kernel", Shape::Text),
    field("kernel-args", Shape::List(&Shape::Text)),
    field("root", Shape::Object(&[field("writable-size", Shape::Text)])),
    field("interfaces", Shape::Map(&INTERFACE)),
    field(
        "dns",
        Shape::Object(&[field("servers", Shape::List(&ADDRESS)), field("search", Shape::List(&Shape::Text))]),
    ),
    field("boot-overlays", Shape::List(&Shape::Text)),
    field("runtime-overlays", Shape::List(&Shape::Text)),
    field("bmc", Shape::Object(&[field("address", ADDRESS)])),
    field("groups", Shape::List(&Shape::Text)),
    field("tags", Shape::Map(&Shape::Text)),
]);

/// Collects mistakes.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn add(&mut self, at: Location, path: &str, message: impl Into<String>, hint: Option<String>) {
        self.0.push(Mistake {
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message: message.into(),
            hint,
        });
    }

    /// Refuses every second use of a key. Returns whether `key` is the first one of its name in `seen`.
    pub(super) fn first_use<'a>(
        &mut self,
        seen: &mut Vec<(&'a str, Location)>,
        key: &'a super::tree::Key,
        path: &str,
    ) -> bool {
        if let Some((_, first)) = seen.iter().find(|(text, _)| *text == key.text) {
            let message = format!("the key is there twice; first in line {}", first.line);
            self.add(key.at, path, message, None);
            return false;
        }
        seen.push((&key.text, key.at));
        true
    }
}

/// Holds a tree against a shape. What is right comes back as JSON; what is wrong is left out and noted.
pub(super) fn walk(tree: &Tree, shape: &Shape, path: &str, mistakes: &mut Mistakes) -> Option<Value> {
    if let Kind::Scalar { text, .. } = &tree.kind
        && matches!(shape, Shape::Text | Shape::Number(_) | Shape::Parsed { .. })
    {
        return scalar(tree, text, shape, path, mistakes);
    }
    match (shape, &tree.kind) {
        (Shape::List(element), Kind::List(elements)) => Some(Value::Array(
            elements
                .iter()
                .enumerate()
                .filter_map(|(index, tree)| walk(tree, element, &format!("{path}[{index}]"), mistakes))
                .collect(),
        )),
        (Shape::Map(value), Kind::Map(_)) => Some(entries(tree, path, mistakes, |_, _, _| Some(value))),
        (Shape::Object(fields), Kind::Map(_)) => Some(object(tree, fields, path, mistakes)),
        (shape, kind) => {
            let hint = match (shape, kind) {
                (Shape::List(_), Kind::Scalar { text, .. }) => Some(format!("write `[{text}]`")),
                (Shape::Parsed { example, .. }, _) => Some(format!("as in {example}")),
                _ => None,
            };
            let message = format!("this must be {}, not {}", name_of(shape), kind_of(kind));
            mistakes.add(tree.at, path, message, hint);
            None
        }
    }
}

fn scalar(tree: &Tree, text: &str, shape: &Shape, path: &str, mistakes: &mut Mistakes) -> Option<Value> {
    if tree.is_null() {
        mistakes.add(tree.at, path, format!("this must be {}, not nothing", name_of(shape)), None);
        return None;
    }
    match shape {
        Shape::Number(limit) => match text.parse::<u32>().ok().filter(|number| number <= limit) {
            Some(number) => Some(number.into()),
            None => {
                let message = format!("{text:?} is not a whole number from 0 to {limit}");
                mistakes.add(tree.at, path, message, None);
                None
            }
        },
        Shape::Parsed { what, example, accepts } if !accepts(text) => {
            let message = format!("{text:?} is not {what}");
            mistakes.add(tree.at, path, message, Some(format!("as in {example}")));
            None
        }
        _ => Some(Value::String(text.to_owned())),
    }
}

fn object(tree: &Tree, fields: &'static [Field], path: &str, mistakes: &mut Mistakes) -> Value {
    let value = entries(tree, path, mistakes, |key, at, mistakes| {
        let found = fields.iter().find(|field| field.name == key.text);
        if found.is_none() {
            let hint = did_you_mean(&key.text, fields.iter().map(|field| field.name));
            mistakes.add(key.at, at, format!("unknown key {:?}", key.text), hint);
        }
        found.map(|field| &field.shape)
    });
    for field in fields.iter().filter(|field| field.required) {
        let written =
            matches!(&tree.kind, Kind::Map(entries) if entries.iter().any(|(key, _)| key.text == field.name));
        if !written {
            mistakes.add(tree.at, path, format!("the key {:?} is missing", field.name), None);
        }
    }
    value
}

/// Walks the entries of a map; `shape_of` says what the value of a key must be, or notes why the key is wrong.
/// A null value counts as a key that is not there.
fn entries(
    tree: &Tree,
    path: &str,
    mistakes: &mut Mistakes,
    shape_of: impl Fn(&super::tree::Key, &str, &mut Mistakes) -> Option<&'static Shape>,
) -> Value {
    let mut map = Map::new();
    let mut seen = Vec::new();
    if let Kind::Map(entries) = &tree.kind {
        for (key, value) in entries {
            let at = format!("{path}.{}", key.text);
            let first = mistakes.first_use(&mut seen, key, &at);
            let Some(shape) = shape_of(key, &at, mistakes) else { continue };
            let empty_object = matches!(shape, Shape::Object(_)) && value.is_null();
            let walked = match value {
                _ if empty_object => Some(Value::Object(Map::new())),
                value if value.is_null() => None,
                value => walk(value, shape, &at, mistakes),
            };
            if let (Some(value), true) = (walked, first) {
                map.insert(key.text.clone(), value);
            }
        }
    }
    Value::Object(map)
}

fn name_of(shape: &Shape) -> &'static str {
    match shape {
        Shape::Text => "text",
        Shape::Number(_) => "a whole number",
        Shape::Parsed { what, .. } => what,
        Shape::List(_) => "a list",
        Shape::Map(_) | Shape::Object(_) => "a map",
    }
}

fn kind_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Scalar { .. } => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use api::machine::{BmcSpec, BondSpec, DnsSpec, InterfaceSpec, MachineSpec, RootSpec};

    use super::*;

    /// Every field set: a field that is added to the types and not to the table fails here.
    fn full() -> MachineSpec {
        let interface = InterfaceSpec {
            mac: "52:54:00:00:00:01".parse().ok(),
            address: "10.0.0.1/24".parse().ok(),
            gateway: "10.0.0.254".parse().ok(),
            mtu: Some(1500),
            vlan: Some(1),
            parent: Some("x".into()),
            bond: Some(BondSpec { mode: "802.3ad".into(), members: vec!["x".into()] }),
        };
        MachineSpec {
            comment: Some("x".into()),
            profiles: vec!["x".into()],
            image: Some("x".into()),
            kernel: Some("x".into()),
            kernel_args: vec!["x".into()],
            root: Some(RootSpec { writable_size: Some("1%".into()) }),
            interfaces: [("eth0".to_owned(), interface)].into(),
            dns: Some(DnsSpec { servers: vec!["10.0.0.1".parse().unwrap()], search: vec!["x".into()] }),
            boot_overlays: vec!["x".into()],
            runtime_overlays: vec!["x".into()],
            bmc: Some(BmcSpec { address: "10.0.0.1".parse().ok() }),
            groups: vec!["x".into()],
            tags: [("x".to_owned(), "x".to_owned())].into(),
        }
    }

    #[test]
    fn the_table_says_what_the_types_say() {
        let full = full();
        let yaml = serde_saphyr::to_string(&full).unwrap();
        let tree = super::super::tree::parse(&yaml).unwrap().unwrap();
        let mut mistakes = Mistakes::default();
        let value = walk(&tree, &MACHINE, "x", &mut mistakes).unwrap();
        assert!(mistakes.0.is_empty(), "{:?}", mistakes.0);
        assert_eq!(serde_json::from_value::<MachineSpec>(value).unwrap(), full);
        assert_eq!(leaves(&MACHINE), 21, "a field was added to the table: add it to full()");
    }

    fn leaves(shape: &Shape) -> usize {
        match shape {
            Shape::Object(fields) => fields.iter().map(|field| leaves(&field.shape)).sum(),
            Shape::List(inner) | Shape::Map(inner) => leaves(inner),
            _ => 1,
        }
    }
}
