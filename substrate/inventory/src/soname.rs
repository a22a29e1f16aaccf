//! The name that a shared library gives itself (`DT_SONAME`): programs ask the loader for that
//! name, and driver libraries lie under longer ones (`libcuda.so.1`, `libcuda.so.550.54.15`).
//! 64-bit little-endian ELF, see elf(5).
//!
//! A library has a hundred megabytes, and what names it some kilobytes: these alone are read.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use object::{
    LittleEndian,
    elf::{self, Dyn64, FileHeader64, ProgramHeader64},
    pod::{Pod, from_bytes, slice_from_bytes},
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

/// Most bytes read at once: program headers of a library have hundreds, dynamic
/// sections some thousand.
const MAX_PART_BYTES: u64 = 64 << 10;

/// Longest name, bytes: `NAME_MAX`.
const MAX_NAME_BYTES: u64 = 255;

/// The library's name for itself; `None` if it has none, or is no such library.
///
/// # Errors
/// The file cannot be read.
pub fn soname(library: &File) -> io::Result<Option<String>> {
    let mut failed = None;
    let read = |offset, length| match part(library, offset, length) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            failed = Some(error);
            None
        }
    };
    let name = find(read);
    failed.map_or(Ok(name), Err)
}

fn part(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length.min(MAX_PART_BYTES)).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// `read` gives the bytes of the file from an offset on, at most so many; fewer at its end.
fn find(mut read: impl FnMut(u64, u64) -> Option<Vec<u8>>) -> Option<String> {
    let header = read(0, size_of::<FileHeader64<LittleEndian>>() as u64)?;
    let (header, _) = from_bytes::<FileHeader64<LittleEndian>>(&header).ok()?;
    let endian = header.is_supported().then(|| header.endian().ok())??;
    let size = u64::from(header.e_phentsize(endian));
    if size != size_of::<ProgramHeader64<LittleEndian>>() as u64 {
        return None;
    }
    let programs = read(header.e_phoff(endian), size * u64::from(header.e_phnum(endian)))?;
    let mut loads = Vec::new();
    let mut dynamic = None;
    for program in entries::<ProgramHeader64<LittleEndian>>(&programs) {
        let place = (program.p_offset(endian), program.p_vaddr(endian), program.p_filesz(endian));
        match program.p_type(endian) {
            elf::PT_LOAD => loads.push(place),
            elf::PT_DYNAMIC => dynamic = Some(place),
            _ => {}
        }
    }
    let (offset, _, length) = dynamic?;
    let (mut names, mut name) = (None, None);
    for pair in entries::<Dyn64<LittleEndian>>(&read(offset, length)?) {
        match pair.d_tag(endian) {
            elf::DT_NULL => break,
            elf::DT_STRTAB => names = Some(pair.d_val(endian)),
            elf::DT_SONAME => name = Some(pair.d_val(endian)),
            _ => {}
        }
    }
    let (names, name) = (names?, name?);
    let in_file = |&(offset, address, length): &(u64, u64, u64)| {
        let inside = names.checked_sub(address).filter(|inside| *inside < length)?;
        offset.checked_add(inside)
    };
    let bytes = read(loads.iter().find_map(in_file)?.checked_add(name)?, MAX_NAME_BYTES + 1)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&bytes[..end]).ok()?;
    (!name.is_empty() && !name.contains('/') && name != "." && name != "..")
        .then(|| name.to_owned())
}

/// As many as there are; half of one at the end is none.
fn entries<T: Pod>(bytes: &[u8]) -> &[T] {
    slice_from_bytes(bytes, bytes.len() / size_of::<T>()).map_or(&[], |(entries, _)| entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A library with one segment, a dynamic section and its names.
    fn library(name: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        let put = |bytes: &mut Vec<u8>, at: usize, value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value)
        };
        put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
        put(&mut bytes, 0x20, &0x40_u64.to_le_bytes());
        put(&mut bytes, 0x36, &0x38_u16.to_le_bytes());
        put(&mut bytes, 0x38, &2_u16.to_le_bytes());
        for (kind, offset, length) in [(1_u32, 0_u64, 0x200_u64), (2, 0xc0, 0x30)] {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
            for value in [offset, offset + 0x1000, 0, length, length, 8] {
                bytes.extend(value.to_le_bytes());
            }
        }
        bytes.resize(0xc0, 0);
        for value in [14_u64, 1, 5, 0x1100, 0, 0] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.resize(0x100, 0);
        bytes.push(0);
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes
    }

    fn of(bytes: &[u8]) -> Option<String> {
        find(|offset, length| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let end = start
                .saturating_add(usize::try_from(length).unwrap_or(usize::MAX))
                .min(bytes.len());
            Some(bytes[start..end].to_vec())
        })
    }

    #[test]
    fn a_library_tells_its_name() {
        assert_eq!(of(&library("libcuda.so.1")).as_deref(), Some("libcuda.so.1"));
        for bad in ["", "../x", "."] {
            assert_eq!(of(&library(bad)), None, "{bad}");
        }
        assert_eq!(of(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn the_libc_of_this_machine_is_known() {
        let place = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"];
        let file = place.iter().find_map(|path| File::open(path).ok()).unwrap();
        assert_eq!(soname(&file).unwrap().as_deref(), Some("libc.so.6"));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(cut in 0_usize..0x110, at in 0_usize..0x110, value: u8) {
            let mut bytes = library("libx.so.1");
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            of(&bytes);
        }
    }
}
