//! What templates see. Names are in snake case, because a hyphen is a minus in Jinja; the table is
//! in `docs/formats/overlay.md`.
//!
//! Each variable knows the digest of its value, so that a file is rendered again only when
//! something that it reads has changed. Values of the whole cluster are made once and
//! shared by all nodes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
};

use api::{
    ids::{NodeId, NodeName},
    machine::{InterfaceSpec, MachineSpec},
};
use ipnet::{IpNet, Ipv4Net};
use minijinja::{Value, value::Serde};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::host_key::HostKey;

/// A variable of templates, converted and hashed only when a template reads it.
pub struct Variable {
    json: Json,
    value: OnceLock<Value>,
    digest: OnceLock<[u8; 32]>,
}

impl fmt::Debug for Variable {
    /// Without the value: it may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variable").finish_non_exhaustive()
    }
}

impl Variable {
    fn new(json: Json) -> Arc<Self> {
        Arc::new(Self { json, value: OnceLock::new(), digest: OnceLock::new() })
    }

    fn value(&self) -> Value {
        self.value.get_or_init(|| Value::from(Serde(&self.json))).clone()
    }

    /// SHA-256 of the value as JSON.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| Sha256::digest(self.json.to_string()).into())
    }
}

/// Everything that the templates of one node see.
#[derive(Debug, Clone, Default)]
pub struct Variables(HashMap<&'static str, Arc<Variable>>);

/// Name of the variable that holds the node's ssh host key; made only for those who read it.
pub const SSH_HOST_KEY: &str = "ssh_host_key";

/// The variables that are the same for all nodes.
#[derive(Debug, Clone)]
pub struct ClusterVariables {
    nodes: Arc<Variable>,
    server: Arc<Variable>,
    /// NTP servers by subnet.
    ntp: Arc<[(Ipv4Net, Vec<Ipv4Addr>)]>,
}

impl ClusterVariables {
    /// Makes them of all nodes as resolved, and of the server's addresses.
    pub fn new<'a>(
        nodes: impl IntoIterator<Item = (&'a NodeName, &'a MachineSpec)>,
        server_addresses: &[std::net::IpAddr],
    ) -> Self {
        let nodes: Vec<Json> =
            nodes.into_iter().map(|(name, spec)| seen_by_others(name, spec)).collect();
        Self {
            nodes: Variable::new(nodes.into()),
            server: Variable::new(json!({ "addresses": server_addresses })),
            ntp: Arc::default(),
        }
    }

    /// With the NTP servers of the subnets.
    #[must_use]
    pub fn with_ntp(self, ntp: Vec<(Ipv4Net, Vec<Ipv4Addr>)>) -> Self {
        Self { ntp: ntp.into(), ..self }
    }

    /// The NTP servers of the subnets that a node has addresses in, each once; of all subnets for a
    /// node whose addresses DHCP gives.
    fn ntp_of(&self, spec: &MachineSpec) -> Vec<Ipv4Addr> {
        let addresses: Vec<IpAddr> = spec
            .interfaces
            .values()
            .filter_map(|interface| interface.address)
            .map(|net| net.addr())
            .collect();
        let is_in = |network: &Ipv4Net| {
            addresses
                .iter()
                .any(|address| matches!(address, IpAddr::V4(address) if network.contains(address)))
        };
        let mut servers = Vec::new();
        for (network, of_subnet) in self.ntp.iter() {
            if addresses.is_empty() || is_in(network) {
                let new: Vec<Ipv4Addr> =
                    of_subnet.iter().filter(|server| !servers.contains(*server)).copied().collect();
                servers.extend(new);
            }
        }
        servers
    }
}

/// What the templates of all nodes see of one.
#[must_use]
pub(crate) fn seen_by_others(name: &NodeName, spec: &MachineSpec) -> Json {
    let addressed =
        spec.interfaces.iter().filter_map(|(name, interface)| Some((name, interface.address?)));
    let interfaces: Vec<Json> =
        addressed.map(|(name, address)| json!({"name": name, "ip": address.addr()})).collect();
    json!({"name": name, "interfaces": interfaces, "groups": spec.groups})
}

/// What the variables of one node are made of.
#[derive(Debug)]
pub struct NodeFacts<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// Its identity.
    pub id: NodeId,
    /// Its specification as resolved.
    pub spec: &'a MachineSpec,
    /// Name and version of the image that it boots next.
    pub image: Option<(&'a str, u32)>,
    /// Its ssh host key, where a template reads it.
    pub host_key: Option<&'a HostKey>,
}

impl Variables {
    /// The variables of one node.
    #[must_use]
    pub fn new(cluster: &ClusterVariables, node: &NodeFacts<'_>) -> Self {
        let spec = node.spec;
        let domain = spec.dns.as_ref().and_then(|dns| dns.search.first());
        let own = json!({
            "name": node.name,
            "id": node.id,
            "machine_id": node.id.0.simple().to_string(),
            "fqdn": domain.map_or_else(|| node.name.to_string(), |domain| format!("{}.{domain}", node.name)),
            "comment": spec.comment,
        });
        let dns = spec.dns.clone().unwrap_or_default();
        let addressed = spec.interfaces.values().any(|interface| interface.address.is_some());
        let single = [
            ("node", own),
            ("interfaces", interfaces(&spec.interfaces)),
            ("dns", json!({"servers": dns.servers, "search": dns.search})),
            ("ntp", json!({"servers": cluster.ntp_of(spec)})),
            ("kernel_args", json!(spec.kernel_args)),
            ("profiles", json!(spec.profiles)),
            ("groups", json!(spec.groups)),
            ("labels", json!(spec.labels)),
            ("tags", json!(spec.tags)),
            (
                "image",
                node.image.map_or(
                    Json::Null,
                    |(name, version)| json!({"name": name, "version": version}),
                ),
            ),
            ("loopback_name", if addressed { Json::Null } else { json!(node.name) }),
        ];
        let mut variables: HashMap<&'static str, Arc<Variable>> =
            single.into_iter().map(|(name, value)| (name, Variable::new(value))).collect();
        if let Some(key) = node.host_key {
            let value = json!({"private": key.private, "public": key.public});
            variables.insert(SSH_HOST_KEY, Variable::new(value));
        }
        variables.insert("nodes", cluster.nodes.clone());
        variables.insert("server", cluster.server.clone());
        Self(variables)
    }

    /// A variable by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// What a template gets: the variables that it reads, and `item` in a template
    /// for several files.
    pub(super) fn context(&self, reads: &[String], item: Option<Value>) -> Value {
        let mut context: BTreeMap<String, Value> = reads
            .iter()
            .filter_map(|name| Some((name.clone(), self.0.get(name.as_str())?.value())))
            .collect();
        if let Some(item) = item {
            context.insert("item".to_owned(), item);
        }
        Value::from(context)
    }

    /// Those of some names that a JSON object has. For tests and fuzz targets: what nodes get is
    /// made by [`Self::new`].
    #[must_use]
    pub fn of_json(json: &Json) -> Self {
        let names = ["a", "b", "c", "name", "tags", "interfaces", "nodes"];
        Self(
            names
                .into_iter()
                .filter_map(|name| Some((name, Variable::new(json.get(name)?.clone()))))
                .collect(),
        )
    }
}

/// Interfaces with what templates would otherwise have to work out.
fn interfaces(interfaces: &BTreeMap<String, InterfaceSpec>) -> Json {
    let list = interfaces.iter().map(|(name, interface)| {
        let vlans: Vec<&String> = interfaces
            .iter()
            .filter(|(_, other)| other.parent.as_ref() == Some(name))
            .map(|(name, _)| name)
            .collect();
        let bond_of = interfaces
            .iter()
            .find(|(_, other)| other.bond.as_ref().is_some_and(|bond| bond.members.contains(name)))
            .map(|(name, _)| name);
        json!({
            "name": name,
            "mac": interface.mac,
            "address": interface.address,
            "ip": interface.address.map(|address| address.addr()),
            "prefix": interface.address.map(|address| address.prefix_len()),
            "netmask": interface.address.map(|address| address.netmask()),
            "network": interface.address.as_ref().map(IpNet::trunc),
            "gateway": interface.gateway,
            "mtu": interface.mtu,
            "vlan": interface.vlan,
            "parent": interface.parent,
            "bond": interface.bond,
            "bond_of": bond_of,
            "vlans": vlans,
        })
    });
    Json::Array(list.collect())
}
