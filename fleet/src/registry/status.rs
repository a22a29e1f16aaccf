//! A node's status, of all that is known of it.

use api::status::NodeStatus;

use super::NodeEntry;
use crate::{
    arming::Arming,
    enrolments::Enrolments,
    lifecycle::{Limits, NodeLifecycle},
    link::Link,
    store::NodeRow,
};

/// The status of a node as it was, over the connection that it has now.
pub(super) fn before(row: &NodeRow, entry: &NodeEntry, limits: &Limits) -> NodeStatus {
    status(&row.life, &row.arming, &row.enrolments, &entry.link, limits)
}

/// What people and programs are shown of a node.
pub(super) fn status(
    life: &NodeLifecycle,
    arming: &Arming,
    enrolments: &Enrolments,
    link: &Link,
    limits: &Limits,
) -> NodeStatus {
    NodeStatus {
        epoch: enrolments.newest_good().unwrap_or_default(),
        conflict: enrolments.shown(link.epoch()),
        volumes: link.volumes(),
        ..life.status(arming.is_armed(), &limits.deadlines)
    }
}
