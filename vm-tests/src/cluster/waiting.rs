//! Waiting for nodes: until one that boots is ready, with limits for the parts of a boot
//! and power-on again where the emulator holds a machine up, or until the server says
//! something else of one.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use api::{ids::NodeName, machine::Node, status::Phase};

use super::Cluster;
use crate::{
    accelerator::Accelerator,
    boot_watch::{BootWatch, Limits, Verdict},
    clock,
    machine::Machine,
    report::say,
};

/// How long the parts of a boot may take where the processor itself runs the machine.
const BOOT_LIMITS: Limits =
    Limits { to_stage1: Duration::from_secs(45), to_goal: Duration::from_secs(60) };

/// Stalled machines that a run powers on again. A run boots about ten machines: a third stall in
/// one run is news that nobody should miss.
const MOST_STALLS: usize = 2;

/// How a look at a boot ends.
enum Watched {
    /// It is where it should be.
    Fits(Box<Node>),
    /// The emulator holds it up; what the kernel says of that.
    Stalled(String),
}

impl Cluster {
    /// Waits until a node is ready, as [`Cluster::wait_for_boot`].
    ///
    /// # Errors
    /// As [`Cluster::wait_for_boot`].
    pub(crate) fn wait_until_ready(&mut self, name: &'static str) -> anyhow::Result<Node> {
        self.wait_for_boot(name, "be ready", |node| node.status.phase == Phase::Ready)
    }

    /// Waits until what the server says of a node that boots fits, telling its steps. A machine
    /// that the emulator holds up is powered on again, [`MOST_STALLS`] times in a run.
    ///
    /// # Errors
    /// As soon as it is clear that it will not come: the boot failed, QEMU has ended, the kernel
    /// has given up, or a part of the boot took too long. Says which step it was in, with the last
    /// lines of its console and of the server's log.
    pub(crate) fn wait_for_boot(
        &mut self,
        name: &'static str,
        what: &str,
        fits: impl Fn(&Node) -> bool,
    ) -> anyhow::Result<Node> {
        let result = loop {
            match self.watch_boot(name, what, &fits) {
                Ok(Watched::Fits(node)) => break Ok(*node),
                Ok(Watched::Stalled(complaint)) => {
                    if let Err(error) = self.power_on_again(name, &complaint) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        self.note_ready(name, result.is_ok());
        result
    }

    fn watch_boot(
        &mut self,
        name: &'static str,
        what: &str,
        fits: impl Fn(&Node) -> bool,
    ) -> anyhow::Result<Watched> {
        let limits = Limits {
            to_stage1: self.accelerator.stretch(BOOT_LIMITS.to_stage1),
            to_goal: self.accelerator.stretch(BOOT_LIMITS.to_goal),
        };
        let mut watch = BootWatch::new(clock::now(), self.accelerator == Accelerator::Tcg, limits);
        let (mut first, mut last) = (None, None);
        self.look_until(name, what, limits.to_stage1 + limits.to_goal, |machine, node| {
            let machine = machine.with_context(|| format!("{name} is not switched on"))?;
            let (phase, now) = (node.status.phase, clock::now());
            let step = (phase, node.status.since);
            if last != Some(step) {
                watch.moved(now);
                if last.is_none_or(|(last, _)| last != phase) {
                    say(format!("  {name}: {}", phase.as_str()));
                }
                last = Some(step);
            }
            if fits(&node) {
                return Ok(Some(Watched::Fits(Box::new(node))));
            }
            // A failure that was there before is that of an earlier boot.
            if *first.get_or_insert(step) != step && phase == Phase::Failed {
                bail!("{name} will not {what}: its boot failed");
            }
            match watch.look(now, &machine.console_since_power_on()) {
                Verdict::GoesOn => Ok(None),
                Verdict::Stalled(complaint) => Ok(Some(Watched::Stalled(complaint))),
                Verdict::Over(why) => bail!("{name} will not {what}: {why}"),
            }
        })
    }

    fn power_on_again(&mut self, name: &'static str, complaint: &str) -> anyhow::Result<()> {
        if self.stalls.len() >= MOST_STALLS {
            bail!(
                "the emulator stalls {name} ({complaint}), and {MOST_STALLS} machines were powered on again in \
                 this run already; {}",
                self.evidence(name)
            );
        }
        say(format!("  EMULATOR STALL of {name}, which is powered on again: {complaint}"));
        self.stalls.push(name);
        self.power_cycle(name)
    }

    /// What a run has to say at its end of machines that the emulator held up.
    pub(crate) fn stalls(&self) -> String {
        match self.stalls.as_slice() {
            [] => "emulator stalls: 0".to_owned(),
            names => {
                format!("emulator stalls: {} ({} powered on again)", names.len(), names.join(", "))
            }
        }
    }

    /// Remembers whether a node became ready when that was waited for.
    pub(crate) fn note_ready(&mut self, name: &'static str, is_ready: bool) {
        if is_ready {
            self.given_up.remove(name);
        } else {
            self.given_up.insert(name);
        }
    }

    /// The last that waited for this node waited in vain: nobody need wait for it again.
    pub(crate) fn has_given_up(&self, name: &str) -> bool {
        self.given_up.contains(name)
    }

    /// Waits until what the server says of a node fits. The limit is stretched under emulation.
    ///
    /// # Errors
    /// As [`Cluster::wait_until_ready`].
    pub(crate) fn wait_for_node(
        &mut self,
        name: &'static str,
        what: &str,
        limit: Duration,
        mut fits: impl FnMut(&Node) -> bool,
    ) -> anyhow::Result<Node> {
        let limit = self.accelerator.stretch(limit);
        self.look_until(name, what, limit, |_, node| Ok(fits(&node).then_some(node)))
    }

    /// Looks at a machine and at what the server says of it until there is something.
    fn look_until<T>(
        &mut self,
        name: &'static str,
        what: &str,
        limit: Duration,
        mut look: impl FnMut(Option<&Machine>, Node) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let mut last = None;
        let waited = clock::wait_for(&format!("{name} to {what}"), limit, || {
            let mut machine = self.machines.get_mut(name);
            if let Some(machine) = &mut machine {
                machine.check_on()?;
            }
            let id: NodeName = name.parse()?;
            let node = self.server.ask(|client| async move { client.node(&id).await })?;
            last = Some(node.status.clone());
            look(machine.as_deref(), node)
        });
        waited.map_err(|error| {
            let step = last.map_or_else(
                || "the server said nothing of it".to_owned(),
                |status| {
                    format!(
                        "it is {} ({})",
                        status.phase.as_str(),
                        status.reason.unwrap_or_default()
                    )
                },
            );
            anyhow!("{error:#}; {step}; {}", self.evidence(name))
        })
    }
}
