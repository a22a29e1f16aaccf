//! What Prometheus is told of the fleet: phases and presence of all nodes, and who was let in. It
//! is written by a pure function of what is in memory.
//!
//! The only label without a bound of its own is the name of a node.

use std::collections::BTreeMap;

use api::status::NodeUpdate;
use metrics::{Counter, Counters, Exposition};

use crate::{Fleet, authority::line_budget::LineBudget};

/// What agents and this server did not understand of each other since the server started: they are
/// of different releases.
#[derive(Debug, Default)]
pub(crate) struct ProtocolCounters {
    /// Reports of agents that this server ignored.
    pub(crate) unknown_reports: Counter,
    /// Commands that agents did not know.
    pub(crate) unsupported_commands: Counter,
}

impl ProtocolCounters {
    fn expose(&self, out: &mut Exposition) {
        let help = "Reports of newer agents that were ignored.";
        out.counter("bedplate_unknown_reports", help).count(&self.unknown_reports);
        let help = "Commands that older agents did not know.";
        out.counter("bedplate_unsupported_commands", help).count(&self.unsupported_commands);
    }
}

/// Who was let in at the fleet port.
#[derive(Debug)]
pub(crate) struct PortCounters {
    /// Requests of stage 1 for a certificate.
    pub(crate) enrolments: Counters<3>,
    /// Connections without a TLS session, or with the certificate of somebody else's authority.
    pub(crate) handshake_failures: Counter,
    /// Lines of the log about requests that were refused.
    pub(crate) refusals: LineBudget,
}

impl Default for PortCounters {
    fn default() -> Self {
        let enrolments = Counters::new(["granted", "refused", "throttled"]);
        Self { enrolments, handshake_failures: Counter::default(), refusals: LineBudget::default() }
    }
}

impl PortCounters {
    fn expose(&self, out: &mut Exposition) {
        let help = "Nodes that asked for a certificate with a boot token, by what they got.";
        out.counter("bedplate_fleet_enrolments", help).counts("outcome", &self.enrolments);
        let help = "Connections to the fleet port that were not let in by TLS.";
        out.counter("bedplate_fleet_handshake_failures", help).count(&self.handshake_failures);
    }
}

impl Fleet {
    /// Writes what is told of the fleet. Takes some milliseconds for each thousand nodes.
    pub fn expose(&self, out: &mut Exposition) {
        self.inner.protocol.expose(out);
        self.inner.port.expose(out);
        let connected = self.connected().len();
        out.gauge("bedplate_fleet_channels", "Nodes whose agent is connected.").value(connected);
        expose_nodes(&self.statuses(), out);
    }
}

fn expose_nodes(statuses: &[NodeUpdate], out: &mut Exposition) {
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    let in_conflict = statuses.iter().filter(|update| update.status.conflict.is_some()).count();
    for NodeUpdate { status, .. } in statuses {
        *phases.entry(status.phase.as_str()).or_default() += 1;
    }
    let mut family = out.gauge("bedplate_nodes", "Nodes in each phase.");
    for (phase, count) in phases {
        family.sample(&[("phase", phase)], count);
    }
    let help = "Nodes that two claim to be, until an admin decides.";
    out.gauge("bedplate_nodes_in_conflict", help).value(in_conflict);
    let mut nodes: Vec<&NodeUpdate> = statuses.iter().collect();
    nodes.sort_unstable_by_key(|update| &update.name);
    let help = "When a node was last heard of, seconds since 1970.";
    let mut family = out.gauge("bedplate_node_last_seen_timestamp_seconds", help);
    for NodeUpdate { name, status, .. } in &nodes {
        if let Some(at) = status.last_seen {
            family.sample(&[("node", name.as_str())], at.seconds());
        }
    }
    let help = "What ephemeral volumes hold in the memory of a node that has some, bytes.";
    let mut family = out.gauge("bedplate_node_volumes_bytes", help);
    for NodeUpdate { name, status, .. } in &nodes {
        if let Some(volumes) = status.volumes {
            family.sample(&[("node", name.as_str())], volumes.used_bytes);
        }
    }
    let help = "What ephemeral volumes may still take of the memory of such a node, bytes.";
    let mut family = out.gauge("bedplate_node_volumes_left_bytes", help);
    for NodeUpdate { name, status, .. } in nodes {
        if let Some(volumes) = status.volumes {
            family.sample(&[("node", name.as_str())], volumes.left_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::{
        ids::{NodeId, Timestamp},
        run::VolumeUse,
        status::{NodeConflict, NodeStatus, Phase},
    };

    use super::*;
    use crate::{config::Deadlines, lifecycle::NodeLifecycle};

    fn update(number: u128, phase: Phase, last_seen: Option<Timestamp>) -> NodeUpdate {
        let life = NodeLifecycle::new(Timestamp(0)).status(false, &Deadlines::default());
        let status = NodeStatus { phase, last_seen, ..life };
        NodeUpdate {
            id: NodeId(uuid::Uuid::from_u128(number)),
            name: format!("n{number}").parse().unwrap(),
            status,
        }
    }

    #[test]
    fn phases_and_presence() {
        let mut statuses = [
            update(2, Phase::Ready, None),
            update(1, Phase::Ready, Some(Timestamp(1_700_000_000_500_000))),
            update(3, Phase::Lost, None),
        ];
        let (since, cause) = (Timestamp(0), "two agents".to_owned());
        statuses[2].status.conflict =
            Some(NodeConflict { since, cause, channel: None, enrolments: Vec::new() });
        let volumes = VolumeUse { volumes: 2, used_bytes: 7, left_bytes: 9 };
        statuses[0].status.volumes = Some(volumes);
        let protocol = ProtocolCounters::default();
        protocol.unknown_reports.inc();
        let mut out = Exposition::new();
        protocol.expose(&mut out);
        expose_nodes(&statuses, &mut out);
        let text = out.finish();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        lines.sort_unstable();
        expect_test::expect![[r#"
            bedplate_node_last_seen_timestamp_seconds{node="n1"} 1700000000
            bedplate_node_volumes_bytes{node="n2"} 7
            bedplate_node_volumes_left_bytes{node="n2"} 9
            bedplate_nodes_in_conflict 1
            bedplate_nodes{phase="lost"} 1
            bedplate_nodes{phase="ready"} 2
            bedplate_unknown_reports_total 1
            bedplate_unsupported_commands_total 0
        "#]]
        .assert_eq(&(lines.join("\n") + "\n"));
        assert!(text.ends_with("# EOF\n"));
    }
}
