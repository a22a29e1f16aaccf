//! Attempts to break out of containers, in a machine of their own with the test build of the substrate (`vm-tests/guest`).

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};

use crate::{
    check::Memory,
    cluster::Cluster,
    places::Places,
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
    let (places, image, accelerator) = (cluster.places(), cluster.image(), cluster.accelerator());
    let machine = SmallMachine { places, image, accelerator, name: "escapes", limit: LIMIT };
    check(places, &machine.run(TASK)?)
}

/// The same without a cluster.
pub(crate) fn without_cluster() -> anyhow::Result<()> {
    check(&Places::new()?, &alone("escapes", LIMIT, TASK)?)
}

/// Tells how each attempt went, and that the page has the same ones.
fn check(places: &Places, text: &str) -> anyhow::Result<()> {
    let path = places.in_workspace(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for line in text.lines().filter_map(|line| line.strip_prefix("escape ")) {
        say(format!("  escape {line}"));
        let row = line.trim_end_matches("ok").trim_end();
        ensure!(page.contains(row), "{PAGE} has no row {row}");
    }
    Ok(())
}
