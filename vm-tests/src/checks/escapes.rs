//! Attempts to break out of containers, in a machine of their own with the test build of the
//! substrate (`vm-tests/guest`).

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};

use crate::{
    check::Memory,
    checkout_paths::CheckoutPaths,
    cluster::Cluster,
    report::say,
    small_machine::{SmallMachine, alone},
};

/// How long all attempts may take, where the processor itself runs the machine.
const LIMIT: Duration = Duration::from_secs(60);

const TASK: &str = "guest.escapes";

/// Where people read of them.
const PAGE: &str = "docs/reference/escapes.md";

/// Each gets through without its set of defences, and not with any one of them.
pub(crate) fn all(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (checkout_paths, image, accelerator) =
        (cluster.checkout_paths(), cluster.image(), cluster.accelerator());
    let machine =
        SmallMachine { checkout_paths, image, accelerator, name: "escapes", limit: LIMIT };
    check(checkout_paths, &machine.run(TASK)?)
}

/// The same without a cluster.
pub(crate) fn without_cluster() -> anyhow::Result<()> {
    check(&CheckoutPaths::new()?, &alone("escapes", LIMIT, TASK)?)
}

/// Tells how each attempt went, and that the page has the same ones.
fn check(checkout_paths: &CheckoutPaths, text: &str) -> anyhow::Result<()> {
    let path = checkout_paths.in_workspace(PAGE);
    let page =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for line in text.lines().filter_map(|line| line.strip_prefix("escape ")) {
        say(format!("  escape {line}"));
        let row = line.trim_end_matches("ok").trim_end();
        ensure!(page.contains(row), "{PAGE} has no row {row}");
    }
    Ok(())
}
