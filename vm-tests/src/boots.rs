//! `vm-tests boots ROUNDS [VARIANT…]`: powers the machine with eight processors on again and again,
//! beside two nodes that are ready as in the vm lane, and counts how often the emulator holds it up
//! before stage 1 speaks.
//!
//! A variant is what is put on the kernel's command line, and `cpu=PROCESSOR` for QEMU; without
//! any, boots are as in the lane. Each round boots once in each variant, in turn, so that load from
//! elsewhere meets all of them alike. Nothing is tried again here.

use std::{fs, time::Duration};

use anyhow::Context as _;

use crate::{
    accelerator::Accelerator,
    boot_watch::{self, BootWatch, Limits, Verdict},
    checks::hardware::RICH,
    clock,
    cluster::{Cluster, MACHINES},
    registry::Registry,
    report::say,
};

/// How long a boot may take, emulated or not. Without a complaint of the kernel it counts
/// as failed then.
const LIMIT: Duration = Duration::from_secs(240);

/// What became of the boots in one variant.
#[derive(Debug, Default)]
struct Tally {
    /// From power-on until stage 1 spoke, seconds.
    seconds: Vec<f64>,
    stalls: usize,
    failures: usize,
}

impl Tally {
    fn count(&mut self, verdict: &Boot) {
        match verdict {
            Boot::Spoke(seconds) => self.seconds.push(*seconds),
            Boot::Stalled(_) => self.stalls += 1,
            Boot::Failed(_) => self.failures += 1,
        }
    }

    fn is_clean(&self) -> bool {
        self.stalls == 0 && self.failures == 0
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let boots = self.seconds.len() + self.stalls + self.failures;
        write!(f, "{boots} boots, {} emulator stalls, {} failures", self.stalls, self.failures)?;
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (seconds.first(), seconds.last()) else { return Ok(()) };
        let median = seconds[seconds.len() / 2];
        write!(f, "; stage 1 after {median:.1} s (median; {least:.1} to {most:.1})")
    }
}

/// One boot.
enum Boot {
    /// Stage 1 spoke after so many seconds.
    Spoke(f64),
    /// What the kernel said.
    Stalled(String),
    /// The cause, for people.
    Failed(String),
}

/// What a boot is made with.
#[derive(Debug)]
struct Variant {
    /// As it was asked for.
    words: String,
    /// What QEMU's `-cpu` takes.
    processor: String,
    /// On the kernel's command line.
    kernel_arguments: Vec<String>,
}

impl Variant {
    /// Words with spaces between: `cpu=PROCESSOR` for QEMU, all others for the kernel.
    fn parse(words: &str, usual_processor: &str) -> Self {
        let mut variant = Self {
            words: words.to_owned(),
            processor: usual_processor.to_owned(),
            kernel_arguments: Vec::new(),
        };
        for word in words.split_whitespace() {
            match word.strip_prefix("cpu=") {
                Some(processor) => processor.clone_into(&mut variant.processor),
                None => variant.kernel_arguments.push(word.to_owned()),
            }
        }
        variant
    }
}

/// Boots so often in each variant; true if stage 1 always spoke.
///
/// # Errors
/// If there is no cluster, or its two nodes do not become ready.
pub(crate) fn by_hand(rounds: u32, variants: &[&str]) -> anyhow::Result<bool> {
    let mut cluster = Cluster::start()?;
    cluster
        .server
        .cli(&["image", "import", &Registry::source()])
        .context("importing the node image")?;
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    cluster.power_on()?;
    for machine in &MACHINES {
        cluster.wait_until_ready(machine.name)?;
    }
    let usual = cluster.accelerator().kernel_arguments().join(" ");
    let variants = if variants.is_empty() { &[usual.as_str()][..] } else { variants };
    let processor = cluster.accelerator().arguments()[3];
    let variants: Vec<Variant> =
        variants.iter().map(|words| Variant::parse(words, processor)).collect();
    let mut tallies: Vec<Tally> = variants.iter().map(|_| Tally::default()).collect();
    for round in 1..=rounds {
        for (variant, tally) in variants.iter().zip(&mut tallies) {
            let boot = boot(&mut cluster, variant)?;
            tally.count(&boot);
            let became = match boot {
                Boot::Spoke(seconds) => format!("stage 1 after {seconds:.1} s"),
                Boot::Stalled(complaint) => format!("EMULATOR STALL: {complaint}"),
                Boot::Failed(why) => format!("FAILED: {why}; {}", cluster.evidence(RICH.name)),
            };
            say(format!(
                "round {round} of {rounds}, {:?}: {became} (load {})",
                variant.words,
                load()
            ));
        }
    }
    for (variant, tally) in variants.iter().zip(&tallies) {
        say(format!("{:?}: {tally}", variant.words));
    }
    say(cluster.stalls() + " of the two nodes beside it");
    Ok(tallies.iter().all(Tally::is_clean))
}

/// Powers the machine on, watches it until stage 1 speaks, and takes the power away.
fn boot(cluster: &mut Cluster, variant: &Variant) -> anyhow::Result<Boot> {
    declare(cluster, variant)?;
    if cluster.machine(RICH.name).is_err() {
        // Its first power-on gives it its ports and its TPM. What counts is the next one, with the
        // variant's processor.
        cluster.switch_on(&RICH)?;
    }
    cluster.machine(RICH.name)?.exchange_processor(&variant.processor);
    cluster.power_cycle(RICH.name)?;
    let power_on = clock::now();
    let is_emulated = cluster.accelerator() == Accelerator::Tcg;
    let mut watch =
        BootWatch::new(power_on, is_emulated, Limits { to_stage1: LIMIT, to_goal: LIMIT });
    let boot = clock::wait_for("the boot to end", 2 * LIMIT, || {
        let machine = cluster.machine(RICH.name)?;
        if let Err(end) = machine.check_on() {
            return Ok(Some(Boot::Failed(format!("{end:#}"))));
        }
        let (now, console) = (clock::now(), machine.console_since_power_on());
        if boot_watch::has_stage1_spoken(&console) {
            return Ok(Some(Boot::Spoke(power_on.elapsed().as_secs_f64())));
        }
        Ok(match watch.look(now, &console) {
            Verdict::GoesOn => None,
            Verdict::Stalled(complaint) => Some(Boot::Stalled(complaint)),
            Verdict::Over(why) => Some(Boot::Failed(why)),
        })
    })?;
    cluster.switch_off(RICH.name)?;
    Ok(boot)
}

/// Declares the node with the variant's kernel arguments, and without those of the two
/// nodes beside it.
fn declare(cluster: &Cluster, variant: &Variant) -> anyhow::Result<()> {
    let more: Vec<&str> = variant.kernel_arguments.iter().map(String::as_str).collect();
    let document = format!(
        "profiles:
  counted:
    image: debian-node
    kernel-args: [{}]
nodes:
  {}:
    profiles: [counted]
    interfaces:
      lan0: {{mac: '{}', address: {}/24}}
",
        cluster.kernel_arguments(&more),
        RICH.name,
        RICH.boot_mac,
        RICH.address,
    );
    let path = cluster.checkout_paths().of_run("boots.yaml");
    fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
    cluster.server.cli(&["apply", "-f", &path.display().to_string()]).map(drop)
}

/// Processes that want to run, mean of the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Boot, Tally, Variant};

    #[test]
    fn a_tally_counts_what_became_of_boots() {
        let mut tally = Tally::default();
        for seconds in [30.0, 10.0, 20.0] {
            tally.count(&Boot::Spoke(seconds));
        }
        assert!(tally.is_clean());
        tally.count(&Boot::Stalled("rcu".to_owned()));
        assert!(!tally.is_clean());
        assert_eq!(
            tally.to_string(),
            "4 boots, 1 emulator stalls, 0 failures; stage 1 after 20.0 s (median; 10.0 to 30.0)"
        );
    }

    #[test]
    fn a_variant_is_for_qemu_and_for_the_kernel() {
        let variant = Variant::parse("lpj=1  cpu=qemu64 quiet", "max");
        assert_eq!((variant.processor.as_str(), variant.kernel_arguments.len()), ("qemu64", 2));
        let variant = Variant::parse("", "max");
        assert_eq!((variant.processor.as_str(), variant.kernel_arguments.len()), ("max", 0));
    }
}
