//! What Prometheus is told of the hardware of all nodes. It is written by a pure function of what
//! is in memory; a scrape reads no inventory but at the first time.
//!
//! Labels are bounded: one node, one interface, one port, one kind of devices; and of each node at
//! most [`MAX_LINKS`] of them. What has no bound (messages, models, versions) is no label.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use api::{
    ids::{NodeId, NodeName},
    inventory::{FaultLevel, Inventory},
};
use fleet::{Fleet, StoreError};
use metrics::Exposition;

use crate::Hardware;

/// Interfaces, ports and kinds of devices that are told of one node: the largest have some ten of
/// each.
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
                devices.entry(kind).or_default()[usize::from(device.unhealthy.is_some())] += 1;
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
            nics: nics
                .map(|nic| (nic.name.clone(), nic.carrier.unwrap_or(nic.state == "up")))
                .collect(),
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

    /// Those of these nodes; the others are forgotten.
    fn of_all(&self, nodes: &BTreeMap<NodeId, NodeName>) -> BTreeMap<NodeId, Option<Facts>> {
        let mut known = self.lock();
        known.retain(|id, _| nodes.contains_key(id));
        known.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Option<Facts>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is told of the hardware of nodes, at one moment.
#[derive(Debug)]
pub struct HardwareMetrics {
    /// By the names of nodes.
    facts: Vec<(NodeName, Facts)>,
}

impl Hardware {
    /// Looks up what is told of the nodes of a fleet. Of a node whose inventory is damaged, or
    /// cannot be read now, nothing is.
    pub async fn metrics(&self, fleet: &Fleet) -> HardwareMetrics {
        let nodes: BTreeMap<NodeId, NodeName> =
            fleet.statuses().into_iter().map(|update| (update.id, update.name)).collect();
        for id in nodes.keys() {
            let is_known = self.inner.facts.lock().contains_key(id);
            if !is_known {
                let facts = match self.inventory(*id).await {
                    Ok(inventory) => inventory.as_ref().map(Facts::of),
                    Err(StoreError::Decode { .. }) => None,
                    Err(error) => {
                        // Nor will it read the next one, and the rest is wanted the more.
                        tracing::warn!(
                            "the hardware of some nodes is not told: {}",
                            rest::causes(&error)
                        );
                        break;
                    }
                };
                // One that came meanwhile is newer.
                self.inner.facts.lock().entry(*id).or_insert(facts);
            }
        }
        let known = self.inner.facts.of_all(&nodes).into_iter();
        let named = known.filter_map(|(id, facts)| Some((nodes.get(&id)?.clone(), facts?)));
        HardwareMetrics::new(named)
    }
}

impl HardwareMetrics {
    fn new(facts: impl Iterator<Item = (NodeName, Facts)>) -> Self {
        let mut facts: Vec<(NodeName, Facts)> = facts.collect();
        facts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Self { facts }
    }

    /// Writes it. Takes some milliseconds for each thousand nodes.
    pub fn expose(&self, out: &mut Exposition) {
        let known: Vec<(&str, &Facts)> =
            self.facts.iter().map(|(name, facts)| (name.as_str(), facts)).collect();
        expose_sizes(&known, out);
        expose_parts(&known, out);
        expose_links(&known, out);
    }
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
    use serde_json::json;

    use super::*;

    /// What is told of one node with this inventory.
    fn told(inventory: serde_json::Value) -> String {
        let inventory: Inventory = serde_json::from_value(inventory).unwrap();
        let mut out = Exposition::new();
        let named = std::iter::once(("n1".parse().unwrap(), Facts::of(&inventory)));
        HardwareMetrics::new(named).expose(&mut out);
        out.finish()
    }

    #[test]
    fn hardware_is_told() {
        let text = told(json!({
            "memory-bytes": 68_719_476_736_u64,
            "topology": {"pus": 128},
            "gpus": [{"pci": "a"}, {"pci": "b"}],
            "nics": [{"name": "lan0", "state": "up", "carrier": true}, {"name": "lan1", "state": "down"}],
            "infiniband": [{"name": "mlx5_0", "ports": [{"number": 1, "state": "ACTIVE"}, {"number": 2, "state": "DOWN"}]}],
            "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "a", "source": "built-in"},
                {"name": "nvidia.com/gpu=1", "numa-node": 0, "pci": "b", "source": "built-in", "sick": "ECC"}],
            "faults": [{"level": "error", "subject": "gpu b", "message": "ECC"}]
        }));
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
            bedplate_node_memory_bytes{node="n1"} 68719476736
            bedplate_node_nic_link_up{node="n1",interface="lan0"} 1
            bedplate_node_nic_link_up{node="n1",interface="lan1"} 0
        "#]]
        .assert_eq(&(lines.join("\n") + "\n"));
        assert!(text.contains("# HELP bedplate_node_memory_bytes Memory of a node.\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn labels_are_bounded() {
        let nics: Vec<_> =
            (0..1_000).map(|n| json!({"name": format!("veth{n}"), "state": "up"})).collect();
        let ports: Vec<_> = (0..1_000).map(|n| json!({"number": n, "state": "ACTIVE"})).collect();
        let devices: Vec<_> = (0..1_000)
            .map(|n| json!({"name": format!("example.com/kind{n}=0"), "numa-node": 0, "pci": "a", "source": "built-in"}))
            .collect();
        let infiniband = json!([{"name": "mlx5_0", "ports": ports}]);
        let text = told(json!({"nics": nics, "infiniband": infiniband, "devices": devices}));
        // However much a node tells: three sizes, two kinds of faults, and the rest.
        let samples = text.lines().filter(|line| line.contains("node=\"n1\"")).count();
        assert_eq!(samples, 3 + 2 + 4 * MAX_LINKS);
    }

    #[test]
    fn what_a_node_names_is_told_once_and_stays_in_its_quotes() {
        let evil = "x\"} 1\nbedplate_nodes{phase=\"ready";
        let text =
            told(json!({"nics": [{"name": evil, "state": "up"}, {"name": evil, "state": "down"}]}));
        let links: Vec<&str> =
            text.lines().filter(|line| line.starts_with("bedplate_node_nic")).collect();
        assert_eq!(
            links,
            [
                r#"bedplate_node_nic_link_up{node="n1",interface="x\"} 1\nbedplate_nodes{phase=\"ready"} 1"#
            ]
        );
        assert_eq!(text.lines().filter(|line| line.starts_with("bedplate_nodes{")).count(), 0);
    }
}
