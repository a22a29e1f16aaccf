//! Reads the `.modinfo` section of a kernel module: NUL-separated `key=value` strings (kernel
//! document `kbuild/modules.rst`) in a little-endian ELF-64 file.

use object::{
    LittleEndian,
    elf::FileHeader64,
    read::elf::{FileHeader as _, SectionHeader as _},
};

/// Why a file has no readable `.modinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElfError {
    #[error("not a 64-bit little-endian ELF file")]
    NotElf64,
    #[error("it is damaged: {0}")]
    Damaged(object::read::Error),
    #[error("it has no .modinfo section")]
    NoModinfo,
}

/// All `.modinfo` values of `key`, in order, those that are not UTF-8 left out.
pub(crate) fn modinfo<'a>(elf: &'a [u8], key: &str) -> Result<Vec<&'a str>, ElfError> {
    let header = FileHeader64::<LittleEndian>::parse(elf).map_err(|_| ElfError::NotElf64)?;
    let endian = header.endian().map_err(|_| ElfError::NotElf64)?;
    let sections = header.sections(endian, elf).map_err(ElfError::Damaged)?;
    let (_, section) = sections.section_by_name(endian, b".modinfo").ok_or(ElfError::NoModinfo)?;
    let strings = section.data(endian, elf).map_err(ElfError::Damaged)?.split(|byte| *byte == 0);
    let text = strings.filter_map(|string| std::str::from_utf8(string).ok());
    Ok(text.filter_map(|text| text.strip_prefix(key)?.strip_prefix('=')).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A module with nothing but its `.modinfo`.
    pub(crate) fn module(modinfo: &[&str]) -> Vec<u8> {
        let strings: Vec<u8> =
            modinfo.iter().flat_map(|line| [line.as_bytes(), b"\0"].concat()).collect();
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let (strings_at, names_at) = (64, 64 + strings.len());
        let sections_at = names_at + names.len();
        elf.extend_from_slice(&strings);
        elf.extend_from_slice(names);
        elf[0x28..0x30].copy_from_slice(&(sections_at as u64).to_le_bytes());
        for (at, value) in [(0x3a, 64u16), (0x3c, 3), (0x3e, 2)] {
            elf[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        // No section, SHT_PROGBITS, SHT_STRTAB.
        for (name, kind, at, size) in
            [(0u32, 0u32, 0, 0), (1, 1, strings_at, strings.len()), (10, 3, names_at, names.len())]
        {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
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
        let mut big_endian = elf.clone();
        big_endian[5] = 2;
        assert_eq!(modinfo(&big_endian, "firmware"), Err(ElfError::NotElf64));
        assert!(matches!(modinfo(&elf[..elf.len() - 1], "firmware"), Err(ElfError::Damaged(_))));
        let mut outside = elf.clone();
        let section_at = elf.len() - 2 * 64;
        outside[section_at + 0x20..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(modinfo(&outside, "firmware"), Err(ElfError::Damaged(_))));
        let renamed: Vec<u8> =
            elf.iter().map(|byte| if *byte == b'.' { b'_' } else { *byte }).collect();
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
