//! The shape of a machine specification: says again what `api::machine` says in types; a test holds
//! the two together.

use api::ids::MacAddr;
use yaml_tree::{Shape, field, required};

const MAC: Shape = Shape::Parsed {
    what: "a MAC address",
    example: "52:54:00:12:34:56",
    accepts: |text| text.parse::<MacAddr>().is_ok(),
};
const NETWORK: Shape = Shape::Parsed {
    what: "an address with prefix length",
    example: "10.1.0.11/24",
    accepts: |text| text.parse::<ipnet::IpNet>().is_ok(),
};
const ADDRESS: Shape = Shape::Parsed {
    what: "an IP address",
    example: "10.1.0.1",
    accepts: |text| text.parse::<std::net::IpAddr>().is_ok(),
};

static INTERFACE: Shape = Shape::Object(&[
    field("mac", MAC),
    field("address", NETWORK),
    field("gateway", ADDRESS),
    field("mtu", Shape::Number(u32::MAX)),
    field("vlan", Shape::Number(65_535)),
    field("parent", Shape::Text),
    field(
        "bond",
        Shape::Object(&[
            required("mode", Shape::Text),
            required("members", Shape::List(&Shape::Text)),
        ]),
    ),
]);

/// A node or a profile.
pub(super) static MACHINE: Shape = Shape::Object(&[
    field("comment", Shape::Text),
    field("profiles", Shape::List(&Shape::Text)),
    field("image", Shape::Text),
    field("kernel", Shape::Text),
    field("kernel-args", Shape::List(&Shape::Text)),
    field("root", Shape::Object(&[field("writable-size", Shape::Text)])),
    field("interfaces", Shape::Map(&INTERFACE)),
    field(
        "dns",
        Shape::Object(&[
            field("servers", Shape::List(&ADDRESS)),
            field("search", Shape::List(&Shape::Text)),
        ]),
    ),
    field("boot-overlays", Shape::List(&Shape::Text)),
    field("runtime-overlays", Shape::List(&Shape::Text)),
    field("bmc", Shape::Object(&[field("address", ADDRESS)])),
    field("groups", Shape::List(&Shape::Text)),
    field("labels", Shape::Map(&Shape::Text)),
    field("tags", Shape::Map(&Shape::Text)),
]);

#[cfg(test)]
mod tests {
    use api::machine::{BmcSpec, BondSpec, DnsSpec, InterfaceSpec, MachineSpec, RootSpec};

    use yaml_tree::{Diagnostics, parse, walk};

    use super::*;

    /// Every field set: a field that is added to the types and not to the table fails here.
    fn full() -> MachineSpec {
        let interface = InterfaceSpec {
            mac: "52:54:00:00:00:01".parse().ok(),
            address: "10.0.0.1/24".parse().ok(),
            gateway: "10.0.0.254".parse().ok(),
            mtu: Some(1500),
            vlan: Some(1),
            parent: Some("x".into()),
            bond: Some(BondSpec { mode: "802.3ad".into(), members: vec!["x".into()] }),
        };
        MachineSpec {
            comment: Some("x".into()),
            profiles: vec!["x".into()],
            image: Some("x".into()),
            kernel: Some("x".into()),
            kernel_args: vec!["x".into()],
            root: Some(RootSpec { writable_size: Some("1%".into()) }),
            interfaces: [("eth0".to_owned(), interface)].into(),
            dns: Some(DnsSpec {
                servers: vec!["10.0.0.1".parse().unwrap()],
                search: vec!["x".into()],
            }),
            boot_overlays: vec!["x".into()],
            runtime_overlays: vec!["x".into()],
            bmc: Some(BmcSpec { address: "10.0.0.1".parse().ok() }),
            groups: vec!["x".into()],
            labels: [("x".to_owned(), "x".to_owned())].into(),
            tags: [("x".to_owned(), "x".to_owned())].into(),
        }
    }

    #[test]
    fn the_table_says_what_the_types_say() {
        let full = full();
        let yaml = serde_saphyr::to_string(&full).unwrap();
        let tree = parse(&yaml).unwrap().unwrap();
        let mut diagnostics = Diagnostics::default();
        let value = walk(&tree, &MACHINE, "x", &mut diagnostics).unwrap();
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        assert_eq!(serde_json::from_value::<MachineSpec>(value).unwrap(), full);
        assert_eq!(leaves(&MACHINE), 22, "a field was added to the table: add it to full()");
    }

    fn leaves(shape: &Shape) -> usize {
        match shape {
            Shape::Object(fields) => fields.iter().map(|field| leaves(field.shape())).sum(),
            Shape::List(inner) | Shape::Map(inner) => leaves(inner),
            _ => 1,
        }
    }
}
