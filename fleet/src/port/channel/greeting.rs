//! An agent gets its node's channel: what it is greeted with, if its certificate is still good.

use api::channel::{Frame, FromServer};
use axum::extract::ws::close_code;

use super::{DisconnectReason, Hello};
use crate::{
    Fleet, NodeIdentity, clock,
    connection::Connection,
    lifecycle::{Event, Presence},
};

/// Makes a connection the node's, and returns what it is greeted with.
pub(super) fn greet(
    fleet: &Fleet,
    node: &NodeIdentity,
    hello: &Hello,
    connection: Connection,
) -> Result<Vec<Frame<FromServer>>, DisconnectReason> {
    let heartbeat_seconds = fleet.config().heartbeat_seconds;
    let (greeting, _written_soon) = fleet.change(node.id, |change| {
        // It may have been revoked since the request came.
        let attached =
            change.enrolments(|enrolments, _| enrolments.attach(node.epoch, &hello.agent.boot_id));
        if let Err(why) = attached {
            return Err(DisconnectReason { code: Some(close_code::POLICY), why: why.to_string() });
        }
        let life = &change.entry.life;
        let same_agent =
            life.agent.as_ref() == Some(&hello.agent) && life.presence != Presence::None;
        let link = &mut change.entry.link;
        let resumed = link.connect(connection, &hello.agreement, same_agent, hello.ack);
        let welcome = FromServer::Welcome {
            agreement: hello.agreement.clone(),
            server_time: clock::now(),
            heartbeat_seconds,
            resumed,
        };
        let mut greeting = vec![Frame { seq: 0, ack: link.received(), message: Some(welcome) }];
        greeting.extend(link.unacknowledged());
        change.apply_event(Event::Connected {
            agent: hello.agent.clone(),
            version: hello.version.clone(),
            image: hello.image.clone(),
            address: node.address,
        });
        if !resumed {
            change.entry.link.send_servers(&fleet.config().fleet_servers);
        }
        if resumed && !change.entry.life.inventory_known {
            // A connection that takes nothing is being closed: the agent sends it
            // with the next one.
            let _ = change.entry.link.send(FromServer::SendInventory {});
        }
        change.entry.link.push_overlays();
        Ok(greeting)
    })?;
    greeting
}
