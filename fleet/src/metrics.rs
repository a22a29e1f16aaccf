//! What Prometheus is told of the fleet: phases, presence and hardware of all nodes, and who was let
//! in. It is written by a pure function of what is in memory; a scrape reads no inventory but at the
//! first time.
//!
//! Labels are bounded: one node, one interface, one port, one kind of devices; and of each node at most
//! [`MAX_LINKS`] of them. What has no bound (messages, models, versions) is no label.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use api::{
    ids::{NodeId, Timestamp},
    inventory::{FaultLevel, Inventory},
    status::NodeUpdate,
};
use metrics::{Counter, Counters, Exposition};

use crate::{Fleet, FleetError, StoreError, authority::line_budget::LineBudget};

/// Interfaces, ports and kinds of devices that are told of one node: the largest have some ten of each.
const MAX_LINKS: usize = 16;

/// What of a node's hardware is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    memory_bytes: u64,
    threads: u32,
    gpus: usize,
    /// In and out of service, by kind.
    devices: BTreeMap<String, [usize; 2]>,
    /// Warnings and errors.
    faults: [usize; 2],
    /// By interface: it has a link.
    nics: Vec<(String, bool)>,
    /// By device and port: it is active.
    ports: Vec<(String, u32, bool)>,
}

impl Facts {
    pub(crate) fn of(inventory: &Inventory) -> Self {
        let mut devices: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for device in &inventory.devices {
            let kind = device.name.kind().to_string();
            if devices.len() < MAX_LINKS || devices.contains_key(&kind) {
                devices.entry(kind).or_default()[usize::from(device.sick.is_some())] += 1;
            }
        }
        let faults = [FaultLevel::Warning, FaultLevel::Error]
            .map(|level| inventory.faults.iter().filter(|fault| fault.level == level).count());
        let nics = inventory.nics.iter().take(MAX_LINKS);
        let ports = inventory.infiniband.iter().flat_map(|device| {
            let port = |port: &api::inventory::InfinibandPort| {
                (device.name.clone(), port.number, port.state.as_deref() == Some("ACTIVE"))
            };
            device.ports.iter().map(port)
        });
        Self {
            memory_bytes: inventory.memory_bytes,
            threads: inventory.topology.pus,
            gpus: inventory.gpus.len(),
            devices,
            faults,
            nics: nics.map(|nic| (nic.name.clone(), nic.carrier.unwrap_or(nic.state == "up"))).collect(),
            ports: ports.take(MAX_LINKS).collect(),
        }
    }
}

/// Facts of all nodes whose inventory was seen since the server started.
#[derive(Debug, Default)]
pub(crate) struct KnownFacts(std::sync::Mutex<BTreeMap<NodeId, Option<Facts>>>);

impl KnownFacts {
    pub(crate) fn put(&self, id: NodeId, facts: Option<Facts>) {
        self.lock().insert(id, facts);
    }

    /// Those of registered nodes; the others are forgotten.
    fn of_all(&self, statuses: &[NodeUpdate]) -> BTreeMap<NodeId, Option<Facts>> {
        let present: BTreeSet<NodeId> = statuses.iter().map(|update| update.id).collect();
        let mut known = self.lock();
        known.retain(|id, _| present.contains(id));
        known.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Option<Facts>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What agents and this server did not understand of each other since the server started: they are of different releases.
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

/// All that is told of the fleet, at one moment.
#[derive(Debug)]
pub struct FleetMetrics {
    fleet: Fleet,
    statuses: Vec<NodeUpdate>,
    facts: BTreeMap<NodeId, Option<Facts>>,
}

impl Fleet {
    /// Looks up what is told of all nodes. Of a node whose inventory is damaged, or cannot be read
    /// now, the hardware is left out.
    pub async fn metrics(&self) -> FleetMetrics {
        let statuses = self.statuses();
        for NodeUpdate { id, .. } in &statuses {
            let is_known = self.inner.facts.lock().contains_key(id);
            if !is_known {
                let facts = match self.inventory(*id).await {
                    Ok(inventory) => inventory.as_ref().map(Facts::of),
                    Err(FleetError::Store(StoreError::Decode { .. })) => None,
                    Err(error) => {
                        // Nor will it read the next one, and the rest is wanted the more.
                        tracing::warn!("the hardware of some nodes is not told: {}", rest::causes(&error));
                        break;
                    }
                };
                // One that came meanwhile is newer.
                self.inner.facts.lock().entry(*id).or_insert(facts);
            }
        }
        let facts = self.inner.facts.of_all(&statuses);
        FleetMetrics { fleet: self.clone(), statuses, facts }
    }
}

impl FleetMetrics {
    /// Writes it. Takes some milliseconds for each thousand nodes.
    pub fn expose(&self, out: &mut Exposition) {
        let inner = &self.fleet.inner;
        inner.protocol.expose(out);
        inner.port.expose(out);
        let connected = self.fleet.connected().len();
        out.gauge("bedplate_fleet_channels", "Nodes whose agent is connected.").value(connected);
        expose_nodes(&self.statuses, &self.facts, out);
    }
}

/// A node as the families go over it.
struct Told<'a> {
    name: &'a str,
    last_seen: Option<Timestamp>,
    facts: Option<&'a Facts>,
}

fn expose_nodes(statuses: &[NodeUpdate], facts: &BTreeMap<NodeId, Option<Facts>>, out: &mut Exposition) {
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    let mut nodes = Vec::with_capacity(statuses.len());
    let in_conflict = statuses.iter().filter(|update| update.status.conflict.is_some()).count();
    for NodeUpdate { id, name, status } in statuses {
        *phases.entry(status.phase.as_str()).or_default() += 1;
        let facts = facts.get(id).and_then(Option::as_ref);
        nodes.push(Told { name: name.as_str(), last_seen: status.last_seen, facts });
    }
    nodes.sort_unstable_by_key(|node| node.name);
    let mut family = out.gauge("bedplate_nodes", "Nodes in each phase.");
    for (phase, count) in phases {
        family.sample(&[("phase", phase)], count);
    }
    let help = "Nodes that two claim to be, until an admin decides.";
    out.gauge("bedplate_nodes_in_conflict", help).value(in_conflict);
    let help = "When a node was last heard of, seconds since 1970.";
    let mut family = out.gauge("bedplate_node_last_seen_timestamp_seconds", help);
    for Told { name, last_seen, .. } in &nodes {
        if let Some(at) = last_seen {
            family.sample(&[("node", name)], at.seconds());
        }
    }
    let known: Vec<(&str, &Facts)> = nodes.iter().filter_map(|node| Some((node.name, node.facts?))).collect();
    expose_sizes(&known, out);
    expose_parts(&known, out);
    expose_links(&known, out);
}

/// What a node has one figure of.
fn expose_sizes(known: &[(&str, &Facts)], out: &mut Exposition) {
    let mut family = out.gauge("bedplate_node_memory_bytes", "Memory of a node.");
    for (node, facts) in known {
        family.sample(&[("node", node)], facts.memory_bytes);
    }
    let help = "Hardware threads of a node that are switched on.";
    let mut family = out.gauge("bedplate_node_hardware_threads", help);
    for (node, facts) in known {
        family.sample(&[("node", node)], facts.threads);
    }
    let mut family = out.gauge("bedplate_node_gpus", "GPUs and other accelerators of a node.");
    for (node, facts) in known {
        family.sample(&[("node", node)], facts.gpus);
    }
}

/// Devices and faults.
fn expose_parts(known: &[(&str, &Facts)], out: &mut Exposition) {
    let help = "Devices of a node that jobs can be granted, in or out of service.";
    let mut family = out.gauge("bedplate_node_devices", help);
    for (node, facts) in known {
        for (kind, counts) in &facts.devices {
            for (state, count) in ["in-service", "out-of-service"].into_iter().zip(counts) {
                family.sample(&[("node", node), ("kind", kind), ("state", state)], *count);
            }
        }
    }
    let mut family = out.gauge("bedplate_node_faults", "What is not well in a node.");
    for (node, facts) in known {
        for (level, count) in ["warning", "error"].into_iter().zip(facts.faults) {
            family.sample(&[("node", node), ("level", level)], count);
        }
    }
}

/// Interfaces and ports. Of two with the same name, as an inventory may have them, the first is
/// told.
fn expose_links(known: &[(&str, &Facts)], out: &mut Exposition) {
    let help = "1 if a network interface has a link.";
    let mut family = out.gauge("bedplate_node_nic_link_up", help);
    for (node, facts) in known {
        let mut told = BTreeSet::new();
        for (name, is_up) in facts.nics.iter().filter(|(name, _)| told.insert(name)) {
            family.sample(&[("node", node), ("interface", name)], *is_up);
        }
    }
    let help = "1 if a port of InfiniBand or RoCE is active.";
    let mut family = out.gauge("bedplate_node_infiniband_port_active", help);
    for (node, facts) in known {
        let mut told = BTreeSet::new();
        for (device, number, is_active) in
            facts.ports.iter().filter(|(device, number, _)| told.insert((device, number)))
        {
            let number = number.to_string();
            family.sample(&[("node", node), ("device", device), ("port", &number)], *is_active);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::status::{NodeConflict, NodeStatus, Phase};
    use serde_json::json;

    use super::*;
    use crate::{config::Deadlines, lifecycle::Life};

    fn update(number: u128, phase: Phase, last_seen: Option<Timestamp>) -> NodeUpdate {
        let life = Life::new(Timestamp(0)).status(false, &Deadlines::default());
        let status = NodeStatus { phase, last_seen, ..life };
        NodeUpdate {
            id: NodeId(uuid::Uuid::from_u128(number)),
            name: format!("n{number}").parse().unwrap(),
            status,
        }
    }

    #[test]
    fn phases_and_hardware() {
        let inventory: Inventory = serde_json::from_value(json!({
            "memory-bytes": 68_719_476_736_u64,
            "topology": {"pus": 128},
            "gpus": [{"pci": "a"}, {"pci": "b"}],
            "nics": [{"name": "lan0", "state": "up", "carrier": true}, {"name": "lan1", "state": "down"}],
            "infiniband": [{"name": "mlx5_0", "ports": [{"number": 1, "state": "ACTIVE"}, {"number": 2, "state": "DOWN"}]}],
            "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "a", "source": "built-in"},
                {"name": "nvidia.com/gpu=1", "numa-node": 0, "pci": "b", "source": "built-in", "sick": "ECC"}],
            "faults": [{"level": "error", "subject": "gpu b", "message": "ECC"}]
        }))
        .unwrap();
        let mut statuses = [
            update(2, Phase::Ready, None),
            update(1, Phase::Ready, Some(Timestamp(1_700_000_000_500_000))),
            update(3, Phase::Lost, None),
        ];
        let (since, cause) = (Timestamp(0), "two agents".to_owned());
        statuses[2].status.conflict =
            Some(NodeConflict { since, cause, channel: None, enrolments: Vec::new() });
        let facts = [(statuses[1].id, Some(Facts::of(&inventory))), (statuses[2].id, None)];
        let protocol = ProtocolCounters::default();
        protocol.unknown_reports.inc();
        let mut out = Exposition::new();
        protocol.expose(&mut out);
        expose_nodes(&statuses, &facts.into_iter().collect(), &mut out);
        let text = out.finish();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        lines.sort_unstable();
        expect_test::expect![[r#"
            bedplate_node_devices{node="n1",kind="nvidia.com/gpu",state="in-service"} 1
            bedplate_node_devices{node="n1",kind="nvidia.com/gpu",state="out-of-service"} 1
            bedplate_node_faults{node="n1",level="error"} 1
            bedplate_node_faults{node="n1",level="warning"} 0
            bedplate_node_gpus{node="n1"} 2
            bedplate_node_hardware_threads{node="n1"} 128
            bedplate_node_infiniband_port_active{node="n1",device="mlx5_0",port="1"} 1
            bedplate_node_infiniband_port_active{node="n1",device="mlx5_0",port="2"} 0
            bedplate_node_last_seen_timestamp_seconds{node="n1"} 1700000000
            bedplate_node_memory_bytes{node="n1"} 68719476736
            bedplate_node_nic_link_up{node="n1",interface="lan0"} 1
            bedplate_node_nic_link_up{node="n1",interface="lan1"} 0
            bedplate_nodes_in_conflict 1
            bedplate_nodes{phase="lost"} 1
            bedplate_nodes{phase="ready"} 2
            bedplate_unknown_reports_total 1
            bedplate_unsupported_commands_total 0
        "#]]
        .assert_eq(&(lines.join("\n") + "\n"));
        assert!(text.contains("# HELP bedplate_node_memory_bytes Memory of a node.\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_bounded() {
        let nics: Vec<_> = (0..1_000).map(|n| json!({"name": format!("veth{n}"), "state": "up"})).collect();
        let ports: Vec<_> = (0..1_000).map(|n| json!({"number": n, "state": "ACTIVE"})).collect();
        let devices: Vec<_> = (0..1_000)
            .map(|n| json!({"name": format!("example.com/kind{n}=0"), "numa-node": 0, "pci": "a", "source": "built-in"}))
            .collect();
        let infiniband = json!([{"name": "mlx5_0", "ports": ports}]);
        let inventory: Inventory =
            serde_json::from_value(json!({"nics": nics, "infiniband": infiniband, "devices": devices}))
                .unwrap();
        let facts = Facts::of(&inventory);
        assert_eq!(facts.nics.len(), MAX_LINKS);
        // However much a node tells: its last word, three sizes, two kinds of faults, and the rest.
        let statuses = [update(1, Phase::Ready, Some(Timestamp(0)))];
        let mut out = Exposition::new();
        expose_nodes(&statuses, &[(statuses[0].id, Some(facts))].into(), &mut out);
        let samples = out.finish().lines().filter(|line| line.contains("node=\"n1\"")).count();
        assert_eq!(samples, 1 + 3 + 2 + 4 * MAX_LINKS);
    }

    #[test]
    fn what_a_node_names_is_told_once_and_stays_in_its_quotes() {
        let evil = "x\"} 1\nbedplate_nodes{phase=\"ready";
        let nics = json!([{"name": evil, "state": "up"}, {"name": evil, "state": "down"}]);
        let inventory: Inventory = serde_json::from_value(json!({ "nics": nics })).unwrap();
        let statuses = [update(1, Phase::Lost, None)];
        let facts = [(statuses[0].id, Some(Facts::of(&inventory)))];
        let mut out = Exposition::new();
        expose_nodes(&statuses, &facts.into(), &mut out);
        let text = out.finish();
        let links: Vec<&str> = text.lines().filter(|line| line.starts_with("bedplate_node_nic")).collect();
        assert_eq!(
            links,
            [r#"bedplate_node_nic_link_up{node="n1",interface="x\"} 1\nbedplate_nodes{phase=\"ready"} 1"#]
        );
        assert_eq!(text.lines().filter(|line| line.starts_with("bedplate_nodes{")).count(), 1);
    }
}
