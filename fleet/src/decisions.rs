//! Whom admins take for a node, when two claim to be it, and whose certificates they revoke.

use api::{ids::NodeId, status::Severity};

use crate::{
    Fleet, FleetError, arming,
    enrolments::{Enrolments, Undecidable},
    registry::Change,
};

impl Fleet {
    /// Says that the agent of this enrolment is the node: the certificates of all others up to now
    /// are dead at once, on every route, and a conflict is over.
    ///
    /// # Errors
    /// [`FleetError::Undecidable`], [`FleetError::UnknownNode`], [`FleetError::Store`].
    pub async fn trust(&self, id: NodeId, epoch: u64, by: &str) -> Result<(), FleetError> {
        let line = format!("{by} trusts its enrolment {epoch}: all others are revoked");
        self.decide(id, &line, |enrolments| enrolments.trust(epoch)).await
    }

    /// Revokes the certificates of a node up to this enrolment, or all of them: they are dead at
    /// once, on every route. With the last one the node is disarmed: it boots again
    /// when it is armed.
    ///
    /// # Errors
    /// As [`Self::trust`].
    pub async fn revoke(&self, id: NodeId, up_to: Option<u64>, by: &str) -> Result<(), FleetError> {
        let what = up_to.map_or_else(String::new, |epoch| format!(" up to its enrolment {epoch}"));
        let line = format!("{by} revoked its certificates{what}");
        self.decide(id, &line, |enrolments| enrolments.revoke(up_to)).await
    }

    async fn decide(
        &self,
        id: NodeId,
        line: &str,
        act: impl FnOnce(&mut Enrolments) -> Result<(), Undecidable>,
    ) -> Result<(), FleetError> {
        let (decided, ticket) = self.change(id, |change: &mut Change<'_>| {
            let decided = change.enrolments(|enrolments, _| act(enrolments));
            if let Err(why) = decided {
                return Err(FleetError::Undecidable {
                    name: change.entry.name.clone(),
                    why: why.to_string(),
                });
            }
            change.record(Severity::Info, line);
            if change.entry.enrolments.newest_good().is_none() {
                let _noted = change.token(arming::Event::Revoked);
            }
            Ok(())
        })?;
        decided?;
        self.durable(ticket).await
    }
}
