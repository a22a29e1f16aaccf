//! YAML documents of people.

use std::collections::BTreeMap;

use api::problem::Diagnostic;
use provisioner::{Subject, document::Document as Cluster};
use yaml_tree::{Kind, MAX_DIAGNOSTICS, Tree};

/// Nodes that aliases copy, as `yaml_tree` bounds them, keys counted too.
const MAX_COPIED: usize = 400_000;

/// Steps for each byte that a document of a cluster may take, beside those for what aliases copy
/// and for the nodes of host lists.
const MAX_STEPS_PER_BYTE: usize = 64;

/// Nodes of a document that is exported and read again; more take a fuzzer's time and show no more.
const MAX_EXPORTED: usize = 1_000;

/// The tree alone: every node is at a place of the text, and what is copied by aliases
/// stays within bounds.
pub(crate) fn yaml(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u64;
    match yaml_tree::parse(text) {
        Ok(None) => false,
        Ok(Some(tree)) => {
            let nodes = count(&tree, lines);
            assert!(
                nodes <= MAX_COPIED + 4 * text.len() + 4,
                "{nodes} nodes of {} bytes",
                text.len()
            );
            true
        }
        Err(unreadable) => {
            assert!(!unreadable.message.is_empty());
            assert!(unreadable.at.line <= lines + 1, "{unreadable:?} in {lines} lines");
            false
        }
    }
}

fn count(tree: &Tree, lines: u64) -> usize {
    assert!((1..=lines + 1).contains(&tree.at.line), "{:?} in {lines} lines", tree.at);
    1 + match &tree.kind {
        Kind::Scalar { .. } => 0,
        Kind::List(items) => items.iter().map(|item| count(item, lines)).sum::<usize>(),
        Kind::Map(entries) => {
            entries.iter().map(|(_, value)| 1 + count(value, lines)).sum::<usize>()
        }
    }
}

/// A workflow: what is accepted has a plan, and the plan is read as it was written.
pub(crate) fn workflow(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    match document::parse(text) {
        Ok(parsed) => {
            assert!(parsed.workflow.to_yaml().is_ok(), "the normalised form can be written");
            told(&parsed.warnings);
            // Of inline files nothing is stored, so those documents have no plan here.
            let Ok(plan) = document::plan::Plan::of(&parsed.workflow, &BTreeMap::new()) else {
                return true;
            };
            let Ok(stored) = plan.to_json() else {
                panic!("a plan that cannot be stored: {plan:?}")
            };
            match document::plan::Plan::read(&stored) {
                Ok(read) => assert_eq!(read, plan),
                Err(error) => panic!("{stored} cannot be read: {error}"),
            }
            true
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "it is refused without a word");
            told(&diagnostics);
            false
        }
    }
}

/// A document of the cluster: what has no mistake is exported as a document that says the same.
pub(crate) fn cluster(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let (document, diagnostics) = Cluster::read(text);
    let most = MAX_STEPS_PER_BYTE * text.len() + document.entries.len() + MAX_COPIED;
    assert!(
        diagnostics.steps() <= most as u64,
        "{} steps for {} bytes",
        diagnostics.steps(),
        text.len()
    );
    if !diagnostics.is_empty() {
        told(&diagnostics.told());
        return false;
    }
    if document.entries.len() > MAX_EXPORTED {
        return true;
    }
    let specs = |document: &Cluster| -> BTreeMap<Subject, api::machine::MachineSpec> {
        document.entries.iter().map(|entry| (entry.subject.clone(), entry.spec.clone())).collect()
    };
    let said = specs(&document);
    let nodes = said.iter().filter_map(|(subject, spec)| match subject {
        Subject::Node(name) => Some((name, spec)),
        Subject::Profile(_) => None,
    });
    let profiles = said.iter().filter_map(|(subject, spec)| match subject {
        Subject::Profile(name) => Some((name, spec)),
        Subject::Node(_) => None,
    });
    let Ok(exported) = provisioner::document::export(profiles, nodes) else {
        panic!("it cannot be exported: {said:?}");
    };
    let (again, diagnostics) = Cluster::read(&exported);
    assert!(diagnostics.is_empty(), "{exported}\n{:?}", diagnostics.told());
    assert_eq!(specs(&again), said, "{exported}");
    !said.is_empty()
}

/// Mistakes are bounded, in the order of their places, and say something.
fn told(diagnostics: &[Diagnostic]) {
    assert!(diagnostics.len() <= MAX_DIAGNOSTICS + 1, "{} mistakes", diagnostics.len());
    assert!(
        diagnostics.iter().all(|diagnostic| diagnostic.line >= 1 && !diagnostic.message.is_empty())
    );
    assert!(diagnostics.is_sorted_by_key(|diagnostic| (diagnostic.line, diagnostic.column)));
}
