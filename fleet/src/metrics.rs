//! What Prometheus is told: phases, presence and hardware of all nodes, as OpenMetrics text. The text is made by a pure function of
//! what is in memory; a scrape reads no inventory but at the first time.
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
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{Fleet, FleetError, StoreError};

/// Content type of the text.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
    fn register(&self, registry: &mut Registry) {
        let (unknown, unsupported) = (self.unknown_reports.clone(), self.unsupported_commands.clone());
        registry.register("unknown_reports", "Reports of newer agents that were ignored", unknown);
        registry.register("unsupported_commands", "Commands that older agents did not know", unsupported);
    }
}

impl Fleet {
    /// All metrics as text of type [`METRICS_TYPE`].
    ///
    /// # Errors
    /// [`FleetError::Store`] if the database does not answer. Of a node whose inventory is damaged
    /// nothing is told.
    pub async fn metrics(&self) -> Result<String, FleetError> {
        let statuses = self.statuses();
        for NodeUpdate { id, .. } in &statuses {
            let is_known = self.inner.facts.lock().contains_key(id);
            if !is_known {
                let facts = match self.inventory(*id).await {
                    Ok(inventory) => inventory.as_ref().map(Facts::of),
                    Err(FleetError::Store(StoreError::Decode { .. })) => None,
                    Err(error) => return Err(error),
                };
                // One that came meanwhile is newer.
                self.inner.facts.lock().entry(*id).or_insert(facts);
            }
        }
        let facts = self.inner.facts.of_all(&statuses);
        let inner = self.inner.clone();
        let made = tokio::task::spawn_blocking(move || text(&statuses, &facts, &inner.protocol)).await;
        // It ends early only with the server, which then has nothing to tell.
        Ok(made.unwrap_or_else(|_| "# EOF\n".to_owned()))
    }
}

type Gauges<const LABELS: usize> = Family<[(&'static str, String); LABELS], Gauge>;

/// A family of gauges with this name.
fn gauges<const LABELS: usize>(registry: &mut Registry, name: &str, help: &str) -> Gauges<LABELS> {
    let family = Gauges::<LABELS>::default();
    registry.register(name, help, family.clone());
    family
}

fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn text(
    statuses: &[NodeUpdate],
    facts: &BTreeMap<NodeId, Option<Facts>>,
    protocol: &ProtocolCounters,
) -> String {
    let mut registry = Registry::with_prefix("bedplate");
    protocol.register(&mut registry);
    let phases = gauges::<1>(&mut registry, "nodes", "Nodes in each phase");
    let seen = gauges::<1>(
        &mut registry,
        "node_last_seen_timestamp_seconds",
        "When a node was last heard of, seconds since 1970",
    );
    let mut sorted: Vec<&NodeUpdate> = statuses.iter().collect();
    sorted.sort_by(|one, other| one.name.cmp(&other.name));
    let hardware = Hardware::new(&mut registry);
    for NodeUpdate { id, name, status } in sorted {
        phases.get_or_create(&[("phase", status.phase.as_str().to_owned())]).inc();
        let node = name.to_string();
        if let Some(at) = status.last_seen {
            seen.get_or_create(&[("node", node.clone())]).set(Timestamp::seconds(at));
        }
        if let Some(Some(facts)) = facts.get(id) {
            hardware.tell(&node, facts);
        }
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

/// Families about the hardware of nodes.
struct Hardware {
    memory: Gauges<1>,
    threads: Gauges<1>,
    gpus: Gauges<1>,
    devices: Gauges<3>,
    faults: Gauges<2>,
    nics: Gauges<2>,
    ports: Gauges<3>,
}

impl Hardware {
    fn new(registry: &mut Registry) -> Self {
        Self {
            memory: gauges(registry, "node_memory_bytes", "Memory of a node"),
            threads: gauges(
                registry,
                "node_hardware_threads",
                "Hardware threads of a node that are switched on",
            ),
            gpus: gauges(registry, "node_gpus", "GPUs and other accelerators of a node"),
            devices: gauges(
                registry,
                "node_devices",
                "Devices of a node that jobs can be granted, in or out of service",
            ),
            faults: gauges(registry, "node_faults", "What is not well in a node"),
            nics: gauges(registry, "node_nic_link_up", "1 if a network interface has a link"),
            ports: gauges(
                registry,
                "node_infiniband_port_active",
                "1 if a port of InfiniBand or RoCE is active",
            ),
        }
    }

    fn tell(&self, node: &str, facts: &Facts) {
        let node = || ("node", node.to_owned());
        self.memory.get_or_create(&[node()]).set(signed(facts.memory_bytes));
        self.threads.get_or_create(&[node()]).set(signed(facts.threads));
        self.gpus.get_or_create(&[node()]).set(signed(facts.gpus));
        for (kind, counts) in &facts.devices {
            for (state, count) in ["in-service", "out-of-service"].into_iter().zip(counts) {
                let labels = [node(), ("kind", kind.clone()), ("state", state.to_owned())];
                self.devices.get_or_create(&labels).set(signed(*count));
            }
        }
        for (level, count) in ["warning", "error"].into_iter().zip(facts.faults) {
            self.faults.get_or_create(&[node(), ("level", level.to_owned())]).set(signed(count));
        }
        for (name, is_up) in &facts.nics {
            self.nics.get_or_create(&[node(), ("interface", name.clone())]).set(i64::from(*is_up));
        }
        for (device, number, is_active) in &facts.ports {
            let labels = [node(), ("device", device.clone()), ("port", number.to_string())];
            self.ports.get_or_create(&labels).set(i64::from(*is_active));
        }
    }
}

#[cfg(test)]
mod tests {
    use api::status::{NodeStatus, Phase};
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
        let statuses = [
            update(2, Phase::Ready, None),
            update(1, Phase::Ready, Some(Timestamp(1_700_000_000_500_000))),
            update(3, Phase::Lost, None),
        ];
        let facts = [(statuses[1].id, Some(Facts::of(&inventory))), (statuses[2].id, None)];
        let protocol = ProtocolCounters::default();
        protocol.unknown_reports.inc();
        let text = text(&statuses, &facts.into_iter().collect(), &protocol);
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
        let inventory: Inventory = serde_json::from_value(json!({"nics": nics})).unwrap();
        assert_eq!(Facts::of(&inventory).nics.len(), MAX_LINKS);
    }
}
