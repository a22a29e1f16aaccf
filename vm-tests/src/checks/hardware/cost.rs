//! `vm-tests bench inventory`: what knowing the hardware costs a node, beside `lstopo`.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::ADDRESS;
use crate::{clock, cluster::Cluster, registry::Registry, report::say};

/// Looks of each program, one after the other.
const ROUNDS: usize = 7;

/// Before: what a boot leaves to tell comes with the next look at the counters, a minute later.
const CALM: Duration = Duration::from_secs(75);

/// How long the idle agent is watched.
const IDLE: Duration = Duration::from_secs(120);

/// CPU seconds of each program, alternating. bash counts in milliseconds.
const LOOK: &str = r"
TIMEFORMAT='%U %S'
for round in $(seq ROUNDS); do
  for program in 'lstopo-no-graphics --of xml' '/usr/lib/bedplate/substrate inventory'; do
    { time $program >/dev/null 2>&1; } 2>&1
  done
done
";

/// CPU time of the agent with all its children, µs.
const AGENT: &str =
    "sed -n 's/^usage_usec //p' /sys/fs/cgroup/system.slice/bedplate-substrate.service/cpu.stat";

/// Boots the machine and prints what a first look and a minute without anything to do take of its CPU.
///
/// # Errors
/// If it does not become ready, or a program does not run on it.
pub(crate) fn bench() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    cluster.server.cli(&["image", "import", &Registry::source()]).context("importing the node image")?;
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    super::boot(&mut cluster)?;
    let cluster = &cluster;
    let usage = |cluster: &Cluster| -> anyhow::Result<f64> {
        let text = cluster.on_node(ADDRESS, AGENT)?;
        text.trim().parse().with_context(|| format!("cpu.stat says {text:?}"))
    };
    clock::pause(CALM);
    let (before, began) = (usage(cluster)?, clock::now());
    clock::pause(IDLE);
    let millis = (usage(cluster)? - before) / 1e3 / (began.elapsed().as_secs_f64() / 60.0);
    say(format!("idle agent: {millis:.1} ms of CPU a minute"));

    let script =
        format!("exec bash -c \"{}\"", LOOK.replace("ROUNDS", &ROUNDS.to_string()).replace('$', "\\$"));
    let output = cluster.on_node(ADDRESS, &script)?;
    let seconds = |line: &str| line.split(' ').map(str::parse::<f64>).sum::<Result<f64, _>>();
    let spent: Vec<f64> = output.lines().map(seconds).collect::<Result<_, _>>().context(output.clone())?;
    ensure!(spent.len() == 2 * ROUNDS, "the looks print {output}");
    let (theirs, ours) = (median(&spent, 0), median(&spent, 1));
    say(format!(
        "inventory: ratio {:.2} (ours {:.0} ms, lstopo {:.0} ms)",
        theirs / ours,
        ours * 1e3,
        theirs * 1e3
    ));
    Ok(())
}

/// Of every second number from `first` on.
fn median(numbers: &[f64], first: usize) -> f64 {
    let mut sorted: Vec<f64> = numbers.iter().skip(first).step_by(2).copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
