//! The life of one node, from its first request to ready and back: pure.
//!
//! States are [`api::status::Phase`]. What leads where:
//!
//! | event | legal in | leads to |
//! |---|---|---|
//! | `Offered` | all, unless the agent is connected | `offered`; a retry in `offered` or `firmware` stays there |
//! | `Fetched` | all, unless the agent is connected or may come back | no change of phase: it is shown as unproven, from `unseen`, `offered` and `rebooting` as `firmware` |
//! | `TokenShown` | all | no change of phase |
//! | `CertificateIssued` | all | `stage1`; a new boot unless one is under way |
//! | `Reported` | all, unless the agent is connected | `stage1`, `fetching`, `switching`, `failed` |
//! | `Connected` | all | `ready` if it is the agent that was ready before; `rebooting` stays; else `enrolled` |
//! | `InventoryStored` | `enrolled`; else no change of phase | `ready`; its news go into the history |
//! | `RebootOrdered` | connected | `rebooting` |
//! | `GoingDown` | all | `rebooting`, or `lost` for a power-off |
//! | `Disconnected` | all | no change of phase yet; `offered` if its machine asked for an address just before |
//! | `Tick` | all | `lost` if `ready` or `enrolled` and away for longer than the grace; sets `overdue` past a deadline; tells of a stage 1 that keeps silent |
//! | `Unreadable` | when the server starts | no change of phase; drained |
//! | `Held` | all | no change of phase: [`crate::holding`] |
//! | `TokenRefused` | all, unless the agent is connected | no change of phase; it is held until it gets a token or a certificate, or is armed |
//! | `ServerStarted` | all | no change of phase: agents get the grace to come back |
//!
//! While the agent is connected, requests that only claim to come from this node change nothing;
//! they make fleet ask the agent for a sign of life ([`Effect::Probe`]), because a machine that was
//! reset asks for an address while its old connection still looks alive. If there is none and the
//! connection ends, that request begins a boot: nobody waits out the grace of an agent whose
//! machine is at its firmware.

use std::net::IpAddr;

use api::{
    ids::Timestamp,
    status::{Drain, NodeStatus, Phase, Severity},
};
use serde::{Deserialize, Serialize};

use crate::{arming, config::Deadlines, holding::Holding};

mod clean;
mod down;
mod drain;
mod images;
mod ready;
mod silence;

pub(crate) use images::BootFile;
use images::Unproven;
use silence::Stage1Silence;

/// A connection that ends so soon after its machine asked for an address ended with that machine:
/// the agent has a few seconds to answer the probe.
const PROBED_SECONDS: i64 = 10;

/// Everything that is known of a node's boot and presence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NodeLifecycle {
    pub(crate) phase: Phase,
    pub(crate) percent: Option<u8>,
    pub(crate) reason: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) overdue: bool,
    pub(crate) address: Option<IpAddr>,
    /// Image version that it runs, or that its stage 1 boots.
    pub(crate) image: Option<String>,
    /// It may run an image of which nothing is known.
    #[serde(default)]
    pub(crate) image_unknown: bool,
    pub(crate) agent_version: Option<String>,
    pub(crate) boot_ms: Option<u64>,
    /// First request of the boot that is under way.
    pub(crate) boot_started: Option<Timestamp>,
    pub(crate) presence: Presence,
    /// Who keeps new work away, and why. It outlives boots.
    #[serde(default)]
    pub(crate) drain: Option<Drain>,
    /// What the agent that connected last says that the node lacks for jobs.
    #[serde(default)]
    pub(crate) refuses: Option<String>,
    /// The agent that connected last.
    pub(crate) agent: Option<AgentInstance>,
    /// That agent has sent its inventory.
    pub(crate) inventory_known: bool,
    /// How long stage 1 is waited for.
    #[serde(skip)]
    pub(crate) silence: Stage1Silence,
    /// Why its boot does not go on, which had a token of this node's.
    #[serde(default)]
    pub(crate) token_refused: Option<String>,
    /// What on the server holds it.
    #[serde(skip)]
    pub(crate) holding: Holding,
    /// The address that its machine asked for while the agent was connected, and when.
    #[serde(skip)]
    pub(crate) asked: Option<(IpAddr, Timestamp)>,
    /// What somebody fetched in its name since its boot began.
    #[serde(skip)]
    pub(crate) unproven: Option<Unproven>,
    /// Image version of the token that was shown last.
    #[serde(skip)]
    pub(crate) shown_image: Option<String>,
}

/// Is there a connection to the agent?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum Presence {
    /// Not since the last boot.
    None,
    /// Yes.
    Connected,
    /// It ended, and may come back within the grace.
    Away { since: Timestamp, why: String },
}

/// One run of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct AgentInstance {
    pub(crate) boot_id: String,
    pub(crate) instance: String,
}

/// What happens to a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Offered { address: IpAddr },
    Fetched { file: BootFile, address: IpAddr },
    TokenShown { image: String },
    CertificateIssued { address: IpAddr },
    Reported { phase: Phase, percent: Option<u8>, message: String },
    Connected { agent: AgentInstance, version: String, image: String, address: IpAddr },
    InventoryStored { changed: bool, news: Vec<(Severity, String)> },
    RebootOrdered { reason: String },
    GoingDown { reboot: bool },
    Refuses { reason: Option<String> },
    Drained { reason: String, by: String },
    Undrained { by: String },
    Held { cause: Option<String> },
    Unreadable { cause: String },
    TokenRefused { cause: Option<String> },
    Disconnected { why: String },
    Tick,
    ServerStarted,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A line for the history.
    Record(Severity, String),
    /// An event for the node's token.
    Arming(arming::Event),
    /// Ask the agent for a sign of life.
    Probe,
    /// Tell who watches nodes, though the status may be the same: jobs are placed by what the
    /// inventory says, and by what the agent knows.
    Tell,
}

/// Limits that the steps use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) deadlines: Deadlines,
    pub(crate) grace_seconds: u32,
}

fn info(message: impl Into<String>) -> Effect {
    Effect::Record(Severity::Info, message.into())
}

fn warning(message: impl Into<String>) -> Effect {
    Effect::Record(Severity::Warning, message.into())
}

impl NodeLifecycle {
    /// A node just added.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Unseen,
            percent: None,
            reason: None,
            since: now,
            last_seen: None,
            overdue: false,
            address: None,
            image: None,
            image_unknown: false,
            agent_version: None,
            boot_ms: None,
            boot_started: None,
            presence: Presence::None,
            drain: None,
            refuses: None,
            agent: None,
            inventory_known: false,
            silence: Stage1Silence::default(),
            token_refused: None,
            holding: Holding::default(),
            asked: None,
            unproven: None,
            shown_image: None,
        }
    }

    /// What people and programs are shown.
    pub(crate) fn status(&self, armed: bool, deadlines: &Deadlines) -> NodeStatus {
        let phase = self.shown_phase();
        NodeStatus {
            phase,
            percent: self.percent,
            reason: self.reason.clone().or_else(|| self.silence.in_words()),
            since: self.shown_since(),
            last_seen: self.last_seen,
            overdue_seconds: deadlines.of(phase).filter(|_| self.overdue),
            unproven: self.unproven.as_ref().map(Unproven::shown),
            armed,
            address: self.address,
            image: self.image.clone(),
            agent_version: self.agent_version.clone(),
            boot_ms: self.boot_ms,
            drain: self.drain.clone(),
            held: self.held(),
            refuses: self.refuses.clone(),
            epoch: 0,
            conflict: None,
            volumes: None,
        }
    }

    /// Takes one event.
    pub(crate) fn step(
        &self,
        event: Event,
        now: Timestamp,
        limits: &Limits,
    ) -> (Self, Vec<Effect>) {
        let mut life = self.clone();
        let effects = match event.cleaned() {
            Event::Tick => life.tick(now, limits),
            Event::ServerStarted => life.server_started(now, limits),
            Event::Disconnected { why } => life.disconnected(why, now, limits),
            Event::Drained { reason, by } => life.drained(reason, by, now),
            Event::Undrained { by } => life.undrained(&by),
            Event::Unreadable { cause } => life.recovered(&cause, now),
            Event::TokenRefused { cause } => life.token_was_refused(cause),
            Event::Held { cause } => {
                let line = life.holding.set(cause, now);
                line.map(|(severity, line)| Effect::Record(severity, line)).into_iter().collect()
            }
            Event::TokenShown { image } => {
                life.shown_image = Some(image);
                Vec::new()
            }
            event @ Event::Fetched { .. } => life.transition(event, now, limits),
            event => {
                life.last_seen = Some(now);
                life.transition(event, now, limits)
            }
        };
        (life, effects)
    }

    fn transition(&mut self, event: Event, now: Timestamp, limits: &Limits) -> Vec<Effect> {
        let connected = self.presence == Presence::Connected;
        match event {
            Event::Offered { address } if connected => {
                self.asked = Some((address, now));
                vec![Effect::Probe]
            }
            Event::Fetched { .. } if connected => vec![Effect::Probe],
            Event::Reported { .. } if connected => Vec::new(),
            // Any user of the node could fetch a file while its agent restarts. The
            // grace will tell.
            Event::Fetched { .. } if self.may_come_back() => Vec::new(),
            Event::Offered { address } => self.offered(address, now, limits),
            Event::Fetched { file, address } => {
                self.took_file(&file, address, now);
                self.wait_for_stage1(&file, now);
                Vec::new()
            }
            Event::CertificateIssued { address } => self.certified(address, now),
            Event::Reported { phase, percent, message } => {
                self.reported(phase, percent, message, now)
            }
            Event::Connected { agent, version, image, address } => {
                self.address = Some(address);
                self.runs_image(image);
                self.connected(agent, version, now)
            }
            Event::InventoryStored { changed, news } => self.inventory_stored(changed, news, now),
            Event::RebootOrdered { reason } => {
                self.enter(Phase::Rebooting, now);
                vec![
                    info(format!("reboot ordered: {reason}")),
                    Effect::Arming(arming::Event::Ordered),
                ]
            }
            Event::GoingDown { reboot } => self.going_down(reboot, now),
            Event::Refuses { reason } => self.refusing(reason),
            Event::Tick
            | Event::ServerStarted
            | Event::Disconnected { .. }
            | Event::Drained { .. }
            | Event::Undrained { .. }
            | Event::Held { .. }
            | Event::TokenShown { .. }
            | Event::Unreadable { .. }
            | Event::TokenRefused { .. } => Vec::new(),
        }
    }

    /// The agent is away and its grace is not over.
    fn may_come_back(&self) -> bool {
        matches!(self.presence, Presence::Away { .. })
            && matches!(self.phase, Phase::Ready | Phase::Enrolled)
    }

    /// Enters a phase; entering the present one again keeps its beginning.
    fn enter(&mut self, phase: Phase, now: Timestamp) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
            self.overdue = false;
        }
        self.percent = None;
        self.reason = None;
        self.silence.end();
    }

    fn begin_boot(&mut self, phase: Phase, address: IpAddr, now: Timestamp) {
        self.enter(phase, now);
        self.since = now;
        self.overdue = false;
        self.boot_started = Some(now);
        self.unproven = None;
        self.address = Some(address);
        self.presence = Presence::None;
        self.agent = None;
        self.refuses = None;
        self.inventory_known = false;
    }

    fn offered(&mut self, address: IpAddr, now: Timestamp, limits: &Limits) -> Vec<Effect> {
        let retry =
            matches!(self.phase, Phase::Offered | Phase::Firmware) && !self.is_late(now, limits);
        if retry {
            self.silence.end();
            self.address = Some(address);
            return Vec::new();
        }
        // A channel that waits out its grace is gone: its machine is at the firmware again.
        let mut effects = vec![Effect::Arming(arming::Event::ChannelGone)];
        self.begin_boot(Phase::Offered, address, now);
        self.runs_no_image();
        effects.push(Effect::Arming(arming::Event::BootSeen));
        effects.push(info(format!("got {address}")));
        effects
    }

    fn reported(
        &mut self,
        phase: Phase,
        percent: Option<u8>,
        message: String,
        now: Timestamp,
    ) -> Vec<Effect> {
        let same = self.phase == phase;
        self.unproven = None;
        self.enter(phase, now);
        self.percent = percent.map(|percent| percent.min(100));
        match phase {
            Phase::Failed => {
                self.reason = Some(message.clone());
                vec![warning(message), Effect::Arming(arming::Event::BootFailed)]
            }
            Phase::Fetching if same => Vec::new(),
            _ => vec![info(message)],
        }
    }

    fn connected(&mut self, agent: AgentInstance, version: String, now: Timestamp) -> Vec<Effect> {
        let again = self.agent.as_ref() == Some(&agent);
        self.presence = Presence::Connected;
        self.unproven = None;
        self.token_refused = None;
        self.agent_version = Some(version.clone());
        let mut effects = vec![Effect::Arming(arming::Event::Connected)];
        if again && self.phase == Phase::Rebooting {
            return effects;
        }
        if again && self.inventory_known {
            if self.phase != Phase::Ready {
                self.enter(Phase::Ready, now);
                effects.push(info("the agent is back"));
            }
            // Its status may be the same, and what is known of it by its connection is not.
            effects.push(Effect::Tell);
            return effects;
        }
        self.agent = Some(agent);
        self.refuses = None;
        self.inventory_known = false;
        self.enter(Phase::Enrolled, now);
        effects.push(info(format!("agent {version} connected")));
        effects
    }

    fn disconnected(&mut self, why: String, now: Timestamp, limits: &Limits) -> Vec<Effect> {
        if self.presence != Presence::Connected {
            return Vec::new();
        }
        self.presence = Presence::Away { since: now, why };
        if let Some((address, at)) = self.asked.take()
            && now <= at.plus_seconds(PROBED_SECONDS)
        {
            return self.offered(address, now, limits);
        }
        // One that said good-bye is not waited for.
        match self.phase {
            Phase::Rebooting | Phase::Lost => vec![Effect::Arming(arming::Event::ChannelGone)],
            _ => Vec::new(),
        }
    }

    fn server_started(&mut self, now: Timestamp, limits: &Limits) -> Vec<Effect> {
        if self.presence == Presence::Connected {
            return self.disconnected("the server was restarted".to_owned(), now, limits);
        }
        if let Presence::Away { since, .. } = &mut self.presence {
            *since = now;
        }
        Vec::new()
    }

    /// Why the agent counts as lost, if it has been away for longer than its grace.
    fn lost(&self, now: Timestamp, limits: &Limits) -> Option<&str> {
        match &self.presence {
            Presence::Away { since, why }
                if matches!(self.phase, Phase::Ready | Phase::Enrolled)
                    && now >= since.plus_seconds(limits.grace_seconds.into()) =>
            {
                Some(why)
            }
            _ => None,
        }
    }

    /// Whether [`Event::Tick`] would change anything now.
    pub(crate) fn is_tick_due(&self, now: Timestamp, limits: &Limits) -> bool {
        self.lost(now, limits).is_some()
            || (!self.overdue && self.is_late(now, limits))
            || self.unproven.as_ref().is_some_and(|unproven| unproven.is_over(now))
            || self.silence.is_due(now, limits.deadlines.silence_seconds)
    }

    fn tick(&mut self, now: Timestamp, limits: &Limits) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(why) = self.lost(now, limits) {
            let reason = format!("no word from its agent for {} s: {why}", limits.grace_seconds);
            self.enter(Phase::Lost, now);
            effects.push(warning(reason.clone()));
            effects.push(Effect::Arming(arming::Event::ChannelGone));
            self.reason = Some(reason);
        }
        if !self.overdue && self.is_late(now, limits) {
            self.overdue = true;
            let phase = self.shown_phase();
            let seconds = limits.deadlines.of(phase).unwrap_or_default();
            effects.push(warning(format!("still {} after {seconds} s", phase.as_str())));
            effects.push(Effect::Arming(arming::Event::BootFailed));
        }
        if self.unproven.as_ref().is_some_and(|unproven| unproven.is_over(now)) {
            self.unproven = None;
        }
        if self.silence.is_due(now, limits.deadlines.silence_seconds) {
            effects.extend(self.silence.start_reporting().map(warning));
        }
        effects
    }

    /// Whether it has been in its phase for longer than that may last. A boot whose firmware
    /// fetches files may be at its firmware for as long as that, once: who fetches proves nothing.
    fn is_late(&self, now: Timestamp, limits: &Limits) -> bool {
        let is_over = |phase, since: Timestamp| {
            let deadline =
                limits.deadlines.of(phase).and_then(|seconds| i64::try_from(seconds).ok());
            deadline.is_some_and(|seconds| now > since.plus_seconds(seconds))
        };
        is_over(self.phase, self.since)
            && (self.shown_phase() == self.phase || is_over(Phase::Firmware, self.shown_since()))
    }
}

#[cfg(test)]
#[path = "lifecycle/tests.rs"]
mod tests;
