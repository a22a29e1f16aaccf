//! The memory modules in the SMBIOS table (DSP0134, System Management BIOS Reference
//! Specification), as `/sys/firmware/dmi/tables/DMI` shows it: structures of
//!
//! ```text
//! type (1) | length (1) | handle (2) | fields up to length | string \0 string \0 … \0 \0
//! ```
//!
//! Numbers are little-endian; a field that is text holds the number of its string, from 1; 0 =
//! none. Firmware writes these tables by hand, so every length in them may be wrong.

use api::inventory::MemoryModule;

use crate::read::Reader;

const TABLE: &str = "/sys/firmware/dmi/tables/DMI";

/// Largest table read, bytes: SMBIOS 2 ends at 64 KiB, machines with hundreds of slots (SMBIOS 3)
/// need some more.
const MAX_TABLE_BYTES: u64 = 1 << 20;

/// Most memory modules told: the largest machines have some 400 slots.
const MAX_MODULES: usize = 1024;

/// Longest string kept, bytes; the specification has 64 in mind.
const MAX_STRING_BYTES: usize = 256;

const HEADER_BYTES: usize = 4;
const MEMORY_DEVICE: u8 = 17;
const END_OF_TABLE: u8 = 127;

/// What vendors leave in fields that they did not fill in. Compared without case.
const PLACEHOLDERS: [&str; 18] = [
    "to be filled by o.e.m.",
    "default string",
    "not specified",
    "not available",
    "not provided",
    "system serial number",
    "system product name",
    "system version",
    "chassis serial number",
    "no asset tag",
    "no asset information",
    "no dimm",
    "empty",
    "unknown",
    "undefined",
    "0123456789",
    "none",
    "n/a",
];

/// All slots for memory, in the table's order.
pub(crate) fn collect(read: &mut Reader<'_>) -> Vec<MemoryModule> {
    let Some(table) = read.bytes(TABLE, MAX_TABLE_BYTES) else { return Vec::new() };
    let (modules, problem) = memory_modules(&table);
    if let Some(problem) = problem {
        read.gap(TABLE, problem);
    }
    modules
}

/// `text` without what surrounds it, unless its vendor did not fill it in.
pub(crate) fn filled_in(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let filler =
        text.is_empty() || PLACEHOLDERS.iter().any(|known| text.eq_ignore_ascii_case(known));
    (!filler).then(|| text.to_owned())
}

/// The memory modules of `table`, and what is wrong with it: whatever stands before that is told.
fn memory_modules(table: &[u8]) -> (Vec<MemoryModule>, Option<&'static str>) {
    let mut modules = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let Some((structure, after)) = Structure::first(rest) else {
            return (modules, Some("ends within a structure"));
        };
        match structure.kind {
            END_OF_TABLE => break,
            MEMORY_DEVICE if modules.len() == MAX_MODULES => {
                return (modules, Some("more than 1024 slots for memory"));
            }
            MEMORY_DEVICE => modules.push(structure.memory_device()),
            _ => {}
        }
        rest = after;
    }
    let unknown = modules.iter().any(|module| module.size_bytes.is_none() && module.kind.is_some());
    (modules, unknown.then_some("the size of a memory module is not known"))
}

/// One structure of the table.
struct Structure<'a> {
    kind: u8,
    fields: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Structure<'a> {
    /// The first of `table`, and what follows it.
    fn first(table: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let [kind, length, ..] = *table else { return None };
        let length = usize::from(length);
        let fields = table.get(..length).filter(|_| length >= HEADER_BYTES)?;
        let tail = table.get(length..)?;
        let end = tail.windows(2).position(|pair| pair == [0, 0])?;
        let strings = tail.get(..end)?;
        Some((Self { kind, fields, strings }, tail.get(end + 2..)?))
    }

    /// DSP0134, 7.18. An empty slot has nothing but its place.
    fn memory_device(&self) -> MemoryModule {
        let place = MemoryModule {
            locator: self.text(0x10),
            bank: self.text(0x11),
            size_bytes: self.size_bytes(),
            ..MemoryModule::default()
        };
        if self.word(0x0c).is_none_or(|size| size == 0) {
            return place;
        }
        MemoryModule {
            kind: self.byte(0x12).and_then(memory_type).map(str::to_owned),
            max_speed_mts: self.speed(0x15, 0x54),
            speed_mts: self.speed(0x20, 0x58),
            vendor: self.text(0x17),
            serial: self.text(0x18),
            part_number: self.text(0x1a),
            ranks: self
                .byte(0x1b)
                .map(|attributes| u32::from(attributes & 0xf))
                .filter(|ranks| *ranks > 0),
            ..place
        }
    }

    /// MiB, or KiB if the highest bit is set; from 32 GiB on a field of its own, in MiB.
    fn size_bytes(&self) -> Option<u64> {
        match self.word(0x0c)? {
            0 | 0xffff => None,
            0x7fff => Some(u64::from(self.double(0x1c)? & 0x7fff_ffff) << 20),
            kib if kib & 0x8000 != 0 => Some(u64::from(kib & 0x7fff) << 10),
            mib => Some(u64::from(mib) << 20),
        }
    }

    /// MT/s; what does not fit in 16 bits has a field of its own.
    fn speed(&self, at: usize, extended: usize) -> Option<u32> {
        match self.word(at)? {
            0 => None,
            0xffff => {
                self.double(extended).map(|speed| speed & 0x7fff_ffff).filter(|speed| *speed > 0)
            }
            speed => Some(speed.into()),
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.fields.get(at).copied()
    }

    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.fields.get(at..at + 2)?.try_into().ok()?))
    }

    fn double(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.fields.get(at..at + 4)?.try_into().ok()?))
    }

    fn text(&self, at: usize) -> Option<String> {
        let number = usize::from(self.byte(at)?).checked_sub(1)?;
        let bytes = self.strings.split(|byte| *byte == 0).nth(number)?;
        let bytes = bytes.get(..MAX_STRING_BYTES).unwrap_or(bytes);
        let text: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
        filled_in(&text)
    }
}

/// DSP0134, 7.18.2.
fn memory_type(code: u8) -> Option<&'static str> {
    Some(match code {
        0x03 => "DRAM",
        0x04 => "EDRAM",
        0x05 => "VRAM",
        0x06 => "SRAM",
        0x07 => "RAM",
        0x08 => "ROM",
        0x09 => "Flash",
        0x0a => "EEPROM",
        0x0b => "FEPROM",
        0x0c => "EPROM",
        0x0d => "CDRAM",
        0x0e => "3DRAM",
        0x0f => "SDRAM",
        0x10 => "SGRAM",
        0x11 => "RDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x14 => "DDR2 FB-DIMM",
        0x18 => "DDR3",
        0x19 => "FBD2",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x1f => "Logical non-volatile device",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
