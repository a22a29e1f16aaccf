//! Workflow documents: read with every mistake at once, and normalised. Called by
//! `controller`; pure (ring 0).
//!
//! The language is that of `docs/formats/workflow.md`: versions `v1` and `v4` and older spellings
//! of the same things. [`parse`] makes one form of them ([`Workflow`]): defaults merged into jobs,
//! sizes in bytes, times in seconds, names resolved. What the language has and this version cannot
//! run is a mistake ([`yaml_tree::LATER`]), not silence.
//!
//! | module | does |
//! |---|---|
//! | [`schema`] | which keys there are, and what their values must be |
//! | [`raw`] | the document as written, without mistakes of form |
//! | [`workflow`] | the one form |
//! | [`normal`] | from the document as written to the one form |
//! | [`check`] | what only the whole shows: unknown names, cycles |
//! | [`labels`] | annotations: labels that a job's node must have |
//! | [`units`] | sizes and durations |
//! | [`uris`] | where files come from and go to |
//! | [`plan`] | what is stored of the workflow and read ever after |
//! | [`expand`] | `$NAME` in commands and in the environment |
//! | [`words`] | a command that is one text |

mod check;
mod expand;
mod labels;
mod normal;
pub mod plan;
mod raw;
mod schema;
mod units;
mod uris;
pub mod words;
mod workflow;

pub use expand::{expand, expand_known};
pub use workflow::{
    Affinity, Destination, Egress, Ingress, Job, JobDependency, Mount, Resource, Source, TaskArray,
    Volume, Workflow,
};

use api::{problem::Diagnostic, workflow::MAX_DOCUMENT_BYTES};
use yaml_tree::{Diagnostics, IndexedTree, Location, Tree};

/// Jobs of one document. A larger graph is an array, or several workflows.
pub const MAX_JOBS: usize = 1_000;

/// Tasks of one array.
pub const MAX_TASKS: u32 = 1_000_000;

/// What the defaults of a document may come to when each of its jobs has them, bytes. They are
/// written once and stored with every job; this bounds what a small document can make of them.
const MAX_MERGED_BYTES: usize = 4 * MAX_DOCUMENT_BYTES;

/// Files into and out of volumes, each counted for every job that mounts its volume. A plan names
/// them all, with some eight bytes each; this keeps it in the order of its document.
const MAX_TRANSFERS_OF_JOBS: usize = 1_000_000;

/// Time that a job has that sets none, seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 24 * 3_600;

/// A good document, and what is ignored in it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The normalised workflow.
    pub workflow: Workflow,
    /// Warnings about what the document has and this version ignores.
    pub warnings: Vec<Diagnostic>,
    tree: Tree,
}

impl Parsed {
    /// Mistakes in jobs that only the cluster shows, each with the number of its job, at the places
    /// where the jobs are written.
    #[must_use]
    pub fn diagnostics_of_jobs(
        &self,
        wrong: impl IntoIterator<Item = (usize, String)>,
    ) -> Vec<Diagnostic> {
        let places = IndexedTree::new(&self.tree);
        let mut diagnostics = Diagnostics::default();
        for (job, message) in wrong {
            let path = format!("jobs.{}", self.workflow.jobs[job].name);
            let at = places.find(&path).unwrap_or(places.start());
            diagnostics.add(at, &path, message, None);
        }
        diagnostics.told()
    }
}

/// Reads a document that is handed in. The work is linear in its bytes, whatever is wrong in it.
///
/// # Errors
/// The mistakes, in the order of their places: what cannot be read, and what is not accepted. Past
/// [`yaml_tree::MAX_MISTAKES`] they are counted.
pub fn parse(text: &str) -> Result<Parsed, Vec<Diagnostic>> {
    parse_counted(text, &|| true).0
}

/// [`parse`] as long as somebody waits for it: `is_waited_for` is asked before each part of the
/// work. `None`: nobody does.
pub fn parse_while(
    text: &str,
    is_waited_for: &dyn Fn() -> bool,
) -> Option<Result<Parsed, Vec<Diagnostic>>> {
    if !is_waited_for() {
        return None;
    }
    let (parsed, _) = parse_counted(text, is_waited_for);
    is_waited_for().then_some(parsed)
}

/// [`parse`], and how many steps it took. What it says where nobody waits means nothing.
fn parse_counted(
    text: &str,
    is_waited_for: &dyn Fn() -> bool,
) -> (Result<Parsed, Vec<Diagnostic>>, u64) {
    if text.len() > MAX_DOCUMENT_BYTES {
        let message =
            format!("the document has {} bytes; at most {MAX_DOCUMENT_BYTES} are read", text.len());
        let hint = "data belongs into volumes, not into the document";
        return (Err(at_the_start(message, hint)), 0);
    }
    let tree = match tree_of(text) {
        Ok(tree) => tree,
        Err(diagnostics) => return (Err(diagnostics), 0),
    };
    if !is_waited_for() {
        return (Err(Vec::new()), 0);
    }
    let (workflow, noted) = normalise(&tree, |document, notes| {
        is_waited_for() && check::is_small_enough(document, notes)
    });
    let mut diagnostics = noted.unreadable;
    diagnostics.append(noted.refused);
    let steps = diagnostics.steps() + noted.warnings.steps() + noted.steps;
    let parsed = match workflow {
        Some(workflow) if diagnostics.is_empty() => {
            Ok(Parsed { workflow, warnings: noted.warnings.told(), tree })
        }
        _ => Err(diagnostics.told()),
    };
    (parsed, steps)
}

/// Reads a document that an earlier release accepted and stored without a plan, as [`parse`] does
/// but for one thing: no rule of what is accepted is held against it. For the conversion at the
/// upgrade alone (docs/decisions/0007-stored-plans.md).
///
/// # Errors
/// What it says that this release does not know how to read, in the order of the places.
pub fn read_accepted(text: &str) -> Result<Workflow, Vec<Diagnostic>> {
    let tree = tree_of(text)?;
    let (workflow, noted) = normalise(&tree, |_, _| true);
    match workflow {
        Some(workflow) if noted.unreadable.is_empty() => Ok(workflow),
        _ => Err(noted.unreadable.told()),
    }
}

fn tree_of(text: &str) -> Result<Tree, Vec<Diagnostic>> {
    match yaml_tree::parse(text) {
        Ok(Some(tree)) => Ok(tree),
        Ok(None) => {
            Err(at_the_start("the document is empty".to_owned(), "it needs `version` and `jobs`"))
        }
        Err(unreadable) => {
            let mut diagnostics = Diagnostics::default();
            diagnostics.add(unreadable.at, "", unreadable.message, None);
            Err(diagnostics.told())
        }
    }
}

/// The normalised form, unless the tree is none or `goes_on` refuses to make it, and all that was
/// noted on the way.
fn normalise(
    tree: &Tree,
    goes_on: impl Fn(&raw::Document, &mut check::DiagnosticSink<'_>) -> bool,
) -> (Option<Workflow>, check::CollectedDiagnostics) {
    let mut diagnostics = Diagnostics::default();
    let value = yaml_tree::walk(tree, &schema::DOCUMENT, "", &mut diagnostics);
    let mut notes = check::DiagnosticSink::new(tree, diagnostics);
    let document = value.map(raw::Document::of).filter(|document| goes_on(document, &mut notes));
    let workflow = document.map(|document| normal::of(&document, &mut notes));
    if let Some(workflow) = &workflow {
        check::whole(workflow, &mut notes);
    }
    (workflow, notes.into_noted())
}

fn at_the_start(message: String, hint: &str) -> Vec<Diagnostic> {
    let mut diagnostics = Diagnostics::default();
    diagnostics.add(Location { line: 1, column: 1 }, "", message, Some(hint.to_owned()));
    diagnostics.told()
}

#[cfg(test)]
mod tests;
