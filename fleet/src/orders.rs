//! What admins order of nodes: reboot, another agent, drain.

use api::{
    channel::FromServer,
    ids::{Digest, NodeId},
    status::Severity,
};

use crate::{Fleet, FleetError, lifecycle::Event};

impl Fleet {
    /// Refuses an order for a node whose agent is not connected. To be asked before the order is
    /// written down anywhere; the agent may go in the next moment.
    ///
    /// # Errors
    /// [`FleetError::NotConnected`], [`FleetError::UnknownNode`].
    pub fn check_connected(&self, id: NodeId) -> Result<(), FleetError> {
        self.read(id, |entry| match entry.link.is_connected() {
            true => Ok(()),
            false => Err(FleetError::NotConnected { name: entry.name.clone() }),
        })?
    }

    /// Tells a node's agent to reboot and arms the node. The order is out before it is on disk: who
    /// asked for it is written down before ([`database::outbox::write_ahead`]).
    ///
    /// # Errors
    /// [`FleetError::NotConnected`], [`FleetError::UnknownNode`], [`FleetError::Store`].
    pub async fn reboot(&self, id: NodeId, reason: &str) -> Result<(), FleetError> {
        let (said, ticket) = self.change(id, |change| {
            if change.entry.link.send(FromServer::Reboot { reason: reason.to_owned() }).is_err() {
                return Err(FleetError::NotConnected { name: change.entry.name.clone() });
            }
            change.apply_event(Event::RebootOrdered { reason: reason.to_owned() });
            Ok(())
        })?;
        said?;
        self.durable(ticket).await
    }

    /// Keeps new work away from a node.
    ///
    /// # Errors
    /// [`FleetError::UnknownNode`], [`FleetError::Store`].
    pub async fn drain(&self, id: NodeId, reason: String, by: String) -> Result<(), FleetError> {
        let ((), ticket) =
            self.change(id, |change| change.apply_event(Event::Drained { reason, by }))?;
        self.durable(ticket).await
    }

    /// Ends [`Self::drain`]; no error if there was none.
    ///
    /// # Errors
    /// As [`Self::drain`].
    pub async fn undrain(&self, id: NodeId, by: String) -> Result<(), FleetError> {
        let ((), ticket) = self.change(id, |change| change.apply_event(Event::Undrained { by }))?;
        self.durable(ticket).await
    }

    /// Tells a node's agent to fetch the program of this digest and size, bytes, from
    /// `GET /node/v1/agent`, and to go on as it. Jobs run on meanwhile. Who asked for it is written
    /// down before, as of [`Self::reboot`].
    ///
    /// # Errors
    /// As [`Self::reboot`].
    pub async fn upgrade_agent(
        &self,
        id: NodeId,
        digest: Digest,
        size: u64,
        reason: &str,
    ) -> Result<(), FleetError> {
        let (said, ticket) = self.change(id, |change| {
            if change.entry.link.send(FromServer::UpgradeAgent { digest, size }).is_err() {
                return Err(FleetError::NotConnected { name: change.entry.name.clone() });
            }
            let program: String = digest.hex().chars().take(12).collect();
            change.record(
                Severity::Info,
                &format!("upgrade of its agent to {program} ordered: {reason}"),
            );
            Ok(())
        })?;
        said?;
        self.durable(ticket).await
    }
}
