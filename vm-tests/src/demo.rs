//! `make demo`: a cluster of two machines from nothing to the result of a workflow.

use std::fs;

use anyhow::Context as _;

use crate::{
    clock,
    cluster::{Cluster, MACHINES},
    registry::Registry,
    report::say,
    workflow,
};

/// Boots the cluster, shows the nodes, runs a workflow on them, and clears everything.
///
/// # Errors
/// Names the step that failed.
pub(crate) fn demo() -> anyhow::Result<()> {
    let start = clock::now();
    let mut cluster = Cluster::start()?;
    say("$ bedplate image import ".to_owned() + &Registry::source());
    let imported = cluster
        .server
        .cli(&["image", "import", &Registry::source()])
        .context("importing the node image")?;
    say(imported.trim_end());
    cluster.declare_nodes(&[]).context("declaring the nodes")?;
    let power_on = clock::now();
    cluster.power_on()?;
    for machine in &MACHINES {
        cluster.wait_until_ready(machine.name)?;
    }
    let ready = power_on.elapsed().as_secs();
    for command in [&["node", "list"][..], &["node", "inventory", "n1"]] {
        show(&cluster, command)?;
    }
    workflow::prepare(&cluster).context("adding a user")?;
    let document = workflow::path(&cluster, "diamond");
    say(format!("$ cat {document}"));
    say(fs::read_to_string(&document)
        .with_context(|| format!("cannot read {document}"))?
        .trim_end());
    let dest = cluster.checkout_paths().of_run("results").display().to_string();
    let started = clock::now();
    let watch = [
        "workflow",
        "start",
        &document,
        "--as",
        workflow::USER,
        "--watch",
        "--dest",
        &dest,
        "--force",
    ];
    show(&cluster, &watch).context("running a workflow")?;
    let finished = started.elapsed().as_secs();
    show(&cluster, &["workflow", "status", "diamond"])?;
    show(&cluster, &["workflow", "log", "diamond", "join"])?;
    let result = format!("{dest}/counts.txt");
    say(format!("$ cat {result}"));
    say(fs::read_to_string(&result).with_context(|| format!("cannot read {result}"))?.trim_end());
    drop(cluster);
    say(format!("{} s in all", start.elapsed().as_secs()));
    say(format!(
        "demo: ok ({} nodes ready in {ready} s, workflow finished in {finished} s)",
        MACHINES.len()
    ));
    Ok(())
}

/// Runs the command line and shows it with what it prints.
fn show(cluster: &Cluster, command: &[&str]) -> anyhow::Result<()> {
    say(format!("$ bedplate {}", command.join(" ")));
    say(cluster.server.cli(command)?.trim_end());
    Ok(())
}
