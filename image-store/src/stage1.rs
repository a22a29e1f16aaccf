//! Writes the stage-1 initramfs of one kernel. Called by `build`.
//!
//! ```text
//! /init                                     substrate, 0755
//! /dev/console                              c 5 1
//! /proc /sys /run                           empty, to mount on
//! /lib/modules/RELEASE/kernel/….ko          plain, whatever the image compresses them with
//! /lib/modules/RELEASE/modules.{dep,alias,softdep,builtin}
//! /lib/firmware/NAME                        plain
//! ```

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Read as _, Write},
};

use flate2::{Compression, write::GzEncoder};
use zstd::stream::write::Encoder;

use crate::cpio;

/// Level of zstd. Modules are code: higher levels save little, and every import waits for it.
const ZSTD_LEVEL: i32 = 6;

/// Level of gzip, for kernels that know no zstd.
const GZIP_LEVEL: u32 = 6;

/// The node's own archive follows, and the kernel looks for one only at multiples of 4. iPXE fills
/// up in between where it lays them into memory itself (BIOS); the kernel's EFI stub, which reads
/// them from iPXE's files, does not.
const ALIGNMENT: u64 = 4;

/// Threads that compress, at most: each holds some 25 MB, which are not charged to the
/// image's budget.
const MAX_WORKERS: usize = 2;

/// What the kernel can unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Zstd,
    Gzip,
}

impl Packing {
    /// zstd where the kernel's configuration says that it can; gzip, which every kernel can, where
    /// it does not say.
    pub(crate) fn of(config: Option<&str>) -> Self {
        let zstd =
            config.is_some_and(|config| config.lines().any(|line| line == "CONFIG_RD_ZSTD=y"));
        if zstd { Self::Zstd } else { Self::Gzip }
    }
}

/// What goes in.
#[derive(Debug)]
pub(crate) struct Stage1<'a> {
    pub release: &'a str,
    pub substrate: &'a [u8],
    /// Path below `/lib/modules/RELEASE` → plain bytes.
    pub modules: BTreeMap<String, Cow<'a, [u8]>>,
    pub index: Vec<(&'static str, String)>,
    /// Path below `/lib/firmware` → plain bytes.
    pub firmware: BTreeMap<String, Cow<'a, [u8]>>,
    pub packing: Packing,
}

impl Stage1<'_> {
    /// Bytes of all its files, as they are once unpacked.
    pub(crate) fn unpacked_bytes(&self) -> u64 {
        let index = self.index.iter().map(|(_, text)| text.len());
        let files = self.modules.values().chain(self.firmware.values()).map(|bytes| bytes.len());
        index.chain(files).chain([self.substrate.len()]).map(|length| length as u64).sum()
    }

    /// Writes it, filled up with zeros to a multiple of [`ALIGNMENT`].
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut counting = Counting { out, written: 0 };
        self.pack(&mut counting)?;
        let missing = counting.written.next_multiple_of(ALIGNMENT) - counting.written;
        io::copy(&mut io::repeat(0).take(missing), &mut counting)?;
        counting.flush()
    }

    fn pack(&self, out: impl Write) -> io::Result<()> {
        match self.packing {
            Packing::Zstd => {
                let mut encoder = Encoder::new(out, ZSTD_LEVEL)?;
                // With one worker or more, the bytes do not depend on how many there are; with
                // none they differ.
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                let workers = cores.min(MAX_WORKERS);
                encoder.multithread(u32::try_from(workers).unwrap_or(1))?;
                encoder.include_checksum(true)?;
                self.archive(encoder)?.finish()?.flush()
            }
            Packing::Gzip => {
                let encoder = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
                self.archive(encoder)?.finish()?.flush()
            }
        }
    }

    fn archive<W: Write>(&self, out: W) -> io::Result<W> {
        let mut cpio = cpio::Writer::new(out);
        cpio.character_device("dev/console", 0o600, 5, 1)?;
        for directory in ["proc", "sys", "run"] {
            cpio.directory(directory, 0o755)?;
        }
        cpio.file("init", 0o755, self.substrate)?;
        let directory = format!("lib/modules/{}", self.release);
        for (name, text) in &self.index {
            cpio.file(&format!("{directory}/{name}"), 0o644, text.as_bytes())?;
        }
        for (path, module) in &self.modules {
            cpio.file(&format!("{directory}/{path}"), 0o644, module)?;
        }
        for (name, firmware) in &self.firmware {
            cpio.file(&format!("lib/firmware/{name}"), 0o644, firmware)?;
        }
        cpio.finish()
    }
}

/// Counts what is written.
struct Counting<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
