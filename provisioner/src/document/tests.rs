//! Documents with everything wrong, and the round trip with export.

use expect_test::{Expect, expect};

use super::*;

fn check(text: &str, expect: &Expect) {
    let (_, diagnostics) = Document::read(text);
    let lines: String = diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    expect.assert_eq(&lines);
}

#[test]
fn every_diagnostic_is_told_with_its_place() {
    check(
        "\
profiles:
  base:
    kernel_args: [quiet]
    imgae: debian
    kernel-args: quiet
  Base: {}
nodes:
  n1:
    interfaces:
      eth0:
        mac: 52:54:00:00:00
        address: 10.0.0.1
        mtu: big
      eth0: {}
      bond0: {bond: {mode: 802.3ad}}
    dns: [10.0.0.1]
    groups: [{a: b}, null]
  n[1-2: {}
  n[1-2]: {comment: the first one is there already}
  n[3-4]: {interfaces: {eth0: {mac: 52:54:00:00:00:01}}}
node: {}
nodes: 7
",
        &expect![[r#"
            3:5: profiles.base.kernel_args: unknown key "kernel_args" (did you mean `kernel-args`?)
            4:5: profiles.base.imgae: unknown key "imgae" (did you mean `image`?)
            5:18: profiles.base.kernel-args: this must be a list, not a single value (write `[quiet]`)
            6:3: profiles.Base: "Base" is not a valid profile name: use 1 to 63 lower-case letters, digits and hyphens, no hyphen first or last
            11:14: nodes.n1.interfaces.eth0.mac: "52:54:00:00:00" is not a MAC address (as in 52:54:00:12:34:56)
            12:18: nodes.n1.interfaces.eth0.address: "10.0.0.1" is not an address with prefix length (as in 10.1.0.11/24)
            13:14: nodes.n1.interfaces.eth0.mtu: "big" is not a whole number from 0 to 4294967295
            14:7: nodes.n1.interfaces.eth0: the key is there twice; first in line 10
            15:21: nodes.n1.interfaces.bond0.bond: the key "members" is missing
            16:10: nodes.n1.dns: this must be a map, not a list
            17:14: nodes.n1.groups[0]: this must be text, not a map
            17:22: nodes.n1.groups[1]: this must be text, not nothing
            18:3: nodes.n[1-2: host list "n[1-2" has an unmatched bracket
            19:3: nodes.n[1-2]: nodes.n1 is there twice
            20:3: nodes.n[3-4]: interface eth0 has a mac, which only one node can have; add the nodes one by one
            21:1: node: unknown key "node" (did you mean `nodes`?)
            22:1: nodes: the key is there twice; first in line 7
            22:8: nodes: this must be a map from name to machine
        "#]],
    );
}

#[test]
fn broken_yaml_names_the_place() {
    check(
        "nodes:\n  n1: [a\n  n2: {}\n",
        &expect![[r#"
            3:5: illegal placement of ':' indicator
        "#]],
    );
    check(
        "nodes: &a {}\nprofiles: *b\n",
        &expect![[r#"
            2:11: while parsing node, found unknown anchor
        "#]],
    );
    check(
        "- a\n",
        &expect![[r#"
            1:1: the document must be a map (begin with `nodes:` or `profiles:`)
        "#]],
    );
    check(
        "nodes: {}\n---\nnodes: {}\n",
        &expect![[r#"
            3:1: a second YAML document; put everything into one
        "#]],
    );
    check(
        "nodes: !x {}\n",
        &expect![[r#"
            1:11: a tag (`!…`) has no meaning here
        "#]],
    );
    check("", &expect![""]);
    check("# nothing\n", &expect![""]);
    check("nodes:\n", &expect![""]);
}

#[test]
fn a_document_that_is_too_large_is_refused() {
    let (_, diagnostics) = Document::read(&"#".repeat(MAX_BYTES + 1));
    assert_eq!(diagnostics.total(), 1);
    assert!(diagnostics.told()[0].message.contains("16777216"));
}

#[test]
fn host_lists_expand_and_count_up() {
    let (document, diagnostics) = Document::read(
        "nodes:\n  n[1-2]: {interfaces: {eth0: {address: 10.0.0.1/24}}}\n  login:\nprofiles:\n  base:\n",
    );
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let lines: Vec<String> = document
        .entries
        .iter()
        .map(|entry| {
            let address = entry.spec.interfaces.get("eth0").and_then(|interface| interface.address);
            format!(
                "{} {}",
                entry.subject,
                address.map(|address| address.to_string()).unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        lines,
        ["nodes.n1 10.0.0.1/24", "nodes.n2 10.0.0.2/24", "nodes.login ", "profiles.base "]
    );
}

#[test]
fn what_nodes_share_may_stand_behind_an_anchor() {
    let read = |text: &str| {
        let (document, diagnostics) = Document::read(text);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let entries = document.entries.into_iter();
        entries.map(|entry| (entry.subject.to_string(), entry.spec)).collect::<Vec<_>>()
    };
    let short = "x-common: &common
  image: debian
  kernel-args: [console=ttyS0]
profiles:
  base: *common
nodes:
  a1:
    <<: *common
    image: other
    interfaces: { lan0: { mac: '52:54:00:99:01:01' } }
";
    let long = "profiles:
  base: {image: debian, kernel-args: [console=ttyS0]}
nodes:
  a1: {image: other, kernel-args: [console=ttyS0], interfaces: {lan0: {mac: '52:54:00:99:01:01'}}}
";
    assert_eq!(read(short), read(long));
    // A mistake is told where it is written, once for each use.
    check(
        "x-a: &a {imag: x}\nnodes: {n1: *a, n2: {<<: *a}}\n",
        &expect![[r#"
            1:10: nodes.n1.imag: unknown key "imag" (did you mean `image`?)
            1:10: nodes.n2.imag: unknown key "imag" (did you mean `image`?)
        "#]],
    );
}

#[test]
fn diagnostics_of_the_cluster_are_located() {
    let (document, _) = Document::read(
        "nodes:\n  n1:\n    kernel-args:\n      - a\n      - 'b c'\n    interfaces:\n      eth0.7: {mtu: 1}\n",
    );
    let locate = |field: &str| {
        let subject = Subject::Node("n1".parse().unwrap());
        let finding = Finding { subject, field: field.into(), message: "m".into(), hint: None };
        let mut diagnostics = Diagnostics::default();
        document.note(&finding, &mut diagnostics);
        diagnostics.told()[0].to_string()
    };
    assert_eq!(locate("kernel-args[1]"), "5:9: nodes.n1.kernel-args[1]: m");
    assert_eq!(locate("interfaces.eth0.7.mtu"), "7:21: nodes.n1.interfaces.eth0.7.mtu: m");
    assert_eq!(locate("interfaces.eth0.7.mac"), "7:7: nodes.n1.interfaces.eth0.7.mac: m");
    assert_eq!(locate("image"), "2:3: nodes.n1.image: m");
    assert_eq!(locate(""), "3:5: nodes.n1: m");
}

#[test]
fn nodes_are_counted_before_host_lists_are_expanded() {
    for list in ["n[1-999999999]", "n[1-300][1-300]", "n[1-9][1-9][1-9][1-9][1-9][1-9]"] {
        let (document, diagnostics) = Document::read(&format!("nodes:\n  {list}: {{}}\n"));
        assert!(document.entries.is_empty(), "{list}");
        assert!(diagnostics.told()[0].message.contains("more than 65536 nodes"), "{list}");
    }
    let parts = |count: u32| -> String {
        (0..count).map(|part| format!("  p{part}-[1-65536]: {{}}\n")).collect()
    };
    let (document, diagnostics) = Document::read(&format!("nodes:\n{}", parts(10_000)));
    assert!(document.entries.is_empty());
    expect![[r#"1:1: nodes: the document names more than 65536 nodes (a cluster has at most so many; no host list was expanded)"#]]
        .assert_eq(&diagnostics.told()[0].to_string());
    let (document, diagnostics) = Document::read(&format!("nodes:\n{}", parts(1)));
    assert_eq!(document.entries.len(), 65_536, "{diagnostics:?}");
}

#[test]
fn what_many_nodes_share_is_weighed_before_it_is_copied() {
    let argument = "x".repeat(1 << 20);
    let text = format!("nodes:\n  n[1-1000]: {{comment: {argument}}}\n  m1: {{}}\n");
    let (document, diagnostics) = Document::read(&text);
    assert!(document.entries.is_empty(), "it is past the limit from there on");
    let told = diagnostics.told();
    assert!(told[0].to_string().starts_with("2:3: nodes.n[1-1000]: up to here"), "{}", told[0]);
}

/// The name of a kind, and a document of it with as many parts as are asked for.
type Growing = (&'static str, fn(usize) -> String);

const GROWING: [Growing; 6] = [
    ("nodes", |parts| nodes(parts, "comment: x")),
    ("nodes with an unknown key", |parts| nodes(parts, "x: 1")),
    ("nodes with an interface that is wrong", |parts| nodes(parts, "interfaces: {e0: {mac: zz}}")),
    ("a node that is there again and again", |parts| {
        format!("nodes:\n{}", "  n1: {}\n".repeat(parts))
    }),
    ("one node with many tags", |parts| {
        let tags: String = (0..parts).map(|part| format!("t{part}: [x], ")).collect();
        format!("nodes: {{n1: {{tags: {{{tags}}}}}}}\n")
    }),
    ("one host list", |parts| format!("nodes:\n  n[1-{parts}]: {{comment: x}}\n")),
];

fn nodes(parts: usize, fields: &str) -> String {
    (1..=parts)
        .fold("nodes:\n".to_owned(), |text, part| text + &format!("  n{part}: {{{fields}}}\n"))
}

#[test]
fn eight_times_the_document_takes_at_most_ten_times_the_steps() {
    for (what, text) in GROWING {
        let steps = |parts| Document::read(&text(parts)).1.steps();
        let (small, large) = (steps(1_000), steps(8_000));
        assert!(small >= 1_000, "{what}: {small} steps count next to nothing");
        assert!(large <= 10 * small, "{what}: {small} and {large} steps");
    }
}

#[test]
fn places_of_findings_are_looked_up_for_those_that_are_told() {
    let (document, mut diagnostics) = Document::read(&nodes(8_000, "comment: x"));
    for number in 1..=8_000 {
        let subject = Subject::Node(format!("n{number}").parse().unwrap());
        let finding = Finding { subject, field: "comment".into(), message: "m".into(), hint: None };
        document.note(&finding, &mut diagnostics);
    }
    let told = diagnostics.told();
    assert_eq!(told.len(), yaml_tree::MAX_DIAGNOSTICS + 1);
    assert_eq!(told[1].to_string(), "3:17: nodes.n2.comment: m");
}

mod round_trip {
    use std::collections::BTreeMap;

    use api::machine::{BmcSpec, BondSpec, DnsSpec, InterfaceSpec, RootSpec};
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    /// Texts that YAML would take for something else, and ordinary ones.
    fn text() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "no",
            "yes",
            "null",
            "~",
            "1",
            "0x10",
            "1e3",
            "1.10",
            "",
            " a ",
            "a: b",
            "# c",
            "- d",
            "'",
            "\"",
            "multi\nline\n",
            "multi\n  line",
            "tab\tbed",
            "ä€😀",
            "ssh-ed25519 AAAA root@x",
            "{a}",
            "[b]",
            "&c",
            "*d",
            "!e",
            "%f",
            "@g",
            "`h`",
            "true",
            "2026-11-23",
            "\u{85}",
            "trailing ",
            "\\n",
            "|",
            ">",
            "?",
            "<<",
        ])
        .prop_map(str::to_owned)
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(text(), 0..3)
    }

    fn interface() -> impl Strategy<Value = InterfaceSpec> {
        let bond = (text(), texts()).prop_map(|(mode, members)| BondSpec { mode, members });
        (
            any::<Option<[u8; 6]>>(),
            any::<Option<u32>>(),
            any::<Option<u16>>(),
            prop::option::of(bond),
        )
            .prop_map(|(mac, number, vlan, bond)| InterfaceSpec {
                mac: mac.map(api::ids::MacAddr),
                address: number.and_then(|number| {
                    ipnet::IpNet::new(std::net::Ipv4Addr::from(number).into(), 24).ok()
                }),
                gateway: number.map(|number| std::net::Ipv4Addr::from(number).into()),
                mtu: number,
                vlan,
                parent: bond.as_ref().map(|bond: &BondSpec| bond.mode.clone()),
                bond,
            })
    }

    fn spec() -> impl Strategy<Value = MachineSpec> {
        let interfaces = prop::collection::btree_map("[a-z]{1,3}[.0-9]{0,2}", interface(), 0..3);
        let tags = prop::collection::btree_map(text(), text(), 0..4);
        (prop::option::of(text()), texts(), texts(), interfaces, tags, any::<bool>()).prop_map(
            |(comment, lists, args, interfaces, tags, sections)| MachineSpec {
                image: comment.clone(),
                kernel: comment.clone(),
                comment,
                profiles: lists.clone(),
                kernel_args: args.clone(),
                root: sections.then(|| RootSpec { writable_size: args.first().cloned() }),
                interfaces,
                dns: sections
                    .then(|| DnsSpec { servers: vec![[10, 0, 0, 1].into()], search: args }),
                boot_overlays: lists.clone(),
                runtime_overlays: lists.clone(),
                bmc: sections.then(|| BmcSpec { address: Some([10, 0, 0, 1].into()) }),
                groups: lists,
                labels: tags.clone(),
                tags,
            },
        )
    }

    proptest! {
        #[test]
        fn export_reads_back(specs in prop::collection::vec(spec(), 0..3)) {
            let nodes: BTreeMap<NodeName, MachineSpec> = specs
                .iter()
                .enumerate()
                .map(|(index, spec)| (format!("n{index}").parse().unwrap(), spec.clone()))
                .collect();
            let yaml = export([], &nodes).unwrap();
            let (document, diagnostics) = Document::read(&yaml);
            prop_assert!(diagnostics.is_empty(), "{yaml}\n{diagnostics:?}");
            let read: Vec<&MachineSpec> = document.entries.iter().map(|entry| &entry.spec).collect();
            prop_assert_eq!(read, specs.iter().collect::<Vec<_>>(), "{}", yaml);
        }

        #[test]
        fn reading_never_panics(text in "[a-z:{}\\[\\], \n&*!|>'\"~-]{0,80}") {
            let _ = Document::read(&text);
        }
    }
}
