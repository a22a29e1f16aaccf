//! Temporary entries in the kernel's neighbour table, so that a packet reaches a machine that
//! cannot answer ARP yet.
//!
//! The entry is made in state *reachable*: the kernel forgets it by itself when nobody
//! uses the address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use api::ids::MacAddr;
use rtnetlink::{Handle, packet_route::neighbour::NeighbourState};
use tokio::task::AbortHandle;

/// The kernel's neighbour table.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    handle: Handle,
    _connection: Arc<StopOnDrop>,
}

/// Ends the task that drives the routing socket.
#[derive(Debug)]
struct StopOnDrop(AbortHandle);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Neighbours {
    /// Opens a routing socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let task = tokio::spawn(connection).abort_handle();
        Ok(Self { handle, _connection: Arc::new(StopOnDrop(task)) })
    }

    /// Tells the kernel that `address` is at `mac` on the interface with this index.
    pub(super) async fn introduce(
        &self,
        interface: u32,
        address: Ipv4Addr,
        mac: MacAddr,
    ) -> Result<(), rtnetlink::Error> {
        self.handle
            .neighbours()
            .add(interface, IpAddr::V4(address))
            .link_layer_address(&mac.0)
            .state(NeighbourState::Reachable)
            .replace()
            .execute()
            .await
    }
}
