//! What the controller tells `access` of users, and how it lets go of one who is removed: see
//! [`access::Holdings`]. Also what is told of quotas in the metrics.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use access::{Access, StillHeld};
use api::{
    quota::{Amounts, QuotaName, QuotaUnit},
    run::WorkflowId,
};
use async_trait::async_trait;
use database::outbox;
use metrics::Exposition;
use tokio::sync::mpsc;

use crate::{
    conductor::{Order, Removal, ask},
    engine::Engine,
    images::causes,
    ledger::Ledger,
    results::Results,
    store::{Store, StoreError},
};

/// Workflows that are forgotten in one transaction: each takes its runs and its history with it.
pub(crate) const MAX_FORGOTTEN: usize = 256;

/// What is counted here; the rest is `access`'s.
const OURS: [QuotaName; 8] = [
    QuotaName::Workflows,
    QuotaName::Tasks,
    QuotaName::Volumes,
    QuotaName::Documents,
    QuotaName::Files,
    QuotaName::Logs,
    QuotaName::Results,
    QuotaName::Images,
];

/// What the controller holds of users.
pub(crate) struct Holdings {
    results: Results,
    engine: Arc<Mutex<Engine>>,
    orders: mpsc::Sender<Order>,
}

impl std::fmt::Debug for Holdings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holdings").field("results", &self.results).finish_non_exhaustive()
    }
}

/// Counts what the last run of the server left, and lets go what it left of workflows that the
/// database has no more: it may have been killed between the two. `plans`: [`Engine::held`].
pub(crate) async fn recall(
    plans: HashMap<WorkflowId, Amounts>,
    store: &dyn Store,
    results: &Results,
) -> Result<(), StoreError> {
    let ((workflows, is_all), images) = (store.held().await?, store.images().await?);
    let measured = results.clone();
    let on_disk = tokio::task::spawn_blocking(move || measured.measure()).await;
    let on_disk = on_disk.unwrap_or_else(|error| {
        tracing::error!("logs and files cannot be counted: {error}");
        HashMap::new()
    });
    let known = workflows.iter().map(|workflow| workflow.id).collect();
    let unknown = unknown(&on_disk, &known, is_all);
    if !unknown.is_empty() {
        let results = results.clone();
        // Nobody waits for it: there may be much of it.
        tokio::task::spawn_blocking(move || results.remove_unknown(&unknown));
    }
    results.ledger().recall(workflows, &plans, &on_disk, &images);
    Ok(())
}

/// Of which workflows there are logs or files and no row. None if a row cannot be read (`is_all`),
/// whose files they may be; none if there is no row at all: that is a server with another database,
/// whose files are not thrown away.
fn unknown(
    on_disk: &HashMap<WorkflowId, Amounts>,
    known: &HashSet<WorkflowId>,
    is_all: bool,
) -> Vec<WorkflowId> {
    let unknown: Vec<WorkflowId> = on_disk.keys().filter(|id| !known.contains(*id)).copied().collect();
    if !unknown.is_empty() && (!is_all || known.is_empty()) {
        let count = unknown.len();
        tracing::warn!("logs or files of {count} workflows that the database does not have are left alone");
        return Vec::new();
    }
    unknown
}

impl Holdings {
    pub(crate) fn new(results: Results, engine: Arc<Mutex<Engine>>, orders: mpsc::Sender<Order>) -> Self {
        Self { results, engine, orders }
    }

    fn ledger(&self) -> &Ledger {
        self.results.ledger()
    }

    /// Forgets workflows that are over, with all that is here of them.
    async fn forget(&self, user: &str, workflows: Vec<WorkflowId>) -> Result<(), StillHeld> {
        let awaits = || {
            let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
            workflows.iter().any(|id| engine.plan(*id).is_some())
        };
        let logs_are_coming = |removed| StillHeld {
            what: format!(
                "the logs of workflows of {user} that have just ended are still coming from their nodes: try \
                 again in a few minutes; {}",
                so_far(removed, workflows.len())
            ),
        };
        if awaits() {
            return Err(logs_are_coming(0));
        }
        let (mut removed, mut removals) = (0, Vec::new());
        for some in workflows.chunks(MAX_FORGOTTEN) {
            let told = outbox::current();
            let order = |done| Order::Forget { workflows: some.to_vec(), done, told };
            match ask(&self.orders, order).await {
                Ok(Some(removal)) => removals.push(removal),
                Ok(None) => return Err(logs_are_coming(removed)),
                Err(error) => {
                    let mut what = format!("the workflows of {user} cannot be deleted: {}", causes(&error));
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
    let help = "Requests, images, files and parts of logs that were refused for a quota of their user.";
    let mut refused = out.counter("bedplate_quota_refusals", help);
    for (name, count) in access.quota_refusals() {
        refused.sample(&[("quota", name.as_str())], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(number: u128) -> WorkflowId {
        WorkflowId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_the_database_has_no_more_is_removed_unless_its_row_may_be_there() {
        let on_disk: HashMap<_, _> = [1, 2].map(|number| (workflow(number), Amounts::default())).into();
        let of = |known: &[u128], is_all| {
            let known = known.iter().map(|number| workflow(*number)).collect();
            unknown(&on_disk, &known, is_all)
        };
        assert_eq!(of(&[1, 3], true), [workflow(2)]);
        assert!(of(&[1, 2], true).is_empty());
        assert!(of(&[1, 3], false).is_empty(), "the row that cannot be read may be its");
        assert!(of(&[], true).is_empty(), "it is another database");
    }

    #[test]
    fn it_is_told_how_much_was_removed_already() {
        assert_eq!(so_far(0, 300), "nothing was removed");
        assert_eq!(so_far(256, 300), "256 of 300 workflows were removed already");
    }
}
