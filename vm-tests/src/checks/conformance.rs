//! What the public suites for OCI runtimes ask for, in a machine of its own with the substrate of
//! the nodes (`vm-tests/guest`).

use std::{fs, time::Duration};

use anyhow::{Context as _, ensure};

use crate::{
    check::Memory,
    checkout_paths::CheckoutPaths,
    cluster::Cluster,
    report::say,
    small_machine::{SmallMachine, alone},
};

/// How long all checks may take, where the processor itself runs the machine.
const LIMIT: Duration = Duration::from_secs(60);

const TASK: &str = "guest.conformance";

/// Where people read of them. Its table of checks begins with this line, which the test of
/// the page writes.
const PAGE: &str = "docs/reference/oci-cases.md";
const CHECKS: &str = "| check | result |";

/// Each passes, and notices when something is otherwise.
pub(crate) fn all(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let (checkout_paths, image, accelerator) =
        (cluster.checkout_paths(), cluster.image(), cluster.accelerator());
    let machine =
        SmallMachine { checkout_paths, image, accelerator, name: "conformance", limit: LIMIT };
    check(checkout_paths, &machine.run(TASK)?)
}

/// The same without a cluster.
pub(crate) fn without_cluster() -> anyhow::Result<()> {
    check(&CheckoutPaths::new()?, &alone("conformance", LIMIT, TASK)?)
}

/// Tells how each check went, and that the page says the same of the same ones.
fn check(checkout_paths: &CheckoutPaths, text: &str) -> anyhow::Result<()> {
    let path = checkout_paths.in_workspace(PAGE);
    let page =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (_, table) =
        page.split_once(CHECKS).with_context(|| format!("{PAGE} has no table of checks"))?;
    let told: Vec<&str> =
        table.lines().skip(2).map_while(|line| line.starts_with('|').then_some(line)).collect();
    let found: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("conformance ")).collect();
    for row in &found {
        say(format!("  conformance {row}"));
    }
    ensure!(found == told, "{PAGE} has other rows: {told:?}");
    Ok(())
}
