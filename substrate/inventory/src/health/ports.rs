//! Ports of InfiniBand and RoCE. A port that was never active and does not look for a link is one
//! that nobody plugged in.

use std::collections::BTreeSet;

use api::inventory::{Infiniband, InfinibandPort, Inventory};

use super::{ScanFaults, Target};
use crate::{infiniband, read::Reader};

/// The fault of a port is one of the whole device if none of its ports works.
pub(super) fn check(
    read: &mut Reader<'_>,
    inventory: &mut Inventory,
    were_active: &mut BTreeSet<(String, u32)>,
    found: &mut ScanFaults,
) {
    for device in &mut inventory.infiniband {
        infiniband::refresh(read, device);
        let is_of_use = device.ports.iter().any(is_active);
        for port in &device.ports {
            let key = (device.name.clone(), port.number);
            if is_active(port) {
                were_active.insert(key);
                continue;
            }
            let Some(message) = fault(port, were_active.contains(&key)) else { continue };
            let subject = format!("infiniband {} port {}", device.name, port.number);
            if is_of_use {
                found.warning(subject, message);
            } else {
                found.error(subject, message, Some(target(device)));
            }
        }
    }
    let is_there = |name: &str| inventory.infiniband.iter().any(|device| device.name == name);
    were_active.retain(|(name, _)| is_there(name));
}

fn is_active(port: &InfinibandPort) -> bool {
    port.state.as_deref() == Some("ACTIVE")
}

fn target(device: &Infiniband) -> Target {
    Target::Adapter(device.name.clone(), device.pci.clone())
}

/// States of InfiniBand Architecture Specification 1, 14.2.5.6 (PortInfo).
fn fault(port: &InfinibandPort, was_active: bool) -> Option<String> {
    let (state, physical) =
        (port.state.as_deref()?, port.physical_state.as_deref().unwrap_or_default());
    match (state, physical) {
        (_, "Polling") => Some("finds no link partner".to_owned()),
        ("INIT" | "ARMED", "LinkUp") => {
            Some("has a link, and no subnet manager makes it active".to_owned())
        }
        _ if was_active => Some(format!("is {state}, its link {physical}").trim_end().to_owned()),
        _ => None,
    }
}
