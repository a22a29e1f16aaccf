//! What the boot servers see, passed on to the state of the nodes.

use std::net::IpAddr;

use api::ids::{MacAddr, NodeId};
use boot_proto::BootEvent;
use fleet::Observation;
use tokio::sync::mpsc;

use crate::provisioner::Provisioner;

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
                    self.record_observation(node.id, Observation::Offered { address });
                }
            }
            BootEvent::FirmwareSent { file, client, .. } => {
                let view = self.view();
                let mac = match client {
                    IpAddr::V4(address) => self
                        .0
                        .dhcp
                        .holder(address)
                        .or_else(|| self.0.hosts.borrow().holder(address)),
                    IpAddr::V6(_) => None,
                };
                if let Some(node) = mac.and_then(|mac| view.cluster.by_mac(mac)) {
                    self.record_observation(
                        node.id,
                        Observation::Firmware { file, address: client },
                    );
                }
            }
            // Everything else is in the log already.
            _ => {}
        }
    }

    /// Passes on what was seen of a node. One that was deleted in this moment is of no
    /// interest any more.
    pub(crate) fn record_observation(&self, id: NodeId, observation: Observation) {
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
