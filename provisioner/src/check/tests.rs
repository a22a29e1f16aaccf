//! Every rule, once broken.

use expect_test::{Expect, expect};

use super::*;

fn spec(yaml: &str) -> MachineSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

fn check(profiles: &[(&str, &str)], nodes: &[(&str, &str)], expect: &Expect) {
    check_among(KnownAddresses::default(), profiles, nodes, expect);
}

fn check_among(
    addresses: KnownAddresses,
    profiles: &[(&str, &str)],
    nodes: &[(&str, &str)],
    expect: &Expect,
) {
    let profiles = profiles
        .iter()
        .map(|(name, yaml)| {
            let name: ProfileName = name.parse().unwrap();
            (
                name.clone(),
                Arc::new(ProfileRecord { name, spec: spec(yaml), version: 1, unreadable: None }),
            )
        })
        .collect();
    let nodes = nodes
        .iter()
        .map(|(name, yaml)| {
            let name: NodeName = name.parse().unwrap();
            let id = api::ids::NodeId(uuid::Uuid::nil());
            (
                name.clone(),
                Arc::new(NodeRecord { id, name, spec: spec(yaml), version: 1, unreadable: None }),
            )
        })
        .collect();
    let mut known = Known { addresses, ..Known::default() };
    known.images.insert("debian".parse().unwrap(), BTreeSet::from([1, 3]));
    known.images.insert("raspi".parse().unwrap(), BTreeSet::from([1, 2]));
    let why = "image raspi@2 is for linux/arm64: not bootable here".to_owned();
    known.not_bootable.insert(("raspi".parse().unwrap(), 2), why);
    known.overlays.insert("hostname".parse().unwrap());
    let checked = check_cluster(&nodes, &profiles, &known);
    let text: String = checked.findings().iter().map(|finding| format!("{finding}\n")).collect();
    expect.assert_eq(&text);
}

#[test]
fn a_good_cluster_has_no_diagnostics() {
    check(
        &[("base", "{image: debian@3, boot-overlays: [hostname, ~nothing-like-it]}")],
        &[
            (
                "n1",
                "{profiles: [base], interfaces: {eth0: {mac: '52:54:00:00:00:01', address: 10.0.0.1/24, \
                 gateway: 10.0.0.254, mtu: 9000}, v7: {vlan: 7, parent: eth0, address: 10.7.0.1/24}}}",
            ),
            (
                "n2",
                "{image: debian, interfaces: {eth0: {}, eth1: {}, bond0: {bond: {mode: 802.3ad, members: \
                 [eth0, eth1]}, address: 10.0.0.2/24}}, root: {writable-size: 4GiB}}",
            ),
        ],
        &expect![""],
    );
}

#[test]
fn the_other_node_is_named() {
    check(
        &[],
        &[
            ("n1", "{interfaces: {eth0: {mac: '52:54:00:00:00:01', address: 10.0.0.1/24}}}"),
            ("n2", "{interfaces: {eth0: {mac: '52:54:00:00:00:01', address: 10.0.0.1/16}}}"),
        ],
        &expect![[r#"
            nodes.n2.interfaces.eth0.address: address 10.0.0.1 already belongs to node n1, interface eth0
            nodes.n2.interfaces.eth0.mac: MAC address 52:54:00:00:00:01 already belongs to node n1, interface eth0
        "#]],
    );
}

#[test]
fn unknown_names_have_hints() {
    check(
        &[("base", "{profiles: [bsae]}")],
        &[
            ("n1", "{profiles: [bas], image: debain, boot-overlays: [hostnam, frob, ~frob, A]}"),
            ("n2", "{profiles: [base], image: debian@2}"),
            ("n3", "{image: 'debian@x', groups: ['a b', '~']}"),
        ],
        &expect![[r#"
            profiles.base.profiles: profile "bsae" does not exist (did you mean `base`?)
            nodes.n1.boot-overlays[0]: overlay "hostnam" does not exist (did you mean `hostname`?)
            nodes.n1.boot-overlays[1]: overlay "frob" does not exist (see `bedplate overlay list`)
            nodes.n1.boot-overlays[3]: "A" is not a valid overlay name: use 1 to 63 lower-case letters, digits and hyphens, no hyphen first or last
            nodes.n1.image: image "debain" does not exist (did you mean `debian`?)
            nodes.n1.profiles: profile "bas" does not exist (did you mean `base`?)
            nodes.n2.image: image "debian" has no version 2 (it has 1, 3)
            nodes.n3.groups[0]: a group's name has letters, digits and ._+- only, and at least one
            nodes.n3.groups[1]: a group's name has letters, digits and ._+- only, and at least one
            nodes.n3.image: "x" is not a version number (write NAME or NAME@VERSION)
        "#]],
    );
}

#[test]
fn an_image_for_other_machines_is_told() {
    check(
        &[("base", "{image: raspi}")],
        &[("n1", "{image: raspi@2}"), ("n2", "{image: raspi@1}"), ("n3", "{profiles: [base]}")],
        &expect![[r#"
            profiles.base.image: image raspi@2 is for linux/arm64: not bootable here
            nodes.n1.image: image raspi@2 is for linux/arm64: not bootable here
        "#]],
    );
}

#[test]
fn labels_are_checked_and_counted_with_those_of_profiles() {
    let many = |from: usize, to: usize| {
        (from..to).map(|number| format!("l{number}: x")).collect::<Vec<_>>().join(", ")
    };
    let (half, other) = (format!("{{labels: {{{}}}}}", many(0, 40)), many(40, 80));
    check(
        &[("half", &half)],
        &[
            ("n1", "{labels: {rack: a1, 'a b': x, zone: 'x y', ~rack: '', ~tier: x, '~-': ''}}"),
            ("n2", &format!("{{profiles: [half], labels: {{{other}}}}}")),
            ("n3", &format!("{{profiles: [half], labels: {{{}}}}}", many(10, 60))),
        ],
        &expect![[r#"
            nodes.n1.labels.a b: the name of a label has 1 to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a digit
            nodes.n1.labels.zone: the value of a label is empty, or has up to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a digit
            nodes.n1.labels.~-: the name of a label has 1 to 63 letters, digits, `-`, `_` and `.`, and begins and ends with a letter or a digit
            nodes.n1.labels.~rack: the label rack is given and taken away at once
            nodes.n1.labels.~tier: it takes the label tier away, and so has no value (write `~tier: ''`)
            nodes.n2.labels: 80 labels; at most 64 are taken (what is for templates alone can be a tag)
        "#]],
    );
}

#[test]
fn single_fields_are_checked() {
    check(
        &[],
        &[(
            "n1",
            "{kernel: 'a b', kernel-args: ['a b', '', \"x\\ny\"], root: {writable-size: 0%}, dns: {search: ['a..b']}, \
             tags: {'a b': x}, interfaces: {interface-with-name: {}, eth0: {mac: '01:00:00:00:00:01', mtu: 1, \
             vlan: 5000, parent: eth1}, eth1: {bond: {mode: lacp, members: [eth2]}}, eth2: {}}}",
        )],
        &expect![[r#"
            nodes.n1.dns.search[0]: "a..b" is not a domain name
            nodes.n1.interfaces.eth0.mac: 01:00:00:00:00:01 is not the address of one interface (multicast or zero)
            nodes.n1.interfaces.eth0.mtu: 1 is not between 68 and 65535
            nodes.n1.interfaces.eth0.vlan: 5000 is not between 1 and 4094
            nodes.n1.interfaces.eth1.bond.mode: "lacp" is not a bond mode (it is one of balance-rr, active-backup, balance-xor, broadcast, 802.3ad, balance-tlb, balance-alb)
            nodes.n1.interfaces.interface-with-name: "interface-with-name" cannot name an interface (use 1 to 15 letters, digits and ._- and not lo, all or default)
            nodes.n1.kernel: a kernel release has letters, digits and ._+~- only (see `uname -r`)
            nodes.n1.kernel-args[0]: kernel argument "a b" has blanks that are not between double quotes, or a quote without its other: an argument with blanks is written as name="one two" (write each argument as an element of its own)
            nodes.n1.kernel-args[1]: kernel argument "" is empty
            nodes.n1.kernel-args[2]: kernel argument "x\ny" holds other characters than printable ASCII, which a boot script cannot carry
            nodes.n1.root.writable-size: "0%" is not a size (write 1% to 100%, or a size such as 512MiB or 4GiB)
            nodes.n1.tags.a b: a tag's name has letters, digits and ._+~- only
        "#]],
    );
}

#[test]
fn kernel_arguments_reach_the_kernel_as_they_are_written() {
    let long = "x".repeat(1000);
    check(
        &[("base", &format!("{{kernel-args: [a{long}]}}"))],
        &[
            (
                "n1",
                "{kernel-args: ['#x', '&&', 'a=${net0/mac}', '~#y', '~', 'a b', 'x=\"a b\"', 'y=\"a']}",
            ),
            ("n2", &format!("{{profiles: [base], kernel-args: [b{long}]}}")),
            ("n3", &format!("{{profiles: [base], kernel-args: [b, '~a{long}']}}")),
        ],
        &expect![[r##"
            nodes.n1.kernel-args[0]: kernel argument "#x" holds a word that iPXE takes for an operator or a comment: &&, || or #
            nodes.n1.kernel-args[1]: kernel argument "&&" holds a word that iPXE takes for an operator or a comment: &&, || or #
            nodes.n1.kernel-args[2]: kernel argument "a=${net0/mac}" holds "${", which iPXE would replace
            nodes.n1.kernel-args[3]: kernel argument "#y" holds a word that iPXE takes for an operator or a comment: &&, || or #
            nodes.n1.kernel-args[4]: kernel argument "" is empty
            nodes.n1.kernel-args[5]: kernel argument "a b" has blanks that are not between double quotes, or a quote without its other: an argument with blanks is written as name="one two" (write each argument as an element of its own)
            nodes.n1.kernel-args[7]: kernel argument "y=\"a" has blanks that are not between double quotes, or a quote without its other: an argument with blanks is written as name="one two"
            nodes.n2.kernel-args: the kernel arguments of profiles and node have 2003 bytes together; at most 1792 reach the kernel (put what is long into a file of an overlay)
        "##]],
    );
}

#[test]
fn interfaces_fit_together() {
    check(
        &[],
        &[
            (
                "n1",
                "{interfaces: {a: {vlan: 1}, b: {parent: a}, c: {vlan: 2, parent: x}, d: {vlan: 3, parent: d}}}",
            ),
            (
                "n2",
                "{interfaces: {a: {address: 10.0.0.0/24}, b: {address: 10.0.0.2/24, gateway: 10.0.1.1}, c: {gateway: \
                 10.0.0.1}, d: {address: 127.0.0.1/8}, e: {address: 10.0.0.9/24, gateway: 10.0.0.9}}}",
            ),
            (
                "n3",
                "{interfaces: {a: {address: 10.0.0.3/24}, b: {}, bond0: {bond: {mode: 802.3ad, members: [a, b, x]}}, \
                 bond1: {bond: {mode: 802.3ad, members: [b, bond1, bond0]}}, bond2: {bond: {mode: 802.3ad, members: []}}}}",
            ),
        ],
        &expect![[r#"
            nodes.n1.interfaces.a.vlan: a VLAN needs the interface that carries it (add `parent`)
            nodes.n1.interfaces.b.parent: only a VLAN has a parent (add `vlan`, or remove `parent`)
            nodes.n1.interfaces.c.parent: the node has no interface "x"
            nodes.n1.interfaces.d.parent: the VLAN carries itself
            nodes.n2.interfaces.a.address: 10.0.0.0 is not the address of a host in 10.0.0.0/24
            nodes.n2.interfaces.b.gateway: gateway 10.0.1.1 is outside the network 10.0.0.0/24
            nodes.n2.interfaces.c.gateway: a gateway needs an address on the interface (add `address`)
            nodes.n2.interfaces.d.address: 127.0.0.1 cannot be given to an interface
            nodes.n2.interfaces.e.gateway: gateway 10.0.0.9 is the interface's own address
            nodes.n3.interfaces.bond0.bond.members: member "a" has an address of its own (move the address to "bond0")
            nodes.n3.interfaces.bond0.bond.members: the node has no interface "x"
            nodes.n3.interfaces.bond1.bond.members: "b" is already a member of "bond0"
            nodes.n3.interfaces.bond1.bond.members: "bond0" is a bond or a VLAN itself
            nodes.n3.interfaces.bond1.bond.members: the bond is its own member
            nodes.n3.interfaces.bond2.bond.members: a bond needs at least one member
        "#]],
    );
}

#[test]
fn cycles_show_their_path() {
    check(
        &[("a", "{profiles: [b]}"), ("b", "{profiles: [a]}")],
        &[("n1", "{profiles: [a]}")],
        &expect![[r#"
            profiles.a.profiles: profiles list each other: a -> b -> a
            profiles.b.profiles: profiles list each other: b -> a -> b
            nodes.n1.profiles: profiles list each other: a -> b -> a
        "#]],
    );
}

/// A server with one subnet.
fn site(gives_addresses: bool) -> KnownAddresses {
    let subnet = boot_proto::dhcp::Subnet {
        network: "10.98.0.0/24".parse().unwrap(),
        pool: Some(("10.98.0.250".parse().unwrap(), "10.98.0.254".parse().unwrap())),
        gateway: Some("10.98.0.254".parse().unwrap()),
        dns: vec!["10.98.0.1".parse().unwrap(), "10.98.0.2".parse().unwrap()],
        ntp: Vec::new(),
        domain: None,
    };
    let server = ["10.98.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    KnownAddresses { plan: Arc::new(AddressPlan::new(&server, &[subnet])), gives_addresses }
}

#[test]
fn addresses_that_are_somebodys_are_named_with_all_their_owners() {
    let node = |address: &str| format!("{{interfaces: {{lan0: {{address: {address}}}}}}}");
    let nodes = [
        ("bad1", node("10.98.0.1/24")),
        ("bad2", node("10.98.0.254/24")),
        ("bad3", node("10.98.0.2/24")),
        ("bad4", node("10.98.0.251/24")),
        // Neither is the network's own name by the node's prefix.
        ("bad5", node("10.98.0.255/16")),
        ("bad6", node("192.0.2.1/24")),
        ("good", node("10.98.0.11/24")),
        ("twice", node("10.98.0.11/24")),
        ("twice2", node("10.98.0.254/24")),
    ];
    let nodes: Vec<(&str, &str)> =
        nodes.iter().map(|(name, yaml)| (*name, yaml.as_str())).collect();
    check_among(
        site(true),
        &[],
        &nodes,
        &expect![[r#"
            nodes.bad1.interfaces.lan0.address: address 10.98.0.1 is this server's, and a name server of 10.98.0.0/24 (choose an address that is nobody's)
            nodes.bad2.interfaces.lan0.address: address 10.98.0.254 is the gateway of 10.98.0.0/24, and in the pool 10.98.0.250-10.98.0.254 (choose an address that is nobody's)
            nodes.bad3.interfaces.lan0.address: address 10.98.0.2 is a name server of 10.98.0.0/24 (choose an address that is nobody's)
            nodes.bad4.interfaces.lan0.address: address 10.98.0.251 is in the pool 10.98.0.250-10.98.0.254 (choose an address that is nobody's)
            nodes.bad5.interfaces.lan0.address: address 10.98.0.255 is the broadcast address of 10.98.0.0/24 (choose an address that is nobody's)
            nodes.bad6.interfaces.lan0.address: address 192.0.2.1 is this server's (choose an address that is nobody's)
            nodes.twice.interfaces.lan0.address: address 10.98.0.11 already belongs to node good, interface lan0
            nodes.twice2.interfaces.lan0.address: address 10.98.0.254 already belongs to node bad2, interface lan0
            nodes.twice2.interfaces.lan0.address: address 10.98.0.254 is the gateway of 10.98.0.0/24, and in the pool 10.98.0.250-10.98.0.254 (choose an address that is nobody's)
        "#]],
    );
}

#[test]
fn a_node_boots_by_an_interface_that_dhcp_serves() {
    let nodes = [
        ("far", "{interfaces: {lan0: {mac: '52:54:00:00:00:01', address: 10.97.0.5/24}}}"),
        // A storage network beside the one that it boots by.
        (
            "two",
            "{interfaces: {lan0: {mac: '52:54:00:00:00:02', address: 10.98.0.5/24}, \
             ib0: {mac: '52:54:00:00:00:03', address: 10.50.0.5/24}}}",
        ),
        ("pool", "{interfaces: {lan0: {mac: '52:54:00:00:00:04'}, ib0: {address: 10.50.0.6/24}}}"),
        ("later", "{interfaces: {lan0: {address: 10.97.0.6/24}}}"),
    ];
    check_among(
        site(true),
        &[],
        &nodes,
        &expect![[r#"
            nodes.far.interfaces.lan0.address: address 10.97.0.5 is in no subnet of this server (10.98.0.0/24), and the node has no other interface to boot by (choose an address of one of them, or add its network to dhcp.subnets in server.yaml)
        "#]],
    );
    // Beside another DHCP server it is that one's matter.
    check_among(site(false), &[], &nodes, &expect![""]);
}

#[test]
fn interfaces_that_carry_each_other_are_followed_as_far_as_the_kernel_goes() {
    let vlans: String =
        (0..9).map(|at| format!("e{at}: {{vlan: 1, parent: e{}}}, ", at + 1)).collect();
    check(
        &[],
        &[("n1", &format!("{{interfaces: {{{vlans}e9: {{}}}}}}"))],
        &expect![[r#"
            nodes.n1.interfaces.e0.parent: more than 8 interfaces carry each other
            nodes.n1.interfaces.e1.parent: more than 8 interfaces carry each other
        "#]],
    );
}
