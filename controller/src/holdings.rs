//! What the controller tells `access` of users, and how it lets go of one who is removed: see
//! [`access::Holdings`]. Also what is told of quotas in the metrics.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use access::{Access, StillHeld};
use api::{
    quota::{Amounts, QuotaName, QuotaUnit},
    run::WorkflowId,
};
use async_trait::async_trait;
use database::outbox;
use image_catalog::KeptImage;
use metrics::Exposition;
use rest::causes;
use tokio::sync::mpsc;

use crate::{
    conductor::{Command, Removal, ask, remove_forgotten},
    ledger::QuotaLedger,
    results::Results,
    store::{Store, StoreError},
    views::Views,
};

/// Workflows that are forgotten in one transaction: each takes its runs and its history with it.
pub(crate) const MAX_FORGOTTEN: usize = 256;

/// Workflows that the log names of those whose logs and files nobody knows.
const MAX_NAMED: usize = 8;

/// What is counted here; the rest is `access`'s.
const OURS: [QuotaName; 9] = [
    QuotaName::Workflows,
    QuotaName::Tasks,
    QuotaName::Volumes,
    QuotaName::VolumeBytes,
    QuotaName::Documents,
    QuotaName::Files,
    QuotaName::Logs,
    QuotaName::Results,
    QuotaName::Images,
];

/// What the controller holds of users.
pub(crate) struct Holdings {
    results: Results,
    views: Views,
    orders: mpsc::Sender<Command>,
}

impl std::fmt::Debug for Holdings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holdings").field("results", &self.results).finish_non_exhaustive()
    }
}

/// Counts what the last run of the server left, and removes what it left of workflows that it had
/// forgotten: it may have been killed between the two. `plans`: [`crate::engine::View::held`];
/// `images`: all job images.
pub(crate) async fn recall(
    plans: HashMap<WorkflowId, Amounts>,
    store: &Arc<dyn Store>,
    results: &Results,
    images: &[KeptImage],
) -> Result<(), StoreError> {
    let (workflows, _) = store.held().await?;
    let forgotten = store.forgotten().await?;
    let measured = results.clone();
    let measuring = tokio::task::spawn_blocking(move || {
        measured.remove_parts();
        measured.measure()
    });
    let on_disk = measuring.await.unwrap_or_else(|error| {
        tracing::error!("logs and files cannot be counted: {error}");
        HashMap::new()
    });
    let known = workflows.iter().map(|workflow| workflow.id).collect();
    let UnsavedWorkflows { forgotten, unknown } = rowless(forgotten, &on_disk, &known);
    if !unknown.is_empty() {
        let some: Vec<String> = unknown.iter().take(MAX_NAMED).map(ToString::to_string).collect();
        tracing::warn!(
            "logs or files of {} workflows that the database does not have are left alone, among them {}",
            unknown.len(),
            some.join(", ")
        );
    }
    results.ledger().recall(workflows, &plans, &on_disk, images);
    if !forgotten.is_empty() {
        tracing::info!("removing logs and files of {} forgotten workflows", forgotten.len());
        let (results, store) = (results.clone(), store.clone());
        // Nobody waits for it: there may be much of it.
        tokio::spawn(async move {
            for some in forgotten.chunks(MAX_FORGOTTEN) {
                remove_forgotten(&results, store.as_ref(), some.to_vec()).await;
            }
        });
    }
    Ok(())
}

/// Workflows without a row.
#[derive(Debug, PartialEq, Eq)]
struct UnsavedWorkflows {
    /// Known to have been forgotten: what is here of them goes.
    forgotten: Vec<WorkflowId>,
    /// There are logs or files of them, and nobody knows why there is no row: it cannot be read, or
    /// the database is an older copy, or another one. What cannot be made again is left alone.
    unknown: Vec<WorkflowId>,
}

fn rowless(
    mut forgotten: Vec<WorkflowId>,
    on_disk: &HashMap<WorkflowId, Amounts>,
    known: &HashSet<WorkflowId>,
) -> UnsavedWorkflows {
    forgotten.retain(|id| !known.contains(id));
    let going: HashSet<&WorkflowId> = forgotten.iter().collect();
    let unknown = on_disk.keys().filter(|id| !known.contains(*id) && !going.contains(id));
    let mut unknown: Vec<WorkflowId> = unknown.copied().collect();
    unknown.sort_unstable();
    UnsavedWorkflows { forgotten, unknown }
}

impl Holdings {
    pub(crate) fn new(results: Results, views: Views, orders: mpsc::Sender<Command>) -> Self {
        Self { results, views, orders }
    }

    fn ledger(&self) -> &QuotaLedger {
        self.results.ledger()
    }

    /// Forgets workflows that are over, with all that is here of them.
    async fn forget(&self, user: &str, workflows: Vec<WorkflowId>) -> Result<(), StillHeld> {
        let logs_are_coming = |removed| StillHeld {
            what: format!(
                "the logs of workflows of {user} that have just ended are still coming from their nodes: try \
                 again in a few minutes; {}",
                so_far(removed, workflows.len())
            ),
        };
        // A view that is kept for minutes keeps all that changes meanwhile in memory twice.
        let is_any_held = {
            let view = self.views.latest();
            workflows.iter().any(|id| view.has(*id))
        };
        if is_any_held {
            return Err(logs_are_coming(0));
        }
        let (mut removed, mut removals) = (0, Vec::new());
        for some in workflows.chunks(MAX_FORGOTTEN) {
            let told = outbox::current();
            let order = |done| Command::Forget { workflows: some.to_vec(), done, told };
            match ask(&self.orders, order).await {
                Ok(Some(removal)) => removals.push(removal),
                Ok(None) => return Err(logs_are_coming(removed)),
                Err(error) => {
                    let mut what =
                        format!("the workflows of {user} cannot be deleted: {}", causes(&error));
                    // What was asked for last may still be done.
                    if removed > 0 {
                        what += &format!("; {}", so_far(removed, workflows.len()));
                    }
                    return Err(StillHeld { what });
                }
            }
            removed += some.len();
        }
        Removal::wait_for(removals).await;
        Ok(())
    }
}

/// How many of a user's workflows are gone, of those that were to go.
fn so_far(removed: usize, of: usize) -> String {
    match removed {
        0 => "nothing was removed".to_owned(),
        _ => format!("{removed} of {of} workflows were removed already"),
    }
}

#[async_trait]
impl access::Holdings for Holdings {
    fn used(&self, user: &str) -> Amounts {
        self.ledger().used(user)
    }

    async fn let_go(&self, user: &str) -> Result<(), StillHeld> {
        let workflows = self.ledger().let_go(user).map_err(|open| StillHeld {
            what: format!(
                "workflows of {user} that are not over: {open}; stop them first (`bedplate workflow list --user \
                 {user}`, `bedplate workflow stop`); nothing was removed"
            ),
        })?;
        self.forget(user, workflows).await.inspect_err(|_| self.ledger().let_in(user))
    }

    fn let_in(&self, user: &str) {
        self.ledger().let_in(user);
    }
}

/// Writes what all users have, in sum, and what was refused.
pub(crate) fn expose(results: &Results, access: &Access, out: &mut Exposition) {
    let mut total = results.ledger().total();
    total.set(QuotaName::Requests, access.requests_under_way());
    let of = |unit: QuotaUnit| OURS.into_iter().filter(move |name| name.unit() == unit);
    let help = "What the server holds of all users together, by quota: bytes.";
    let mut bytes = out.gauge("bedplate_quota_used_bytes", help);
    for name in of(QuotaUnit::Bytes) {
        bytes.sample(&[("quota", name.as_str())], total.get(name));
    }
    let help = "What the server holds of all users together, by quota: things that are counted.";
    let mut things = out.gauge("bedplate_quota_used_things", help);
    for name in of(QuotaUnit::Count).chain([QuotaName::Requests]) {
        things.sample(&[("quota", name.as_str())], total.get(name));
    }
    let help =
        "Requests, images, files and parts of logs that were refused for a quota of their user.";
    let mut refused = out.counter("bedplate_quota_refusals", help);
    for (name, count) in access.quota_refusals() {
        refused.sample(&[("quota", name.as_str())], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::{SCHEMA, SqlStore};

    fn workflow(number: u128) -> WorkflowId {
        WorkflowId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn only_what_is_known_to_be_forgotten_is_removed_at_a_start() {
        let on_disk = [1, 2, 3].map(|number| (workflow(number), Amounts::default()));
        let on_disk = HashMap::from(on_disk);
        let of = |forgotten: &[u128], known: &[u128]| {
            let forgotten = forgotten.iter().map(|number| workflow(*number)).collect();
            let known = known.iter().map(|number| workflow(*number)).collect();
            let UnsavedWorkflows { forgotten, unknown } = rowless(forgotten, &on_disk, &known);
            [forgotten, unknown].map(|ids| ids.iter().map(|id| id.0.as_u128()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[2], &[1, 3, 4]), [vec![2], vec![]]);
        assert_eq!(
            of(&[2], &[1, 4]),
            [vec![2], vec![3]],
            "newer than an older copy of the database"
        );
        assert_eq!(of(&[], &[]), [vec![], vec![1, 2, 3]], "another database");
        assert_eq!(of(&[1, 9], &[1, 2, 3]), [vec![9], vec![]], "a row keeps what is its");
    }

    #[tokio::test]
    async fn what_a_killed_server_had_forgotten_is_removed_at_the_next_start_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let database = database::Database::open(&path, &[&SCHEMA]).await.unwrap();
        let sql = SqlStore::open(database.clone()).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(sql);
        let forgotten = workflow(1);
        let note = "INSERT INTO controller_forgotten (workflow) VALUES ($1)";
        let note = database::statement("note a workflow", note).bind(forgotten.to_string());
        note.execute(&database).await.unwrap();
        let results = Results::open(directory.path(), 1 << 20).unwrap();
        let logs = directory.path().join("logs");
        let logs = [1, 2].map(|number| logs.join(workflow(number).to_string()));
        for log in &logs {
            std::fs::create_dir_all(log).unwrap();
        }
        recall(HashMap::new(), &store, &results, &[]).await.unwrap();
        for _ in 0..1_000 {
            if store.forgotten().await.unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(store.forgotten().await.unwrap(), []);
        assert_eq!(logs.map(|log| log.exists()), [false, true]);
    }

    #[test]
    fn it_is_told_how_much_was_removed_already() {
        assert_eq!(so_far(0, 300), "nothing was removed");
        assert_eq!(so_far(256, 300), "256 of 300 workflows were removed already");
    }
}
