//! The shape of a document, and the walk that holds a tree against it and finds every mistake.
//!
//! A table of shapes says again what types say, because a decoder stops at its first error; tests
//! hold the two together.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

use crate::{Diagnostics, Key, Kind, Location, Tree, did_you_mean};

/// How keys at the top begin that are the author's own, such as a place for anchors. They are not
/// looked at.
pub const EXTENSION: &str = "x-";

/// The message of a key that this version cannot do.
pub const LATER: &str = "not supported yet";

/// What a value must be.
#[derive(Debug)]
pub enum Shape {
    /// Any scalar, as text.
    Text,
    /// A whole number from zero to a limit.
    Number(u32),
    /// `true` or `false`.
    Flag,
    /// A scalar that a parser accepts.
    Parsed {
        /// What it is: "an IP address".
        what: &'static str,
        /// How one looks.
        example: &'static str,
        /// The parser.
        accepts: fn(&str) -> bool,
    },
    /// A single value in short, or a map with known keys.
    Short(&'static Shape, &'static [Field]),
    /// A key that the language has and this version cannot do; the value is not looked at.
    Later,
    /// A list.
    List(&'static Shape),
    /// A map with free keys.
    Map(&'static Shape),
    /// A map with known keys.
    Object(&'static [Field]),
}

/// One key of an object.
#[derive(Debug)]
pub struct Field {
    name: &'static str,
    shape: Shape,
    required: bool,
}

impl Field {
    /// What its value must be.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

/// A key that may be left out.
#[must_use]
pub const fn field(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: false }
}

/// A key that must be there.
#[must_use]
pub const fn required(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, required: true }
}

/// Where the walk is. It becomes text where a mistake is noted, and nowhere else: a long key would
/// otherwise be copied for each value below it.
#[derive(Debug, Clone, Copy)]
enum Path<'a> {
    Start(&'a str),
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Start(""))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(path) => f.write_str(path),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Holds a tree against a shape. What is right comes back as JSON; what is wrong is
/// left out and noted.
pub fn walk(
    tree: &Tree,
    shape: &Shape,
    path: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Value> {
    value(tree, shape, Path::Start(path), diagnostics)
}

fn value(
    tree: &Tree,
    shape: &Shape,
    path: Path<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Value> {
    diagnostics.count(1);
    match (shape, &tree.kind) {
        (Shape::Later, _) => {
            diagnostics.add(tree.at, path, LATER, None);
            None
        }
        (Shape::Short(shape, _), Kind::Scalar { .. }) => value(tree, shape, path, diagnostics),
        (Shape::Short(_, fields), Kind::Map(_)) => Some(object(tree, fields, path, diagnostics)),
        (
            Shape::Text | Shape::Number(_) | Shape::Flag | Shape::Parsed { .. },
            Kind::Scalar { text, .. },
        ) => scalar(tree, text, shape, path, diagnostics),
        (Shape::List(element), Kind::List(elements)) => Some(Value::Array(
            elements
                .iter()
                .enumerate()
                .filter_map(|(index, tree)| {
                    value(tree, element, Path::Index(&path, index), diagnostics)
                })
                .collect(),
        )),
        (Shape::Map(shape), Kind::Map(_)) => {
            Some(entries(tree, path, diagnostics, |_, _, _| Some(shape)))
        }
        (Shape::Object(fields), Kind::Map(_)) => Some(object(tree, fields, path, diagnostics)),
        (shape, kind) => {
            let hint = match (shape, kind) {
                (Shape::List(_), Kind::Scalar { text, .. }) => Some(format!("write `[{text}]`")),
                (Shape::Parsed { example, .. }, _) => Some(format!("as in {example}")),
                _ => None,
            };
            let message = format!("this must be {}, not {}", name_of(shape), kind_of(kind));
            diagnostics.add(tree.at, path, message, hint);
            None
        }
    }
}

fn scalar(
    tree: &Tree,
    text: &str,
    shape: &Shape,
    path: Path<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Value> {
    if tree.is_null() {
        diagnostics.add(
            tree.at,
            path,
            format!("this must be {}, not nothing", name_of(shape)),
            None,
        );
        return None;
    }
    match shape {
        Shape::Number(limit) => match text.parse::<u32>().ok().filter(|number| number <= limit) {
            Some(number) => Some(number.into()),
            None => {
                let message = format!("{text:?} is not a whole number from 0 to {limit}");
                diagnostics.add(tree.at, path, message, None);
                None
            }
        },
        Shape::Flag => match text {
            "true" => Some(true.into()),
            "false" => Some(false.into()),
            _ => {
                diagnostics.add(tree.at, path, format!("{text:?} is neither true nor false"), None);
                None
            }
        },
        Shape::Parsed { what, example, accepts } if !accepts(text) => {
            let message = format!("{text:?} is not {what}");
            diagnostics.add(tree.at, path, message, Some(format!("as in {example}")));
            None
        }
        _ => Some(Value::String(text.to_owned())),
    }
}

fn object(
    tree: &Tree,
    fields: &'static [Field],
    path: Path<'_>,
    diagnostics: &mut Diagnostics,
) -> Value {
    let value = entries(tree, path, diagnostics, |key, at, diagnostics| {
        diagnostics.count(fields.len());
        let found = fields.iter().find(|field| field.name == key.text);
        let is_extension = path.is_empty() && key.text.starts_with(EXTENSION);
        if found.is_none() && !is_extension {
            let hint = || did_you_mean(&key.text, fields.iter().map(|field| field.name));
            diagnostics.add_with(key.at, at, || (format!("unknown key {:?}", key.text), hint()));
        }
        found.map(|field| &field.shape)
    });
    for field in fields.iter().filter(|field| field.required) {
        let written = matches!(&tree.kind, Kind::Map(entries) if entries.iter().any(|(key, _)| key.text == field.name));
        if !written {
            diagnostics.add(tree.at, path, format!("the key {:?} is missing", field.name), None);
        }
    }
    value
}

/// Walks the entries of a map; `shape_of` says what the value of a key must be, or notes why the
/// key is wrong. A null value counts as a key that is not there.
fn entries(
    tree: &Tree,
    path: Path<'_>,
    diagnostics: &mut Diagnostics,
    shape_of: impl Fn(&Key, Path<'_>, &mut Diagnostics) -> Option<&'static Shape>,
) -> Value {
    let mut map = Map::new();
    let mut seen = BTreeMap::new();
    if let Kind::Map(entries) = &tree.kind {
        for (key, tree) in entries {
            let at = Path::Key(&path, &key.text);
            let first = diagnostics.first_use(&mut seen, key, at);
            let Some(shape) = shape_of(key, at, diagnostics) else { continue };
            let empty_object = matches!(shape, Shape::Object(_)) && tree.is_null();
            let is_later = matches!(shape, Shape::Later);
            let walked = match tree {
                _ if empty_object => Some(Value::Object(Map::new())),
                // Where the key is, for it is the key that cannot be done.
                _ if is_later => {
                    diagnostics.add(key.at, at, LATER, None);
                    None
                }
                tree if tree.is_null() => None,
                tree => value(tree, shape, at, diagnostics),
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
        Shape::Flag => "true or false",
        Shape::Parsed { what, .. } => what,
        Shape::Short(..) => "a single value or a map",
        Shape::Later => "left out",
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

/// Where the value of a field begins, or the nearest value around it. Keys may hold dots
/// (`eth0.7`), so the longest key that fits is taken.
#[must_use]
pub fn find(tree: &Tree, field: &str) -> Option<Location> {
    let field = field.strip_prefix('.').unwrap_or(field);
    if field.is_empty() {
        return Some(tree.at);
    }
    match &tree.kind {
        Kind::Map(entries) => entries
            .iter()
            .filter_map(|(key, value)| Some((key, value, field.strip_prefix(&key.text)?)))
            .filter(|(_, _, rest)| rest.is_empty() || rest.starts_with(['.', '[']))
            .max_by_key(|(key, _, _)| key.text.len())
            .and_then(|(key, value, rest)| {
                if value.is_null() { Some(key.at) } else { find(value, rest).or(Some(key.at)) }
            }),
        Kind::List(elements) => {
            let (index, rest) = field.strip_prefix('[')?.split_once(']')?;
            find(elements.get(index.parse::<usize>().ok()?)?, rest)
        }
        Kind::Scalar { .. } => None,
    }
}
