//! What a job sees and may do, told by a job itself (`vm-tests/documents/inside.yaml`).

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use crate::{
    check::Memory,
    cluster::{ADDRESSES, Cluster},
    workflow::{self, NUMBERS},
};

/// What every job may use.
const DEVICES: &str =
    "/dev/full /dev/null /dev/pts/ptmx /dev/random /dev/tty /dev/urandom /dev/zero ";

/// Everything at once: one job, one check a fact.
pub(crate) fn facts(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    let id = workflow::finish(cluster, "inside")?;
    let log = workflow::log(cluster, &id, "facts")?;
    let lines = || log.lines().filter_map(|line| line.split_once('='));
    let facts: BTreeMap<&str, &str> = lines().collect();
    let fact =
        |name: &str| facts.get(name).copied().with_context(|| format!("no {name} in\n{log}"));

    let (uid, gid, group) = NUMBERS;
    ensure!(fact("id")? == format!("{uid}:{gid}:{gid} {group}"), "it runs as {}", fact("id")?);
    let attempts = workflow::attempts(cluster, &id)?;
    let granted = &attempts.first().context("no attempt")?.cpus;
    let [first, last] = granted.as_slice() else { anyhow::bail!("granted {granted:?}") };
    ensure!(last / 2 == first / 2, "granted cores of two NUMA nodes: {granted:?}");
    ensure!(
        fact("cpus")? == format!("{first}-{last}"),
        "granted {granted:?}, and it may use {}",
        fact("cpus")?
    );
    ensure!(fact("allowed")? == fact("cpus")?, "the process may use {}", fact("allowed")?);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(fact(set)? == "0000000000000000", "{set} is {}", fact(set)?);
    }
    ensure!(fact("NoNewPrivs")? == "1", "it may gain privileges");
    ensure!(fact("devices")? == DEVICES, "it has devices {}", fact("devices")?);
    ensure!(
        fact("mknod")? == "refused" && fact("mount")? == "refused",
        "it made a device or mounted:\n{log}"
    );

    let processes: Vec<&str> =
        lines().filter(|(name, _)| *name == "process").map(|(_, process)| process).collect();
    ensure!(processes.first() == Some(&"container-init parent 0"), "process 1 is {processes:?}");
    let foreign = processes.iter().skip(1).find(|process| {
        !["facts", "bash", "sed", "tr", "script"].iter().any(|own| process.starts_with(own))
    });
    ensure!(foreign.is_none(), "a foreign process is seen: {foreign:?} of {processes:?}");

    // From the node itself all of it is open; from the job only what is not the server's.
    for port in [8080, 9480, 9443] {
        let script = format!("timeout 4 bash -c 'echo > /dev/tcp/10.77.0.1/{port}'");
        cluster
            .on_node(ADDRESSES[0], &script)
            .with_context(|| format!("port {port} is not open at all"))?;
    }
    ensure!(fact("port-8080")? == "open", "the job reaches no network");
    for closed in ["port-9480", "port-9443"] {
        ensure!(fact(closed)? == "closed", "the job reaches the server's {closed}");
    }
    ensure!(fact("tftp")? == "silent", "the job reaches the server's TFTP");
    Ok(())
}
