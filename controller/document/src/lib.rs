//! Workflow documents: read with every mistake at once, and normalised. Called by `controller`; pure (ring 0).
//!
//! The language is that of `docs/formats/workflow.md`: versions `v1` and `v4` and older spellings of the same things. [`parse`]
//! makes one form of them ([`Workflow`]): defaults merged into jobs, sizes in bytes, times in seconds, names resolved. What
//! the language has and this version cannot run is a mistake ([`yaml_tree::LATER`]), not silence.
//!
//! | module | does |
//! |---|---|
//! | [`schema`] | which keys there are, and what their values must be |
//! | [`raw`] | the document as written, without mistakes of form |
//! | [`normal`] | the one form |
//! | [`check`] | what only the whole shows: unknown names, cycles |
//! | [`units`] | sizes and durations |
//! | [`expand`] | `$NAME` in commands |

mod check;
mod expand;
mod normal;
mod raw;
mod schema;
mod units;

pub use expand::expand;
pub use normal::{
    Affinity, Destination, Egress, Ingress, Job, Mount, Resource, Source, TaskArray, Volume, Workflow,
};

use api::{problem::Mistake, workflow::MAX_DOCUMENT_BYTES};
use yaml_tree::{Location, Mistakes, Tree};

/// Jobs of one document. A larger graph is an array, or several workflows.
pub const MAX_JOBS: usize = 1_000;

/// Tasks of one array.
pub const MAX_TASKS: u32 = 1_000_000;

/// Mistakes told at once; past it the rest is only counted.
const MAX_MISTAKES: usize = 200;

/// Time that a job has that sets none, seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 24 * 3_600;

/// A good document, and what is ignored in it.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The normalised workflow.
    pub workflow: Workflow,
    /// What is ignored.
    pub warnings: Vec<Mistake>,
    tree: Tree,
}

impl Parsed {
    /// Where a job is written, for a mistake that only the cluster shows.
    #[must_use]
    pub fn mistake_of_job(&self, job: usize, message: String) -> Mistake {
        let path = format!("jobs.{}", self.workflow.jobs[job].name);
        located(&self.tree, &path, message, None)
    }
}

impl Workflow {
    /// The normalised form as YAML, to look at: defaults merged, units gone.
    ///
    /// # Errors
    /// The writer's; none are known.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }
}

/// Reads a document.
///
/// # Errors
/// All mistakes, in the order of their places.
pub fn parse(text: &str) -> Result<Parsed, Vec<Mistake>> {
    let start = Location { line: 1, column: 1 };
    let mut mistakes = Mistakes::default();
    if text.len() > MAX_DOCUMENT_BYTES {
        let message = format!("the document has {} bytes; at most {MAX_DOCUMENT_BYTES} are read", text.len());
        mistakes.add(start, "", message, Some("data belongs into volumes, not into the document".into()));
        return Err(mistakes.0);
    }
    let tree = match yaml_tree::parse(text) {
        Ok(Some(tree)) => tree,
        Ok(None) => {
            mistakes.add(start, "", "the document is empty", Some("it needs `version` and `jobs`".into()));
            return Err(mistakes.0);
        }
        Err(unreadable) => {
            mistakes.add(unreadable.at, "", unreadable.message, None);
            return Err(mistakes.0);
        }
    };
    let value = yaml_tree::walk(&tree, &schema::DOCUMENT, "", &mut mistakes);
    for mistake in &mut mistakes.0 {
        mistake.path = mistake.path.trim_start_matches('.').to_owned();
    }
    let mut notes = check::Notes::new(&tree, mistakes.0);
    let workflow = value.map(|value| normal::of(&raw::Document::of(value), &mut notes));
    if let Some(workflow) = &workflow {
        check::whole(workflow, &mut notes);
    }
    let (mut mistakes, warnings) = notes.into_both();
    mistakes.sort();
    mistakes.dedup();
    if mistakes.len() > MAX_MISTAKES {
        let more = mistakes.len() - MAX_MISTAKES;
        mistakes.truncate(MAX_MISTAKES);
        let message = format!("and {more} mistakes more");
        mistakes.push(Mistake { line: u64::MAX, column: 1, path: String::new(), message, hint: None });
    }
    match workflow {
        Some(workflow) if mistakes.is_empty() => Ok(Parsed { workflow, warnings, tree }),
        _ => Err(mistakes),
    }
}

/// A mistake at the place of a path.
fn located(tree: &Tree, path: &str, message: String, hint: Option<String>) -> Mistake {
    let at = yaml_tree::find(tree, path).unwrap_or(tree.at);
    Mistake { line: at.line, column: at.column, path: path.to_owned(), message, hint }
}

#[cfg(test)]
mod tests;
