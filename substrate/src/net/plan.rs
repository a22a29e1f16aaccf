//! Which links stage 1 makes on top of the card that booted: pure.
//!
//! The card is known by its MAC address. If a declared bond lists it as a member, the bond is
//! made over all members that have a MAC address. A VLAN is made if the card's own record has
//! one, or if the address that the server gives this node for booting is declared on a VLAN of
//! the card or its bond.

use std::collections::BTreeMap;

use api::{ids::MacAddr, machine::InterfaceSpec};
use ipnet::IpNet;

/// Longest name of a Linux interface, bytes (`IFNAMSIZ` less the final zero).
const MAX_INTERFACE_NAME: usize = 15;

/// What is made, from the cards upwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The bond over the card and others.
    pub bond: Option<Bond>,
    /// The VLAN on top of the card or the bond.
    pub vlan: Option<Vlan>,
    /// MTU of the topmost link, which those below it need too.
    pub mtu: Option<u32>,
}

/// A bond to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// Name of the link to make.
    pub name: String,
    /// Kernel name of its mode.
    pub mode: String,
    /// MAC addresses of its members, the card that booted among them.
    pub members: Vec<MacAddr>,
}

/// A VLAN to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// Name of the link to make.
    pub name: String,
    /// 1 to 4094.
    pub id: u16,
}

/// What to make for the card with address `card`, of the node's `interfaces`. `boot_address` is the
/// address that the server gives the node for booting, if it has a fixed one.
#[must_use]
pub fn plan(
    card: MacAddr,
    interfaces: &BTreeMap<String, InterfaceSpec>,
    boot_address: Option<IpNet>,
) -> Plan {
    let own = interfaces.iter().find(|(_, spec)| spec.mac == Some(card) && spec.bond.is_none());
    let bond = own.and_then(|(name, _)| bond_over(name, card, interfaces));
    let base = bond.as_ref().map(|bond| bond.name.as_str()).or(own.map(|(name, _)| name.as_str()));
    let vlan = own
        .and_then(|(name, spec)| spec.vlan.map(|id| (name, spec, id)))
        .or_else(|| base.and_then(|base| vlan_with(boot_address?, base, interfaces)));
    let top = vlan
        .map(|(_, spec, _)| spec)
        .or_else(|| bond.as_ref().and_then(|bond| interfaces.get(&bond.name)))
        .or(own.map(|(_, spec)| spec));
    Plan {
        mtu: top.and_then(|spec| spec.mtu),
        vlan: vlan.map(|(name, _, id)| Vlan { name: link_name(name, "vlan", id), id }),
        bond,
    }
}

fn bond_over(
    member: &str,
    card: MacAddr,
    interfaces: &BTreeMap<String, InterfaceSpec>,
) -> Option<Bond> {
    let (name, spec) = interfaces
        .iter()
        .filter_map(|(name, spec)| Some((name, spec.bond.as_ref()?)))
        .find(|(_, bond)| bond.members.iter().any(|name| name == member))?;
    let mut members: Vec<_> = spec
        .members
        .iter()
        .filter_map(|name| interfaces.get(name)?.mac)
        .filter(|mac| *mac != card)
        .collect();
    members.insert(0, card);
    Some(Bond { name: link_name(name, "bond", 0), mode: spec.mode.clone(), members })
}

fn vlan_with<'a>(
    address: IpNet,
    base: &str,
    interfaces: &'a BTreeMap<String, InterfaceSpec>,
) -> Option<(&'a String, &'a InterfaceSpec, u16)> {
    interfaces
        .iter()
        .find(|(_, spec)| spec.address == Some(address) && spec.parent.as_deref() == Some(base))
        .and_then(|(name, spec)| Some((name, spec, spec.vlan?)))
}

/// The declared name where the kernel takes it, else one of our own: stage 1's links do
/// not outlive it.
fn link_name(declared: &str, kind: &str, number: u16) -> String {
    if declared.len() <= MAX_INTERFACE_NAME && !declared.contains('/') {
        declared.to_owned()
    } else {
        format!("{kind}{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn plan_of(yaml_like: &str, address: Option<&str>) -> Plan {
        let interfaces = serde_json::from_str(yaml_like).unwrap();
        plan(CARD, &interfaces, address.map(|address| address.parse().unwrap()))
    }

    #[test]
    fn a_plain_card_needs_nothing() {
        let plain = Plan { bond: None, vlan: None, mtu: None };
        assert_eq!(plan_of("{}", None), plain);
        let with_mtu = plan_of(
            r#"{"eth0":{"mac":"02:00:00:00:00:01","address":"10.0.0.9/24","mtu":9000}}"#,
            None,
        );
        assert_eq!(with_mtu, Plan { mtu: Some(9000), ..plain });
    }

    #[test]
    fn a_vlan_is_made_only_for_the_boot_address() {
        let interfaces = r#"{
            "eth0": {"mac": "02:00:00:00:00:01"},
            "storage": {"vlan": 7, "parent": "eth0", "address": "10.7.0.9/24"},
            "a-long-name-of-vlan": {"vlan": 8, "parent": "eth0", "address": "10.8.0.9/24", "mtu": 1400}
        }"#;
        assert_eq!(plan_of(interfaces, None).vlan, None);
        assert_eq!(plan_of(interfaces, Some("10.0.0.9/24")).vlan, None);
        assert_eq!(
            plan_of(interfaces, Some("10.7.0.9/24")).vlan,
            Some(Vlan { name: "storage".into(), id: 7 })
        );
        let eight = plan_of(interfaces, Some("10.8.0.9/24"));
        assert_eq!(
            (eight.vlan, eight.mtu),
            (Some(Vlan { name: "vlan8".into(), id: 8 }), Some(1400))
        );
    }

    #[test]
    fn the_cards_own_vlan_counts_without_an_address() {
        let own = plan_of(r#"{"v":{"mac":"02:00:00:00:00:01","vlan":9,"parent":"eth0"}}"#, None);
        assert_eq!(own.vlan, Some(Vlan { name: "v".into(), id: 9 }));
    }

    #[test]
    fn a_vlan_on_a_bond() {
        let made = plan_of(
            r#"{
                "eth0": {"mac": "02:00:00:00:00:01"},
                "eth1": {"mac": "02:00:00:00:00:02"},
                "eth2": {},
                "bond0": {"bond": {"mode": "802.3ad", "members": ["eth1", "eth2", "eth0"]}, "mtu": 9000},
                "boot": {"vlan": 5, "parent": "bond0", "address": "10.5.0.9/24"}
            }"#,
            Some("10.5.0.9/24"),
        );
        let members = vec![CARD, MacAddr([2, 0, 0, 0, 0, 2])];
        assert_eq!(
            made,
            Plan {
                bond: Some(Bond { name: "bond0".into(), mode: "802.3ad".into(), members }),
                vlan: Some(Vlan { name: "boot".into(), id: 5 }),
                mtu: None,
            }
        );
    }
}
