//! The inventory's machine, processors and memory beside what `lstopo`, `lscpu`, `dmidecode` and
//! `ipmitool` say of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use api::inventory::{Inventory, Topology};
use roxmltree::{Document, Node};

use super::{
    compare::{Tally, text},
    tools::Tools,
};

/// Attributes of hwloc's objects that tell of the machine; not those that number them
/// again in each run.
const ATTRIBUTES: [&str; 12] = [
    "type",
    "os_index",
    "cpuset",
    "nodeset",
    "local_memory",
    "cache_size",
    "depth",
    "cache_linesize",
    "cache_associativity",
    "pci_busid",
    "pci_type",
    "name",
];

/// All of them.
pub(super) fn compare(
    tally: &mut Tally,
    inventory: &Inventory,
    tools: &Tools,
) -> anyhow::Result<()> {
    machine(tally, inventory, tools)?;
    modules(tally, inventory, tools)?;
    processors(tally, &inventory.topology, tools)?;
    topology(tally, &inventory.topology, tools)
}

fn machine(tally: &mut Tally, inventory: &Inventory, tools: &Tools) -> anyhow::Result<()> {
    let Inventory { system, firmware, os, .. } = inventory;
    let pairs = [
        ("bios-vendor", &firmware.vendor),
        ("bios-version", &firmware.version),
        ("bios-release-date", &firmware.date),
        ("system-manufacturer", &system.vendor),
        ("system-product-name", &system.product),
        ("system-version", &system.version),
        ("system-serial-number", &system.serial),
        ("system-uuid", &system.uuid),
        ("system-sku-number", &system.sku),
        ("system-family", &system.family),
        ("baseboard-manufacturer", &system.board.vendor),
        ("baseboard-product-name", &system.board.product),
        ("baseboard-version", &system.board.version),
        ("baseboard-serial-number", &system.board.serial),
        ("chassis-type", &system.chassis),
        ("chassis-serial-number", &system.chassis_serial),
        ("chassis-asset-tag", &system.asset_tag),
    ];
    for (key, ours) in pairs {
        tally.same(key, ours.clone(), text(tools.text(key)?));
    }
    let lines: Vec<&str> = tools.text("os")?.lines().collect();
    let ours = [&os.name, &os.kernel, &os.architecture, &os.command_line];
    for (ours, theirs) in ours.into_iter().zip(&lines) {
        tally.same("operating system", ours.clone(), text(theirs));
    }
    let tpm = lines.get(4).map(|major| format!("{major}.0"));
    tally.same("TPM", firmware.tpm.clone(), tpm);
    tally.same("boot mode", firmware.boot_mode.clone(), text("bios"));
    let total = tools
        .blocks("meminfo")?
        .first()
        .and_then(|lines| lines.get("MemTotal")?.split(' ').next()?.parse::<u64>().ok());
    tally.same("memory", text(inventory.memory_bytes), total.map(|kib| (kib * 1024).to_string()));
    let bmc = inventory.bmc.as_ref();
    let told: BTreeMap<String, String> = tools.blocks("bmc")?.into_iter().flatten().collect();
    let ours = [
        ("Firmware Revision", bmc.and_then(|bmc| bmc.firmware.clone())),
        ("IPMI Version", bmc.and_then(|bmc| bmc.ipmi.clone())),
        ("Manufacturer ID", bmc.and_then(|bmc| bmc.manufacturer_id.map(|id| id.to_string()))),
    ];
    for (key, ours) in ours {
        // The enumeration of makers has no number 0.
        tally.same(key, ours, told.get(key).filter(|value| *value != "0").cloned());
    }
    Ok(())
}

fn modules(tally: &mut Tally, inventory: &Inventory, tools: &Tools) -> anyhow::Result<()> {
    let blocks = tools.blocks("dimms")?;
    let slots: Vec<_> = blocks.iter().filter(|block| block.contains_key("Locator")).collect();
    tally.same("memory modules", text(inventory.memory_modules.len()), text(slots.len()));
    for (ours, theirs) in inventory.memory_modules.iter().zip(slots) {
        let known = |key: &str| {
            let value = theirs.get(key)?;
            (!["Unknown", "Not Specified", "None"].contains(&value.as_str())).then(|| value.clone())
        };
        let size = known("Size").and_then(|size| {
            let (number, unit) = size.split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            Some((number << if unit == "GB" { 30 } else { 20 }).to_string())
        });
        let speed =
            |key: &str| known(key).and_then(|speed| Some(speed.strip_suffix(" MT/s")?.to_owned()));
        tally.same("module locator", ours.locator.clone(), known("Locator"));
        tally.same("module bank", ours.bank.clone(), known("Bank Locator"));
        tally.same("module size", ours.size_bytes.map(|size| size.to_string()), size);
        tally.same("module type", ours.kind.clone(), known("Type"));
        tally.same(
            "module speed",
            ours.max_speed_mts.map(|speed| speed.to_string()),
            speed("Speed"),
        );
        let configured = speed("Configured Memory Speed");
        tally.same(
            "module configured speed",
            ours.speed_mts.map(|speed| speed.to_string()),
            configured,
        );
        tally.same("module vendor", ours.vendor.clone(), known("Manufacturer"));
        tally.same("module serial", ours.serial.clone(), known("Serial Number"));
        tally.same("module part", ours.part_number.clone(), known("Part Number"));
        tally.same("module ranks", ours.ranks.map(|ranks| ranks.to_string()), known("Rank"));
    }
    Ok(())
}

fn processors(tally: &mut Tally, ours: &Topology, tools: &Tools) -> anyhow::Result<()> {
    let told = tools.json("lscpu")?;
    let mut fields = BTreeMap::new();
    let mut left: Vec<&serde_json::Value> =
        told["lscpu"].as_array().context("no lscpu")?.iter().collect();
    while let Some(field) = left.pop() {
        if let (Some(key), Some(value)) = (field["field"].as_str(), field["data"].as_str()) {
            fields.insert(key.trim_end_matches(':').to_owned(), value.to_owned());
        }
        left.extend(field["children"].as_array().into_iter().flatten());
    }
    let told = |key: &str| fields.get(key).cloned();
    tally.same("CPU(s)", text(ours.pus), told("CPU(s)"));
    tally.same("Socket(s)", text(ours.packages.len()), told("Socket(s)"));
    tally.same("NUMA node(s)", text(ours.numa_nodes.len()), told("NUMA node(s)"));
    let cores = ours.cores.len().checked_div(ours.packages.len()).unwrap_or(0);
    tally.same("Core(s) per socket", text(cores), told("Core(s) per socket"));
    tally.same("Vendor ID", ours.cpu_vendor.clone(), told("Vendor ID"));
    tally.same("Model name", ours.cpu_model.clone(), told("Model name"));
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    tally.same("CPU family", number(ours.cpu_family), told("CPU family"));
    tally.same("Model", number(ours.cpu_model_number), told("Model"));
    tally.same("Stepping", number(ours.cpu_stepping), told("Stepping"));
    let flags: BTreeSet<&str> = ours.cpu_flags.iter().map(String::as_str).collect();
    let theirs = told("Flags").unwrap_or_default();
    let theirs: BTreeSet<&str> = theirs.split(' ').collect();
    for flag in flags.union(&theirs) {
        let has = |set: &BTreeSet<&str>| set.contains(flag).then(|| (*flag).to_owned());
        tally.same("flag", has(&flags), has(&theirs));
    }
    for node in &ours.numa_nodes {
        let theirs = told(&format!("NUMA node{} CPU(s)", node.index)).unwrap_or_default();
        tally.same(
            &format!("CPUs of NUMA node {}", node.index),
            text(list(&node.pus)),
            text(expand(&theirs)),
        );
    }
    Ok(())
}

/// `0-1,4` → `0 1 4`.
fn expand(ranges: &str) -> String {
    let ends = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    };
    list(&ranges.split(',').filter_map(ends).flatten().collect::<Vec<_>>())
}

fn list(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// `0x000000f0` → `4 5 6 7`; the machine has at most 32 of anything.
fn set(mask: Option<&str>) -> Option<String> {
    let mask = u32::from_str_radix(mask?.strip_prefix("0x")?, 16).ok()?;
    Some(list(&(0..32).filter(|bit| mask >> bit & 1 == 1).collect::<Vec<_>>()))
}

fn topology(tally: &mut Tally, ours: &Topology, tools: &Tools) -> anyhow::Result<()> {
    let xml = parse(tools.text("lstopo")?)?;
    packages(tally, ours, &xml);
    numa_nodes(tally, ours, &xml)?;
    caches(tally, ours, &xml);
    cores(tally, ours, &xml);
    distances(tally, ours, &xml);
    Ok(())
}

fn packages(tally: &mut Tally, ours: &Topology, xml: &Document<'_>) {
    let packages = objects(xml, "Package");
    tally.same("packages", text(ours.packages.len()), text(packages.len()));
    for (ours, theirs) in ours.packages.iter().zip(packages) {
        tally.same("package", text(ours.index), attribute(theirs, "os_index"));
        tally.same("package PUs", text(list(&ours.pus)), pus(theirs));
    }
}

fn numa_nodes(tally: &mut Tally, ours: &Topology, xml: &Document<'_>) -> anyhow::Result<()> {
    let nodes = objects(xml, "NUMANode");
    for ours in &ours.numa_nodes {
        let theirs = nodes.iter().find(|node| attribute(**node, "os_index") == text(ours.index));
        let theirs = *theirs.with_context(|| format!("lstopo has no NUMA node {}", ours.index))?;
        tally.same(
            "memory of a NUMA node",
            text(ours.memory_bytes),
            attribute(theirs, "local_memory"),
        );
        // What has no processors is local to all of its parent's, says hwloc's set.
        if !ours.pus.is_empty() {
            tally.same("PUs of a NUMA node", text(list(&ours.pus)), pus(theirs));
        }
        let pages = theirs.children().filter(|child| child.has_tag_name("page_type"));
        let pages: Vec<_> =
            pages.map(|page| (attribute(page, "size"), attribute(page, "count"))).collect();
        let known: Vec<_> =
            ours.pages.iter().map(|p| (text(p.size_bytes), text(p.count))).collect();
        tally.same("pages of a NUMA node", text(format!("{known:?}")), text(format!("{pages:?}")));
    }
    Ok(())
}

/// All but those of instructions alone.
fn caches(tally: &mut Tally, ours: &Topology, xml: &Document<'_>) {
    let data = ours.caches.iter().filter(|cache| cache.kind != "instruction");
    let mut known: Vec<_> = data
        .map(|c| {
            (c.level.to_string(), list(&c.pus), c.size_bytes.to_string(), c.line_bytes, c.ways)
        })
        .collect();
    let number = |object: Node<'_, '_>, name| {
        object.attribute(name).and_then(|value| value.parse::<u32>().ok())
    };
    let mut theirs: Vec<_> = xml
        .descendants()
        .filter(|object| object.attribute("cache_size").is_some())
        .filter(|cache| cache.attribute("cache_type") != Some("2"))
        .map(|cache| {
            let level = attribute(cache, "depth").unwrap_or_default();
            let size = attribute(cache, "cache_size").unwrap_or_default();
            let ways = number(cache, "cache_associativity").filter(|ways| *ways > 0);
            (level, pus(cache).unwrap_or_default(), size, number(cache, "cache_linesize"), ways)
        })
        .collect();
    known.sort();
    theirs.sort();
    tally.same("caches", text(known.len()), text(theirs.len()));
    for (ours, theirs) in known.iter().zip(&theirs) {
        tally.same("cache", text(format!("{ours:?}")), text(format!("{theirs:?}")));
    }
}

fn cores(tally: &mut Tally, ours: &Topology, xml: &Document<'_>) {
    let cores = objects(xml, "Core");
    tally.same("cores", text(ours.cores.len()), text(cores.len()));
    for (ours, theirs) in ours.cores.iter().zip(cores) {
        tally.same("PUs of a core", text(list(&ours.pus)), pus(theirs));
    }
    tally.same("PUs", text(ours.pus), text(objects(xml, "PU").len()));
}

fn distances(tally: &mut Tally, ours: &Topology, xml: &Document<'_>) {
    let known: Vec<String> = ours.distances.iter().flatten().map(ToString::to_string).collect();
    let values = xml.descendants().filter(|object| object.has_tag_name("u64values"));
    let words = values.filter_map(|object| object.text()).flat_map(str::split_whitespace);
    let words: Vec<&str> = words.collect();
    tally.same("distances", text(format!("{known:?}")), text(format!("{words:?}")));
}

/// The objects of a type, in the order of hwloc.
fn objects<'a>(xml: &'a Document<'_>, kind: &str) -> Vec<Node<'a, 'a>> {
    xml.descendants().filter(|object| object.attribute("type") == Some(kind)).collect()
}

fn attribute(object: Node<'_, '_>, name: &str) -> Option<String> {
    object.attribute(name).map(str::to_owned)
}

fn pus(object: Node<'_, '_>) -> Option<String> {
    set(object.attribute("cpuset"))
}

/// Both have the same objects, with the same attributes.
pub(super) fn same_topology(tally: &mut Tally, xml: &str, tools: &Tools) -> anyhow::Result<()> {
    let (ours, theirs) = (parse(xml)?, parse(tools.text("lstopo")?)?);
    fn all_objects<'a>(xml: &'a Document<'_>) -> Vec<Node<'a, 'a>> {
        xml.descendants().filter(|object| object.has_tag_name("object")).collect()
    }
    let (ours, theirs) = (all_objects(&ours), all_objects(&theirs));
    tally.same("objects in hwloc's XML", text(ours.len()), text(theirs.len()));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        for name in ATTRIBUTES.into_iter().filter(|name| theirs.has_attribute(*name)) {
            tally.same(&format!("XML {name}"), attribute(*ours, name), attribute(*theirs, name));
        }
    }
    Ok(())
}

fn parse(xml: &str) -> anyhow::Result<Document<'_>> {
    let options =
        roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    Document::parse_with_options(xml, options).context("no XML of hwloc")
}
