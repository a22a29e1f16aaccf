//! `cargo xtask sim-boot` and `cargo xtask sim-cluster`: optimised server and simulation, then the simulation.

use crate::{
    lanes::require_root,
    run::{build_optimised, run},
};

/// Started as built: see [`crate::lanes`].
const SIM_CLUSTER: &str = "target/release/sim-cluster";

/// How many machines boot at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Boot {
    /// How many.
    #[arg(long, default_value_t = 1_000)]
    nodes: u32,
    /// Of the machines' chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How many nodes work on how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Work {
    /// How many nodes.
    #[arg(long, default_value_t = 2_000)]
    nodes: u32,
    /// How many tasks.
    #[arg(long, default_value_t = 100_000)]
    tasks: u32,
    /// Cut connections, kill agents, cut the power of nodes, kill the server.
    #[arg(long)]
    faults: bool,
    /// Of the faults' chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Boots simulated machines from the real server.
///
/// # Errors
/// If the build fails, or a machine is not accounted for.
pub(crate) fn boot(wanted: &Boot) -> anyhow::Result<()> {
    build()?;
    run(SIM_CLUSTER, &["boot", "--nodes", &wanted.nodes.to_string(), "--seed", &wanted.seed.to_string()])
}

/// Lets simulated nodes work for the real server.
///
/// # Errors
/// If the build fails, or a task is not accounted for.
pub(crate) fn work(wanted: &Work) -> anyhow::Result<()> {
    build()?;
    let numbers = [&wanted.nodes.to_string(), &wanted.tasks.to_string(), &wanted.seed.to_string()];
    let [nodes, tasks, seed] = numbers.map(String::as_str);
    let mut arguments = vec!["work", "--nodes", nodes, "--tasks", tasks, "--seed", seed];
    arguments.extend(wanted.faults.then_some("--faults"));
    run(SIM_CLUSTER, &arguments)
}

fn build() -> anyhow::Result<()> {
    require_root("network namespaces")?;
    build_optimised()
}
