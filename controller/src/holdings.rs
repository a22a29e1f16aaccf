//! What the controller tells `access` of users, and how it lets go of one who is removed: see
//! [`access::Holdings`]. Also what is told of quotas in the metrics.

use std::{
    collections::HashMap,
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
    conductor::{Order, ask},
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

/// Counts what the last run of the server left. `plans`: [`Engine::held`].
pub(crate) async fn recall(
    plans: HashMap<WorkflowId, Amounts>,
    store: &dyn Store,
    results: &Results,
) -> Result<(), StoreError> {
    let (workflows, images) = (store.held().await?, store.images().await?);
    let measured = results.clone();
    let on_disk = tokio::task::spawn_blocking(move || measured.measure()).await;
    let on_disk = on_disk.unwrap_or_else(|error| {
        tracing::error!("logs and files cannot be counted: {error}");
        HashMap::new()
    });
    results.ledger().recall(workflows, &plans, &on_disk, &images);
    Ok(())
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
        let still = |what: String| StillHeld { what };
        let logs_are_coming = || {
            still(format!(
                "the logs of workflows of {user} that have just ended are still coming from their nodes: try \
                 again in a few minutes; nothing was removed"
            ))
        };
        if awaits() {
            return Err(logs_are_coming());
        }
        for workflows in workflows.chunks(MAX_FORGOTTEN) {
            let told = outbox::current();
            let order = |done| Order::Forget { workflows: workflows.to_vec(), done, told };
            match ask(&self.orders, order).await {
                Ok(true) => {}
                Ok(false) => return Err(logs_are_coming()),
                Err(error) => {
                    return Err(still(format!(
                        "the workflows of {user} cannot be deleted: {}",
                        causes(&error)
                    )));
                }
            }
        }
        Ok(())
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
