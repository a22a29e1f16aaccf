//! Errors of memory, as the EDAC drivers count them (`Documentation/admin-guide/ras.rst`):
//!
//! ```text
//! /sys/devices/system/edac/mc/mcN/{ce_count,ue_count}                                    of a memory controller
//! /sys/devices/system/edac/mc/mcN/dimmM/{dimm_ce_count,dimm_ue_count,dimm_label}         or `rankM`
//! ```
//!
//! Uncorrected errors stay a fault for as long as they are counted: until the next boot, or until
//! somebody writes to `reset_counters`.

use super::{ScanFaults, counters::Counters};
use crate::read::Reader;

const DIRECTORY: &str = "/sys/devices/system/edac/mc";

const SUBJECT: &str = "memory";

/// A memory controller.
#[derive(Debug)]
pub(super) struct Controller {
    name: String,
    modules: Vec<Module>,
}

/// A memory module, or a rank of one.
#[derive(Debug)]
struct Module {
    directory: String,
    label: String,
}

pub(super) fn controllers(read: &mut Reader<'_>) -> Vec<Controller> {
    let names = read.names(DIRECTORY).into_iter().filter(|name| numbered(name, "mc"));
    let names: Vec<String> =
        names.filter(|name| read.exists(&format!("{DIRECTORY}/{name}/ce_count"))).collect();
    names
        .into_iter()
        .map(|name| {
            let parts = read.names(&format!("{DIRECTORY}/{name}"));
            let parts =
                parts.into_iter().filter(|part| numbered(part, "dimm") || numbered(part, "rank"));
            let modules = parts.map(|part| module(read, &name, &part)).collect();
            Controller { name, modules }
        })
        .collect()
}

fn module(read: &mut Reader<'_>, controller: &str, part: &str) -> Module {
    let directory = format!("{DIRECTORY}/{controller}/{part}");
    let label = read.text(&format!("{directory}/dimm_label")).filter(|label| !label.contains('\n'));
    Module { label: label.unwrap_or_else(|| format!("{controller} {part}")), directory }
}

fn numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.bytes().all(|c| c.is_ascii_digit()))
}

pub(super) fn check(
    read: &mut Reader<'_>,
    controllers: &[Controller],
    counters: &mut Counters,
    found: &mut ScanFaults,
) {
    for Controller { name, modules } in controllers {
        let key = format!("{DIRECTORY}/{name}/ce_count");
        let Some(corrected) = read.count(&key) else { continue };
        let uncorrected = read.count(&format!("{DIRECTORY}/{name}/ue_count")).unwrap_or(0);
        let is_first = !counters.is_known(&key);
        let has_grown = counters.observe(&key, corrected);
        let mut told = (false, false);
        for module in modules {
            let key = format!("{}/dimm_ce_count", module.directory);
            // Modules are read when their controller has counted something.
            if is_first || has_grown {
                read.count(&key).map(|count| counters.observe(&key, count));
            }
            if counters.grows(&key) {
                found.warning(SUBJECT, format!("corrected errors in {}", module.label));
                told.0 = true;
            }
            if uncorrected > 0
                && read.count(&format!("{}/dimm_ue_count", module.directory)) > Some(0)
            {
                found.error(SUBJECT, format!("uncorrected errors in {}", module.label), None);
                told.1 = true;
            }
        }
        if counters.grows(&key) && !told.0 {
            found.warning(SUBJECT, format!("corrected errors at controller {name}"));
        }
        if uncorrected > 0 && !told.1 {
            found.error(SUBJECT, format!("uncorrected errors at controller {name}"), None);
        }
    }
}
