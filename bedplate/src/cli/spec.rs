//! The flags that say what is wanted of nodes, for `node add`, `node set` and `profile set`.
//!
//! They become a JSON merge patch (RFC 7396) on a specification; `--unset` becomes `null`. A list
//! is given whole.

mod field;
mod interface;

use std::net::IpAddr;

use api::{
    ids::MacAddr,
    labels::{LabelError, REMOVES, check_key, check_value},
    machine::MachineSpec,
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

pub(super) use self::field::Field;
use self::interface::Interface;
use super::{complete, error::Usage};

/// The interface that `--mac` and its like mean where none is named and none is there.
pub(super) const DEFAULT_INTERFACE: &str = "lan0";

/// Flags for the fields of a specification.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What is wanted")]
pub(super) struct SpecFlags {
    /// A remark for people.
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Profile to take values from; later ones win. Repeat for several.
    #[arg(long = "profile", value_name = "NAME", add = ArgValueCompleter::new(complete::profiles))]
    profiles: Vec<String>,
    /// OS image: NAME follows its newest version, NAME@3 pins version 3.
    #[arg(long, value_name = "NAME[@N]", add = ArgValueCompleter::new(complete::images))]
    image: Option<String>,
    /// Kernel release to boot where the image has several.
    #[arg(long, value_name = "RELEASE")]
    kernel: Option<String>,
    /// Kernel argument; `~ARG` removes one that a profile brings. Repeat for several.
    #[arg(long = "kernel-arg", value_name = "ARG", allow_hyphen_values = true)]
    kernel_args: Vec<String>,
    /// Limit of what a node can write to its root, in RAM: 20% or 4GiB [default: 50%].
    #[arg(long, value_name = "SIZE")]
    writable_size: Option<String>,
    /// Interface that --mac, --address, --gateway and --mtu are about [default: the only one there
    /// is, else lan0].
    #[arg(long = "on", value_name = "INTERFACE")]
    interface: Option<String>,
    /// MAC address; the node is recognised by it.
    #[arg(long)]
    mac: Option<MacAddr>,
    /// Address with prefix length, such as 10.1.0.11/24. With several nodes it counts up
    /// from the first.
    #[arg(long, value_name = "ADDRESS/LENGTH", value_parser = network_address)]
    address: Option<IpNet>,
    /// Default gateway.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<IpAddr>,
    /// Maximum transmission unit in bytes.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// A further interface: NAME:KEY=VALUE,… with keys mac, address, gateway, mtu, vlan, parent,
    /// bond (its mode) and members (joined by +). Repeat for several.
    #[arg(long = "interface", value_name = "NAME:KEY=VALUE,…")]
    interfaces: Vec<Interface>,
    /// Name server. Repeat for several.
    #[arg(long = "dns", value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Search domain; the first is the node's own. Repeat for several.
    #[arg(long = "search", value_name = "DOMAIN")]
    search: Vec<String>,
    /// Overlay applied before the node's init starts; `~NAME` removes one. Repeat for several.
    #[arg(long = "boot-overlay", value_name = "NAME", add = ArgValueCompleter::new(complete::overlays))]
    boot_overlays: Vec<String>,
    /// Overlay kept up to date on the running node; `~NAME` removes one. Repeat for several.
    #[arg(long = "runtime-overlay", value_name = "NAME", add = ArgValueCompleter::new(complete::overlays))]
    runtime_overlays: Vec<String>,
    /// Address of the baseboard management controller. With several nodes it counts up
    /// from the first.
    #[arg(long, value_name = "ADDRESS")]
    bmc: Option<IpAddr>,
    /// Group that it belongs to. Repeat for several.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Label, which everybody reads and jobs can ask for; `~KEY` removes one that a profile brings.
    /// Repeat for several.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, Option<String>)>,
    /// Value for templates, which only admins read. Repeat for several.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

/// Flags that change a specification that is there.
#[derive(Debug, Args)]
pub(super) struct ChangeFlags {
    #[command(flatten)]
    spec: SpecFlags,
    /// Clear a field, such as `image`, `kernel-args`, `interfaces.lan1`, `interfaces.lan0.gateway`
    /// or `tags.rack`. Repeat for several.
    #[arg(long, value_name = "FIELD")]
    unset: Vec<Field>,
    /// Clear a label, as `--unset labels.KEY` does. Repeat for several.
    #[arg(long, value_name = "KEY")]
    unset_label: Vec<String>,
}

impl SpecFlags {
    /// A specification of the flags alone.
    pub(super) fn spec(&self) -> Result<MachineSpec, Usage> {
        let mut patch = self.patch(self.interface.as_deref().unwrap_or(DEFAULT_INTERFACE))?;
        if let Some(Value::Object(labels)) = patch.get_mut("labels") {
            // What is new has nothing to clear.
            labels.retain(|_, value| !value.is_null());
        }
        serde_json::from_value(Value::Object(patch)).map_err(|error| Usage(error.to_string()))
    }

    fn names_an_address(&self) -> bool {
        self.mac.is_some() || self.address.is_some() || self.gateway.is_some() || self.mtu.is_some()
    }

    fn patch(&self, interface: &str) -> Result<Map<String, Value>, Usage> {
        let mut patch = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                patch.insert(key.to_owned(), value);
            }
        };
        put("comment", self.comment.as_ref().map(|text| json!(text)));
        put("profiles", list(&self.profiles));
        put("image", self.image.as_ref().map(|image| json!(image)));
        put("kernel", self.kernel.as_ref().map(|kernel| json!(kernel)));
        put("kernel-args", list(&self.kernel_args));
        put("root", self.writable_size.as_ref().map(|size| json!({"writable-size": size})));
        put("interfaces", self.interfaces(interface)?);
        let mut dns = Map::new();
        dns.extend(list(&self.dns).map(|servers| ("servers".to_owned(), servers)));
        dns.extend(list(&self.search).map(|search| ("search".to_owned(), search)));
        put("dns", Some(Value::Object(dns)).filter(|dns| dns != &json!({})));
        put("boot-overlays", list(&self.boot_overlays));
        put("runtime-overlays", list(&self.runtime_overlays));
        put("bmc", self.bmc.map(|address| json!({"address": address})));
        put("groups", list(&self.groups));
        put("labels", self.labels()?);
        let mut tags = Map::new();
        for (key, value) in &self.tags {
            if tags.insert(key.clone(), json!(value)).is_some() {
                return Err(Usage(format!("tag {key} is given twice")));
            }
        }
        put("tags", Some(Value::Object(tags)).filter(|tags| tags != &json!({})));
        Ok(patch)
    }

    /// A label that is given is no longer taken away, and the other way round.
    fn labels(&self) -> Result<Option<Value>, Usage> {
        let mut labels = Map::new();
        for (key, value) in &self.labels {
            let removal = format!("{REMOVES}{key}");
            let (own, removal_value) = match value {
                Some(value) => (json!(value), Value::Null),
                None => (Value::Null, json!("")),
            };
            if labels.insert(key.clone(), own).is_some() {
                return Err(Usage(format!("label {key} is given twice")));
            }
            labels.insert(removal, removal_value);
        }
        Ok(Some(Value::Object(labels)).filter(|labels| labels != &json!({})))
    }

    fn interfaces(&self, interface: &str) -> Result<Option<Value>, Usage> {
        let mut interfaces = Map::new();
        if self.names_an_address() {
            let mut own = Map::new();
            own.extend(self.mac.map(|mac| ("mac".to_owned(), json!(mac))));
            own.extend(self.address.map(|address| ("address".to_owned(), json!(address))));
            own.extend(self.gateway.map(|gateway| ("gateway".to_owned(), json!(gateway))));
            own.extend(self.mtu.map(|mtu| ("mtu".to_owned(), json!(mtu))));
            interfaces.insert(interface.to_owned(), Value::Object(own));
        } else if self.interface.is_some() {
            return Err(Usage(
                "--on needs --mac, --address, --gateway or --mtu beside it".to_owned(),
            ));
        }
        for Interface { name, patch } in &self.interfaces {
            if interfaces.insert(name.clone(), patch.clone()).is_some() {
                return Err(Usage(format!("interface {name} is given twice")));
            }
        }
        Ok(Some(Value::Object(interfaces)).filter(|interfaces| interfaces != &json!({})))
    }
}

impl ChangeFlags {
    /// The merge patch. `present` are the specifications that it is for: they tell which
    /// interface is meant.
    pub(super) fn patch(&self, present: &[&MachineSpec]) -> Result<Value, Usage> {
        let interface = match &self.spec.interface {
            Some(name) => name.as_str(),
            None if self.spec.names_an_address() => only_interface(present)?,
            None => DEFAULT_INTERFACE,
        };
        let mut patch = self.spec.patch(interface)?;
        for field in &self.unset {
            field.clear(&mut patch)?;
        }
        for key in &self.unset_label {
            Field::of(["labels", key]).clear(&mut patch)?;
        }
        if patch.is_empty() {
            return Err(Usage(
                "nothing to change: give a flag such as --image or --unset".to_owned(),
            ));
        }
        Ok(Value::Object(patch))
    }

    /// A specification of the flags alone, for what is new.
    pub(super) fn new_spec(&self) -> Result<MachineSpec, Usage> {
        self.spec.spec()
    }

    /// More than one node cannot have the same hardware or network address.
    pub(super) fn refuse_shared(&self, nodes: usize) -> Result<(), Usage> {
        let of_one = |flag: &str| Usage(format!("{flag} can be set on one node at a time"));
        let of = |flag, given: bool| if given && nodes > 1 { Err(of_one(flag)) } else { Ok(()) };
        of("--mac", self.spec.mac.is_some())?;
        of("--address", self.spec.address.is_some())?;
        of("--bmc", self.spec.bmc.is_some())
    }
}

fn only_interface<'a>(present: &[&'a MachineSpec]) -> Result<&'a str, Usage> {
    let mut names: Vec<&str> =
        present.iter().flat_map(|spec| spec.interfaces.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => Ok(DEFAULT_INTERFACE),
        [only] => Ok(only),
        several => Err(Usage(format!("which interface? Say --on {}", several.join(" or --on ")))),
    }
}

fn list<T: serde::Serialize>(values: &[T]) -> Option<Value> {
    (!values.is_empty()).then(|| json!(values))
}

/// An address of `--address` without its network, or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it with its prefix length, such as 10.1.0.11/24")]
struct NotANetworkAddress;

fn network_address(text: &str) -> Result<IpNet, NotANetworkAddress> {
    text.parse().map_err(|_| NotANetworkAddress)
}

/// What `--tag` cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write KEY=VALUE")]
struct NotATag;

fn tag(text: &str) -> Result<(String, String), NotATag> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(NotATag),
    }
}

/// What `--label` cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum NotALabel {
    #[error("write KEY=VALUE, or ~KEY to take one of a profile away")]
    Form,
    #[error("{0}; {form}", form = Self::Form)]
    Key(LabelError),
    #[error(transparent)]
    Value(LabelError),
}

fn label(text: &str) -> Result<(String, Option<String>), NotALabel> {
    let (key, value) = match (text.strip_prefix(REMOVES), text.split_once('=')) {
        // An export writes the empty value.
        (Some(key), _) => (key.strip_suffix('=').unwrap_or(key), None),
        (None, Some((key, value))) => (key, Some(value)),
        (None, None) => return Err(NotALabel::Form),
    };
    check_key(key).map_err(NotALabel::Key)?;
    check_value(value.unwrap_or_default()).map_err(NotALabel::Value)?;
    Ok((key.to_owned(), value.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _, Parser};
    use expect_test::{Expect, expect};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: ChangeFlags,
    }

    fn flags(line: &str) -> ChangeFlags {
        let matches = Line::command().no_binary_name(true).get_matches_from(line.split(' '));
        Line::from_arg_matches(&matches).unwrap().flags
    }

    fn patch(line: &str, present: &str, expected: &Expect) {
        let present: MachineSpec = serde_saphyr::from_str(present).unwrap();
        let text = match flags(line).patch(&[&present]) {
            Ok(patch) => patch.to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn flags_become_a_merge_patch() {
        patch(
            "--image debian@2 --kernel-arg console=ttyS0 --kernel-arg ~quiet --dns 10.0.0.2 --search a.example \
             --writable-size 4GiB --tag rack=r1 --bmc 10.9.0.1 --group gpu --comment x --kernel 6.1 --profile default \
             --boot-overlay ~hosts --runtime-overlay motd",
            "{}",
            &expect![[
                r#"{"comment":"x","profiles":["default"],"image":"debian@2","kernel":"6.1","kernel-args":["console=ttyS0","~quiet"],"root":{"writable-size":"4GiB"},"dns":{"servers":["10.0.0.2"],"search":["a.example"]},"boot-overlays":["~hosts"],"runtime-overlays":["motd"],"bmc":{"address":"10.9.0.1"},"groups":["gpu"],"tags":{"rack":"r1"}}"#
            ]],
        );
    }

    #[test]
    fn an_address_goes_to_the_interface_that_is_there() {
        patch(
            "--address 10.1.0.1/24",
            "{}",
            &expect![[r#"{"interfaces":{"lan0":{"address":"10.1.0.1/24"}}}"#]],
        );
        patch(
            "--address 10.1.0.1/24 --mtu 9000",
            "{interfaces: {eth0: {}}}",
            &expect![[r#"{"interfaces":{"eth0":{"address":"10.1.0.1/24","mtu":9000}}}"#]],
        );
        patch(
            "--gateway 10.1.0.1",
            "{interfaces: {a: {}, b: {}}}",
            &expect!["which interface? Say --on a or --on b"],
        );
        patch(
            "--gateway 10.1.0.1 --on b",
            "{interfaces: {a: {}, b: {}}}",
            &expect![[r#"{"interfaces":{"b":{"gateway":"10.1.0.1"}}}"#]],
        );
        patch(
            "--on b",
            "{}",
            &expect!["--on needs --mac, --address, --gateway or --mtu beside it"],
        );
        patch(
            "--interface b:vlan=100,parent=a --mac 525400123456",
            "{}",
            &expect![[
                r#"{"interfaces":{"lan0":{"mac":"52:54:00:12:34:56"},"b":{"vlan":100,"parent":"a"}}}"#
            ]],
        );
    }

    #[test]
    fn unset_clears_beside_what_is_set() {
        patch(
            "--unset image --unset tags.a.b --unset interfaces.lan0.gateway --address 10.1.0.1/24",
            "{}",
            &expect![[
                r#"{"interfaces":{"lan0":{"address":"10.1.0.1/24","gateway":null}},"image":null,"tags":{"a.b":null}}"#
            ]],
        );
        patch("--unset image --image x", "{}", &expect!["image is set and cleared at once"]);
        patch(
            "--unset interfaces --mtu 1500",
            "{}",
            &expect!["interfaces is set and cleared at once"],
        );
        patch("--unset root.writable-size", "{}", &expect![[r#"{"root":{"writable-size":null}}"#]]);
    }

    #[test]
    fn labels_are_given_taken_away_and_cleared() {
        patch(
            "--label rack=a1 --label ~tier --label example.org/zone= --unset-label old",
            "{}",
            &expect![[
                r#"{"labels":{"rack":"a1","~rack":null,"tier":null,"~tier":"","example.org/zone":"","~example.org/zone":null,"old":null}}"#
            ]],
        );
        patch(
            "--label rack=a1 --unset-label rack",
            "{}",
            &expect!["labels.rack is set and cleared at once"],
        );
        let spec = flags("--label rack=a1 --label ~tier").spec.spec().unwrap();
        assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"labels":{"rack":"a1","~tier":""}}"#);
        assert_eq!(label("~tier="), label("~tier"));
        patch("--label rack=a1 --label rack=a2", "{}", &expect!["label rack is given twice"]);
        patch("--label rack=a1 --label ~rack", "{}", &expect!["label rack is given twice"]);
        patch("--tag a=1 --tag a=2", "{}", &expect!["tag a is given twice"]);
        for wrong in ["rack", "=a1", "a b=c", "rack=a b", "~", "~=", "~rack=a1"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_belongs_to_one_node_is_not_spread() {
        assert!(flags("--address 10.1.0.1/24").refuse_shared(1).is_ok());
        let error = flags("--address 10.1.0.1/24").refuse_shared(2).unwrap_err();
        assert_eq!(error.to_string(), "--address can be set on one node at a time");
    }

    #[test]
    fn a_new_specification_is_made_of_flags_alone() {
        let spec = flags("--mac 52:54:00:12:34:56 --image debian").spec.spec().unwrap();
        assert_eq!(
            serde_json::to_string(&spec).unwrap(),
            r#"{"image":"debian","interfaces":{"lan0":{"mac":"52:54:00:12:34:56"}}}"#
        );
    }
}
