//! `container`: from the request to the end of `/bin/true` in a container, by the substrate, by
//! crun and by runc, in turn; and what the kernel alone takes for the steps that cannot be spared.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use linux::{
    cgroup::Cgroup,
    clock::monotonic,
    mount, namespace,
    process::{self, CloneSide, Namespaces},
};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};
use substrate::{
    container::{groups, spec::ContainerSpec},
    run_directory::{END, INIT_PID, STARTED, STOP, StopOrder},
};

use crate::{
    containers::{Ours, ROOTFS, log, spec},
    peers::{self, PEERS},
    say,
    usage::{ResourceCounts, private_dirty},
};

const WARM_UP: u32 = 20;

/// Containers that run at once when the memory of each is measured.
const MANY: u32 = 500;

/// Containers that are run to see what they leave behind.
const THOUSAND: u32 = 1_000;

/// The whole benchmark, with so many rounds after the warm-up.
pub(crate) fn run(rounds: u32) -> anyhow::Result<()> {
    let spec = spec(&["/bin/true"]);
    peers::prepare(&spec)?;
    let ours = Ours::start(Path::new("/bin/substrate"))?;
    let floor = Cgroup::at(Path::new(groups::ROOT).join("floor"));
    floor.make()?;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for round in 0..WARM_UP + rounds {
        let mut note = |name, took| {
            if round >= WARM_UP {
                times.entry(name).or_default().push(took);
            }
        };
        note("ours", ours.run(round, &spec)?);
        note("floor", kernel_alone(&floor)?);
        for peer in &PEERS {
            note(peer.name, peer.run(round)?);
        }
    }
    for (name, times) in times {
        let micros: Vec<String> = times.iter().map(|time| time.as_micros().to_string()).collect();
        say(format!("result {name} {}", micros.join(" ")));
    }
    thousand(&ours, &spec)?;
    many(&ours)?;
    crate::agent::memory_with(MANY as usize)
}

/// clone3 into a cgroup and namespaces, a new root, the program.
fn kernel_alone(group: &Cgroup) -> anyhow::Result<Duration> {
    let start = monotonic();
    let kinds = Namespaces::CLONE_NEWPID
        | Namespaces::CLONE_NEWNS
        | Namespaces::CLONE_NEWIPC
        | Namespaces::CLONE_NEWUTS
        | Namespaces::CLONE_NEWCGROUP;
    let directory = group.open()?;
    match process::clone_into(directory.as_fd(), kinds)? {
        CloneSide::Child => {
            let become_true = || -> Result<std::convert::Infallible, linux::LinuxError> {
                let root = Path::new(ROOTFS);
                namespace::make_mounts_private()?;
                mount::attach(mount::detached(root)?.as_fd(), root)?;
                mount::pivot_to(root)?;
                process::execute(Path::new("/bin/true"), &[c"true".into()], &[])
            };
            let Err(error) = become_true();
            say(format!("guest: {:#}", anyhow::Error::from(error)));
            std::process::exit(1)
        }
        CloneSide::Parent { pid, .. } => {
            let status = waitpid(Pid::from_raw(pid.cast_signed()), None)?;
            ensure!(matches!(status, WaitStatus::Exited(_, 0)), "the floor ended with {status:?}");
            Ok(monotonic() - start)
        }
    }
}

/// A thousand containers, eight at once.
fn thousand(ours: &Ours, spec: &ContainerSpec) -> anyhow::Result<()> {
    let before = ResourceCounts::now()?;
    let start = monotonic();
    let mut running = std::collections::VecDeque::new();
    for number in 0..THOUSAND {
        running.push_back(ours.begin(number, spec)?);
        if running.len() == 8
            && let Some(directory) = running.pop_front()
        {
            ours.wait(&directory)?;
        }
    }
    for directory in running {
        ours.wait(&directory)?;
    }
    let took = monotonic() - start;
    // The last init writes its end, then it ends.
    for _ in 0..100 {
        if ResourceCounts::now()? == before {
            say(format!("thousand {} left 0 0 0", took.as_millis()));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "{THOUSAND} containers left something behind: before {before:?}, after {:?}",
        ResourceCounts::now()?
    )
}

/// Many containers at once: what each init holds for itself.
fn many(ours: &Ours) -> anyhow::Result<()> {
    let spec = spec(&["/bin/sleep", "600"]);
    let directories: Vec<PathBuf> =
        (0..MANY).map(|number| ours.begin(number, &spec)).collect::<Result<_, _>>()?;
    let mut dirty = Vec::new();
    for directory in &directories {
        ours.wait_for(directory, STARTED.name()).with_context(|| log(directory))?;
        let told = fs::read_to_string(directory.join(INIT_PID))?;
        let pid = told.split(' ').next().unwrap_or_default();
        dirty.push(private_dirty(pid)?);
    }
    dirty.sort_unstable();
    say(format!("init-private-dirty-kib {} {}", dirty[dirty.len() / 2], dirty[dirty.len() - 1]));
    for directory in &directories {
        let order = StopOrder { grace_seconds: 0, why: "measured".to_owned() };
        fs::write(directory.join(STOP.name()), STOP.encode(&order)?)?;
        substrate::container::signal(directory)?;
    }
    for directory in &directories {
        ours.wait_for(directory, END.name())?;
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}
