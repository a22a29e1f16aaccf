//! Reads the `.modinfo` section of a kernel module: NUL-separated `key=value` strings (kernel document
//! `kbuild/modules.rst`; ELF-64, gABI chapter 4). Only what that takes; little-endian 64-bit files only.

/// Why a file has no readable `.modinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("not a 64-bit little-endian ELF file")]
    NotElf64,
    #[error("a section lies outside the file")]
    Truncated,
    #[error("it has no .modinfo section")]
    NoModinfo,
}

const SECTION_HEADER_BYTES: usize = 64;

/// All `.modinfo` values of `key`, in order, those that are not UTF-8 left out.
pub(crate) fn modinfo<'a>(elf: &'a [u8], key: &str) -> Result<Vec<&'a str>, ElfError> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(ElfError::NotElf64);
    }
    let sections_at = offset(elf, 0x28)?;
    let entry_bytes = usize::from(half(elf, 0x3a)?);
    let count = usize::from(half(elf, 0x3c)?);
    let names_index = usize::from(half(elf, 0x3e)?);
    if entry_bytes < SECTION_HEADER_BYTES {
        return Err(ElfError::Truncated);
    }
    let header = |index: usize| {
        let at = index.checked_mul(entry_bytes).and_then(|at| at.checked_add(sections_at));
        slice(elf, at.ok_or(ElfError::Truncated)?, SECTION_HEADER_BYTES)
    };
    let body = |header: &[u8]| slice(elf, offset(header, 0x18)?, offset(header, 0x20)?);
    let names = body(header(names_index)?)?;
    for index in 0..count {
        let header = header(index)?;
        let name_at = usize::try_from(word(header, 0)?).map_err(|_| ElfError::Truncated)?;
        if names.get(name_at..).is_some_and(|name| name.starts_with(b".modinfo\0")) {
            let strings = body(header)?.split(|byte| *byte == 0);
            let text = strings.filter_map(|string| std::str::from_utf8(string).ok());
            return Ok(text.filter_map(|text| text.strip_prefix(key)?.strip_prefix('=')).collect());
        }
    }
    Err(ElfError::NoModinfo)
}

fn slice(bytes: &[u8], at: usize, size: usize) -> Result<&[u8], ElfError> {
    let end = at.checked_add(size).ok_or(ElfError::Truncated)?;
    bytes.get(at..end).ok_or(ElfError::Truncated)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    slice(bytes, at, N)?.try_into().map_err(|_| ElfError::Truncated)
}

fn half(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, ElfError> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn offset(bytes: &[u8], at: usize) -> Result<usize, ElfError> {
    usize::try_from(array(bytes, at).map(u64::from_le_bytes)?).map_err(|_| ElfError::Truncated)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A module with nothing but its `.modinfo`.
    pub(crate) fn module(modinfo: &[&str]) -> Vec<u8> {
        let strings: Vec<u8> = modinfo.iter().flat_map(|line| [line.as_bytes(), b"\0"].concat()).collect();
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let (strings_at, names_at) = (64, 64 + strings.len());
        let sections_at = names_at + names.len();
        elf.extend_from_slice(&strings);
        elf.extend_from_slice(names);
        elf[0x28..0x30].copy_from_slice(&(sections_at as u64).to_le_bytes());
        for (at, value) in [(0x3a, 64u16), (0x3c, 3), (0x3e, 2)] {
            elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        for (name, at, size) in [(0u32, 0, 0), (1, strings_at, strings.len()), (10, names_at, names.len())] {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf
    }

    #[test]
    fn reads_the_values_of_a_key() {
        let elf = module(&["license=GPL", "firmware=a/b.bin", "firmware=c.fw", "firmwares=no"]);
        assert_eq!(modinfo(&elf, "firmware"), Ok(vec!["a/b.bin", "c.fw"]));
        assert_eq!(modinfo(&elf, "depends"), Ok(vec![]));
    }

    #[test]
    fn says_what_is_wrong() {
        let elf = module(&["license=GPL"]);
        assert_eq!(modinfo(b"MZ", "firmware"), Err(ElfError::NotElf64));
        assert_eq!(modinfo(&elf[..elf.len() - 1], "firmware"), Err(ElfError::Truncated));
        let renamed: Vec<u8> = elf.iter().map(|byte| if *byte == b'.' { b'_' } else { *byte }).collect();
        assert_eq!(modinfo(&renamed, "firmware"), Err(ElfError::NoModinfo));
    }

    proptest! {
        #[test]
        fn any_change_ends_in_values_or_an_error(
            changes in proptest::collection::vec((0usize..400, any::<u8>()), 0..20), cut in 0usize..400,
        ) {
            let mut elf = module(&["license=GPL", "firmware=a/b.bin", "firmware=c.fw"]);
            for (at, value) in changes {
                if let Some(byte) = elf.get_mut(at) {
                    *byte = value;
                }
            }
            elf.truncate(cut.max(64));
            let _ = modinfo(&elf, "firmware");
        }
    }
}
