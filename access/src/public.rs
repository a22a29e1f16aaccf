//! What users read of nodes who are no admins: everything but what is named here. Pure.
//!
//! | left out | because |
//! |---|---|
//! | tags (variables of templates), keys of ssh among them | they are what files on nodes are made of, passwords too |
//! | the BMC's address and MAC address | it is the way to switch the machine on and off |
//! | MAC addresses and GUIDs of interfaces, the kernel's command line with one | by them a machine on the boot network pretends to be the node |
//! | serial numbers, SMBIOS UUID, asset tag, world wide names | they name the machine to its vendor and to the site's books |
//! | names that hold a MAC address (`enx525400123456`), IPv6 addresses made of one | as the MAC address |
//! | why something in the database cannot be read | it may quote any of these |
//! | who claims to be a node in conflict, and who asked for something in a node's name | addresses, boot ids and certificates, for whoever decides |
//!
//! The node's own name and addresses are public, as declared and as its agent has them: its jobs
//! read those of all nodes in `/etc/hosts`.
//!
//! Each type is taken apart whole, so that a new field is a mistake of the compiler until somebody
//! has said who reads it. Who may change nodes reads all of it. Every route that tells of nodes
//! goes through [`Visibility`], and so does what questions are asked of: what is not told
//! cannot be asked for.

mod history;
mod inventory;
mod topology;

pub use history::public_line;

use std::net::{IpAddr, Ipv4Addr};

use api::{
    inventory::Inventory,
    machine::{Explained, InterfaceSpec, MachineSpec, Node, Origin, Profile},
    rights::Action,
    status::{NodeConflict, NodeEvent, NodeStatus, NodeUpdate, UnprovenProgress},
};

use crate::rights::{Principal, Resource, authorize};

/// Stands for a cause that only admins read.
const PRIVATE_CAUSE: &str = "an admin is told why";

/// Stands for the address of somebody who proves nothing.
const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How much of nodes somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// All of it.
    Full,
    /// What is public.
    Public,
}

impl Visibility {
    /// Whoever may change nodes must see what there is to change.
    pub fn of(principal: &Principal) -> Self {
        match authorize(principal, Action::NodeEdit, Resource::Site) {
            Ok(()) => Self::Full,
            Err(_) => Self::Public,
        }
    }

    /// A thing as it is seen.
    pub fn of_thing<T: Public>(self, mut thing: T) -> T {
        if self == Self::Public {
            thing.make_public();
        }
        thing
    }

    /// Why something that is kept cannot be read. It may quote what stands in the database.
    pub fn of_cause(self, cause: String) -> String {
        match self {
            Self::Full => cause,
            Self::Public => PRIVATE_CAUSE.to_owned(),
        }
    }

    /// A topology as it is seen, hwloc's XML.
    pub fn of_topology(self, xml: String) -> String {
        match self {
            Self::Full => xml,
            Self::Public => topology::public(&xml),
        }
    }
}

/// What has a public part.
pub trait Public {
    /// Takes out what only admins read.
    fn make_public(&mut self);
}

impl Public for MachineSpec {
    fn make_public(&mut self) {
        let Self {
            tags,
            bmc,
            interfaces,
            comment: _,
            profiles: _,
            image: _,
            kernel: _,
            kernel_args: _,
            root: _,
            dns: _,
            boot_overlays: _,
            runtime_overlays: _,
            groups: _,
            labels: _,
        } = self;
        tags.clear();
        // Whatever it has or will have: it is the admins' way to the machine.
        *bmc = None;
        for interface in interfaces.values_mut() {
            let InterfaceSpec { mac, address: _, gateway: _, mtu: _, vlan: _, parent: _, bond: _ } =
                interface;
            *mac = None;
        }
    }
}

impl Public for Node {
    fn make_public(&mut self) {
        let Self { spec, status, name: _, id: _, next_image: _, labels: _, version: _ } = self;
        spec.make_public();
        status.make_public();
    }
}

impl Public for Profile {
    fn make_public(&mut self) {
        let Self { spec, problem, name: _, version: _ } = self;
        spec.make_public();
        // It may quote what stands in the database.
        if let Some(problem) = problem {
            PRIVATE_CAUSE.clone_into(problem);
        }
    }
}

impl Public for Explained {
    fn make_public(&mut self) {
        let Self { resolved, origins, name: _ } = self;
        resolved.make_public();
        origins.retain(is_public);
    }
}

/// Whether everybody reads a value, by its path.
fn is_public(Origin { field, .. }: &Origin) -> bool {
    let is_mac = field.starts_with("interfaces.") && field.ends_with(".mac");
    !(field.starts_with("tags.") || field.starts_with("bmc.") || is_mac)
}

impl Public for NodeStatus {
    fn make_public(&mut self) {
        let Self {
            conflict,
            reason,
            held,
            unproven,
            phase: _,
            percent: _,
            since: _,
            last_seen: _,
            overdue_seconds: _,
            armed: _,
            address: _,
            image: _,
            agent_version: _,
            boot_ms: _,
            drain: _,
            refuses: _,
            epoch: _,
            volumes: _,
        } = self;
        if let Some(NodeConflict { enrolments, cause, since: _, channel: _ }) = conflict {
            enrolments.clear();
            *cause = public_line(cause);
        }
        if let Some(UnprovenProgress { address, phase: _, file: _, since: _ }) = unproven {
            *address = SOMEBODY;
        }
        for line in [reason, held].into_iter().flatten() {
            *line = public_line(line);
        }
    }
}

impl Public for NodeUpdate {
    fn make_public(&mut self) {
        let Self { status, id: _, name: _ } = self;
        status.make_public();
    }
}

impl Public for NodeEvent {
    fn make_public(&mut self) {
        let Self { message, id: _, name: _, at: _, phase: _, severity: _ } = self;
        *message = public_line(message);
    }
}

impl Public for Inventory {
    fn make_public(&mut self) {
        inventory::make_public(self);
    }
}

#[cfg(test)]
mod tests;
