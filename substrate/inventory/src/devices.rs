//! Devices that a node can grant: those of its CDI specs (`cdi.rs`), and for kinds that no spec
//! describes those of our own rules (`built_in.rs`). The inventory lists them; the agent reads them
//! again for each job that gets some.
//!
//! A spec names things that are no device more to count: `all`, a GPU by its UUID besides its
//! number. So *a name counts* unless the nodes of its own (those of the spec's own edits left out)
//!
//! - are those of another name of its kind that is shorter, or as long and first in
//!   the alphabet; or
//! - are all the nodes of another name and more.
//!
//! A node is *shared* if it stands in the edits of a whole spec or belongs to several names that
//! count; nobody has it alone.

mod built_in;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use api::{
    device::{DeviceKind, DeviceName, GrantableDevice},
    inventory::PciDevice,
};

use crate::{cdi, edits::Edits, pci, read::Reader};

/// Where specs are; the same device in a later directory counts (CDI, "General considerations").
pub const SPEC_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// What describes a device that no spec does.
const BUILT_IN: &str = "built-in";

/// Largest spec read, bytes: one of NVIDIA's for eight GPUs has a tenth of a mebibyte.
const MAX_SPEC_BYTES: u64 = 4 << 20;

/// Most names of a node: 16 GPUs in 7 parts each, by number and UUID, are a quarter of them.
const MAX_OFFERS: usize = 1024;

/// Names that are told in one gap.
const MAX_NAMED: usize = 3;

/// A name of a node, and what whoever gets it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub name: DeviceName,
    /// File of its spec, or `built-in`.
    pub source: String,
    /// It is a device, not another name for some.
    pub counts: bool,
    /// All that belongs to it.
    pub edits: Edits,
    /// Paths in it that the node has not.
    pub missing: Vec<String>,
}

impl Offer {
    /// Why it cannot be granted, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let missing = || self.missing.first().map(|path| format!("the node has no {path}"));
        self.edits.refused.first().cloned().or_else(missing)
    }
}

/// The names of the machine, or of the capture of one, at `root`.
#[must_use]
pub fn offers(root: &Path) -> Vec<Offer> {
    read(&mut Reader::new(root))
}

/// What the inventory lists; names that count and cannot be granted are gaps.
pub(crate) fn collect(read: &mut Reader<'_>, pci: &[PciDevice]) -> Vec<GrantableDevice> {
    let minors = built_in::nvidia_minors(read);
    let mut refused: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut devices = Vec::new();
    for offer in self::read(read).into_iter().filter(|offer| offer.counts) {
        if let Some(why) = offer.refusal() {
            refused.entry((offer.source, why)).or_default().push(offer.name.to_string());
            continue;
        }
        let address = pci_address(read, &offer, &minors);
        devices.push(GrantableDevice {
            name: offer.name,
            numa_node: pci::numa_node(pci, address.as_ref()),
            pci: address,
            source: offer.source,
            unhealthy: None,
        });
    }
    for ((source, why), names) in refused {
        let more = names.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
        read.gap(&source, format!("{}{more} cannot be granted: {why}", named.join(", ")));
    }
    devices
}

/// Of the first node of its own. A part of a GPU (MIG) has none that tells; it is where the one GPU
/// is whose node it shares.
fn pci_address(read: &Reader<'_>, offer: &Offer, minors: &BTreeMap<u32, String>) -> Option<String> {
    let of = |shared: bool| {
        let nodes = offer.edits.nodes.iter().filter(move |node| node.shared == shared);
        nodes.filter_map(|node| built_in::pci_address(read, &node.source, minors))
    };
    of(false).next().or_else(|| {
        let mut shared: BTreeSet<String> = of(true).collect();
        if shared.len() == 1 { shared.pop_first() } else { None }
    })
}

fn read(read: &mut Reader<'_>) -> Vec<Offer> {
    let (mut found, kinds) = from_specs(read);
    let rules = built_in::all(read).into_iter().filter(|(name, ..)| !kinds.contains(name.kind()));
    found.extend(
        rules.map(|(name, own, of_all)| {
            (name, Described { source: BUILT_IN.to_owned(), own, of_all })
        }),
    );
    if found.len() > MAX_OFFERS {
        read.gap("devices", format!("more than {MAX_OFFERS} names"));
    }
    let mut offers: Vec<_> = found.into_iter().collect();
    // Numbers in their order, then words.
    let key = |name: &DeviceName| {
        let number = name.name().parse::<u64>().ok();
        (name.kind().clone(), number.is_none(), number, name.name().to_owned())
    };
    offers.sort_by_key(|(name, _)| key(name));
    offers.truncate(MAX_OFFERS);
    let counting: Vec<bool> = offers.iter().map(|(name, own)| counts(name, own, &offers)).collect();
    let owners = owners(&offers, &counting);
    let finish = |((name, described), counts): ((DeviceName, Described), bool)| {
        let Described { source, own, of_all } = described;
        let mut edits = of_all;
        edits.nodes.iter_mut().for_each(|node| node.shared = true);
        let mut own = own;
        for node in &mut own.nodes {
            node.shared = owners
                .get(&(name.kind().to_string(), node.source.clone()))
                .is_some_and(|count| *count > 1);
        }
        edits.add(&own);
        Offer { name, source, counts, missing: missing(read, &edits), edits }
    };
    offers.into_iter().zip(counting).map(finish).collect()
}

/// A name as its spec or rule has it: what is its own, and what all of the spec get.
#[derive(Debug, Clone)]
struct Described {
    source: String,
    own: Edits,
    of_all: Edits,
}

impl Described {
    fn nodes(&self) -> BTreeSet<&str> {
        self.own.nodes.iter().map(|node| node.source.as_str()).collect()
    }
}

/// The names of all specs, and the kinds of these. What two of one directory describe is
/// offered by neither.
fn from_specs(read: &mut Reader<'_>) -> (BTreeMap<DeviceName, Described>, BTreeSet<DeviceKind>) {
    let (mut found, mut kinds) = (BTreeMap::new(), BTreeSet::new());
    for directory in SPEC_DIRECTORIES {
        let mut here: BTreeMap<DeviceName, Described> = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for file in read.names(directory) {
            // Files of other names are none (CDI, "Overview").
            if !Path::new(&file)
                .extension()
                .is_some_and(|suffix| suffix == "json" || suffix == "yaml")
            {
                continue;
            }
            let path = format!("{directory}/{file}");
            let Some(spec) = spec(read, &path) else { continue };
            kinds.insert(spec.kind);
            for (name, own) in spec.devices {
                let described = Described { source: path.clone(), own, of_all: spec.edits.clone() };
                if let Some(first) = here.insert(name.clone(), described) {
                    read.gap(
                        &path,
                        format!("{name} is described in {} too: neither counts", first.source),
                    );
                    twice.insert(name);
                }
            }
        }
        found.extend(here);
        found.retain(|name, _| !twice.contains(name));
    }
    (found, kinds)
}

fn spec(read: &mut Reader<'_>, path: &str) -> Option<cdi::Spec> {
    let bytes = read.bytes(path, MAX_SPEC_BYTES)?;
    let parsed = match std::str::from_utf8(&bytes) {
        Ok(text) => cdi::parse(text),
        Err(_) => Err(vec!["not UTF-8 text".to_owned()]),
    };
    match parsed {
        Ok(spec) => Some(spec),
        Err(diagnostics) => {
            read.gap(path, format!("no CDI spec: {}", diagnostics.join("; ")));
            None
        }
    }
}

/// Whether a name is a device: see the module.
fn counts(name: &DeviceName, described: &Described, all: &[(DeviceName, Described)]) -> bool {
    let nodes = described.nodes();
    let rank = |name: &DeviceName| (name.name().len(), name.name().to_owned());
    let peers = all.iter().filter(|(other, _)| other.kind() == name.kind() && other != name);
    nodes.is_empty()
        || !peers.into_iter().any(|(other, peer)| {
            let theirs = peer.nodes();
            let is_part = !theirs.is_empty() && theirs.is_subset(&nodes);
            is_part && (theirs.len() < nodes.len() || rank(other) < rank(name))
        })
}

/// How many names that count have a node, by kind and path.
fn owners(all: &[(DeviceName, Described)], counting: &[bool]) -> BTreeMap<(String, String), usize> {
    let mut owners = BTreeMap::new();
    for ((name, described), _) in all.iter().zip(counting).filter(|(_, counts)| **counts) {
        for node in described.nodes() {
            *owners.entry((name.kind().to_string(), node.to_owned())).or_default() += 1;
        }
    }
    owners
}

fn missing(read: &Reader<'_>, edits: &Edits) -> Vec<String> {
    let nodes = edits.nodes.iter().map(|node| &node.source);
    let mounts = edits.mounts.iter().map(|mount| &mount.source);
    nodes.chain(mounts).filter(|path| !read.exists(path)).cloned().collect()
}

#[cfg(test)]
mod tests;
