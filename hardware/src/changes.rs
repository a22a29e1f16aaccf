//! What is new in an inventory: two inventories in, lines for the node's history out. Pure; called
//! by `inventories`.
//!
//! Things are matched by what stays the same when names move: serial number or world wide name of a
//! disk, hardware and PCI address of a card, GUID of an adapter, PCI address of a GPU. A fact that
//! one side does not tell is no change. Of what depends on another (the PCI device of a network
//! card, the GPU behind a grantable device) the nearest to a person is told alone.
//!
//! **Boot order.** The first inventory of an agent ([`InventoryMoment::Start`]) may come before the
//! last driver is loaded, the last link is up or the last CDI spec is written. What is then missing
//! of adapters and grantable devices while their PCI device is there, and each link that is not up,
//! is told as information ("not there yet"), not as a warning; what is really gone takes its PCI
//! device with it. Versions of drivers that are not loaded yet are compared with the last that were
//! told ([`remembered`]). Faults are the agent's own judgement and are told as such at any time.

mod devices;
mod machine;
mod network;

use std::collections::{BTreeMap, BTreeSet};

use api::{
    inventory::{Fault, FaultLevel, Inventory},
    status::Severity,
};
use fleet::InventoryMoment;

/// Lines about one inventory. A node that loses a whole tray of GPUs with their devices has some
/// 20; more push older events out of the history.
const MAX_LINES: usize = 20;

/// What is new in `after`, the worst first; at most [`MAX_LINES`] and one that counts the rest.
/// Empty if only counters moved, or what has no line of its own.
pub(crate) fn changes(
    before: &Inventory,
    after: &Inventory,
    moment: InventoryMoment,
) -> Vec<(Severity, String)> {
    let mut news = ChangeLines::new(moment, after);
    news.faults(&before.faults, &after.faults);
    machine::compare(&mut news, before, after);
    network::compare(&mut news, before, after);
    devices::compare(&mut news, before, after);
    news.bounded()
}

/// Whether the two differ in nothing but what moves by itself.
pub(crate) fn is_only_counters(before: &Inventory, after: &Inventory) -> bool {
    without_counters(before) == without_counters(after)
}

fn without_counters(inventory: &Inventory) -> Inventory {
    let mut still = inventory.clone();
    for ecc in still.gpus.iter_mut().filter_map(|gpu| gpu.ecc.as_mut()) {
        (ecc.corrected, ecc.uncorrected) = (None, None);
    }
    for health in still.disks.iter_mut().filter_map(|disk| disk.health.as_mut()) {
        (health.used_percent, health.spare_percent) = (None, None);
        (health.media_errors, health.io_errors) = (None, None);
    }
    for link in still.pci.iter_mut().filter_map(|device| device.link.as_mut()) {
        link.speed_mts = 0;
    }
    still
}

/// The newest of these inventories (they come newest first), with what an older one said of GPUs of
/// which it says nothing because their driver was not loaded yet.
pub(crate) fn remembered(newest_first: Vec<Inventory>) -> Option<Inventory> {
    let mut inventories = newest_first.into_iter();
    let mut newest = inventories.next()?;
    for older in inventories {
        for gpu in &mut newest.gpus {
            let Some(then) = older.gpus.iter().find(|then| then.pci == gpu.pci) else { continue };
            let fill = |now: &mut Option<String>, then: &Option<String>| {
                if now.is_none() {
                    now.clone_from(then);
                }
            };
            fill(&mut gpu.driver_version, &then.driver_version);
            fill(&mut gpu.firmware, &then.firmware);
            fill(&mut gpu.serial, &then.serial);
        }
    }
    Some(newest)
}

/// The lines so far, and what they are about.
struct ChangeLines {
    lines: Vec<(Severity, String)>,
    moment: InventoryMoment,
    /// Subjects of faults that came or went: their state needs no second line.
    faulty: BTreeSet<String>,
    /// PCI addresses that are there now.
    pci: BTreeSet<String>,
    /// PCI addresses of things that have a line of their own.
    told_pci: BTreeSet<String>,
    /// Subjects that are gone: their faults are not over.
    missing: BTreeSet<String>,
    /// Faults that are no longer told.
    over: Vec<Fault>,
    /// Subjects that still have faults.
    unhealthy: BTreeSet<String>,
}

impl ChangeLines {
    fn new(moment: InventoryMoment, after: &Inventory) -> Self {
        Self {
            lines: Vec::new(),
            moment,
            faulty: BTreeSet::new(),
            pci: after.pci.iter().map(|device| device.address.clone()).collect(),
            told_pci: BTreeSet::new(),
            missing: BTreeSet::new(),
            over: Vec::new(),
            unhealthy: after.faults.iter().map(|fault| fault.subject.clone()).collect(),
        }
    }

    fn info(&mut self, line: String) {
        self.lines.push((Severity::Info, line));
    }

    fn warn(&mut self, line: String) {
        self.lines.push((Severity::Warning, line));
    }

    /// Something that ought to be there is not. `name` as in the subjects of faults; `pci`:
    /// what it hangs on.
    fn missing(&mut self, name: &str, what: &str, pci: Option<&str>) {
        self.told_pci.extend(pci.map(str::to_owned));
        self.missing.insert(name.to_owned());
        self.warn(format!("{name}{what} is gone"));
    }

    /// As [`Self::missing`], of what its driver brings: right after a start it may come yet.
    fn gone_or_late(&mut self, name: &str, what: &str, pci: Option<&str>) {
        if self.moment == InventoryMoment::Start && pci.is_none_or(|pci| self.pci.contains(pci)) {
            self.missing.insert(name.to_owned());
            self.info(format!("{name}{what} is not there yet after the start of the agent"));
        } else {
            self.missing(name, what, pci);
        }
    }

    fn appeared(&mut self, name: &str, what: &str, pci: Option<&str>) {
        self.told_pci.extend(pci.map(str::to_owned));
        self.info(format!("{name}{what} is new"));
    }

    /// A state went from one word to another. A fault of the same subject says it better.
    fn state(&mut self, name: &str, before: Option<&str>, after: Option<&str>, is_well: bool) {
        let (Some(before), Some(after)) = (before, after) else { return };
        if before == after || self.faulty.contains(name) {
            return;
        }
        let line = format!("{name}: {after}, was {before}");
        if is_well || self.moment == InventoryMoment::Start {
            self.info(line)
        } else {
            self.warn(line)
        }
    }

    /// A version is another. What one side does not tell is no change.
    fn version(&mut self, what: &str, before: Option<&String>, after: Option<&String>) {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            self.info(format!("{what} is {after}, was {before}"));
        }
    }

    fn faults(&mut self, before: &[Fault], after: &[Fault]) {
        let before: BTreeSet<&Fault> = before.iter().collect();
        let after: BTreeSet<&Fault> = after.iter().collect();
        for fault in after.difference(&before) {
            self.faulty.insert(fault.subject.clone());
            let severity = match fault.level {
                FaultLevel::Warning | FaultLevel::Unknown => Severity::Warning,
                FaultLevel::Error => Severity::Error,
            };
            self.lines.push((severity, format!("{}: {}", fault.subject, fault.message)));
        }
        let is_worse = |fault: &Fault| {
            after.iter().any(|now| now.subject == fault.subject && now.message == fault.message)
        };
        for fault in before.difference(&after).filter(|fault| !is_worse(fault)) {
            self.faulty.insert(fault.subject.clone());
            self.over.push((*fault).clone());
        }
    }

    /// Faults that went, unless with what had them.
    fn recoveries(&mut self) {
        let mut well: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for fault in std::mem::take(&mut self.over) {
            let parts = fault.subject.match_indices(' ').map(|(at, _)| &fault.subject[..at]);
            let is_gone =
                parts.chain([fault.subject.as_str()]).any(|part| self.missing.contains(part));
            if !is_gone {
                well.entry(fault.subject).or_default().push(fault.message);
            }
        }
        for (subject, messages) in well {
            let was = messages.join("; ");
            if self.unhealthy.contains(&subject) {
                self.info(format!("{subject}: no longer {was}"));
            } else {
                self.info(format!("{subject} is well again (was: {was})"));
            }
        }
    }

    fn bounded(mut self) -> Vec<(Severity, String)> {
        self.recoveries();
        self.lines.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
        if self.lines.len() > MAX_LINES {
            let rest = self.lines.split_off(MAX_LINES - 1);
            let worst = rest.iter().map(|(severity, _)| *severity).max();
            let count = |wanted| rest.iter().filter(|(severity, _)| *severity == wanted).count();
            let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
            let told = format!(
                "and {} more changes of its hardware, {errors} of them errors and {warnings} warnings: see its inventory",
                rest.len()
            );
            self.lines.push((worst.unwrap_or(Severity::Info), told));
        }
        self.lines
    }
}

/// A thing as it was and as it is.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// Pairs things of two lists by a key; those with the same key (duplicate serial numbers)
/// in their order.
fn paired<'a, T>(before: &'a [T], after: &'a [T], key: impl Fn(&T) -> String) -> Vec<Pair<'a, T>> {
    let mut pairs: BTreeMap<(String, usize), Pair<'a, T>> = BTreeMap::new();
    for (list, is_after) in [(before, false), (after, true)] {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for thing in list {
            let key = key(thing);
            let number = seen.entry(key.clone()).or_default();
            let pair = pairs.entry((key, *number)).or_default();
            *number += 1;
            if is_after { pair.1 = Some(thing) } else { pair.0 = Some(thing) }
        }
    }
    pairs.into_values().collect()
}

/// ` (A, B)` of what is known; nothing if nothing is.
fn in_parentheses<const N: usize>(parts: [Option<String>; N]) -> String {
    let known: Vec<String> =
        parts.into_iter().flatten().filter(|part| !part.trim().is_empty()).collect();
    if known.is_empty() { String::new() } else { format!(" ({})", known.join(", ")) }
}

/// `512 GiB`, to a tenth of the unit.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    let (whole, tenth) = (tenths / 10, tenths % 10);
    if tenth == 0 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests;
