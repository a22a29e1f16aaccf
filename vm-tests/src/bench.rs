//! `vm-tests bench container`: a small machine that has nothing but the substrate, Debian's crun and runc and a root file
//! system with busybox, in which the program `guest` measures. Called by `cargo xtask bench`, after a release build.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use image_store::cpio;

use crate::{
    accelerator::Accelerator,
    clock, console,
    os_image::OsImage,
    places::Places,
    process::{self, QEMU, Service, run},
    report::say,
};

/// Rounds after the warm-up, unless somebody wants to see less sooner.
const ROUNDS: &str = "200";

/// How long the machine may take, where the processor itself runs it.
const LIMIT: Duration = Duration::from_secs(300);

/// Programs of the root file system, all of them busybox.
const APPLETS: [&str; 4] = ["sh", "true", "sleep", "cat"];

/// Programs of others, with the libraries that they name.
const PEERS: [&str; 2] = ["/usr/bin/crun", "/usr/sbin/runc"];

/// The median time from a request to the end of a container, beside crun and runc.
///
/// # Errors
/// If the machine cannot be made, or something fails inside it; its last lines are in the message.
pub(crate) fn container(rounds: Option<&str>) -> anyhow::Result<()> {
    let places = Places::new()?;
    let _lock = places.lock()?;
    process::kill_leftovers(&places).context("clearing an earlier run")?;
    places.clear().context("clearing an earlier run")?;
    let image = OsImage::current(&places).context("building the node image")?;
    let accelerator = Accelerator::probe(&places).context("probing for KVM")?;
    let root = image.unpacked()?;
    let initramfs = places.of_run("pids/bench.cpio");
    write_initramfs(&places, &root, &initramfs)?;
    let kernel = only(&root.join("boot"), "vmlinuz-")?;
    let console = places.console("bench");
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |list: &[&str]| arguments.extend(list.iter().map(|&argument| argument.to_owned()));
    add(&accelerator.arguments());
    add(&["-machine", "q35", "-smp", "2", "-m", "6144", "-nodefaults", "-display", "none", "-no-reboot"]);
    add(&["-serial", &format!("file:{}", console.display())]);
    add(&["-kernel", &kernel.display().to_string(), "-initrd", &initramfs.display().to_string()]);
    let rounds = rounds.unwrap_or(ROUNDS);
    add(&["-append", &format!("console=ttyS0 quiet panic=-1 rounds={rounds}")]);
    let log = places.of_run("consoles/bench.qemu");
    let mut machine = Service::start(&places, "bench", Path::new(QEMU), &arguments, &log)?;
    say(format!("the machine runs: {rounds} rounds of four, then 1000 containers, then 500 at once"));
    let waited =
        clock::wait_for("the benchmark to be done", accelerator.stretch(LIMIT), || machine.exit_code());
    let text = console::plain(&fs::read(&console).unwrap_or_default());
    if waited.is_err() || !text.contains("guest: done") {
        bail!("the benchmark failed:\n{}", console::last_lines(&console, 30));
    }
    report(&text)
}

/// Prints what the machine measured.
fn report(text: &str) -> anyhow::Result<()> {
    let mut medians: BTreeMap<&str, f64> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["result", name, median, least, most] => {
                let millis = |micros: &str| micros.parse::<f64>().map(|micros| micros / 1_000.0);
                let (median, least, most) = (millis(median)?, millis(least)?, millis(most)?);
                say(format!("{name:6} median {median:8.2} ms  (least {least:.2}, most {most:.2})"));
                medians.insert(name, median);
            }
            ["thousand", millis, "left", left @ ..] => say(format!(
                "1000 containers, eight at once: {millis} ms; left behind: {} processes, mounts, control groups",
                left.join(", ")
            )),
            ["init-private-dirty-kib", median, most] => say(format!(
                "500 containers at once: Private_Dirty of a container init {median} KiB (most {most} KiB)"
            )),
            _ => {}
        }
    }
    let of = |name: &str| medians.get(name).copied().with_context(|| format!("{name} was not measured"));
    let (ours, floor) = (of("ours")?, of("floor")?);
    let (peer, theirs) =
        if of("crun")? < of("runc")? { ("crun", of("crun")?) } else { ("runc", of("runc")?) };
    say(format!("the kernel alone takes {floor:.2} ms: ours is {:.1} times that", ours / floor));
    say(format!("container: ratio {:.1} (ours {ours:.2} ms, {peer} {theirs:.2} ms)", theirs / ours));
    Ok(())
}

/// All that the machine has.
fn write_initramfs(places: &Places, root: &Path, to: &Path) -> anyhow::Result<()> {
    let mut cpio = cpio::Writer::new(Vec::new());
    let mut add = |from: &Path, name: &str| -> anyhow::Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(cpio.file(name, 0o755, &content)?)
    };
    let guest = places.in_workspace("target/guest");
    add(&guest, "init")?;
    add(&guest, "bin/guest")?;
    add(&places.in_workspace("target/substrate"), "bin/substrate")?;
    add(Path::new("/bin/busybox"), "rootfs/bin/busybox")?;
    let modules = only(&root.join("lib/modules"), "")?;
    add(&modules.join("kernel/fs/overlayfs/overlay.ko"), "modules/overlay.ko")?;
    for program in PEERS {
        add(Path::new(program), program.trim_start_matches('/'))?;
        for library in libraries(program)? {
            add(&library, library.display().to_string().trim_start_matches('/'))?;
        }
    }
    for applet in APPLETS {
        cpio.symlink(&format!("rootfs/bin/{applet}"), "busybox")?;
    }
    cpio.file("rootfs/etc/passwd", 0o644, b"root:x:0:0::/:/bin/sh\n")?;
    cpio.file("rootfs/etc/group", 0o644, b"root:x:0:\n")?;
    for folder in ["rootfs/proc", "rootfs/sys", "rootfs/dev", "rootfs/tmp"] {
        cpio.directory(folder, 0o755)?;
    }
    cpio.character_device("dev/console", 0o600, 5, 1)?;
    fs::write(to, cpio.finish()?).with_context(|| format!("cannot write {}", to.display()))
}

/// The libraries that a program is linked with, and its loader.
fn libraries(program: &str) -> anyhow::Result<Vec<PathBuf>> {
    let printed = run("ldd", &[program])?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(printed.lines().filter_map(path).collect())
}

/// The one entry of a folder that begins so.
fn only(folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let context = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("{} holds nothing named {prefix}…", folder.display())
}
