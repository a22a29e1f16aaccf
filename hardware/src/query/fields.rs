//! Names of all fields that a question may name, out of the API's own description of its types.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use api::{inventory::Inventory, status::NodeStatus};
use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{RefOr, Schema},
};

/// Names within a node that come from nowhere else.
const OWN: [&str; 3] = [LABELS, "name", "status"];

/// The field whose own fields are called as people call them.
pub(super) const LABELS: &str = "labels";

/// The fields of a node itself.
static TOP: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut names = properties(&Inventory::schema());
    names.extend(OWN.map(str::to_owned));
    names
});

/// The fields at any depth.
static ALL: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let mut schemas = Vec::new();
    Inventory::schemas(&mut schemas);
    NodeStatus::schemas(&mut schemas);
    let described: BTreeMap<String, RefOr<Schema>> = schemas.into_iter().collect();
    let mut names: BTreeSet<String> = described.values().flat_map(properties).collect();
    names.extend(properties(&NodeStatus::schema()));
    names.extend(TOP.iter().cloned());
    names
});

fn properties(schema: &RefOr<Schema>) -> BTreeSet<String> {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.properties.keys().map(|name| name.replace('-', "_")).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Whether a node has such a field.
pub(super) fn is_top(name: &str) -> bool {
    TOP.contains(name)
}

/// Whether anything in a node has such a field.
pub(super) fn is_known(name: &str) -> bool {
    ALL.contains(name)
}

/// `no field is called `x``, with what may have been meant.
pub(super) fn unknown(name: &str, among_all: bool) -> String {
    let names = if among_all { &*ALL } else { &*TOP };
    match hint(name, names) {
        Some(hint) => format!("no field is called `{name}`; {hint}"),
        None => format!("no field is called `{name}`"),
    }
}

fn hint(name: &str, names: &BTreeSet<String>) -> Option<String> {
    // `memory-bytes` is read as a subtraction.
    let begun = format!("{name}_");
    let longer = names.iter().find(|known| known.starts_with(&begun));
    let begun = longer.map(|known| format!("did you mean `{known}`? `_` stands for `-`"));
    begun.or_else(|| yaml_tree::did_you_mean(name, names.iter().map(String::as_str)))
}
