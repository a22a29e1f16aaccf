//! Conflicts of nodes in the audit log: fleet finds them, and how they end an admin says, whose
//! request is in the log anyway.

use std::collections::BTreeMap;

use api::{
    ids::{NodeId, Timestamp},
    status::NodeUpdate,
};
use fleet::NodeChange;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::provisioner::Provisioner;

/// Since when nodes are in conflict, of all that are.
#[derive(Debug, Default)]
struct Known(BTreeMap<NodeId, Timestamp>);

impl Known {
    /// Takes a node as it is now. Returns what it is in conflict for, if that is new.
    fn take(&mut self, update: &NodeUpdate) -> Option<String> {
        match &update.status.conflict {
            None => {
                self.0.remove(&update.id);
                None
            }
            Some(conflict) => {
                let before = self.0.insert(update.id, conflict.since);
                (before != Some(conflict.since)).then(|| conflict.cause.clone())
            }
        }
    }
}

impl Provisioner {
    /// Follows what nodes are doing until `stop`. Conflicts of before are in the log already.
    pub(crate) async fn record_conflicts(self, stop: CancellationToken) {
        let fleet = self.0.fleet.clone();
        let mut changes = fleet.watch();
        let mut known = Known::default();
        for update in fleet.statuses() {
            let _recorded_then = known.take(&update);
        }
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(NodeChange::Updated(update)) => self.record_conflict(&mut known, &update).await,
                Ok(NodeChange::Removed { id }) => {
                    known.0.remove(&id);
                }
                Err(RecvError::Lagged(_)) => {
                    changes = fleet.watch();
                    for update in fleet.statuses() {
                        self.record_conflict(&mut known, &update).await;
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn record_conflict(&self, known: &mut Known, update: &NodeUpdate) {
        let Some(cause) = known.take(update) else { return };
        let recorded =
            self.0.access.record("fleet", "node-conflict", update.name.as_str(), &cause).await;
        if let Err(error) = recorded {
            tracing::error!("audit log not written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use api::status::{NodeConflict, NodeStatus};
    use serde_json::json;

    use super::*;

    fn update(node: u128, since: Option<i64>) -> NodeUpdate {
        let status = json!({"phase": "ready", "since": Timestamp(0), "armed": false});
        let status: NodeStatus = serde_json::from_value(status).unwrap();
        let conflict = since.map(|since| NodeConflict {
            since: Timestamp(since),
            cause: format!("cause of {since}"),
            channel: None,
            enrolments: Vec::new(),
        });
        let id = NodeId(uuid::Uuid::from_u128(node));
        NodeUpdate { id, name: "n1".parse().unwrap(), status: NodeStatus { conflict, ..status } }
    }

    #[test]
    fn a_conflict_is_recorded_once() {
        let mut known = Known::default();
        let steps = [(1, None), (1, Some(5)), (1, Some(5)), (2, Some(5)), (1, None), (1, Some(9))];
        let told = steps.map(|(node, since)| known.take(&update(node, since)).unwrap_or_default());
        assert_eq!(told, ["", "cause of 5", "", "cause of 5", "", "cause of 9"]);
    }
}
