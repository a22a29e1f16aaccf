//! The name that a shared library gives itself (`DT_SONAME`): programs ask the loader for that name, and driver libraries lie
//! under longer ones (`libcuda.so.1`, `libcuda.so.550.54.15`). 64-bit little-endian ELF, see elf(5).
//!
//! ```text
//! header: 0x20 offset of program headers (8), 0x36 their size (2), 0x38 their count (2)
//! program header: type (4), flags (4), offset (8), address (8), -, size in file (8)
//! dynamic section: pairs of tag (8) and value (8), up to tag 0
//! ```

use std::{fs::File, io, os::unix::fs::FileExt as _};

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// Most bytes read at once: program headers of a library have hundreds, dynamic sections some thousand.
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
    let header = read(0, 0x40)?;
    // Magic number, 64 bits, little-endian.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let size = number(&header, 0x36, 2)?;
    let programs = read(number(&header, 0x20, 8)?, size.checked_mul(number(&header, 0x38, 2)?)?)?;
    let mut loads = Vec::new();
    let mut dynamic = None;
    for program in programs.chunks_exact(usize::try_from(size).ok()?.max(0x38)) {
        let place = (number(program, 0x08, 8)?, number(program, 0x10, 8)?, number(program, 0x20, 8)?);
        match number(program, 0, 4)? {
            PT_LOAD => loads.push(place),
            PT_DYNAMIC => dynamic = Some(place),
            _ => {}
        }
    }
    let (offset, _, length) = dynamic?;
    let (mut names, mut name) = (None, None);
    for pair in read(offset, length)?.chunks_exact(16) {
        match (number(pair, 0, 8)?, number(pair, 8, 8)?) {
            (DT_NULL, _) => break,
            (DT_STRTAB, address) => names = Some(address),
            (DT_SONAME, place) => name = Some(place),
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
    (!name.is_empty() && !name.contains('/') && name != "." && name != "..").then(|| name.to_owned())
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let mut wide = [0; 8];
    wide[..length].copy_from_slice(bytes.get(at..at + length)?);
    Some(u64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A library with one segment, a dynamic section and its names.
    fn library(name: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        let put =
            |bytes: &mut Vec<u8>, at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
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
            let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(bytes.len());
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
