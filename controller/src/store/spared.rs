//! What the tables have and cannot be read, by name: nobody may take it for something unknown.

use std::collections::BTreeSet;

use api::run::{RunId, WorkflowId};

/// Runs and volumes of rows that cannot be read. On nodes they are left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spared {
    /// Runs whose rows cannot be read.
    pub(crate) runs: BTreeSet<RunId>,
    /// Workflows whose rows cannot be read.
    pub(crate) workflows: BTreeSet<WorkflowId>,
    /// A run has no readable id: every run that nobody knows may be it.
    pub(crate) any_run: bool,
    /// A workflow has no readable id: all volumes that nobody knows may be its.
    pub(crate) any_workflow: bool,
}
