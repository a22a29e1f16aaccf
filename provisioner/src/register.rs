//! Changes of which nodes there are: the provisioner's tables and the fleet's in one transaction,
//! the memory of both only after it, and the files of deleted nodes last.
//!
//! A server that is killed before the commit finds the state before the change, and after it the
//! state behind it, in both. Files have no transactions: that a deleted node has a host key left is
//! noted in the same transaction, until the key is gone.

use std::sync::Arc;

use api::ids::{NodeId, NodeName};
use database::{Database, DatabaseError, MigrateError, outbox};
use fleet::Fleet;
use tokio::sync::OwnedMutexGuard;

mod told;

use self::told::told;
use crate::{
    cluster::Next,
    overlay::host_key::HostKeys,
    provisioner::{EditError, Provisioner},
    store::{
        Store, Write,
        sql::{self, ONE_REGISTER, SCHEMA},
    },
};

/// Brings the tables of the provisioner up to date. In one of the steps the fleet's register is
/// made equal to the provisioner's: up to that version a change of both was two transactions, and a
/// server that was killed between them left them different.
///
/// # Errors
/// [`MigrateError`].
pub async fn migrate(database: &Database, fleet: &Fleet) -> Result<(), MigrateError> {
    let owner = SCHEMA.owner;
    let failed = |source| MigrateError::Database { owner, source };
    while let Some(step) = database.migrate_to_code(&SCHEMA).await? {
        if step.name != ONE_REGISTER {
            return Err(MigrateError::Undone { owner, step: step.name });
        }
        let mut edit = fleet.edit_nodes().await;
        let mut transaction = database.begin_long().await.map_err(failed)?;
        let declared = sql::declared(&mut transaction).await.map_err(failed)?;
        let mut removed = fleet.registered();
        for (id, _) in &declared {
            removed.remove(id);
        }
        let removed: Vec<NodeId> = removed.into_iter().collect();
        sql::note_removed(&mut transaction, &removed).await.map_err(failed)?;
        edit.write(&mut transaction, declared, &removed).await.map_err(failed)?;
        transaction.step_done(&SCHEMA, &step).await?;
        transaction.commit("make one register of nodes").await.map_err(failed)?;
        edit.committed();
    }
    Ok(())
}

/// Removes the host keys of nodes that were deleted. What fails is logged, and tried again at the
/// next start.
pub(crate) async fn remove_host_keys(store: &Arc<dyn Store>, host_keys: &HostKeys) {
    let keys = host_keys.clone();
    let removed = match store.removed_nodes().await {
        Ok(removed) if removed.is_empty() => return,
        Ok(removed) => removed,
        Err(error) => return tracing::error!("{}", rest::causes(&error)),
    };
    let removing = tokio::task::spawn_blocking(move || {
        let remove = |id: &NodeId| match keys.remove(*id) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("{}", rest::causes(&error));
                false
            }
        };
        removed.into_iter().filter(remove).collect::<Vec<NodeId>>()
    });
    let forgotten = match removing.await {
        Ok(gone) => store.forget_removed(&gone).await,
        Err(error) => return tracing::error!("the removal of host keys ended badly: {error}"),
    };
    if let Err(error) = forgotten {
        tracing::error!("{}", rest::causes(&error));
    }
}

impl Provisioner {
    /// Keeps a checked change and shows it to everybody. The caller took the turn, which ends with
    /// the change: a client that goes away meanwhile must not leave the memory behind the disk.
    ///
    /// # Errors
    /// [`EditError::Store`]: nothing was changed.
    pub(crate) async fn commit(
        &self,
        turn: OwnedMutexGuard<()>,
        next: Next,
    ) -> Result<(), EditError> {
        if next.writes.is_empty() {
            return Ok(());
        }
        told(&self.view().cluster, &next.writes);
        let provisioner = self.clone();
        let keeping = tokio::spawn(outbox::carry(async move {
            let kept = provisioner.keep(next).await;
            drop(turn);
            kept
        }));
        keeping.await.map_err(|error| EditError::Broken { cause: error.to_string() })?
    }

    async fn keep(&self, next: Next) -> Result<(), EditError> {
        let Next { cluster, writes, changed } = next;
        let named = writes.iter().filter_map(|write| match write {
            Write::PutNode(node) => Some((node.id, node.name.clone())),
            _ => None,
        });
        let removed = writes.iter().filter_map(|write| match write {
            Write::DeleteNode { id, .. } => Some(*id),
            _ => None,
        });
        let (named, removed): (Vec<(NodeId, NodeName)>, Vec<NodeId>) =
            (named.collect(), removed.collect());
        let database = |error: DatabaseError| EditError::Store(error.into());

        // The edit before the transaction: see fleet::register.
        let mut edit = self.0.fleet.edit_nodes().await;
        // What a node leaves is deleted with it: a thousand nodes take longer than a
        // transaction may.
        let begun = match removed.is_empty() {
            true => self.0.database.begin().await,
            false => self.0.database.begin_long().await,
        };
        let mut transaction = begun.map_err(database)?;
        if let Err(error) = self.0.store.write(&mut transaction, &writes).await {
            transaction.rollback().await.map_err(database)?;
            return Err(error.into());
        }
        edit.write(&mut transaction, named, &removed).await.map_err(database)?;
        transaction.commit("commit a change of nodes").await.map_err(database)?;
        edit.committed();
        self.publish(cluster, changed);
        if !removed.is_empty() {
            {
                let mut generations = self.generations();
                for id in &removed {
                    generations.remove(id);
                }
            }
            self.0.holds.forget(&removed);
            remove_host_keys(&self.0.store, &self.0.host_keys).await;
        }
        Ok(())
    }
}
