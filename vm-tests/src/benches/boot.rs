//! `vm-tests bench boot`: from power-on to a node at work, and the memory that its OS takes; beside
//! the same tree as one initramfs, served by dnsmasq and nginx.
//!
//! One machine in one network boots again and again: from our server, then from the peer's, with
//! the same command line of QEMU. The same unit in both trees tells when `multi-user.target` is
//! reached, and reads the memory some seconds later.

mod in_memory;
mod marks;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api::{ids::OverlayName, status::Phase};
use bench::outcome::{Better, Outcome, Row};

use self::{
    in_memory::{InMemory, Packing},
    marks::{BootMarks, Marks},
};
use super::Extent;
use crate::{
    accelerator::Accelerator,
    checkout_paths::CheckoutPaths,
    clock,
    cluster::{ADDRESSES, Cluster, MACHINES},
    machine::Hardware,
    registry::Registry,
    report::say,
};

/// The machine: BIOS, whose network card carries iPXE.
const MACHINE: &Hardware = &MACHINES[0];
const ADDRESS: &str = ADDRESSES[0];

const OVERLAY: &str = "measured";

const ROUNDS: usize = 3;

/// How long a boot may take, where the processor itself runs the machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How often console and server are asked.
const POLL: Duration = Duration::from_millis(100);

/// One boot.
#[derive(Debug)]
struct Boot {
    /// Power-on to `multi-user.target`.
    multi_user: Duration,
    /// Power-on to a node that takes jobs; where there is no such thing, as before.
    ready: Duration,
    /// What the machine told of it.
    told: BootMarks,
}

/// Boots in turn; what was found.
///
/// # Errors
/// If there is no cluster, or a boot does not reach its end.
pub(super) fn run(extent: Extent) -> anyhow::Result<Outcome> {
    let mut cluster = Cluster::start_with(CheckoutPaths::new()?.released())?;
    prepare(&cluster).context("preparing the node")?;
    let (rounds, packings) = match extent {
        Extent::Full => (ROUNDS, &Packing::ALL[..]),
        Extent::Quick => (1, &Packing::ALL[..1]),
    };
    let mut outcome = Outcome::new("boot");
    let mut peers = Vec::new();
    for &packing in packings {
        peers.push(
            InMemory::prepare(&cluster, packing)
                .with_context(|| format!("preparing {}", packing.name()))?,
        );
    }
    let mut rows = rows();
    for round in 0..rounds {
        say(format!("round {} of {rounds}", round + 1));
        let ours = boot_ours(&mut cluster).context("booting from Bedplate")?;
        note(&mut rows, None, &ours);
        cluster.server.kill()?;
        for peer in &peers {
            let name = peer.name();
            let theirs =
                boot_peer(&mut cluster, peer).with_context(|| format!("booting from {name}"))?;
            note(&mut rows, Some(name), &theirs);
        }
        cluster.server.restart()?;
    }
    outcome.rows.extend(rows);
    notes(&mut outcome, &cluster, &peers);
    Ok(outcome)
}

/// The rows, without samples.
fn rows() -> [Row; 5] {
    let lower = |what, unit| Row::new(what, unit, Better::Lower);
    [
        lower("power-on to ready (peer: to multi-user.target)", "s").headline(),
        lower("power-on to multi-user.target", "s"),
        lower("of it, from the start of the kernel", "s"),
        lower("RAM taken by the OS: not available", "MiB"),
        lower("RAM taken by the OS: neither free nor cache", "MiB"),
    ]
}

/// Adds a boot to the rows; ours where there is no peer's name.
fn note(rows: &mut [Row; 5], peer: Option<&str>, boot: &Boot) {
    let Boot { multi_user, ready, told } = boot;
    let samples =
        [ready.as_secs_f64(), multi_user.as_secs_f64(), told.kernel_seconds, told.taken, told.held];
    say(format!(
        "  {}: multi-user after {:.1} s, ready after {:.1} s, {:.0} MiB",
        peer.unwrap_or("Bedplate"),
        samples[1],
        samples[0],
        told.taken
    ));
    for (row, sample) in rows.iter_mut().zip(samples) {
        match peer {
            Some(peer) => row.peer(peer, sample),
            None => row.ours(sample),
        }
    }
}

/// Image, overlay with the unit, node.
fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    cluster
        .server
        .cli(&["image", "import", &Registry::source()])
        .context("importing the node image")?;
    let overlay: OverlayName = OVERLAY.parse()?;
    for (path, content) in marks::FILES {
        let overlay = overlay.clone();
        let put = |client: client::Client| async move {
            client.put_overlay_file(&overlay, path, 0o644, false, content.into()).await
        };
        cluster.server.ask(put)?;
    }
    let document = format!(
        "profiles:
  default:
    image: debian-node
    kernel-args: ['{}']
    boot-overlays: [{OVERLAY}]
    tags: {{ssh-authorized-keys: {}}}
nodes:
  {}:
    profiles: [default]
    interfaces: {{lan0: {{mac: '{}', address: {ADDRESS}/24}}}}
",
        in_memory::CONSOLE,
        cluster.ssh.public_key()?,
        MACHINE.name,
        MACHINE.boot_mac,
    );
    let path = cluster.checkout_paths().of_run("state/boot.yaml");
    std::fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
    cluster.server.cli(&["apply", "-f", &path.display().to_string()])?;
    cluster.trust(MACHINE.name, ADDRESS)
}

/// Boots from our server, then switches off as an admin would.
fn boot_ours(cluster: &mut Cluster) -> anyhow::Result<Boot> {
    ensure!(
        cluster.node(MACHINE.name)?.status.phase != Phase::Ready,
        "the node is ready while it is off"
    );
    let marks = Marks::from_now_on(cluster.checkout_paths().console(MACHINE.name));
    let power_on = clock::now();
    cluster.switch_on_again(MACHINE)?;
    let (mut multi_user, mut ready) = (None, None);
    let told = wait(cluster, |cluster| {
        if multi_user.is_none() && marks.multi_user() {
            multi_user = Some(power_on.elapsed());
        }
        if ready.is_none() && cluster.node(MACHINE.name)?.status.phase == Phase::Ready {
            ready = Some(power_on.elapsed());
        }
        Ok(marks.told()?.filter(|_| ready.is_some()))
    })?;
    // The connection may end before ssh does.
    let _ = cluster.ssh.try_run(ADDRESS, "systemctl poweroff")?;
    cluster
        .wait_for_node(MACHINE.name, "be off", LIMIT, |node| node.status.phase == Phase::Lost)?;
    cluster.switch_off(MACHINE.name)?;
    let (multi_user, ready) =
        multi_user.zip(ready).context("the machine told of no multi-user.target")?;
    Ok(Boot { multi_user, ready, told })
}

/// Boots from the peer's servers, and takes the power away.
fn boot_peer(cluster: &mut Cluster, peer: &InMemory) -> anyhow::Result<Boot> {
    let mut servers = peer.serve(cluster.checkout_paths())?;
    let marks = Marks::from_now_on(cluster.checkout_paths().console(MACHINE.name));
    let power_on = clock::now();
    cluster.switch_on_again(MACHINE)?;
    let mut multi_user = None;
    let told = wait(cluster, |_| {
        servers.check_alive()?;
        if multi_user.is_none() && marks.multi_user() {
            multi_user = Some(power_on.elapsed());
        }
        marks.told()
    })?;
    cluster.switch_off(MACHINE.name)?;
    let multi_user = multi_user.context("the machine told of no multi-user.target")?;
    Ok(Boot { multi_user, ready: multi_user, told })
}

/// Looks until a boot has told everything.
fn wait(
    cluster: &mut Cluster,
    mut look: impl FnMut(&Cluster) -> anyhow::Result<Option<BootMarks>>,
) -> anyhow::Result<BootMarks> {
    let limit = cluster.accelerator().stretch(LIMIT);
    let waited = clock::wait_every(POLL, "the boot", limit, || look(cluster));
    waited.with_context(|| cluster.evidence(MACHINE.name))
}

fn notes(outcome: &mut Outcome, cluster: &Cluster, peers: &[InMemory]) {
    let how = match cluster.accelerator() {
        Accelerator::Kvm => "under KVM",
        Accelerator::Tcg => "under QEMU's emulation",
    };
    outcome.note(format!(
        "one machine, {how}: BIOS, four processors, 6 GiB, the same command line of QEMU, kernel, tree and overlays for all; iPXE \
         comes from the network card's ROM, so neither side needs TFTP"
    ));
    for peer in peers {
        outcome.note(format!(
            "{}: {} of {} MiB, and the overlays as a second archive",
            peer.name(),
            peer.kind(),
            peer.mebibytes()
        ));
    }
    outcome.note(
        "RAM, read by the same unit 15 s after multi-user.target. Not available: MemTotal − MemAvailable, with the kernel's reserve (160 MiB \
         of 6 GiB). Neither free nor cache: MemTotal − MemFree − pages of files − SReclaimable. What a tmpfs or the initial root holds \
         counts in both. Ours has the agent in it",
    );
}
