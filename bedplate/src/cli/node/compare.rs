//! `node compare`: what differs between nodes that should be equal.
//!
//! A *fact* has a name and one text as its value. What is each machine's own (serial numbers,
//! hardware and other addresses, UUIDs, GUIDs, LIDs, counters, free pages) is no fact.

mod facts;

use std::{collections::BTreeMap, process::ExitCode};

use api::{hostlist, ids::NodeName, inventory::Inventory};
use client::Client;
use comfy_table::Color;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::{
        columns,
        context::Session,
        error::Usage,
        output::{Format, Rows, print_note},
        table::{Cell, Style, table},
        words::count,
    },
    Nodes,
    show::inventory_of,
};

/// What differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Comparison {
    /// Nodes compared.
    nodes: Vec<NodeName>,
    /// Nodes that never told of their hardware.
    unknown: Vec<NodeName>,
    /// Facts looked at.
    facts: usize,
    /// Those that are not the same on all.
    differences: Vec<Difference>,
}

impl Rows for Comparison {
    const COLUMNS: &'static [&'static str] = columns::DIFFERENCE;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let of = |difference: &Difference| {
            let row = |group: &Group| {
                let Group { value, nodes, majority } = group;
                json!({"fact": difference.fact, "value": value, "nodes": nodes, "majority": majority})
            };
            difference.groups.iter().map(row).collect::<Vec<_>>()
        };
        Ok(self.differences.iter().flat_map(of).collect())
    }
}

/// A fact that is not the same on all nodes.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Difference {
    /// Name of the fact.
    fact: String,
    /// Its values, that of the most nodes first.
    groups: Vec<Group>,
}

/// Nodes that agree.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Group {
    /// What they say; `None`: nothing.
    value: Option<String>,
    /// They.
    nodes: Vec<NodeName>,
    /// More nodes say so than anything else.
    majority: bool,
}

/// Exit status 1 if something differs, as of `diff`.
pub(super) async fn run(
    session: &Session,
    client: &Client,
    nodes: &Nodes,
) -> anyhow::Result<ExitCode> {
    let names = nodes.names()?;
    if names.len() < 2 {
        return Err(Usage("name at least two nodes, such as n[1-8]".to_owned()).into());
    }
    let mut inventories = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match inventory_of(client, &name).await? {
            Some(inventory) => inventories.push((name, inventory)),
            None => unknown.push(name),
        }
    }
    let comparison = compare(&inventories, unknown);
    session.out.show(&comparison, |style| draw(*style, &comparison))?;
    if session.out.format() == Format::Csv && !comparison.unknown.is_empty() {
        // It has no row for what was not compared.
        print_note(&never_reported(&comparison.unknown));
    }
    let is_equal = comparison.differences.is_empty() && comparison.unknown.is_empty();
    Ok(if is_equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare(inventories: &[(NodeName, Inventory)], unknown: Vec<NodeName>) -> Comparison {
    let mut facts: BTreeMap<String, BTreeMap<&NodeName, String>> = BTreeMap::new();
    for (name, inventory) in inventories {
        for (fact, value) in facts::of(inventory) {
            facts.entry(fact).or_default().insert(name, value);
        }
    }
    let difference = |(fact, told): (&String, &BTreeMap<&NodeName, String>)| {
        let mut groups: BTreeMap<Option<&String>, Vec<NodeName>> = BTreeMap::new();
        for (name, _) in inventories {
            groups.entry(told.get(name)).or_default().push(name.clone());
        }
        (groups.len() > 1).then(|| Difference { fact: fact.clone(), groups: ordered(groups) })
    };
    Comparison {
        nodes: inventories.iter().map(|(name, _)| name.clone()).collect(),
        unknown,
        facts: facts.len(),
        differences: facts.iter().filter_map(difference).collect(),
    }
}

fn ordered(groups: BTreeMap<Option<&String>, Vec<NodeName>>) -> Vec<Group> {
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|(value, nodes)| Group { value: value.cloned(), nodes, majority: false })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.nodes.len()));
    let most = groups.first().map_or(0, |group| group.nodes.len());
    let next = groups.get(1).map_or(0, |group| group.nodes.len());
    if let Some(first) = groups.first_mut() {
        first.majority = most > next;
    }
    groups
}

fn draw(style: Style, comparison: &Comparison) -> String {
    let Comparison { nodes, unknown, facts, differences } = comparison;
    let mut text = String::new();
    if !differences.is_empty() {
        let rows = differences.iter().flat_map(|difference| rows(style, difference));
        text.push_str(&table(style, &["FACT", "NODES", "VALUE"], rows));
        text.push('\n');
    }
    let list = |names: &[NodeName]| hostlist::compress(names.iter().map(NodeName::as_str));
    if !unknown.is_empty() {
        text.push_str(&(never_reported(unknown) + "\n"));
    }
    let result = match differences.len() {
        0 => "equal".to_owned(),
        1 => "1 differs".to_owned(),
        many => format!("{many} differ"),
    };
    text + &format!("{} of {}: {result}\n", count(*facts, "fact"), list(nodes))
}

fn never_reported(nodes: &[NodeName]) -> String {
    format!(
        "{} never told of their hardware",
        hostlist::compress(nodes.iter().map(NodeName::as_str))
    )
}

fn rows(style: Style, difference: &Difference) -> Vec<Vec<Cell>> {
    let usual = difference
        .groups
        .first()
        .filter(|group| group.majority)
        .and_then(|group| group.value.as_ref());
    let row = |(place, group): (usize, &Group)| {
        let fact = if place == 0 { difference.fact.as_str() } else { "" };
        let nodes = hostlist::compress(group.nodes.iter().map(NodeName::as_str));
        let value = match (&group.value, usual) {
            (None, _) => "-".to_owned(),
            (Some(value), Some(usual)) if place > 0 && facts::is_set(&difference.fact) => {
                against(value, usual)
            }
            (Some(value), _) => shortened(value),
        };
        let color = if group.majority { Color::Reset } else { Color::Yellow };
        vec![Cell::new(fact), style.colored(nodes, color), style.colored(value, color)]
    };
    difference.groups.iter().enumerate().map(row).collect()
}

/// What a set of words has more and less than the usual one: `-avx512f +sse4a`.
fn against(value: &str, usual: &str) -> String {
    let words =
        |text: &str| text.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (value, usual) = (words(value), words(usual));
    let less = usual.difference(&value).map(|word| format!("-{word}"));
    let more = value.difference(&usual).map(|word| format!("+{word}"));
    shortened(&less.chain(more).collect::<Vec<_>>().join(" "))
}

/// Characters of a value in the table; `-o json` has all of it.
const MAX_VALUE_CHARS: usize = 100;

fn shortened(value: &str) -> String {
    match value.char_indices().nth(MAX_VALUE_CHARS) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
