//! A batch of the conductor on its way to the disk: tried until the database takes it, or
//! the server stops.

use std::{collections::BTreeSet, time::Duration};

use api::run::WorkflowId;
use database::outbox::{self, OutboxRow};
use rest::causes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{record::Write, store::Store};

/// Pause after the database refused, before the batch is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Workflows that the log names of a batch that is not kept.
const MAX_NAMED: usize = 10;

/// Commits a batch. `told`: rows that say who asked, committed with it. `false`: the server stops,
/// and the database took the batch at one last try neither; then nobody may be told of any of it.
pub(super) async fn commit(
    store: &dyn Store,
    writes: &[Write],
    told: &[OutboxRow],
    shutdown: &CancellationToken,
) -> bool {
    loop {
        let is_last = shutdown.is_cancelled();
        let committed = outbox::scope(told.to_vec(), store.commit(writes)).await;
        let Err(error) = committed else { return true };
        let why = causes(&error);
        if is_last {
            let lost = lost(writes);
            tracing::error!(
                "the server stops and does not keep what it told nobody of: {lost}: {why}"
            );
            return false;
        }
        tracing::error!("workflows cannot be kept, trying again: {why}");
        // Either way it is tried again: whoever stops a server may have made room before.
        let _ = timeout(STORE_PAUSE, shutdown.cancelled()).await;
    }
}

/// What a batch is, for people.
fn lost(writes: &[Write]) -> String {
    let workflows: BTreeSet<WorkflowId> = writes.iter().filter_map(workflow_of).collect();
    let mut named: Vec<String> =
        workflows.iter().take(MAX_NAMED).map(|id| format!("workflow {id}")).collect();
    if workflows.len() > MAX_NAMED {
        named.push(format!("{} more", workflows.len() - MAX_NAMED));
    }
    let count = writes.len();
    match named.is_empty() {
        true => format!("changes: {count}"),
        false => format!("changes: {count}, of {}", named.join(", ")),
    }
}

fn workflow_of(write: &Write) -> Option<WorkflowId> {
    match write {
        Write::Submit(submitted) => Some(submitted.row.id),
        Write::Workflow(row) => Some(row.id),
        Write::Plan { workflow, .. } => Some(*workflow),
        Write::Stage(row) => Some(row.workflow),
        Write::Attempt(row) => Some(row.workflow),
        Write::Run(row) => Some(row.workflow),
        Write::Event(workflow, _) | Write::Forget(workflow) => Some(*workflow),
    }
}

#[cfg(test)]
mod tests {
    use database::Database;

    use super::*;
    use crate::store::sql::SqlStore;

    #[tokio::test]
    async fn a_batch_that_cannot_be_kept_does_not_keep_the_server_from_stopping() {
        let directory = tempfile::tempdir().unwrap();
        // Without its tables it refuses every write.
        let store = SqlStore::new(Database::open(&directory.path().join("db"), &[]).await.unwrap());
        let writes = [Write::Forget(WorkflowId(uuid::Uuid::from_u128(1)))];
        let shutdown = CancellationToken::new();
        let kept = commit(&store, &writes, &[], &shutdown);
        let for_ever = timeout(Duration::from_millis(1_500), kept).await;
        assert!(for_ever.is_err(), "a server that goes on tries again");

        let kept = commit(&store, &writes, &[], &shutdown);
        let stop = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            shutdown.cancel();
        };
        let both = async { tokio::join!(kept, stop) };
        let (is_kept, ()) = timeout(Duration::from_secs(30), both).await.expect("it ends");
        assert!(!is_kept);
    }

    #[test]
    fn the_log_names_what_is_not_kept() {
        let forget = |number| Write::Forget(WorkflowId(uuid::Uuid::from_u128(number)));
        let one = "changes: 2, of workflow 00000000-0000-0000-0000-000000000001";
        assert_eq!(lost(&[forget(1), forget(1)]), one);
        let many: Vec<Write> = (0..12).map(forget).collect();
        assert!(lost(&many).ends_with(", 2 more"), "{}", lost(&many));
    }
}
