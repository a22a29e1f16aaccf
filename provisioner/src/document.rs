//! The YAML document of `bedplate apply`, read with every mistake at once, and written by
//! `bedplate export`.
//!
//! ```yaml
//! profiles:
//!   base: { image: debian-node }
//! nodes:
//!   n[1-8]: { profiles: [base], interfaces: { eth0: { address: 10.1.0.11/24 } } }
//! ```
//!
//! `partial: true` stands in what is exported to somebody who does not read all of nodes: what is
//! missing there would be taken away, so such a document is refused until the line is taken out.
//!
//! Pure. Reading has two steps: the text becomes a tree with locations, the tree is held against
//! the shape of a machine. Mistakes that only the whole cluster shows ([`crate::check`]) are
//! located afterwards by [`Document::note`].

use std::collections::{BTreeMap, HashMap};

use api::{
    hostlist,
    ids::{NodeName, ProfileName},
    machine::MachineSpec,
};
use serde::Serialize;
use yaml_tree::{
    Diagnostics, EXTENSION, Key, Kind, Location, Tree, did_you_mean, find, parse, walk,
};

use crate::{
    check::{Finding, Subject},
    cluster::MAX_NODES,
    spread::{MAX_SPREAD_BYTES, bytes_of, spread},
};

mod shape;

use shape::MACHINE;

/// Largest document read, bytes: 10,000 nodes with 1 KiB each, with room.
pub const MAX_BYTES: usize = 16 << 20;

/// First line of a document that does not hold all that there is.
pub const PARTIAL_LINE: &str = "partial: true\n";

/// The key of [`PARTIAL_LINE`].
const PARTIAL: &str = "partial";

/// A document without mistakes of its own.
#[derive(Debug, Default)]
pub struct Document {
    /// Nodes and profiles in the order written, host lists expanded.
    pub entries: Vec<Entry>,
    trees: Vec<(Location, Tree)>,
    /// Number of the entry of each subject.
    numbers: HashMap<Subject, usize>,
    /// What all specifications come to, bytes.
    bytes: usize,
}

/// A node or a profile.
#[derive(Debug)]
pub struct Entry {
    /// The node or profile.
    pub subject: Subject,
    /// Its specification, as the document has it.
    pub spec: MachineSpec,
    /// Index into the trees; several nodes of a host list share one.
    tree: usize,
}

impl Document {
    /// Reads a document. Everything that is right comes back beside the mistakes, so that the whole
    /// can be checked.
    ///
    /// What host lists name is counted before any is expanded: more than [`MAX_NODES`] are none.
    #[must_use]
    pub fn read(text: &str) -> (Self, Diagnostics) {
        let mut document = Self::default();
        let mut diagnostics = Diagnostics::default();
        let start = Location { line: 1, column: 1 };
        if text.len() > MAX_BYTES {
            let message =
                format!("the document has {} bytes; at most {MAX_BYTES} are read", text.len());
            diagnostics.add(start, "", message, Some("apply it in parts".into()));
            return (document, diagnostics);
        }
        match parse(text) {
            Err(unreadable) => diagnostics.add(unreadable.at, "", unreadable.message, None),
            Ok(Some(tree)) if !tree.is_null() => document.top(tree, &mut diagnostics),
            Ok(_) => {}
        }
        (document, diagnostics)
    }

    fn top(&mut self, tree: Tree, diagnostics: &mut Diagnostics) {
        let Kind::Map(sections) = tree.kind else {
            let hint = Some("begin with `nodes:` or `profiles:`".into());
            diagnostics.add(tree.at, "", "the document must be a map", hint);
            return;
        };
        let mut seen = std::collections::BTreeMap::new();
        for (key, _) in &sections {
            diagnostics.first_use(&mut seen, key, &key.text);
        }
        for (key, section) in sections {
            let is_node = match key.text.as_str() {
                "nodes" => true,
                "profiles" => false,
                other if other.starts_with(EXTENSION) => continue,
                PARTIAL => {
                    refuse_partial(&key, &section, diagnostics);
                    continue;
                }
                other => {
                    let hint = did_you_mean(other, ["nodes", "profiles"])
                        .or_else(|| Some("the document has `nodes` and `profiles`".into()));
                    diagnostics.add(key.at, other, format!("unknown key {other:?}"), hint);
                    continue;
                }
            };
            match section.kind {
                Kind::Map(entries) if is_node && names_too_many(&entries) => {
                    let message = format!("the document names more than {MAX_NODES} nodes");
                    let hint = "a cluster has at most so many; no host list was expanded";
                    diagnostics.add(key.at, &key.text, message, Some(hint.to_owned()));
                }
                Kind::Map(entries) => {
                    for (key, tree) in entries {
                        self.entry(is_node, key, tree, diagnostics);
                    }
                }
                _ if section.is_null() => {}
                _ => diagnostics.add(
                    section.at,
                    &key.text,
                    "this must be a map from name to machine",
                    None,
                ),
            }
        }
    }

    fn entry(&mut self, is_node: bool, key: Key, tree: Tree, diagnostics: &mut Diagnostics) {
        let path = format!("{}.{}", if is_node { "nodes" } else { "profiles" }, key.text);
        let before = diagnostics.total();
        let value = match &tree {
            tree if tree.is_null() => Some(serde_json::Value::Object(serde_json::Map::new())),
            tree => walk(tree, &MACHINE, &path, diagnostics),
        };
        let spec: MachineSpec = match value.map(serde_json::from_value).transpose() {
            Ok(spec) => spec.unwrap_or_default(),
            // Only after a mistake that was noted, such as a bond without its mode.
            Err(error) => {
                if diagnostics.total() == before {
                    diagnostics.add(tree.at, &path, error.to_string(), None);
                }
                MachineSpec::default()
            }
        };
        let subjects = if is_node {
            node_subjects(&key, &path, diagnostics)
        } else {
            profile(&key, &path, diagnostics)
        };
        self.bytes = self.bytes.saturating_add(bytes_of(&spec).saturating_mul(subjects.len()));
        if self.bytes > MAX_SPREAD_BYTES {
            let message = format!(
                "up to here the specifications of all nodes come to {} bytes; at most \
                 {MAX_SPREAD_BYTES} are taken",
                self.bytes
            );
            diagnostics.add(
                key.at,
                &path,
                message,
                Some("put what nodes share into a profile".to_owned()),
            );
            return;
        }
        let specs = spread(&spec, subjects.len()).unwrap_or_else(|error| {
            diagnostics.add(key.at, &path, error.to_string(), None);
            vec![spec; subjects.len()]
        });
        self.trees.push((key.at, tree));
        for (subject, spec) in subjects.into_iter().zip(specs) {
            if self.numbers.contains_key(&subject) {
                diagnostics.add_with(key.at, &path, || (format!("{subject} is there twice"), None));
                continue;
            }
            diagnostics.count(1);
            self.numbers.insert(subject.clone(), self.entries.len());
            self.entries.push(Entry { subject, spec, tree: self.trees.len() - 1 });
        }
    }

    /// Notes a mistake of the cluster where it was written. One about an object that the document
    /// does not name (a node that lists a profile which the document removes) is placed at the
    /// document's start.
    pub fn note(&self, finding: &Finding, diagnostics: &mut Diagnostics) {
        let start = Location { line: 1, column: 1 };
        // Where one is that is only counted need not be found.
        let number = self.numbers.get(&finding.subject).filter(|_| !diagnostics.is_full());
        let at = number.map(|&number| {
            let (key, tree) = &self.trees[self.entries[number].tree];
            find(tree, &finding.field).unwrap_or(*key)
        });
        let path = match finding.field.as_str() {
            "" => finding.subject.to_string(),
            field => format!("{}.{field}", finding.subject),
        };
        diagnostics.add(at.unwrap_or(start), path, finding.message.clone(), finding.hint.clone());
    }
}

/// What was exported without the parts that only admins read would take them from the nodes.
fn refuse_partial(key: &Key, value: &Tree, diagnostics: &mut Diagnostics) {
    match &value.kind {
        Kind::Scalar { text, .. } if text == "false" => {}
        Kind::Scalar { text, .. } if text == "true" => {
            let message = "the document leaves out tags, MAC addresses and BMCs, which only admins read: \
                           nodes and profiles would lose theirs";
            let hint = "apply what an admin exported; if they shall go, take this line out";
            diagnostics.add(key.at, &key.text, message, Some(hint.to_owned()));
        }
        _ => diagnostics.add(value.at, &key.text, "this must be true or false", None),
    }
}

/// Whether the keys of `nodes` name more nodes than a cluster has. Of a list that is wrong the
/// mistake is told when it is expanded.
fn names_too_many(entries: &[(Key, Tree)]) -> bool {
    let named = entries.iter().map(|(key, _)| hostlist::count(&key.text).unwrap_or(0));
    named.fold(0_usize, usize::saturating_add) > MAX_NODES
}

/// The names of a key of `nodes`.
fn node_subjects(key: &Key, path: &str, diagnostics: &mut Diagnostics) -> Vec<Subject> {
    let names = hostlist::expand(&key.text).unwrap_or_else(|error| {
        diagnostics.add(key.at, path, error.to_string(), None);
        Vec::new()
    });
    let mut subjects = Vec::with_capacity(names.len());
    for name in names {
        match name.parse::<NodeName>() {
            Ok(name) => subjects.push(Subject::Node(name)),
            Err(error) => diagnostics.add(key.at, path, error.to_string(), None),
        }
    }
    subjects
}

fn profile(key: &Key, path: &str, diagnostics: &mut Diagnostics) -> Vec<Subject> {
    match key.text.parse::<ProfileName>() {
        Ok(name) => vec![Subject::Profile(name)],
        Err(error) => {
            diagnostics.add(key.at, path, error.to_string(), None);
            Vec::new()
        }
    }
}

/// Writes nodes and profiles as a document that applies without a change.
///
/// # Errors
/// The writer's, for values that YAML cannot hold; none are known.
pub fn export<'a>(
    profiles: impl IntoIterator<Item = (&'a ProfileName, &'a MachineSpec)>,
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a MachineSpec)>,
) -> Result<String, serde_saphyr::ser::Error> {
    #[derive(Serialize)]
    struct ExportedDocument<'a> {
        profiles: BTreeMap<&'a ProfileName, &'a MachineSpec>,
        nodes: BTreeMap<&'a NodeName, &'a MachineSpec>,
    }
    let whole = ExportedDocument {
        profiles: profiles.into_iter().collect(),
        nodes: nodes.into_iter().collect(),
    };
    serde_saphyr::to_string(&whole)
}

#[cfg(test)]
mod tests;
