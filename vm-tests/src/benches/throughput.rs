//! `vm-tests bench throughput`: jobs of `/bin/true` through Bedplate and through batch systems, all
//! in one machine, one system at a time.
//!
//! ```text
//!   host: this file           machine (images/job-machine): two processors, control groups v2
//!     disk.img     ────────►  /          Debian with Slurm, GNU parallel and a registry; what is written there is lost
//!     programs.img ────────►  /programs  bedplate, substrate, hq, and this program, which measures: inside.rs
//!     state.img    ────────►  /state     ext4 with a journal: databases and journals of all systems
//!     console, results ◄────  two serial ports
//! ```

mod hyper_queue;
mod inside;
mod ours;
mod parallel;
mod profile;
mod slurm;
mod starts;
mod systems;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use bench::outcome::Outcome;

use super::Extent;
use crate::{
    accelerator::Accelerator,
    checkout_paths::CheckoutPaths,
    clock, console, os_image,
    process::{self, QEMU, Service, run},
    report::say,
};

const MEMORY_MIB: &str = "4096";

/// Sizes of the disks: they are sparse files.
const PROGRAMS_SIZE: &str = "1G";
const STATE_SIZE: &str = "8G";

/// How long the machine may take where the processor itself runs it.
const LIMIT: Duration = Duration::from_secs(900);

/// Boot files of Debian's package `ipxe`: the server does not start without.
const FIRMWARE: &str = "/usr/lib/ipxe";

/// Where `cargo xtask peers` leaves HyperQueue.
const HYPER_QUEUE: &str = "target/peers/hq/bin/hq";

/// Runs the machine to its end; what it found.
///
/// # Errors
/// If another run is under way, the machine cannot be made, or something fails inside it; its last
/// lines are in the message.
pub(super) fn measure(extent: Extent) -> anyhow::Result<Outcome> {
    let (results, accelerator) = run_machine(match extent {
        Extent::Full => "",
        Extent::Quick => "--quick",
    })?;
    let mut outcome = read(&results)?;
    notes(&mut outcome, accelerator);
    Ok(outcome)
}

/// Shows where ours spends the machine's time.
///
/// # Errors
/// As [`measure`].
pub(super) fn profile() -> anyhow::Result<()> {
    run_machine("--profile").map(drop)
}

/// Runs the machine to its end; where it has written its results, and how it was run.
fn run_machine(option: &str) -> anyhow::Result<(PathBuf, Accelerator)> {
    let checkout_paths = CheckoutPaths::new()?.released();
    let _lock = checkout_paths.lock()?;
    process::kill_leftovers(&checkout_paths).context("clearing an earlier run")?;
    checkout_paths.clear().context("clearing an earlier run")?;
    let machine = os_image::job_machine(&checkout_paths).context("building the machine")?;
    let accelerator = Accelerator::probe(&checkout_paths).context("probing for KVM")?;
    let programs = checkout_paths.of_run("disks/programs.img");
    make_programs(&checkout_paths, option, &programs)
        .context("making the disk with the programs")?;
    let state = checkout_paths.of_run("disks/state.img");
    make_disk(&state, "state", STATE_SIZE, None)?;
    let results = checkout_paths.console("results");
    let arguments = arguments(
        accelerator,
        &machine,
        &programs,
        &state,
        &checkout_paths.console("throughput"),
        &results,
    );
    let log = checkout_paths.of_run("consoles/throughput.qemu");
    let mut service =
        Service::start(&checkout_paths, "throughput", Path::new(QEMU), &arguments, &log)?;
    let mut told = 0;
    clock::wait_for("the machine to be done", accelerator.stretch(LIMIT), || {
        let exit = service.exit_code()?;
        told = tell(&results, told);
        Ok(exit)
    })
    .with_context(|| last_words(&checkout_paths, &results))?;
    let said = console::plain(&fs::read(&results).unwrap_or_default());
    if let Some(error) = said.lines().find(|line| line.starts_with("vm-tests: ")) {
        bail!("{error}; {}", last_words(&checkout_paths, &results));
    }
    Ok((results, accelerator))
}

/// `vm-tests inside throughput`: called in the machine.
///
/// # Errors
/// As [`inside::run`].
pub(crate) fn inside(option: Option<&str>) -> anyhow::Result<()> {
    match option {
        None => inside::run(Extent::Full),
        Some("--quick") => inside::run(Extent::Quick),
        Some("--profile") => profile::run_profiled(),
        Some(other) => bail!("inside throughput: unknown option {other}"),
    }
}

/// The disk `/programs`.
fn make_programs(checkout_paths: &CheckoutPaths, option: &str, disk: &Path) -> anyhow::Result<()> {
    let directory = checkout_paths.of_run("disks/programs");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let this = std::env::current_exe().context("cannot tell this program's file")?;
    let hyper_queue = checkout_paths.in_workspace(HYPER_QUEUE);
    let programs = [
        (checkout_paths.bedplate(), "bedplate"),
        (checkout_paths.in_workspace("target/substrate"), "substrate"),
        (this, "vm-tests"),
        (hyper_queue, "hq"),
        (checkout_paths.in_workspace("overlays"), "overlays"),
        (checkout_paths.in_workspace("ipxe"), "ipxe"),
        (Path::new(FIRMWARE).join("undionly.kpxe"), "undionly.kpxe"),
        (Path::new(FIRMWARE).join("snponly.efi"), "snponly.efi"),
    ];
    for (from, name) in programs {
        // The machine says that a peer is missing; everything else must be there.
        if name == "hq" && !from.exists() {
            continue;
        }
        let to = directory.join(name).display().to_string();
        run("cp", &["--recursive", "--preserve=mode", &from.display().to_string(), &to])?;
    }
    let script = directory.join("run");
    let text = format!("#!/bin/sh\nexec /programs/vm-tests inside throughput {option}\n");
    fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", script.display()))?;
    make_disk(disk, "programs", PROGRAMS_SIZE, Some(&directory))
}

/// An ext4 file system in a sparse file, with what is in a directory.
fn make_disk(
    disk: &Path,
    label: &str,
    size: &str,
    content: Option<&PathBuf>,
) -> anyhow::Result<()> {
    let content = content.map(|directory| directory.display().to_string());
    let mut arguments = vec!["-q", "-t", "ext4", "-L", label];
    if let Some(content) = &content {
        arguments.extend(["-d", content.as_str()]);
    }
    let path = disk.display().to_string();
    arguments.extend([path.as_str(), size]);
    run("mke2fs", &arguments).map(drop)
}

fn arguments(
    accelerator: Accelerator,
    machine: &Path,
    programs: &Path,
    state: &Path,
    console: &Path,
    results: &Path,
) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add =
        |list: &[&str]| arguments.extend(list.iter().map(|&argument| argument.to_owned()));
    add(&accelerator.arguments());
    add(&[
        "-machine",
        "q35",
        "-smp",
        "2",
        "-m",
        MEMORY_MIB,
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
    ]);
    add(&[
        "-serial",
        &format!("file:{}", console.display()),
        "-serial",
        &format!("file:{}", results.display()),
    ]);
    let file = |name: &str| machine.join(name).display().to_string();
    add(&["-drive", &format!("file={},format=raw,if=virtio,snapshot=on", file("disk.img"))]);
    add(&["-drive", &format!("file={},format=raw,if=virtio,readonly=on", programs.display())]);
    // Writes wait in the host's memory, a flush of the machine in the host's for its disk.
    add(&["-drive", &format!("file={},format=raw,if=virtio,cache=writeback", state.display())]);
    add(&["-kernel", &file("vmlinuz"), "-initrd", &file("initrd.img")]);
    // Emulated, the counter of cycles is not trusted, and each look at the clock would be a system
    // call to a slow device.
    add(&["-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 tsc=reliable"]);
    arguments
}

/// Shows whole lines of the results that were not shown yet; how many were.
fn tell(results: &Path, told: usize) -> usize {
    let text = console::plain(&fs::read(results).unwrap_or_default());
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines: Vec<&str> = whole.lines().collect();
    for line in lines.iter().skip(told).filter(|line| !line.starts_with('{')) {
        say(format!("  {line}"));
    }
    lines.len()
}

/// The outcome among what the machine said.
fn read(results: &Path) -> anyhow::Result<Outcome> {
    let text = console::plain(&fs::read(results).unwrap_or_default());
    let Some(line) = text.lines().find(|line| line.starts_with('{')) else {
        bail!("the machine ended without an outcome");
    };
    serde_json::from_str(line).context("the machine's outcome is damaged")
}

fn last_words(checkout_paths: &CheckoutPaths, results: &Path) -> String {
    let console = checkout_paths.console("throughput");
    format!(
        "the machine said:\n{}\nits console:\n{}",
        console::last_lines(results, 40),
        console::last_lines(&console, 10)
    )
}

fn notes(outcome: &mut Outcome, accelerator: Accelerator) {
    let how = match accelerator {
        Accelerator::Kvm => "under KVM",
        Accelerator::Tcg => {
            "under QEMU's emulation, which makes processes and memory maps many times dearer than they are"
        }
    };
    outcome.note(format!(
        "all in one QEMU machine with two processors, {how}; two jobs at once, Slurm up to 16"
    ));
    outcome.note(
        "ours run in containers with limits and filters, theirs are plain processes of the same /bin/true; every job's start was seen \
         by the kernel, its end with status 0 by the system",
    );
    outcome.note(
        "durable: ours syncs its database before it acknowledges a submission and before a node forgets a job's end; HyperQueue's \
         journal is synced every 30 s (its default), Slurm saves its state every few seconds, GNU parallel's record is never synced",
    );
    outcome.note(
        "single jobs are handed in with each system's command, one after the other, a tenth of the array's number; Slurm gets a twentieth \
         and GNU parallel a quarter of all jobs, since the whole has to end within half an hour; GNU parallel has no queue",
    );
}
