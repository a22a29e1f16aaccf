//! `make demo`: a cluster of two machines from nothing to ready.

use anyhow::Context as _;

use crate::{
    clock,
    cluster::{Cluster, MACHINES},
    registry::Registry,
    report::say,
};

/// Boots the cluster, shows the nodes, and clears everything.
///
/// # Errors
/// Names the step that failed.
pub(crate) fn demo() -> anyhow::Result<()> {
    let start = clock::now();
    let mut cluster = Cluster::start()?;
    say("$ bedplate image import ".to_owned() + &Registry::source());
    let imported =
        cluster.server.cli(&["image", "import", &Registry::source()]).context("importing the node image")?;
    say(imported.trim_end());
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    let power_on = clock::now();
    cluster.power_on()?;
    for machine in &MACHINES {
        cluster.wait_until_ready(machine.name)?;
    }
    let ready = power_on.elapsed().as_secs();
    for command in [&["node", "list"][..], &["node", "inventory", "n1"]] {
        say(format!("$ bedplate {}", command.join(" ")));
        say(cluster.server.cli(command)?.trim_end());
    }
    drop(cluster);
    let total = start.elapsed().as_secs();
    say(format!("demo: ok ({} nodes ready in {ready} s after power-on, {total} s in all)", MACHINES.len()));
    Ok(())
}
