//! Attempts to break out of a container, each with the smallest set of defences that stops it:
//! without all of the set it gets through, with any one of them it does not.
//! `docs/reference/escapes.md` has the same table.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{PermissionsExt as _, symlink},
            net as unix,
        },
    },
    path::Path,
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use api::run::Outcome;
use linux::{attempts, mount, namespace};
use substrate::{
    container::{
        defence::Safeguard::{self, *},
        spec::{Bind, ContainerSpec, Placed},
    },
    run_directory::LOG,
};

use crate::{
    containers::{Ours, spec},
    program::program,
    say,
};

/// Host name of the machine.
pub(crate) const NODE: &str = "node";

/// Key of a System V memory segment of the machine.
pub(crate) const SEGMENT: i32 = 0xbed;

/// An abstract socket of the machine.
pub(crate) const SOCKET: &str = "bedplate-escape";

/// A directory of the machine that is a volume of every container.
const VOLUME: &str = "/volume";

/// Descriptors that are tried where an attempt needs the number of one that the init has open.
const DESCRIPTORS: std::ops::Range<u32> = 3..16;

/// Longest that an attempt may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// One attempt.
#[derive(Debug)]
struct Attempt {
    name: &'static str,
    defences: &'static [Safeguard],
    what: What,
}

/// How it is made, and how it is known to have got through.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The guest program inside: its exit status tells.
    Call(&'static [&'static str]),
    /// A script inside: its exit status tells.
    Script(&'static str),
    /// Another description of the container; the machine looks for the effect, the run's
    /// directory in hand.
    Special(fn(&mut ContainerSpec, u32), fn(&Path) -> bool),
}

use What::{Call, Script, Special};

const ATTEMPTS: &[Attempt] = &[
    Attempt {
        name: "mount a file system",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["mount"]),
    },
    Attempt {
        name: "make a device and open it",
        defences: &[Capabilities, NoDevices, DeviceFilter],
        what: Call(&["make-device"]),
    },
    Attempt {
        name: "open a device that lies in the image",
        defences: &[NoDevices, DeviceFilter],
        what: Call(&["write", "/kmsg"]),
    },
    Attempt {
        name: "run a set-user-ID program of the image",
        defences: &[NoSetuid, NoNewPrivileges, SystemCalls],
        what: Script("/bin/setuid attempt is-root"),
    },
    Attempt {
        name: "unshare a user namespace",
        defences: &[SystemCalls],
        what: Call(&["unshare-user"]),
    },
    Attempt {
        name: "clone3 a user namespace",
        defences: &[SystemCalls],
        what: Call(&["clone3-user"]),
    },
    Attempt {
        name: "join a namespace of the node",
        defences: &[ProcessNamespace, Capabilities, SystemCalls],
        what: Call(&["join"]),
    },
    Attempt {
        name: "rename the node",
        defences: &[HostNamespace, Capabilities, SystemCalls],
        what: Special(|spec, _| call(spec, &["rename-node", "owned"]), |_| host_name() == "owned"),
    },
    Attempt {
        name: "write /proc/sys/kernel/core_pattern",
        defences: &[User, ReadOnlyProc],
        what: Script("echo core > /proc/sys/kernel/core_pattern"),
    },
    Attempt {
        name: "write /proc/sysrq-trigger",
        defences: &[User, ReadOnlyProc],
        what: Script("echo h > /proc/sysrq-trigger"),
    },
    Attempt {
        name: "read the kernel's memory in /proc/kcore",
        defences: &[Capabilities, MaskedPaths],
        what: Script("head -c 4 /proc/kcore | grep -q ELF"),
    },
    Attempt {
        name: "read addresses in /proc/timer_list",
        defences: &[User, MaskedPaths],
        what: Script("head -n 1 /proc/timer_list | grep -q ."),
    },
    Attempt {
        name: "read the firmware's tables in /sys",
        defences: &[User, MaskedPaths],
        what: Script("head -c 4 /sys/firmware/acpi/tables/DSDT | grep -q DSDT"),
    },
    Attempt {
        name: "set the node's huge pages in /sys",
        defences: &[User, ReadOnlySys],
        what: Script("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"),
    },
    Attempt {
        name: "raise the own limit of memory",
        defences: &[User, ReadOnlyCgroup],
        what: Script("echo max > /sys/fs/cgroup/memory.max"),
    },
    Attempt {
        name: "see the node's processes",
        defences: &[ProcessNamespace],
        what: Script("grep -q kthreadd /proc/2/comm"),
    },
    Attempt {
        name: "kill a process of the node",
        defences: &[ProcessNamespace, User],
        what: Script("kill -9 $(cat /volume/victim)"),
    },
    Attempt {
        name: "read the environment of a process of the node",
        defences: &[ProcessNamespace, Capabilities],
        what: Script("grep -q SECRET /proc/$(cat /volume/victim)/environ"),
    },
    Attempt {
        name: "find System V memory of the node",
        defences: &[IpcNamespace],
        what: Call(&["shared-memory"]),
    },
    Attempt {
        name: "reach an abstract socket from an isolated job",
        defences: &[NetworkNamespace],
        what: Special(
            |spec, _| {
                spec.isolated_network = true;
                call(spec, &["abstract-socket"]);
            },
            |_| true,
        ),
    },
    Attempt {
        name: "reach the server's port",
        defences: &[EgressFilter],
        what: Special(
            |spec, _| {
                spec.forbidden = vec![([127, 0, 0, 1], 9480).into()];
                call(spec, &["connect", "127.0.0.1:9480"]);
            },
            |_| true,
        ),
    },
    Attempt {
        name: "see every packet",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["packet-socket"]),
    },
    Attempt {
        name: "listen on port 80",
        defences: &[Capabilities],
        what: Call(&["listen", "0.0.0.0:80"]),
    },
    Attempt {
        name: "load an eBPF program",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["bpf"]),
    },
    Attempt {
        name: "count what a processor does",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["perf"]),
    },
    Attempt {
        name: "put a key into the user's keyring",
        defences: &[SystemCalls],
        what: Call(&["key"]),
    },
    Attempt { name: "handle page faults", defences: &[SystemCalls], what: Call(&["page-faults"]) },
    Attempt { name: "set up io_uring", defences: &[SystemCalls], what: Call(&["ring"]) },
    Attempt {
        name: "open a file by its handle",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["handle"]),
    },
    Attempt {
        name: "load a kernel module",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["module"]),
    },
    Attempt {
        name: "set the node's clock",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["clock"]),
    },
    Attempt {
        name: "reach the ports of the machine",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["ports"]),
    },
    Attempt {
        name: "read the kernel's log",
        defences: &[Capabilities, SystemCalls],
        what: Call(&["kernel-log"]),
    },
    Attempt {
        name: "leave the root by chroot",
        defences: &[NewRoot, Capabilities, SystemCalls],
        what: Call(&["leave-root"]),
    },
    Attempt {
        name: "have more processes",
        defences: &[ProcessLimit],
        what: Call(&["fork", "150"]),
    },
    Attempt { name: "have more memory", defences: &[MemoryLimit], what: Call(&["fill", "96"]) },
    Attempt {
        name: "use another processor",
        defences: &[ProcessorLimit],
        what: Call(&["processor", "1"]),
    },
    Attempt {
        name: "write more to the root",
        defences: &[RootSize],
        what: Script("dd if=/dev/zero of=/tmp/file bs=1M count=24"),
    },
    Attempt {
        name: "write a longer log",
        defences: &[LogLimit],
        what: Special(
            |spec, _| {
                spec.log_has_tail = true;
                script(spec, "dd if=/dev/zero bs=1M count=3");
            },
            |directory| {
                let tail = fs::read_dir(directory.join("log.tail")).into_iter().flatten().flatten();
                let files = tail.map(|file| file.path()).chain([directory.join(LOG)]);
                files.filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum::<u64>()
                    > 2 << 20
            },
        ),
    },
    Attempt {
        name: "outlive the job as a daemon",
        defences: &[KillAll, ProcessNamespace],
        what: Special(
            |spec, _| {
                script(
                    spec,
                    "setsid sh -c 'sleep 1; touch /volume/survived' > /dev/null 2>&1 & true",
                )
            },
            |_| {
                std::thread::sleep(Duration::from_secs(3));
                Path::new(VOLUME).join("survived").exists()
            },
        ),
    },
    Attempt {
        name: "begin in a directory of the node that the init has open (CVE-2024-21626)",
        defences: &[ClosedDescriptors, PathsInRoot],
        what: Special(
            |spec, descriptor| {
                spec.cwd = format!("/proc/self/fd/{descriptor}");
                script(spec, "test -e container.json");
            },
            |_| true,
        ),
    },
    Attempt {
        name: "have a file written to the node through a link of the image",
        defences: &[PathsInRoot],
        what: Special(
            |spec, descriptor| {
                let (source, target) = ("/bin/guest".into(), format!("/link-{descriptor}/evil"));
                spec.files = vec![Placed { source, target, mode: 0o444 }];
            },
            |directory| directory.join("evil").exists(),
        ),
    },
];

fn call(spec: &mut ContainerSpec, words: &[&str]) {
    spec.command =
        ["/bin/attempt", "attempt"].iter().chain(words).map(|&word| word.to_owned()).collect();
}

fn script(spec: &mut ContainerSpec, text: &str) {
    spec.command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
}

/// The host name that this process sees.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What the machine offers to be broken into.
#[derive(Debug)]
struct EscapeTargets {
    victim: Child,
    _listeners: (TcpListener, unix::UnixListener),
}

impl EscapeTargets {
    fn set_out() -> anyhow::Result<Self> {
        namespace::bring_loopback_up()?;
        fs::write("/proc/sys/kernel/dmesg_restrict", "1")?;
        attempts::shared_memory(SEGMENT, true)?;
        mount::make_directory(Path::new(VOLUME), 0o777)?;
        mount::make_character_device(Path::new("/rootfs/kmsg"), 0o666, 1, 11)?;
        let (attempt, setuid) = ("/rootfs/bin/attempt", "/rootfs/bin/setuid");
        fs::copy("/bin/guest", attempt)?;
        fs::copy(attempt, setuid)?;
        fs::set_permissions(setuid, fs::Permissions::from_mode(0o4755))?;
        fs::copy("/modules/overlay.ko", "/rootfs/overlay.ko")?;
        for descriptor in DESCRIPTORS {
            symlink(format!("/proc/self/fd/{descriptor}"), format!("/rootfs/link-{descriptor}"))?;
        }
        let listeners = (
            TcpListener::bind("127.0.0.1:9480")?,
            unix::UnixListener::bind_addr(&unix::SocketAddr::from_abstract_name(SOCKET)?)?,
        );
        Ok(Self { victim: victim()?, _listeners: listeners })
    }

    /// All is as it was before the last attempt.
    fn restore(&mut self) -> anyhow::Result<()> {
        namespace::set_host_name(NODE)?;
        let _ = fs::remove_file(Path::new(VOLUME).join("survived"));
        if self.victim.try_wait()?.is_some() {
            self.victim = victim()?;
        }
        Ok(fs::write(Path::new(VOLUME).join("victim"), self.victim.id().to_string())?)
    }
}

fn victim() -> anyhow::Result<Child> {
    program("/rootfs/bin/sleep")
        .arg("100000")
        .env("SECRET", "1")
        .spawn()
        .context("cannot start a victim")
}

/// Makes every attempt without its whole set, and with each defence of it alone.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut prey = EscapeTargets::set_out()?;
    // The test build of the substrate is this very program.
    let ours = Ours::start(Path::new("/bin/guest"))?;
    let (mut number, mut wrong) = (0, 0);
    for attempt in ATTEMPTS {
        let all: BTreeSet<Safeguard> = attempt.defences.iter().copied().collect();
        let mut verdicts = Vec::new();
        for back in std::iter::once(None).chain(attempt.defences.iter().map(Some)) {
            let without = all.iter().copied().filter(|defence| Some(defence) != back).collect();
            let (through, words) = make(&ours, &mut prey, attempt, &without, &mut number)
                .with_context(|| format!("{} without {without:?}", attempt.name))?;
            if through != back.is_none() {
                verdicts.push(match back {
                    None => format!("does not get through without {all:?}: {words}"),
                    Some(defence) => format!("gets through {defence:?}"),
                });
            }
        }
        let names: Vec<String> =
            attempt.defences.iter().map(|defence| format!("{defence:?}")).collect();
        let verdict = if verdicts.is_empty() {
            "ok".to_owned()
        } else {
            format!("WRONG {}", verdicts.join("; "))
        };
        wrong += usize::from(!verdicts.is_empty());
        say(format!("escape | {} | {} | {verdict}", attempt.name, names.join(", ")));
    }
    ensure!(wrong == 0, "{wrong} of {} attempts are not as they should be", ATTEMPTS.len());
    say(format!("escapes {} {number}", ATTEMPTS.len()));
    Ok(())
}

/// Makes one attempt: whether it got through, and its last words.
fn make(
    ours: &Ours,
    prey: &mut EscapeTargets,
    attempt: &Attempt,
    without: &BTreeSet<Safeguard>,
    number: &mut u32,
) -> anyhow::Result<(bool, String)> {
    let needs_descriptor = attempt.defences.contains(&PathsInRoot);
    let tries = if needs_descriptor { DESCRIPTORS } else { 0..1 };
    let mut words = String::new();
    for descriptor in tries {
        prey.restore()?;
        *number += 1;
        let mut spec = spec(&["/bin/true"]);
        spec.cpus = vec![0];
        spec.upper_bytes = 16 << 20;
        spec.binds = vec![Bind { source: VOLUME.into(), target: VOLUME.into(), read_only: false }];
        spec.without.clone_from(without);
        let seen = match attempt.what {
            Call(arguments) => {
                call(&mut spec, arguments);
                None
            }
            Script(text) => {
                script(&mut spec, text);
                None
            }
            Special(describe, seen) => {
                describe(&mut spec, descriptor);
                Some(seen)
            }
        };
        let directory = ours.begin(*number, &spec)?;
        let end = ours.end_within(&directory, DEADLINE)?;
        let good = end.outcome == Outcome::Exited { code: 0 };
        words = format!(
            "{:?} {}",
            end.outcome,
            fs::read_to_string(directory.join(LOG)).unwrap_or_default()
        );
        let through = good && seen.is_none_or(|seen| seen(&directory));
        fs::remove_dir_all(&directory)?;
        if through {
            return Ok((true, words));
        }
    }
    Ok((false, words))
}
