//! A machine for one task, ready in three seconds: it has nothing but the substrate, the program
//! `guest` (its `/init`), Debian's crun and runc and a root file system with busybox. It does its
//! task and switches itself off.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use image_store::cpio;

use crate::{
    accelerator::Accelerator,
    checkout_paths::CheckoutPaths,
    clock, console,
    os_image::OsImage,
    process::{self, QEMU, Service, run},
};

/// Programs of the root file system, all of them busybox.
const APPLETS: [&str; 13] = [
    "cat", "dd", "echo", "grep", "head", "kill", "linux64", "setsid", "sh", "sleep", "test",
    "touch", "true",
];

/// Programs of others, with the libraries that they name.
const PEERS: [&str; 2] = ["/usr/bin/crun", "/usr/sbin/runc"];

/// What `guest` says last if all went well.
const DONE: &str = "guest: done";

/// Lets a machine do `task` where there is no cluster; what it said.
///
/// # Errors
/// If another run is under way; as [`SmallMachine::run`].
pub(crate) fn alone(name: &str, limit: Duration, task: &str) -> anyhow::Result<String> {
    let checkout_paths = CheckoutPaths::new()?;
    let _lock = checkout_paths.lock()?;
    process::kill_leftovers(&checkout_paths).context("clearing an earlier run")?;
    checkout_paths.clear().context("clearing an earlier run")?;
    let image = OsImage::current(&checkout_paths).context("building the node image")?;
    let accelerator = Accelerator::probe(&checkout_paths).context("probing for KVM")?;
    SmallMachine { checkout_paths: &checkout_paths, image: &image, accelerator, name, limit }
        .run(task)
}

/// The machine.
#[derive(Debug)]
pub(crate) struct SmallMachine<'a> {
    pub(crate) checkout_paths: &'a CheckoutPaths,
    /// Its kernel and module come from here.
    pub(crate) image: &'a OsImage,
    pub(crate) accelerator: Accelerator,
    /// Of its console.
    pub(crate) name: &'a str,
    /// How long it may take, where the processor itself runs it.
    pub(crate) limit: Duration,
}

impl SmallMachine<'_> {
    /// Lets it do `task`; what it said.
    ///
    /// # Errors
    /// If it cannot be made, or something fails inside it; its last lines are in the message.
    pub(crate) fn run(&self, task: &str) -> anyhow::Result<String> {
        let (checkout_paths, name) = (self.checkout_paths, self.name);
        let root = self.image.unpacked()?;
        let initramfs = checkout_paths.of_run(&format!("pids/{name}.cpio"));
        write_initramfs(checkout_paths, &root, &initramfs)?;
        let kernel = only(&root.join("boot"), "vmlinuz-")?;
        let console = checkout_paths.console(name);
        let mut arguments: Vec<String> = Vec::new();
        let mut add =
            |list: &[&str]| arguments.extend(list.iter().map(|&argument| argument.to_owned()));
        add(&self.accelerator.arguments());
        add(&[
            "-machine",
            "q35",
            "-smp",
            "2",
            "-m",
            "6144",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]);
        add(&["-serial", &format!("file:{}", console.display())]);
        add(&[
            "-kernel",
            &kernel.display().to_string(),
            "-initrd",
            &initramfs.display().to_string(),
        ]);
        add(&["-append", &format!("console=ttyS0 quiet panic=-1 {task}")]);
        let log = checkout_paths.of_run(&format!("consoles/{name}.qemu"));
        let mut machine = Service::start(checkout_paths, name, Path::new(QEMU), &arguments, &log)?;
        let limit = self.accelerator.stretch(self.limit);
        let waited = clock::wait_for(&format!("{task} to be done"), limit, || machine.exit_code());
        let text = console::plain(&fs::read(&console).unwrap_or_default());
        if let Err(error) = waited {
            bail!("{error:#}:\n{}", console::last_lines(&console, 30));
        }
        if !text.lines().any(|line| line == DONE) {
            bail!("{task} failed:\n{}", console::last_lines(&console, 60));
        }
        Ok(text)
    }
}

/// All that the machine has.
fn write_initramfs(checkout_paths: &CheckoutPaths, root: &Path, to: &Path) -> anyhow::Result<()> {
    let mut cpio = cpio::Writer::new(Vec::new());
    let mut add = |from: &Path, name: &str| -> anyhow::Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        Ok(cpio.file(name, 0o755, &content)?)
    };
    let guest = checkout_paths.in_workspace("target/guest");
    add(&guest, "init")?;
    add(&guest, "bin/guest")?;
    add(&checkout_paths.in_workspace("target/substrate"), "bin/substrate")?;
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
    for (directory, mode) in [("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("tmp", 0o1777)] {
        cpio.directory(&format!("rootfs/{directory}"), mode)?;
    }
    cpio.character_device("dev/console", 0o600, 5, 1)?;
    fs::write(to, cpio.finish()?).with_context(|| format!("cannot write {}", to.display()))
}

/// The libraries that a program is linked with, and its loader.
fn libraries(program: &str) -> anyhow::Result<Vec<PathBuf>> {
    let printed = run("ldd", &[program])?;
    let path =
        |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(printed.lines().filter_map(path).collect())
}

/// The one entry of a directory that begins so.
fn only(directory: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let context = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            return Ok(entry.path());
        }
    }
    bail!("{} holds nothing named {prefix}…", directory.display())
}
