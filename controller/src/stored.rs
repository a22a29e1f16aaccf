//! What `bedplate server check` says of rows of workflows that the server will read, and which
//! files those need.

use api::run::RunId;
use database::{Database, DatabaseError};
use image_store::ExpectedBlob;
use rest::causes;

use crate::{
    record::SparedRows,
    restore,
    store::{Store as _, sql::SqlStore},
};

/// What the tables say.
#[derive(Debug, Default)]
pub struct StoredWorkflows {
    /// What cannot be read of workflows that are not over, a line each. The server
    /// starts without it.
    pub problems: Vec<String>,
    /// Files in the store of job images: inline files of workflows that are not over.
    pub files: Vec<ExpectedBlob>,
}

/// Reads what the server reads when it starts, and changes nothing.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn stored_workflows(database: &Database) -> Result<StoredWorkflows, DatabaseError> {
    let store = SqlStore::new(database.clone());
    let mut found = StoredWorkflows::default();
    let since = restore::logs_waited_for_since(&store).await?;
    let (workflows, spared) = store.unfinished(since).await?;
    found.spared(&spared);
    for row in workflows {
        let rows = store.rows(row.id, row.ended.map(|_| since)).await?;
        found.spared(&rows.spared);
        // Of one that is over only logs are waited for.
        if row.ended.is_some() {
            continue;
        }
        let of = format!("workflow {} ({})", row.name, row.id);
        match restore::look_at_plan(&row, &rows, &store).await? {
            Err(error) => found.problems.push(format!("{of} will be blocked: {}", causes(&error))),
            Ok(None) => {}
            Ok(Some(plan)) => {
                let what = format!("an inline file of {of}");
                let file = |digest| ExpectedBlob { what: what.clone(), digest, size: None };
                found.files.extend(plan.stored_files().map(file));
            }
        }
    }
    Ok(found)
}

impl StoredWorkflows {
    fn spared(&mut self, spared: &SparedRows) {
        let SparedRows { runs, workflows, any_run, any_workflow } = spared;
        let line = |what: String| format!("{what} cannot be read from the database");
        self.problems.extend(workflows.iter().map(|id| line(format!("the row of workflow {id}"))));
        self.problems.extend(any_workflow.then(|| line("id of a workflow".to_owned())));
        self.problems.extend(runs.iter().map(|run: &RunId| line(format!("the row of run {run}"))));
        self.problems.extend(any_run.then(|| line("id of a run".to_owned())));
    }
}
