//! The boot files, read once at the start. Served by TFTP here and by HTTP at `/firmware/FILE`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use boot_proto::{FirmwareClass, FirmwareMap};
use bytes::Bytes;

use crate::config::FirmwareFiles;

/// Largest boot file, bytes. iPXE has below 2 MB; a signed kernel image as boot file some tens.
const MAX_FILE_BYTES: u64 = 128 << 20;

/// Why the boot files cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// A file cannot be read.
    #[error(
        "cannot read {} from {setting}; iPXE comes with the Debian package ipxe (/usr/lib/ipxe), see ipxe/README.md",
        path.display()
    )]
    Read {
        /// The key of the configuration file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no boot file.
    #[error("{} from {setting} has {bytes} bytes; a boot file has 1 to {MAX_FILE_BYTES}", path.display())]
    Size {
        /// The key of the configuration file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The path has no file name, or one that a client cannot ask for.
    #[error("{} from {setting} needs a file name of printable ASCII without spaces", path.display())]
    Name {
        /// The key of the configuration file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Two different files would be served under one name.
    #[error("two boot files have the file name {name}; rename one, they are served by this name")]
    SameName {
        /// The name.
        name: String,
    },
}

/// The boot files in memory.
#[derive(Debug, Default)]
pub struct Firmware {
    files: BTreeMap<String, (PathBuf, Bytes)>,
    map: FirmwareMap,
}

impl Firmware {
    /// Reads all configured boot files.
    ///
    /// # Errors
    /// The first that cannot be served.
    pub fn load(config: &FirmwareFiles) -> Result<Self, FirmwareError> {
        let mut firmware = Self::default();
        for class in FirmwareClass::ALL {
            let path = match class {
                FirmwareClass::Bios => &config.bios,
                FirmwareClass::EfiX86_64 => &config.efi_x86_64,
                FirmwareClass::EfiArm64 => &config.efi_arm64,
            };
            if let Some(path) = path {
                firmware.add(class, path)?;
            }
        }
        Ok(firmware)
    }

    /// Which client gets which file.
    #[must_use]
    pub fn map(&self) -> &FirmwareMap {
        &self.map
    }

    /// The bytes of the file of this name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<Bytes> {
        self.files.get(name).map(|(_, bytes)| bytes.clone())
    }

    fn add(&mut self, class: FirmwareClass, path: &Path) -> Result<(), FirmwareError> {
        let setting = class.setting();
        let path = path.to_owned();
        let name = match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if name.bytes().all(|byte| byte.is_ascii_graphic()) => name.to_owned(),
            _ => return Err(FirmwareError::Name { setting, path }),
        };
        let content = std::fs::metadata(&path).and_then(|facts| match facts.len() {
            1..=MAX_FILE_BYTES => std::fs::read(&path).map(Ok),
            bytes => Ok(Err(bytes)),
        });
        let content = match content {
            Ok(Ok(content)) => Bytes::from(content),
            Ok(Err(bytes)) => return Err(FirmwareError::Size { setting, path, bytes }),
            Err(source) => return Err(FirmwareError::Read { setting, path, source }),
        };
        if self.files.get(&name).is_some_and(|(other, _)| *other != path) {
            return Err(FirmwareError::SameName { name });
        }
        self.map.0.insert(class, name.clone());
        self.files.insert(name, (path, content));
        Ok(())
    }
}
