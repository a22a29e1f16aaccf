//! From power-on to ready.

use anyhow::{Context as _, ensure};

use crate::{
    check::Memory,
    checks::{ABSENT, overlays},
    cluster::{Cluster, MACHINES},
};

/// Declares the nodes by a document, with an overlay of the site that later checks edit.
pub(crate) fn declare(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    overlays::prepare(cluster)?;
    cluster.declare_nodes(&[overlays::NAME])?;
    let (absent, mac) = ABSENT;
    cluster.server.cli(&[
        "node",
        "add",
        absent,
        "--profile",
        "default",
        "--mac",
        mac,
        "--address",
        "10.77.0.13/24",
    ])?;
    let listed = cluster.server.cli(&["node", "list"])?;
    for machine in &MACHINES {
        ensure!(
            listed.contains(machine.name),
            "`bedplate node list` does not show {}:\n{listed}",
            machine.name
        );
    }
    cluster.power_on()
}

/// The BIOS machine, with its clock in 2001.
pub(crate) fn bios_ready(cluster: &mut Cluster, memory: &mut Memory) -> anyhow::Result<()> {
    runs_the_image(cluster, "n1")?;
    memory.machine_id = Some(cluster.on_node("10.77.0.11", "cat /etc/machine-id")?);
    Ok(())
}

/// The UEFI machine, whose firmware itself boots by PXE.
pub(crate) fn uefi_ready(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    runs_the_image(cluster, "n2")
}

fn runs_the_image(cluster: &mut Cluster, name: &'static str) -> anyhow::Result<()> {
    let node = cluster.wait_until_ready(name)?;
    let image = node.status.image.context("the server does not know the node's image")?;
    ensure!(image.starts_with("debian-node@"), "{name} runs {image}");
    ensure!(node.status.boot_ms.is_some(), "the boot of {name} was not timed");
    Ok(())
}

/// The UEFI firmware fetched iPXE from our TFTP server.
pub(crate) fn snponly_by_tftp(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let lines = cluster.server.log_lines(&["snponly.efi", "10.77.0.12", "TFTP"]);
    ensure!(
        !lines.is_empty(),
        "no line of the server's log says that snponly.efi went to n2 by TFTP"
    );
    Ok(())
}
