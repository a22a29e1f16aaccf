//! What the boot servers see, passed on to the state of the nodes; and which address DHCP gave whom.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use api::ids::{MacAddr, NodeId};
use boot_proto::BootEvent;
use fleet::Observation;
use tokio::sync::mpsc;

use crate::provisioner::Provisioner;

/// Addresses that DHCP gave out since the server started, newest first for each hardware address. Grows with the
/// registered interfaces only: unknown machines get no lease event.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<MacAddr, IpAddr>>);

impl Addresses {
    /// The address that this hardware address got last.
    pub(crate) fn leased(&self, mac: MacAddr) -> Option<IpAddr> {
        self.lock().get(&mac).copied()
    }

    fn give(&self, mac: MacAddr, address: IpAddr) {
        self.lock().insert(mac, address);
    }

    fn take(&self, mac: MacAddr, address: IpAddr) {
        let mut leases = self.lock();
        if leases.get(&mac) == Some(&address) {
            leases.remove(&mac);
        }
    }

    /// Who has this address.
    fn holder(&self, address: IpAddr) -> Option<MacAddr> {
        self.lock().iter().find(|(_, held)| **held == address).map(|(mac, _)| *mac)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<MacAddr, IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provisioner {
    /// Takes boot events until their senders are gone.
    pub(crate) async fn observe_boots(self, mut events: mpsc::Receiver<BootEvent>) {
        while let Some(event) = events.recv().await {
            self.observe(event);
        }
    }

    fn observe(&self, event: BootEvent) {
        match event {
            BootEvent::Offered { node, client, address } if client.boots() => {
                let address = address.map(IpAddr::V4).or_else(|| self.own_address(node.mac));
                if let Some(address) = address {
                    self.tell(node.id, Observation::Offered { address });
                }
            }
            BootEvent::Leased { node, address, .. } => self.0.addresses.give(node.mac, address.into()),
            BootEvent::Released { node, address } => self.0.addresses.take(node.mac, address.into()),
            BootEvent::FirmwareSent { file, client, .. } => {
                let view = self.view();
                let mac = self.0.addresses.holder(client).or_else(|| match client {
                    IpAddr::V4(address) => self.0.hosts.borrow().holder(address),
                    IpAddr::V6(_) => None,
                });
                if let Some(node) = mac.and_then(|mac| view.cluster.by_mac(mac)) {
                    self.tell(node.id, Observation::Firmware { file, address: client });
                }
            }
            // Everything else is in the log already.
            _ => {}
        }
    }

    /// Passes on what was seen of a node. One that was deleted in this moment is of no interest any more.
    pub(crate) fn tell(&self, id: NodeId, observation: Observation) {
        if let Err(error) = self.0.fleet.observe(id, observation) {
            tracing::debug!("not taken by the fleet: {error}");
        }
    }

    /// The address that a node's record gives an interface.
    fn own_address(&self, mac: MacAddr) -> Option<IpAddr> {
        let hosts = self.0.hosts.borrow();
        hosts.get(mac).and_then(|host| host.address).map(|address| IpAddr::V4(address.addr()))
    }
}
