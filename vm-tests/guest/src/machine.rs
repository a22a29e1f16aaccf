//! A machine that has nothing but this program, the substrate and two container
//! runtimes: its `/init`.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Child};

use anyhow::Context as _;
use linux::{
    cgroup::Cgroup,
    module,
    mount::{self, Flags},
};
use nix::sys::reboot::{RebootMode, reboot};
use substrate::container::groups;

use crate::{bench, conformance, files::copy, program::program, say};

/// The last line of a run that went well; the harness waits for it.
const GOOD: &str = "guest: done";

/// What the initramfs holds beside this program.
const DIRECTORIES: [&str; 6] = ["bin", "lib", "lib64", "usr", "modules", "rootfs"];

/// Moves to a root that can be changed (that of an initramfs cannot), sets the machine up, runs the
/// benchmark and switches off.
pub(crate) fn live() -> ! {
    let done = leave_initramfs().and_then(|()| set_up()).and_then(|holder| {
        task()?;
        Ok(holder)
    });
    match done {
        Ok(_holder) => say(GOOD),
        Err(error) => say(format!("guest: {error:#}")),
    }
    let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
    say(format!("guest: cannot switch off: {errno}"));
    loop {
        std::thread::park();
    }
}

/// What the kernel's command line asks for: `guest.bench=ROUNDS`, `guest.conformance` or
/// `guest.escapes`.
fn task() -> anyhow::Result<()> {
    let line = fs::read_to_string("/proc/cmdline")?;
    for word in line.split_whitespace() {
        #[cfg(feature = "switches")]
        if word == "guest.escapes" {
            return crate::escape::run();
        }
        if word == "guest.conformance" {
            return conformance::run();
        }
        if let Some(rounds) = word.strip_prefix("guest.bench=") {
            return bench::run(rounds.parse().context("guest.bench= is no number")?);
        }
    }
    anyhow::bail!("nothing to do on the kernel's command line: {line}")
}

fn leave_initramfs() -> anyhow::Result<()> {
    let new = Path::new("/new");
    mount::make_directory(new, 0o755)?;
    mount::mount(Path::new("tmpfs"), new, "tmpfs", Flags::empty(), "mode=0755")?;
    for name in DIRECTORIES {
        copy(&Path::new("/").join(name), &new.join(name))?;
    }
    std::env::set_current_dir(new)?;
    mount::move_to(new, Path::new("/"))?;
    std::os::unix::fs::chroot(".")?;
    Ok(std::env::set_current_dir("/")?)
}

/// File systems, modules and the unit of jobs, as systemd would have made it.
fn set_up() -> anyhow::Result<Child> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("cgroup2", groups::ROOT),
    ] {
        if !Path::new(place).is_dir() {
            mount::make_directory(Path::new(place), 0o755)?;
        }
        mount::mount(Path::new(kind), Path::new(place), kind, Flags::empty(), "")?;
    }
    for file in fs::read_dir("/modules").context("no modules")? {
        module::load(&file?.path(), "")?;
    }
    let root = Cgroup::at(groups::ROOT);
    root.enable(&groups::CONTROLLERS)?;
    let unit = Cgroup::at(Path::new(groups::ROOT).join(groups::UNIT));
    fs::create_dir_all(unit.path())?;
    let slice = unit.path().parent().context("the unit has a slice")?;
    Cgroup::at(slice).enable(&groups::CONTROLLERS)?;
    let holder = program("/bin/guest")
        .args(["in-group", &unit.path().display().to_string(), "/bin/substrate", "jobs-holder"])
        .spawn()
        .context("cannot start the holder of the unit")?;
    let runs = unit.below(groups::RUNS);
    for _ in 0..1_000 {
        if runs.has("memory") {
            return Ok(holder);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    anyhow::bail!("the holder did not prepare {}", runs.path().display())
}

/// Moves this process into a cgroup and becomes a program.
pub(crate) fn become_in_group(group: &str, path: &str, arguments: &[&str]) -> anyhow::Result<()> {
    Cgroup::at(group).add(std::process::id())?;
    Err(program(path).args(arguments).exec()).with_context(|| format!("cannot execute {path}"))
}
