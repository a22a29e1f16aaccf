//! What the payload of a check looks at.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _},
            net as unix,
        },
    },
    path::Path,
};

use anyhow::{Context as _, ensure};
use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::StatVfsMountFlags,
    process::{Resource, Rlimit, getrlimit},
};

use super::stage::{
    BLOCK_DEVICE, CHARACTER_DEVICE, DATA, MEMORY_BYTES, NAMESPACES, PIDS, SOCKET, WORK,
};

/// What the suites and this runtime want covered; a kernel has not all of them.
const COVERED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What they want read-only.
const READ_ONLY: [&str; 7] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/sys",
    "/sys/fs/cgroup",
];

/// One line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
#[derive(Debug)]
struct Mounted {
    options: String,
    propagation: String,
    kind: String,
}

/// What is mounted, by its place; of several on one place the uppermost.
fn mounts() -> anyhow::Result<BTreeMap<String, Mounted>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let (mount, file_system) =
            line.split_once(" - ").with_context(|| format!("no mount: {line}"))?;
        let words: Vec<&str> = mount.split(' ').collect();
        let [_, _, _, _, place, options, propagation @ ..] = words.as_slice() else {
            anyhow::bail!("no mount: {line}")
        };
        let kind = file_system.split(' ').next().unwrap_or_default().to_owned();
        let mounted =
            Mounted { options: (*options).to_owned(), propagation: propagation.join(" "), kind };
        mounts.insert((*place).to_owned(), mounted);
    }
    Ok(mounts)
}

fn has_options(
    mounts: &BTreeMap<String, Mounted>,
    place: &str,
    options: &str,
) -> anyhow::Result<()> {
    let mounted = mounts.get(place).with_context(|| format!("nothing is mounted on {place}"))?;
    let has: BTreeSet<&str> = mounted.options.split(',').collect();
    let lacks: Vec<&str> = options.split(',').filter(|option| !has.contains(option)).collect();
    ensure!(lacks.is_empty(), "{place} is mounted {} without {lacks:?}", mounted.options);
    Ok(())
}

/// A line `NAME: VALUE` of `/proc/self/status`.
fn status(name: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/self/status")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("no {name} in /proc/self/status"))?.trim().to_owned())
}

fn says(path: &str, wanted: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    ensure!(text.trim() == wanted, "{path} says {:?}, not {wanted:?}", text.trim());
    Ok(())
}

fn is_refused(done: io::Result<impl Sized>, errno: i32, what: &str) -> anyhow::Result<()> {
    let error = done.err().with_context(|| format!("{what}: it was done"))?;
    ensure!(error.raw_os_error() == Some(errno), "{what}: {error}");
    Ok(())
}

pub(super) fn default_file_systems(_: &[String]) -> anyhow::Result<()> {
    let mounts = mounts()?;
    for (place, kind, options) in [
        ("/", "overlay", "rw,nosuid,nodev"),
        ("/proc", "proc", "nosuid,nodev,noexec"),
        ("/sys", "sysfs", "ro,nosuid,nodev,noexec"),
        ("/sys/fs/cgroup", "cgroup2", "ro,nosuid,nodev,noexec"),
        ("/dev", "tmpfs", "nosuid,noexec"),
        ("/dev/pts", "devpts", "nosuid,noexec"),
        ("/dev/shm", "tmpfs", "nosuid,nodev,noexec"),
        ("/dev/mqueue", "mqueue", "nosuid,nodev,noexec"),
    ] {
        has_options(&mounts, place, options)?;
        let is = &mounts[place].kind;
        ensure!(is == kind, "on {place} is a {is}, not a {kind}");
    }
    let mode = fs::metadata("/dev/shm")?.mode() & 0o7777;
    ensure!(mode == 0o1777, "/dev/shm has the mode {mode:o}");
    Ok(())
}

pub(super) fn default_devices(_: &[String]) -> anyhow::Result<()> {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let meta = fs::metadata(Path::new("/dev").join(name))
            .with_context(|| format!("no /dev/{name}"))?;
        ensure!(meta.file_type().is_char_device(), "/dev/{name} is no character device");
        let number = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        ensure!(number == (major, minor), "/dev/{name} is {number:?}");
        let owner = (meta.mode() & 0o7777, meta.uid(), meta.gid());
        ensure!(owner == (0o666, 0, 0), "/dev/{name} has mode, user and group {owner:?}");
    }
    let mut bytes = [7; 4];
    fs::File::open("/dev/zero")?.read_exact(&mut bytes)?;
    ensure!(bytes == [0; 4], "/dev/zero gives {bytes:?}");
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    OpenOptions::new().write(true).open("/dev/null")?.write_all(&bytes)?;
    let full = OpenOptions::new().write(true).open("/dev/full")?.write_all(&bytes);
    is_refused(full, libc::ENOSPC, "write to /dev/full")
}

pub(super) fn device_links(_: &[String]) -> anyhow::Result<()> {
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        let leads = fs::read_link(Path::new("/dev").join(name))
            .with_context(|| format!("no /dev/{name}"))?;
        ensure!(leads == Path::new(target), "/dev/{name} leads to {}", leads.display());
    }
    // The first terminal of an instance of its own.
    let _main =
        OpenOptions::new().read(true).write(true).open("/dev/ptmx").context("make a terminal")?;
    let terminals: Vec<OsString> = fs::read_dir("/dev/pts")?
        .map(|entry| Ok(entry?.file_name()))
        .filter(|name| name.as_ref().is_ok_and(|name| name != "ptmx") || name.is_err())
        .collect::<io::Result<_>>()?;
    ensure!(terminals == ["0"], "the terminals are {terminals:?}");
    Ok(())
}

pub(super) fn granted_devices(_: &[String]) -> anyhow::Result<()> {
    for ((path, major, minor), is_character) in [(CHARACTER_DEVICE, true), (BLOCK_DEVICE, false)] {
        let meta = fs::metadata(path).with_context(|| format!("no {path}"))?;
        ensure!(meta.file_type().is_char_device() == is_character, "{path} is of another kind");
        let number = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        ensure!(number == (major, minor), "{path} is {number:?}");
    }
    OpenOptions::new().write(true).open(CHARACTER_DEVICE.0).context("the granted device")?;
    // It has no driver here: only what is let through gets to hear that.
    is_refused(fs::File::open(BLOCK_DEVICE.0), libc::ENXIO, "open the device without a driver")
}

pub(super) fn covered_paths(_: &[String]) -> anyhow::Result<()> {
    let mut covered = 0;
    for path in COVERED {
        let Ok(meta) = fs::metadata(path) else { continue };
        covered += 1;
        let is_empty = match meta.is_dir() {
            true => fs::read_dir(path)?.next().is_none(),
            false => fs::read(path).with_context(|| format!("cannot read {path}"))?.is_empty(),
        };
        ensure!(is_empty, "{path} is not empty");
    }
    ensure!(covered >= 6, "only {covered} of the paths exist at all");
    Ok(())
}

pub(super) fn read_only_paths(_: &[String]) -> anyhow::Result<()> {
    let mut seen = 0;
    for path in READ_ONLY.iter().filter(|path| Path::new(path).exists()) {
        seen += 1;
        let flags = rustix::fs::statvfs(*path)?.f_flag;
        ensure!(flags.contains(StatVfsMountFlags::RDONLY), "{path} can be written");
    }
    ensure!(seen >= 6, "only {seen} of the paths exist at all");
    Ok(())
}

pub(super) fn no_propagation(_: &[String]) -> anyhow::Result<()> {
    for (place, mounted) in mounts()? {
        ensure!(mounted.propagation.is_empty(), "{place}: {}", mounted.propagation);
    }
    Ok(())
}

pub(super) fn root_of_the_image(names: &[String]) -> anyhow::Result<()> {
    let found =
        fs::read_dir("/")?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let found: BTreeSet<String> = found.collect::<io::Result<_>>()?;
    let wanted: BTreeSet<String> = names.iter().cloned().collect();
    ensure!(found == wanted, "in the root are {found:?}, in the image {wanted:?}");
    Ok(())
}

pub(super) fn volume(_: &[String]) -> anyhow::Result<()> {
    has_options(&mounts()?, DATA, "rw,nosuid,nodev")?;
    Ok(fs::write(Path::new(DATA).join("written"), "by the job")?)
}

pub(super) fn read_only_volume(_: &[String]) -> anyhow::Result<()> {
    for directory in [DATA, "/data/inner"] {
        let written = fs::write(Path::new(directory).join("written"), "by the job");
        is_refused(written, libc::EROFS, &format!("write to {directory}"))?;
    }
    let inner = fs::read_dir("/data/inner")?.count();
    ensure!(inner == 0, "what is mounted below the volume shows {inner} files");
    Ok(())
}

pub(super) fn inner_volume(_: &[String]) -> anyhow::Result<()> {
    says("/data/inner/marker", "inner")
}

pub(super) fn volume_behind_a_link(_: &[String]) -> anyhow::Result<()> {
    says("/work/linked/marker", "inner")
}

pub(super) fn linked_kernel_file_systems(_: &[String]) -> anyhow::Result<()> {
    let mounts = mounts()?;
    for (place, kind) in [("/kernel/proc", "proc"), ("/kernel/sys", "sysfs")] {
        let mounted =
            mounts.get(place).with_context(|| format!("nothing is mounted on {place}"))?;
        ensure!(mounted.kind == kind, "on {place} is a {}", mounted.kind);
    }
    covered_paths(&[])?;
    read_only_paths(&[])
}

pub(super) fn host_name(_: &[String]) -> anyhow::Result<()> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    ensure!(name == "job", "the host name is {name}");
    says("/proc/sys/kernel/hostname", "job")?;
    says("/etc/hostname", "job")
}

pub(super) fn user(_: &[String]) -> anyhow::Result<()> {
    for (name, number) in [("Uid", "1000"), ("Gid", "1001")] {
        let ids = status(name)?;
        ensure!(ids.split_whitespace().all(|id| id == number), "{name} is {ids}");
    }
    let groups = status("Groups")?;
    let found: BTreeSet<&str> = groups.split_whitespace().collect();
    ensure!(found == BTreeSet::from(["2001", "2002"]), "the groups are {groups}");
    Ok(())
}

pub(super) fn umask(_: &[String]) -> anyhow::Result<()> {
    let umask = status("Umask")?;
    ensure!(umask == "0022", "the umask is {umask}");
    Ok(())
}

pub(super) fn limits(_: &[String]) -> anyhow::Result<()> {
    for (resource, current, maximum) in [
        (Resource::Core, Some(0), None),
        (Resource::Nofile, Some(65_536), Some(524_288)),
        (Resource::Memlock, None, None),
        (Resource::Stack, Some(8 << 20), None),
    ] {
        let is = getrlimit(resource);
        ensure!(is == Rlimit { current, maximum }, "{resource:?} is limited to {is:?}");
    }
    Ok(())
}

pub(super) fn no_capabilities(_: &[String]) -> anyhow::Result<()> {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let bits = status(set)?;
        ensure!(bits.bytes().all(|digit| digit == b'0'), "{set} is {bits}");
    }
    Ok(())
}

pub(super) fn no_new_privileges(_: &[String]) -> anyhow::Result<()> {
    let value = status("NoNewPrivs")?;
    ensure!(value == "1", "NoNewPrivs is {value}");
    Ok(())
}

pub(super) fn system_calls(_: &[String]) -> anyhow::Result<()> {
    let mode = status("Seccomp")?;
    ensure!(mode == "2", "Seccomp is {mode}");
    is_refused(unshare(CloneFlags::CLONE_NEWUSER).map_err(Into::into), libc::EPERM, "unshare")
}

pub(super) fn working_directory(_: &[String]) -> anyhow::Result<()> {
    let directory = std::env::current_dir()?;
    ensure!(directory == Path::new(WORK), "the working directory is {}", directory.display());
    Ok(())
}

pub(super) fn environment(_: &[String]) -> anyhow::Result<()> {
    let found: BTreeMap<String, String> = std::env::vars().collect();
    let wanted = [
        ("GREETING", "a b=$(c)"),
        ("HOME", "/"),
        ("LOGNAME", "ada"),
        ("PATH", "/bin"),
        ("USER", "ada"),
    ];
    let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    ensure!(found == wanted, "the environment is {found:?}");
    Ok(())
}

pub(super) fn arguments(found: &[String]) -> anyhow::Result<()> {
    ensure!(found == super::ARGUMENTS, "the arguments are {found:?}");
    Ok(())
}

pub(super) fn descriptors(_: &[String]) -> anyhow::Result<()> {
    let names = fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.path()));
    let open: Vec<_> = names.collect::<io::Result<_>>()?;
    // The listing's own is closed by now.
    let open: Vec<String> = open
        .iter()
        .filter_map(|path| {
            Some(format!("{} {}", path.display(), fs::read_link(path).ok()?.display()))
        })
        .collect();
    ensure!(open.len() == 3, "open are {open:?}");
    ensure!(fs::read_link("/proc/self/fd/0")? == Path::new("/dev/null"), "{open:?}");
    Ok(())
}

pub(super) fn default_signals(_: &[String]) -> anyhow::Result<()> {
    // SIGPIPE, which this program's own runtime ignores; the two that the C library keeps for
    // itself, and ignores in what it spawns. A program that is linked with it cannot name them.
    let passed_over = [13, 32, 33].map(|signal| 1_u64 << (signal - 1)).into_iter().sum::<u64>();
    for set in ["SigBlk", "SigIgn"] {
        let bits = u64::from_str_radix(&status(set)?, 16)? & !passed_over;
        ensure!(bits == 0, "{set} is {bits:x}");
    }
    Ok(())
}

pub(super) fn personality(_: &[String]) -> anyhow::Result<()> {
    says("/proc/self/personality", "00000000")?;
    let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
    ensure!(machine == "x86_64", "the machine is a {machine}");
    Ok(())
}

pub(super) fn memory_killer(_: &[String]) -> anyhow::Result<()> {
    says("/proc/self/oom_score_adj", "0")
}

pub(super) fn scheduling(_: &[String]) -> anyhow::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, after) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    // `proc_pid_stat(5)`: fields 19 (nice) and 41 (policy), of which the first two are
    // before `after`.
    let found = (fields.get(16).copied(), fields.get(38).copied());
    ensure!(found == (Some("0"), Some("0")), "nice and policy are {found:?}");
    Ok(())
}

/// The arguments are the machine's namespaces, in the order of [`NAMESPACES`].
pub(super) fn own_namespaces(of_the_node: &[String]) -> anyhow::Result<()> {
    for (name, of_the_node) in NAMESPACES.into_iter().zip(of_the_node) {
        let own = fs::read_link(Path::new("/proc/self/ns").join(name))?.display().to_string();
        // Those two are not made for anybody.
        let is_shared = ["user", "time"].contains(&name);
        ensure!((own == *of_the_node) == is_shared, "{own} here, {of_the_node} on the node");
    }
    ensure!(of_the_node.len() == NAMESPACES.len(), "the machine's are {of_the_node:?}");
    Ok(())
}

pub(super) fn network_of_the_node(of_the_node: &[String]) -> anyhow::Result<()> {
    let own = fs::read_link("/proc/self/ns/net")?.display().to_string();
    ensure!(of_the_node.contains(&own), "{own} here, {of_the_node:?} on the node");
    Ok(())
}

pub(super) fn own_network(_: &[String]) -> anyhow::Result<()> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let names: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    ensure!(names == ["lo"], "the interfaces are {names:?}");
    TcpListener::bind("127.0.0.1:0").context("loopback is off")?;
    let abstract_name = unix::SocketAddr::from_abstract_name(SOCKET)?;
    is_refused(unix::UnixStream::connect_addr(&abstract_name), libc::ECONNREFUSED, "reach the node")
}

pub(super) fn own_processes(_: &[String]) -> anyhow::Result<()> {
    let numbers = fs::read_dir("/proc")?.flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let found: BTreeSet<u32> = numbers.collect();
    ensure!(found == BTreeSet::from([1, std::process::id()]), "the processes are {found:?}");
    says("/proc/1/comm", "container-init")
}

pub(super) fn own_control_group(_: &[String]) -> anyhow::Result<()> {
    says("/proc/self/cgroup", "0::/")?;
    let init = fs::read_to_string("/proc/1/cgroup")?;
    ensure!(init.starts_with("0::/../"), "the init is in {init}");
    Ok(())
}

pub(super) fn memory(_: &[String]) -> anyhow::Result<()> {
    says("/sys/fs/cgroup/memory.max", &MEMORY_BYTES.to_string())?;
    says("/sys/fs/cgroup/memory.oom.group", "1")?;
    // Absent where the kernel has no swap.
    if Path::new("/sys/fs/cgroup/memory.swap.max").exists() {
        says("/sys/fs/cgroup/memory.swap.max", "0")?;
    }
    Ok(())
}

pub(super) fn processes(_: &[String]) -> anyhow::Result<()> {
    says("/sys/fs/cgroup/pids.max", &PIDS.to_string())
}

pub(super) fn processors(_: &[String]) -> anyhow::Result<()> {
    for (file, wanted) in
        [("cpus", "1"), ("cpus.effective", "1"), ("mems", "0"), ("mems.effective", "0")]
    {
        says(&format!("/sys/fs/cgroup/cpuset.{file}"), wanted)?;
    }
    let allowed = status("Cpus_allowed_list")?;
    ensure!(allowed == "1", "the process may use {allowed}");
    Ok(())
}

pub(super) fn huge_pages(_: &[String]) -> anyhow::Result<()> {
    let mut seen = 0;
    for entry in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("hugetlb.") && name.ends_with(".max") {
            seen += 1;
            says(&format!("/sys/fs/cgroup/{name}"), "0")?;
        }
    }
    ensure!(seen > 0, "there is no limit of huge pages");
    Ok(())
}
