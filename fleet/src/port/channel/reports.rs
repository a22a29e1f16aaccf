//! What an agent says once it was greeted, and what becomes of it.

use api::{
    channel::{Frame, FromAgent, MAX_KIND_CHARS},
    overlay::Generation,
    status::Severity,
};
use axum::extract::ws::close_code;

use super::{Channel, DisconnectReason};
use crate::{
    FleetError, clock,
    lifecycle::Event,
    registry::{Change, Ticket},
    runs::RunMessage,
};

/// After so many seconds an agent that failed to apply overlays is told again.
const TELL_AGAIN_SECONDS: i64 = 60;

impl Channel {
    /// Takes one frame. It is acknowledged only when what it says is on disk. `kind`: type of a
    /// message that is unknown.
    pub(super) async fn frame(
        &mut self,
        frame: Frame<FromAgent>,
        kind: &str,
    ) -> Result<(), DisconnectReason> {
        let (speaks, fleet) = (frame.message.is_some(), self.port.fleet.clone());
        let received = fleet.received(self.node.id, |link| link.receive(frame))?;
        let message = received.map_err(|error| DisconnectReason::protocol(error.to_string()))?;
        let going = matches!(message, Some(FromAgent::GoingDown { .. }));
        if let Some(message) = message {
            self.message(message, kind).await?;
            fleet.link(self.node.id, |link| link.done())?;
        }
        if speaks {
            self.send(Frame { seq: 0, ack: 0, message: None }).await?;
        }
        if going {
            return Err(DisconnectReason {
                code: Some(close_code::NORMAL),
                why: "the node goes down".into(),
            });
        }
        Ok(())
    }

    async fn message(&mut self, message: FromAgent, kind: &str) -> Result<(), DisconnectReason> {
        let fleet = self.port.fleet.clone();
        match message {
            FromAgent::Hello { .. } => return Err(DisconnectReason::protocol("a second hello")),
            FromAgent::Heartbeat { volumes, .. } => fleet.volumes_told(self.node.id, volumes)?,
            FromAgent::Inventory { inventory } => {
                fleet.store_inventory(self.node.id, &inventory).await?;
            }
            FromAgent::Topology { xml } => fleet.store_topology(self.node.id, xml).await?,
            FromAgent::OverlaysApplied { generation, written, removed, error } => {
                let ticket = self.overlays_applied(generation, written, removed, error)?;
                fleet.durable(ticket).await?;
            }
            FromAgent::Runs { runs, paused, volumes, complete } => {
                let node = self.node.id;
                let (news, list) = (None, true);
                let message =
                    |done| RunMessage { node, runs, news, paused, volumes, complete, list, done };
                fleet.handle_run_list(message).await;
            }
            FromAgent::Run { report } => {
                fleet.handle_run_message(self.node.id, vec![report], None).await
            }
            FromAgent::RunNews { run, news } => {
                fleet.handle_run_message(self.node.id, Vec::new(), Some((run, news))).await;
            }
            FromAgent::Refusing { reason } => {
                fleet.apply_event(self.node.id, Event::Refuses { reason }).await?
            }
            FromAgent::UpgradeFailed { why } => {
                let message = format!("its agent stays as it is: {why}");
                let ((), ticket) = fleet
                    .change(self.node.id, |change| change.record(Severity::Warning, &message))?;
                fleet.durable(ticket).await?;
            }
            FromAgent::Usage { runs } => fleet.handle_usage(self.node.id, runs),
            FromAgent::Unsupported { command } => {
                fleet.inner.protocol.unsupported_commands.inc();
                let command: String = command.chars().take(MAX_KIND_CHARS).collect();
                self.record_unknown(format!(
                    "its agent doesn't know the command `{command}`: \
                     upgrade it with `bedplate node upgrade`"
                ))
                .await?;
            }
            FromAgent::Unknown => {
                fleet.inner.protocol.unknown_reports.inc();
                self.record_unknown(format!(
                    "sent a `{kind}`, which this server doesn't know and ignores: \
                     the agent is newer"
                ))
                .await?;
            }
            FromAgent::GoingDown { reboot } => {
                fleet.apply_event(self.node.id, Event::GoingDown { reboot }).await?
            }
        }
        Ok(())
    }

    /// Writes into the node's history what the other side of another release did not know, once in
    /// a connection: it may come with each heartbeat.
    async fn record_unknown(&mut self, message: String) -> Result<(), DisconnectReason> {
        if !std::mem::replace(&mut self.unknown_recorded, true) {
            let fleet = &self.port.fleet;
            let record = |change: &mut Change<'_>| change.record(Severity::Warning, &message);
            let ((), ticket) = fleet.change(self.node.id, record)?;
            fleet.durable(ticket).await?;
        }
        Ok(())
    }

    fn overlays_applied(
        &self,
        generation: Generation,
        written: u64,
        removed: u64,
        error: Option<String>,
    ) -> Result<Ticket, FleetError> {
        let now = clock::now();
        let digest: String = generation.digest.hex().chars().take(12).collect();
        let changed = self.port.fleet.change(self.node.id, |change| match error {
            None => {
                change.entry.link.overlays_applied(generation);
                let message = format!(
                    "applied runtime overlays {digest}: {written} files written, {removed} removed"
                );
                change.record(Severity::Info, &message);
            }
            Some(error) => {
                change.entry.link.retry_overlays(now.plus_seconds(TELL_AGAIN_SECONDS));
                let message = format!("could not apply runtime overlays {digest}: {error}");
                change.record(Severity::Warning, &message);
            }
        });
        changed.map(|((), ticket)| ticket)
    }
}
