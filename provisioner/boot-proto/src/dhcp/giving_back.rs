//! DECLINE and RELEASE: a client gives up an address (RFC 2131 sections 4.3.3 and 4.3.4).

use super::{DhcpServer, Effect, NodeRequest, counts::Refusal};
use crate::event::BootEvent;

impl DhcpServer {
    /// A client found its address in use. One that declines more than its share keeps the address
    /// that it has, so that it takes none away from others.
    pub(super) fn decline(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        let (request, mac, now) = (asked.request, asked.host.mac, asked.now);
        let Some(address) = request.requested else { return Vec::new() };
        let event = Effect::Event(BootEvent::Conflict { node: asked.node(), address });
        let mut effects = vec![event];
        for pool in self.pools.iter_mut().flatten().filter(|pool| pool.is_its(mac, address)) {
            let port = request.relay_agent.clone().map(|agent| (request.giaddr, agent));
            if self.budget.decline(mac, port, now) {
                effects.extend(pool.decline(mac, address, now).map(Effect::Record));
            } else {
                self.refused.count(Refusal::TooManyChanges);
            }
        }
        effects
    }

    pub(super) fn release(&mut self, asked: &NodeRequest<'_>) -> Vec<Effect> {
        let (address, mac, now) = (asked.request.ciaddr, asked.host.mac, asked.now);
        let event = Effect::Event(BootEvent::Released { node: asked.node(), address });
        let mut effects = vec![event];
        for pool in self.pools.iter_mut().flatten().filter(|pool| pool.is_its(mac, address)) {
            if self.budget.release(mac, now) {
                effects.extend(pool.release(mac, address, now).map(Effect::Record));
            } else {
                self.refused.count(Refusal::TooManyChanges);
            }
        }
        effects
    }
}
