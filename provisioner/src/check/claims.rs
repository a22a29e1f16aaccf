//! Whose each MAC address and each network address is. Every one belongs to one interface of
//! one node. Where several have it, the first by the names of node and interface is no mistake and
//! each of the others is one; such clusters are of earlier releases, and the last one is served.
//!
//! Kept beside the nodes and changed with them, so that a change looks at the addresses that it
//! touches and at no others.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use api::{ids::MacAddr, machine::MachineSpec};
use rpds::HashTrieMapSync;

use super::{DiagnosticSink, Finding, Subject};
use crate::store::NodeRecord;

/// What one interface alone may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OwnAddress {
    /// A MAC address.
    Hardware(MacAddr),
    /// An IP address, whatever its prefix.
    Network(IpAddr),
}

/// One interface that has an address.
#[derive(Debug, Clone)]
struct Claim {
    node: Arc<NodeRecord>,
    interface: Arc<str>,
}

impl Claim {
    fn order(&self) -> (&str, &str) {
        (self.node.name.as_str(), &self.interface)
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order() && self.node.id == other.node.id
    }
}

/// The interfaces that have each address, first the one that it belongs to. A copy shares all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AddressClaims(HashTrieMapSync<OwnAddress, Vec<Claim>>);

impl AddressClaims {
    /// Of the nodes with an interface of this MAC address the last one by name: there is one
    /// alone, but for mistakes of before.
    pub(super) fn by_mac(&self, mac: MacAddr) -> Option<&Arc<NodeRecord>> {
        self.0.get(&OwnAddress::Hardware(mac))?.last().map(|claim| &claim.node)
    }

    /// Adds the addresses of a node, of which it has none yet. Notes them in `touched`.
    pub(super) fn add(
        &mut self,
        node: &Arc<NodeRecord>,
        spec: &MachineSpec,
        touched: &mut BTreeSet<OwnAddress>,
    ) {
        for (address, interface) in addresses(spec) {
            touched.insert(address);
            let claim = Claim { node: node.clone(), interface };
            // Ten thousand nodes may get one address by a mistyped profile: a list that others
            // share is copied once, and not for each of them.
            match self.0.get_mut(&address) {
                Some(claims) => {
                    let place = claims.partition_point(|other| other.order() < claim.order());
                    claims.insert(place, claim);
                }
                None => self.0.insert_mut(address, vec![claim]),
            }
        }
    }

    /// Takes the addresses of a node away that it has by this specification, as it was resolved.
    pub(super) fn remove(
        &mut self,
        node: &str,
        spec: &MachineSpec,
        touched: &mut BTreeSet<OwnAddress>,
    ) {
        for (address, _) in addresses(spec) {
            touched.insert(address);
            let Some(claims) = self.0.get(&address) else { continue };
            let others = claims.iter().filter(|claim| claim.node.name.as_str() != node);
            let others: Vec<Claim> = others.cloned().collect();
            if others.is_empty() {
                self.0.remove_mut(&address);
            } else {
                self.0.insert_mut(address, others);
            }
        }
    }

    /// Notes the mistakes of all that have one of these addresses and are not the first.
    pub(super) fn clashes<'a>(
        &self,
        of: impl IntoIterator<Item = &'a OwnAddress>,
        findings: &mut BTreeSet<Finding>,
    ) {
        for address in of {
            let Some([owner, others @ ..]) = self.0.get(address).map(Vec::as_slice) else {
                continue;
            };
            if others.is_empty() {
                continue;
            }
            let (what, field) = match address {
                OwnAddress::Hardware(mac) => (format!("MAC address {mac}"), "mac"),
                OwnAddress::Network(address) => (format!("address {address}"), "address"),
            };
            let Claim { node, interface } = owner;
            let message =
                format!("{what} already belongs to node {}, interface {interface}", node.name);
            for claim in others {
                let field = format!("interfaces.{}.{field}", claim.interface);
                let subject = Subject::Node(claim.node.name.clone());
                DiagnosticSink::new(findings, subject, usize::MAX).add(
                    &field,
                    message.clone(),
                    None,
                );
            }
        }
    }

    /// All mistakes. Looks at every address.
    pub(super) fn all_clashes(&self, findings: &mut BTreeSet<Finding>) {
        self.clashes(self.0.keys(), findings);
    }
}

/// The addresses of a node, each with the name of its interface.
fn addresses(spec: &MachineSpec) -> impl Iterator<Item = (OwnAddress, Arc<str>)> {
    spec.interfaces.iter().flat_map(|(name, interface)| {
        let hardware = interface.mac.map(OwnAddress::Hardware);
        let network = interface.address.map(|address| OwnAddress::Network(address.addr()));
        let name: Arc<str> = name.as_str().into();
        [hardware, network].into_iter().flatten().map(move |address| (address, name.clone()))
    })
}
