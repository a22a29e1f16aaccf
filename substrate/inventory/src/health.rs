//! What is not well ([`api::inventory::Fault`]), and which devices are out of service for it.

use api::inventory::Inventory;

use crate::read::Reader;

/// What was seen before, by which later looks are judged.
#[derive(Debug, Default)]
pub(crate) struct Memory {}

/// Sets `faults`, and `sick` of the devices that jobs could be granted.
pub(crate) fn collect(_read: &mut Reader<'_>, inventory: &mut Inventory, _memory: &mut Memory) {
    inventory.faults.clear();
}
