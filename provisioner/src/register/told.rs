//! What a change of nodes and profiles is called in the audit log: the names, and how the
//! declarations differ. Of a change of many only the first are told, with the number of all.

use access::{record_change, record_object};
use api::machine::MachineSpec;

use crate::{cluster::Cluster, store::Write};

/// Objects of one change of which the difference is told: all of a row's room is full by then.
const MAX_TOLD: usize = 16;

/// Tells in the row of the request that runs what `writes` will change. `before`:
/// what there is now.
pub(super) fn told(before: &Cluster, writes: &[Write]) {
    for write in writes.iter().take(MAX_TOLD) {
        tell(before, write);
    }
    if writes.len() > MAX_TOLD {
        let named = writes.iter().take(MAX_TOLD).filter_map(|write| name(before, write));
        let named = named.collect::<Vec<_>>().join(", ");
        record_object(&format!("{} nodes and profiles: {named}, …", writes.len()));
    }
}

fn tell(before: &Cluster, write: &Write) {
    let none = None::<&MachineSpec>;
    let Some(name) = name(before, write) else { return };
    match write {
        Write::PutNode(node) => {
            let old = before.by_id(node.id).map(|old| &old.spec);
            record_change(&name, old, Some(&node.spec));
        }
        Write::DeleteNode { id, .. } => {
            record_change(&name, before.by_id(*id).map(|old| &old.spec), none)
        }
        Write::PutProfile(profile) => {
            let old = before.profiles.get(&profile.name).map(|old| &old.spec);
            record_change(&name, old, Some(&profile.spec));
        }
        Write::DeleteProfile { name: of, .. } => {
            record_change(&name, before.profiles.get(of).map(|old| &old.spec), none);
        }
    }
}

/// `node n1`; with the old name where a node gets another one.
fn name(before: &Cluster, write: &Write) -> Option<String> {
    match write {
        Write::PutNode(node) => Some(match before.by_id(node.id) {
            Some(old) if old.name != node.name => format!("node {} (was {})", node.name, old.name),
            _ => format!("node {}", node.name),
        }),
        Write::DeleteNode { id, .. } => before.by_id(*id).map(|old| format!("node {}", old.name)),
        Write::PutProfile(profile) => Some(format!("profile {}", profile.name)),
        Write::DeleteProfile { name, .. } => Some(format!("profile {name}")),
    }
}
