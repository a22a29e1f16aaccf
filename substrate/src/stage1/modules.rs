//! Loading the drivers of the hardware that is there, and what stage 1 itself needs.
//!
//! The kernel lists what a device is in `modalias` files below `/sys/devices`; depmod's [`index`]
//! says which module serves it. A driver may bring new devices (a virtio bus, a USB hub), so it is
//! repeated until nothing is new.

mod glob;
pub mod index;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use self::index::Index;
use crate::{console::chain, stage1::cmdline::CommandLine};

/// What stage 1 uses itself, whatever the hardware.
const NEEDED: [&str; 4] = ["loop", "squashfs", "overlay", "af_packet"];

/// Rounds of looking for new devices: buses behind buses are three or four deep.
const MAX_ROUNDS: u32 = 16;

/// Directories below `/sys/devices` are at most this deep; a bound for the walk.
const MAX_DEPTH: u32 = 48;

/// Where kernels keep their modules.
const MODULE_DIRECTORIES: [&str; 2] = ["/lib/modules", "/usr/lib/modules"];

/// Loads modules and remembers what it tried.
#[derive(Debug)]
pub struct Modules {
    directory: PathBuf,
    index: Index,
    command_line: CommandLine,
    loaded: BTreeSet<String>,
    failed: BTreeSet<String>,
    seen: BTreeSet<String>,
    complaints: Vec<String>,
}

impl Modules {
    /// Reads the files of the running kernel.
    ///
    /// # Errors
    /// None of the directories has modules for this kernel: the text names them. A kernel that has
    /// everything built in needs none, so this is for the console, no reason to stop.
    pub fn open(command_line: &CommandLine) -> anyhow::Result<Self> {
        let release = linux::module::kernel_release()?;
        let directory = MODULE_DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(&release))
            .find(|directory| directory.join("modules.dep").exists())
            .ok_or_else(|| {
                anyhow::anyhow!(
                    "no modules of kernel {release} in {}",
                    MODULE_DIRECTORIES.join(" or ")
                )
            })?;
        let read = |name| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let index = Index::parse(
            &read("modules.dep"),
            &read("modules.alias"),
            &read("modules.softdep"),
            &read("modules.builtin"),
        );
        Ok(Self {
            directory,
            index,
            command_line: command_line.clone(),
            loaded: BTreeSet::new(),
            failed: BTreeSet::new(),
            seen: BTreeSet::new(),
            complaints: Vec::new(),
        })
    }

    /// Loads what stage 1 needs itself.
    pub fn load_needed(&mut self) {
        for name in NEEDED {
            self.load(name, true);
        }
    }

    /// Loads one module and what it depends on. A file that is not in the initramfs is worth a
    /// complaint only if the module is `needed`: the image's drivers for graphics and sound are
    /// left out on purpose.
    pub fn load(&mut self, name: &str, needed: bool) {
        for name in self.index.load_order(name) {
            if self.loaded.contains(&name) || self.failed.contains(&name) {
                continue;
            }
            let Some(path) = self.index.path(&name) else { continue };
            let parameters =
                self.command_line.module_parameters.get(&name).map_or("", String::as_str);
            match linux::module::load(&self.directory.join(path), parameters) {
                Ok(()) => drop(self.loaded.insert(name)),
                Err(error) => {
                    let missing = error.errno.kind() == std::io::ErrorKind::NotFound;
                    // ENODEV: the driver looked and its hardware is not there.
                    let no_device = error.raw() == Some(NO_DEVICE);
                    if needed || !(missing || no_device) {
                        self.complaints.push(chain(&error));
                    }
                    self.failed.insert(name);
                }
            }
        }
    }

    /// Loads the drivers of all devices that are there and were not before. Answers how many
    /// modules are new.
    pub fn coldplug(&mut self) -> usize {
        let before = self.loaded.len();
        for _ in 0..MAX_ROUNDS {
            let mut found = BTreeSet::new();
            collect_aliases(Path::new("/sys/devices"), MAX_DEPTH, &mut found);
            let new: Vec<_> = found.difference(&self.seen).cloned().collect();
            if new.is_empty() {
                break;
            }
            for alias in new {
                let names: Vec<_> =
                    self.index.for_alias(&alias).into_iter().map(str::to_owned).collect();
                for name in names {
                    if !self.command_line.blacklist.contains(&name) {
                        self.load(&name, false);
                    }
                }
                self.seen.insert(alias);
            }
        }
        self.loaded.len() - before
    }

    /// What could not be loaded and should have been, since the last call.
    pub fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }
}

/// `ENODEV` (`asm-generic/errno-base.h`).
const NO_DEVICE: i32 = 19;

/// Reads every `modalias` below `directory`; links are not followed. What vanishes meanwhile
/// is passed over.
fn collect_aliases(directory: &Path, depth: u32, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            collect_aliases(&entry.path(), depth - 1, found);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_found_at_any_depth_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let device = directory.path().join("pci0000:00/0000:00:03.0/virtio0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), "virtio:d00000001v00001AF4\n").unwrap();
        fs::write(device.join("../modalias"), "pci:v00001AF4\n").unwrap();
        std::os::unix::fs::symlink(directory.path(), device.join("subsystem")).unwrap();
        let mut found = BTreeSet::new();
        collect_aliases(directory.path(), MAX_DEPTH, &mut found);
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            ["pci:v00001AF4", "virtio:d00000001v00001AF4"]
        );
    }
}
