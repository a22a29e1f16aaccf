//! The public part of a topology, hwloc's XML: its tree without facts that are not
//! known to be public.
//!
//! hwloc writes facts about an object as `<info name="DMIProductSerial" value="…"/>`. Which
//! there are depends on its version and plugins, so those that everybody may read are listed,
//! not the others.

use super::inventory::hide_mac;

/// Facts that everybody reads, by their names or how these begin.
const PUBLIC: [&str; 19] = [
    "Architecture",
    "Backend",
    "CPU",
    "CoreType",
    "DAXType",
    "FrequencyBaseMHz",
    "FrequencyMaxMHz",
    "GPUModel",
    "GPUVendor",
    "MemoryMode",
    "Model",
    "OSName",
    "OSRelease",
    "PCIDevice",
    "PCISlot",
    "PCIVendor",
    "SectorSize",
    "Size",
    "hwlocVersion",
];

const ELEMENT: &str = "<info";

/// An object, of which a network device has its name.
const OBJECT: &str = "<object";

const NAME: &str = " name=\"";

/// The document without the other facts, and without hardware addresses in names of devices. What
/// is behind an element without an end is left out.
pub(super) fn public(xml: &str) -> String {
    without_addresses(&without_facts(xml))
}

fn without_addresses(xml: &str) -> String {
    let mut public = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some(start) = rest.find(OBJECT) {
        let (before, from) = rest.split_at(start);
        public += before;
        let Some(end) = end_of_element(from) else { return public };
        let (element, behind) = from.split_at(end);
        match name_of(element) {
            Some(name) => {
                let mut shown = name.to_owned();
                hide_mac(&mut shown);
                let (known, hidden) = (format!("{NAME}{name}\""), format!("{NAME}{shown}\""));
                public += &element.replacen(&known, &hidden, 1);
            }
            None => public += element,
        }
        rest = behind;
    }
    public + rest
}

fn without_facts(xml: &str) -> String {
    let mut public = String::with_capacity(xml.len());
    let mut rest = xml;
    while let Some(start) = rest.find(ELEMENT) {
        let (before, from) = rest.split_at(start);
        public += before;
        let Some(end) = end_of_element(from) else { return public };
        let (element, behind) = from.split_at(end);
        if name_of(element).is_some_and(is_public) {
            public += element;
        }
        rest = behind;
    }
    public + rest
}

/// Behind the `>` of the element that a text begins with.
fn end_of_element(text: &str) -> Option<usize> {
    let mut is_quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn name_of(element: &str) -> Option<&str> {
    let (_, from) = element.split_once(NAME)?;
    from.split_once('"').map(|(name, _)| name)
}

fn is_public(name: &str) -> bool {
    PUBLIC.iter().any(|public| name == *public || (*public == "CPU" && name.starts_with(public)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_facts_that_are_known_to_be_public_stay() {
        let xml = r#"<topology><object type="Machine" os_index="0">
 <info name="DMIProductSerial" value="MARKER"/>
 <info value="MARKER > x" name="DMIChassisAssetTag"/>
 <info name="CPUModel" value="AMD EPYC"/>
 <infoX name="SerialNumber" value="MARKER"></infoX>
 <object type="OSDev" name="lan0"><info name="Address" value="MARKER"/></object>
</object><info name="DMIBoardSerial" value="MARKER"#;
        let text = public(xml);
        assert!(!text.contains("MARKER"), "{text}");
        assert!(text.contains(r#"<info name="CPUModel" value="AMD EPYC"/>"#), "{text}");
        assert!(text.contains(r#"<object type="OSDev" name="lan0"></object>"#), "{text}");
    }

    #[test]
    fn names_of_devices_tell_no_hardware_address() {
        let xml = r#"<object type="OSDev" name="enx525400aaaa02" osdev_type="2"/><object type="OSDev" name="eth0">"#;
        let hidden =
            r#"<object type="OSDev" name="enx…" osdev_type="2"/><object type="OSDev" name="eth0">"#;
        assert_eq!(public(xml), hidden);
    }

    #[test]
    fn a_topology_without_private_facts_is_unchanged() {
        let xml = "<?xml version=\"1.0\"?>\n<topology><info name=\"Backend\" value=\"Linux\"/></topology>\n";
        assert_eq!(public(xml), xml);
    }
}
