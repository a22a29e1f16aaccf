//! `vm-tests bench inventory`: what knowing the hardware costs a node, beside `lstopo`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::outcome::{Better, Outcome, Row};

use super::ADDRESS;
use crate::{
    benches::Extent, checkout_paths::CheckoutPaths, clock, cluster::Cluster, registry::Registry,
};

/// Looks of each program, one after the other.
const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 3;

/// Before: what a boot leaves to tell comes with the next look at the counters, a minute later.
const CALM: Duration = Duration::from_secs(75);

/// How long the idle agent is watched.
const IDLE: Duration = Duration::from_secs(120);
const QUICK_IDLE: Duration = Duration::from_secs(30);

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

/// Boots the machine and tells what a first look and a minute without anything to do
/// take of its CPU.
///
/// # Errors
/// If it does not become ready, or a program does not run on it.
pub(crate) fn bench(extent: Extent) -> anyhow::Result<Outcome> {
    let (rounds, watched) = match extent {
        Extent::Full => (ROUNDS, IDLE),
        Extent::Quick => (QUICK_ROUNDS, QUICK_IDLE),
    };
    let mut cluster = Cluster::start_with(CheckoutPaths::new()?.released())?;
    cluster
        .server
        .cli(&["image", "import", &Registry::source()])
        .context("importing the node image")?;
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    super::boot(&mut cluster)?;
    let cluster = &cluster;
    let usage = |cluster: &Cluster| -> anyhow::Result<f64> {
        let text = cluster.on_node(ADDRESS, AGENT)?;
        text.trim().parse().with_context(|| format!("cpu.stat says {text:?}"))
    };
    clock::pause(CALM);
    let (before, began) = (usage(cluster)?, clock::now());
    clock::pause(watched);
    let millis = (usage(cluster)? - before) / 1e3 / (began.elapsed().as_secs_f64() / 60.0);

    let script = format!(
        "exec bash -c \"{}\"",
        LOOK.replace("ROUNDS", &rounds.to_string()).replace('$', "\\$")
    );
    let output = cluster.on_node(ADDRESS, &script)?;
    let seconds = |line: &str| line.split(' ').map(str::parse::<f64>).sum::<Result<f64, _>>();
    let spent: Vec<f64> =
        output.lines().map(seconds).collect::<Result<_, _>>().context(output.clone())?;
    ensure!(spent.len() == 2 * rounds, "the looks print {output}");
    let mut looks = Row::new("CPU time of a first look", "ms", Better::Lower).headline();
    for pair in spent.chunks(2) {
        looks.peer("lstopo", pair[0] * 1e3);
        looks.ours(pair[1] * 1e3);
    }
    let mut idle = Row::new("CPU time of the idle agent in a minute", "ms", Better::Lower);
    idle.ours(millis);
    let mut outcome = Outcome::new("inventory");
    outcome.rows.extend([looks, idle]);
    outcome.note("lstopo tells of the topology alone, ours of all that the inventory has; both on the node with two sockets");
    Ok(outcome)
}
