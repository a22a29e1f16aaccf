//! Tables of made-up firmware, whole and damaged.

use proptest::prelude::*;

use super::*;

/// A structure with its strings, whatever its length says.
fn structure(kind: u8, fields: &[u8], strings: &[&str]) -> Vec<u8> {
    let length = u8::try_from(HEADER_BYTES + fields.len()).unwrap();
    let mut bytes = vec![kind, length, 0x11, 0x00];
    bytes.extend(fields);
    for string in strings {
        bytes.extend(string.as_bytes());
        bytes.push(0);
    }
    if strings.is_empty() {
        bytes.push(0);
    }
    bytes.push(0);
    bytes
}

/// A memory device of SMBIOS 3.3 whose size word and extended size are these.
fn device(size: u16, extended: u32) -> Vec<u8> {
    let mut fields = vec![0; 0x5c - HEADER_BYTES];
    let mut put =
        |at: usize, bytes: &[u8]| fields[at - HEADER_BYTES..][..bytes.len()].copy_from_slice(bytes);
    put(0x0c, &size.to_le_bytes());
    put(0x10, &[1, 2, 0x22]);
    put(0x15, &5600_u16.to_le_bytes());
    put(0x17, &[3, 4, 0, 5, 0x02]);
    put(0x1c, &extended.to_le_bytes());
    put(0x20, &0xffff_u16.to_le_bytes());
    put(0x58, &4800_u32.to_le_bytes());
    structure(17, &fields, &["DIMM_A1", "Not Specified", "Hynix", "80AD0123", " HMCG94MEBRA123N  "])
}

fn sizes(table: &[u8]) -> Vec<Option<u64>> {
    memory_modules(table).0.iter().map(|module| module.size_bytes).collect()
}

#[test]
fn a_module_with_all_its_facts() {
    let table =
        [structure(0, &[0; 20], &["AMI"]), device(0x7fff, 65_536), structure(127, &[], &[])]
            .concat();
    let expected = MemoryModule {
        locator: Some("DIMM_A1".to_owned()),
        bank: None,
        size_bytes: Some(64 << 30),
        kind: Some("DDR5".to_owned()),
        speed_mts: Some(4800),
        max_speed_mts: Some(5600),
        vendor: Some("Hynix".to_owned()),
        serial: Some("80AD0123".to_owned()),
        part_number: Some("HMCG94MEBRA123N".to_owned()),
        ranks: Some(2),
    };
    assert_eq!(memory_modules(&table), (vec![expected], None));
}

#[test]
fn sizes_have_three_units() {
    let table =
        [device(16_384, 0), device(0x8000 | 512, 0), device(0x7fff, 0x8000_0000 | 32_768)].concat();
    assert_eq!(sizes(&table), [Some(16 << 30), Some(512 << 10), Some(32 << 30)]);
}

#[test]
fn an_empty_slot_has_only_its_place() {
    let (modules, problem) = memory_modules(&device(0, 0));
    let place = MemoryModule { locator: Some("DIMM_A1".to_owned()), ..MemoryModule::default() };
    assert_eq!((modules, problem), (vec![place], None));
}

#[test]
fn a_module_of_unknown_size_is_named() {
    let (modules, problem) = memory_modules(&device(0xffff, 0));
    assert_eq!((modules[0].size_bytes, modules[0].kind.as_deref()), (None, Some("DDR5")));
    assert_eq!(problem, Some("the size of a memory module is not known"));
}

/// SMBIOS 2.1 ends after the size of a module's set; 2.3 after its part number.
#[test]
fn old_firmware_tells_less() {
    let mut fields = vec![0; 0x15 - HEADER_BYTES];
    fields[0x0c - HEADER_BYTES..][..2].copy_from_slice(&512_u16.to_le_bytes());
    fields[0x10 - HEADER_BYTES] = 1;
    let (modules, problem) = memory_modules(&structure(17, &fields, &["DIMM0"]));
    let expected = MemoryModule {
        locator: Some("DIMM0".to_owned()),
        size_bytes: Some(512 << 20),
        ..MemoryModule::default()
    };
    assert_eq!((modules, problem), (vec![expected], None));
}

#[test]
fn what_stands_before_the_damage_is_told() {
    let whole = device(1024, 0);
    for cut in [1, 3, whole.len() - 1] {
        let table = [whole.as_slice(), &whole[..cut]].concat();
        assert_eq!(sizes(&table), [Some(1 << 30)], "{cut}");
        assert_eq!(memory_modules(&table).1, Some("ends within a structure"), "{cut}");
    }
    let too_short = [whole.as_slice(), &[17, 3, 0, 0, 0, 0]].concat();
    assert_eq!(memory_modules(&too_short).1, Some("ends within a structure"));
    // Strings that are not there, and bytes that are no text.
    let mut wrong = whole;
    let text = wrong.windows(5).position(|bytes| bytes == b"Hynix").unwrap();
    wrong[text] = 0xff;
    wrong[0x10] = 200;
    let module = memory_modules(&wrong).0.remove(0);
    assert_eq!((module.locator, module.vendor.as_deref()), (None, Some("\u{fffd}ynix")));
}

#[test]
fn slots_are_bounded() {
    let table = device(1024, 0).repeat(MAX_MODULES + 1);
    let (modules, problem) = memory_modules(&table);
    assert_eq!((modules.len(), problem), (MAX_MODULES, Some("more than 1024 slots for memory")));
}

#[test]
fn fillers_of_vendors_are_no_facts() {
    for filler in ["  ", "To Be Filled By O.E.M.", "NO DIMM", "Unknown", "Default string\n"] {
        assert_eq!(filled_in(filler), None, "{filler:?}");
    }
    assert_eq!(filled_in(" SMC\n").as_deref(), Some("SMC"));
}

proptest! {
    #[test]
    fn no_bytes_panic(table in prop::collection::vec(any::<u8>(), 0..2048)) {
        let (modules, _) = memory_modules(&table);
        prop_assert!(modules.len() * HEADER_BYTES <= table.len());
    }

    #[test]
    fn damaged_tables_do_not_panic(
        count in 1..4_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..16),
        end in any::<prop::sample::Index>(),
    ) {
        let mut table = device(0x7fff, 65_536).repeat(count);
        for (at, byte) in damage {
            let at = at.index(table.len());
            table[at] = byte;
        }
        table.truncate(end.index(table.len() + 1));
        prop_assert!(memory_modules(&table).0.len() <= MAX_MODULES);
    }
}
