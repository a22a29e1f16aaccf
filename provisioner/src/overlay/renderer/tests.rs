//! The shipped overlays, rendered for nodes of several kinds.

#![expect(clippy::too_many_lines, reason = "the text of a whole directory is one expectation")]

use std::path::Path;

use api::{
    ids::{NodeId, NodeName},
    machine::MachineSpec,
};
use expect_test::{Expect, expect};

use super::*;
use crate::overlay::{
    archive,
    host_key::HostKey,
    variables::{ClusterVariables, NodeFacts},
};

fn shipped() -> Library {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlays");
    Library::load(&directory, Path::new("/nonexistent"))
}

fn variables(yaml: &str) -> Variables {
    let name: NodeName = "n1".parse().unwrap();
    let spec: MachineSpec = serde_saphyr::from_str(yaml).unwrap();
    let other: NodeName = "n2".parse().unwrap();
    let other_spec: MachineSpec = serde_saphyr::from_str(
        "{interfaces: {lan0: {address: 10.0.0.2/24}, lan1: {address: 10.1.0.2/24}}}",
    )
    .unwrap();
    let cluster = ClusterVariables::new(
        [(&name, &spec), (&other, &other_spec)],
        &["10.0.0.254".parse().unwrap()],
    );
    let ntp = |network: &str, servers: &[&str]| {
        (network.parse().unwrap(), servers.iter().map(|server| server.parse().unwrap()).collect())
    };
    let cluster = cluster.with_ntp(vec![
        ntp("10.0.0.0/24", &["10.0.0.3", "192.0.2.123"]),
        ntp("10.1.0.0/24", &["192.0.2.123", "10.1.0.3"]),
        ntp("10.2.0.0/24", &[]),
    ]);
    let key = HostKey { private: "PRIVATE".into(), public: "ssh-ed25519 PUBLIC".into() };
    let facts = NodeFacts {
        name: &name,
        id: NodeId(uuid::Uuid::from_u128(0x6f1c_1f0e_52a1_4a53_9f0b_6f5f_6d1f_2d11)),
        spec: &spec,
        image: Some(("debian-node", 2)),
        host_key: Some(&key),
    };
    Variables::new(&cluster, &facts)
}

fn check(overlay: &str, yaml: &str, expect: &Expect) {
    let entries =
        Renderer::default().entries(&shipped(), &[overlay.to_owned()], &variables(yaml)).unwrap();
    let text: String = entries
        .iter()
        .filter_map(|entry| match &entry.content {
            Content::Directory => None,
            Content::File { bytes, .. } => Some(format!(
                "--- {} {:o}\n{}",
                entry.path,
                entry.mode,
                String::from_utf8_lossy(bytes)
            )),
            Content::Link(target) => Some(format!("--- {} -> {target}\n", entry.path)),
        })
        .collect();
    expect.assert_eq(&text);
}

const PLAIN: &str = "{interfaces: {lan0: {mac: '52:54:00:00:00:01', address: 10.0.0.1/24, gateway: 10.0.0.254}, \
                     lan1: {mac: '52:54:00:00:00:02', mtu: 9000}}, dns: {servers: [10.0.0.253], search: [x.org, y.org]}, \
                     tags: {ssh-authorized-keys: \"ssh-ed25519 AAAA root@admin\\n\"}}";

const RICH: &str = "{interfaces: {lan0: {mac: '52:54:00:00:00:01'}, lan1: {mac: '52:54:00:00:00:02'}, bond0: {bond: \
                    {mode: 802.3ad, members: [lan0, lan1]}, mtu: 9000}, v7: {vlan: 7, parent: bond0, address: \
                    'fd00::1/64', gateway: 'fd00::2'}}}";

#[test]
fn time_is_that_of_the_subnets_of_the_node() {
    check(
        "time",
        PLAIN,
        &expect![[r#"
            --- /etc/chrony/sources.d/bedplate.sources 644
            # Written by Bedplate (overlay time); changes are lost.
            server 10.0.0.3 iburst
            server 192.0.2.123 iburst
            --- /etc/systemd/timesyncd.conf.d/10-bedplate.conf 644
            # Written by Bedplate (overlay time); changes are lost.
            [Time]
            NTP=10.0.0.3 192.0.2.123
        "#]],
    );
    // DHCP gives its address, and nobody knows in which subnet.
    check(
        "time",
        "{interfaces: {lan0: {mac: '52:54:00:00:00:01'}}}",
        &expect![[r#"
            --- /etc/chrony/sources.d/bedplate.sources 644
            # Written by Bedplate (overlay time); changes are lost.
            server 10.0.0.3 iburst
            server 192.0.2.123 iburst
            server 10.1.0.3 iburst
            --- /etc/systemd/timesyncd.conf.d/10-bedplate.conf 644
            # Written by Bedplate (overlay time); changes are lost.
            [Time]
            NTP=10.0.0.3 192.0.2.123 10.1.0.3
        "#]],
    );
    check("time", "{interfaces: {lan0: {address: 10.2.0.9/24}}}", &expect![[""]]);
}

#[test]
fn hostname() {
    check(
        "hostname",
        PLAIN,
        &expect![[r#"
        --- /etc/hostname 644
        n1
        --- /etc/machine-id 444
        6f1c1f0e52a14a539f0b6f5f6d1f2d11
    "#]],
    );
}

#[test]
fn hosts() {
    check(
        "hosts",
        PLAIN,
        &expect![[r#"
        --- /etc/hosts 644
        # Written by Bedplate (overlay hosts); changes are lost.
        127.0.0.1 localhost
        ::1 localhost ip6-localhost ip6-loopback
        ff02::1 ip6-allnodes
        ff02::2 ip6-allrouters

        10.0.0.1 n1.x.org n1
        10.0.0.2 n2.x.org n2
        10.1.0.2 n2-lan1
    "#]],
    );
    check(
        "hosts",
        "{}",
        &expect![[r#"
        --- /etc/hosts 644
        # Written by Bedplate (overlay hosts); changes are lost.
        127.0.0.1 localhost
        127.0.1.1 n1
        ::1 localhost ip6-localhost ip6-loopback
        ff02::1 ip6-allnodes
        ff02::2 ip6-allrouters

        10.0.0.2 n2
        10.1.0.2 n2-lan1
    "#]],
    );
}

#[test]
fn resolv() {
    check(
        "resolv",
        PLAIN,
        &expect![[r#"
        --- /etc/resolv.conf 644
        # Written by Bedplate (overlay resolv); changes are lost.
        search x.org y.org
        nameserver 10.0.0.253
    "#]],
    );
    check("resolv", "{}", &expect![[""]]);
}

#[test]
fn systemd_networkd() {
    check(
        "systemd-networkd",
        PLAIN,
        &expect![[r#"
        --- /etc/systemd/network/10-lan0.link 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:01

        [Link]
        NamePolicy=
        Name=lan0
        --- /etc/systemd/network/10-lan0.network 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        Name=lan0

        [Network]
        Address=10.0.0.1/24
        Gateway=10.0.0.254
        --- /etc/systemd/network/10-lan1.link 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:02

        [Link]
        NamePolicy=
        Name=lan1
        MTUBytes=9000
        --- /etc/systemd/network/10-lan1.network 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        Name=lan1

        [Link]
        MTUBytes=9000

        [Network]
        DHCP=yes

        [DHCPv4]
        ClientIdentifier=mac
        --- /etc/systemd/system/dbus-org.freedesktop.network1.service -> /lib/systemd/system/systemd-networkd.service
        --- /etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /lib/systemd/system/systemd-networkd.service
        --- /etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service -> /lib/systemd/system/systemd-networkd-wait-online.service
        --- /etc/systemd/system/sockets.target.wants/systemd-networkd.socket -> /lib/systemd/system/systemd-networkd.socket
    "#]],
    );
}

#[test]
fn systemd_networkd_with_vlan_and_bond() {
    check(
        "systemd-networkd",
        RICH,
        &expect![[r#"
        --- /etc/systemd/network/10-bond0.netdev 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [NetDev]
        Name=bond0
        Kind=bond
        MTUBytes=9000

        [Bond]
        Mode=802.3ad
        MIIMonitorSec=100ms
        --- /etc/systemd/network/10-bond0.network 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        Name=bond0

        [Link]
        MTUBytes=9000
        RequiredForOnline=no

        [Network]
        DHCP=yes
        VLAN=v7

        [DHCPv4]
        ClientIdentifier=mac
        --- /etc/systemd/network/10-lan0.link 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:01

        [Link]
        NamePolicy=
        Name=lan0
        --- /etc/systemd/network/10-lan0.network 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        Name=lan0

        [Network]
        Bond=bond0
        --- /etc/systemd/network/10-lan1.link 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:02

        [Link]
        NamePolicy=
        Name=lan1
        --- /etc/systemd/network/10-lan1.network 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        Name=lan1

        [Network]
        Bond=bond0
        --- /etc/systemd/network/10-v7.netdev 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [NetDev]
        Name=v7
        Kind=vlan

        [VLAN]
        Id=7
        --- /etc/systemd/network/10-v7.network 644
        # Written by Bedplate (overlay systemd-networkd); changes are lost.
        [Match]
        Name=v7

        [Network]
        Address=fd00::1/64
        Gateway=fd00::2
        --- /etc/systemd/system/dbus-org.freedesktop.network1.service -> /lib/systemd/system/systemd-networkd.service
        --- /etc/systemd/system/multi-user.target.wants/systemd-networkd.service -> /lib/systemd/system/systemd-networkd.service
        --- /etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service -> /lib/systemd/system/systemd-networkd-wait-online.service
        --- /etc/systemd/system/sockets.target.wants/systemd-networkd.socket -> /lib/systemd/system/systemd-networkd.socket
    "#]],
    );
}

#[test]
fn network_manager() {
    check(
        "network-manager",
        PLAIN,
        &expect![[r#"
        --- /etc/NetworkManager/system-connections/lan0.nmconnection 600
        # Written by Bedplate (overlay network-manager); changes are lost.
        [connection]
        id=lan0
        type=ethernet
        interface-name=lan0
        autoconnect=true

        [ethernet]
        mac-address=52:54:00:00:00:01

        [ipv4]
        method=manual
        address1=10.0.0.1/24,10.0.0.254

        [ipv6]
        method=link-local
        --- /etc/NetworkManager/system-connections/lan1.nmconnection 600
        # Written by Bedplate (overlay network-manager); changes are lost.
        [connection]
        id=lan1
        type=ethernet
        interface-name=lan1
        autoconnect=true

        [ethernet]
        mac-address=52:54:00:00:00:02
        mtu=9000

        [ipv4]
        method=auto

        [ipv6]
        method=auto
        --- /etc/systemd/network/10-lan0.link 644
        # Written by Bedplate (overlay network-manager); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:01

        [Link]
        NamePolicy=
        Name=lan0
        --- /etc/systemd/network/10-lan1.link 644
        # Written by Bedplate (overlay network-manager); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:02

        [Link]
        NamePolicy=
        Name=lan1
        MTUBytes=9000
    "#]],
    );
}

#[test]
fn network_manager_with_vlan_and_bond() {
    check(
        "network-manager",
        RICH,
        &expect![[r#"
        --- /etc/NetworkManager/system-connections/bond0.nmconnection 600
        # Written by Bedplate (overlay network-manager); changes are lost.
        [connection]
        id=bond0
        type=bond
        interface-name=bond0
        autoconnect=true

        [bond]
        mode=802.3ad
        miimon=100

        [ethernet]
        mtu=9000

        [ipv4]
        method=auto

        [ipv6]
        method=auto
        --- /etc/NetworkManager/system-connections/lan0.nmconnection 600
        # Written by Bedplate (overlay network-manager); changes are lost.
        [connection]
        id=lan0
        type=ethernet
        interface-name=lan0
        autoconnect=true
        master=bond0
        slave-type=bond

        [ethernet]
        mac-address=52:54:00:00:00:01
        --- /etc/NetworkManager/system-connections/lan1.nmconnection 600
        # Written by Bedplate (overlay network-manager); changes are lost.
        [connection]
        id=lan1
        type=ethernet
        interface-name=lan1
        autoconnect=true
        master=bond0
        slave-type=bond

        [ethernet]
        mac-address=52:54:00:00:00:02
        --- /etc/NetworkManager/system-connections/v7.nmconnection 600
        # Written by Bedplate (overlay network-manager); changes are lost.
        [connection]
        id=v7
        type=vlan
        interface-name=v7
        autoconnect=true

        [vlan]
        id=7
        parent=bond0

        [ipv6]
        method=manual
        address1=fd00::1/64,fd00::2

        [ipv4]
        method=disabled
        --- /etc/systemd/network/10-lan0.link 644
        # Written by Bedplate (overlay network-manager); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:01

        [Link]
        NamePolicy=
        Name=lan0
        --- /etc/systemd/network/10-lan1.link 644
        # Written by Bedplate (overlay network-manager); changes are lost.
        [Match]
        PermanentMACAddress=52:54:00:00:00:02

        [Link]
        NamePolicy=
        Name=lan1
    "#]],
    );
}

#[test]
fn ssh() {
    check(
        "ssh-host-keys",
        PLAIN,
        &expect![[r#"
        --- /etc/ssh/ssh_host_ed25519_key 600
        PRIVATE
        --- /etc/ssh/ssh_host_ed25519_key.pub 644
        ssh-ed25519 PUBLIC
        --- /etc/ssh/sshd_config.d/10-bedplate.conf 644
        # Written by Bedplate (overlay ssh-host-keys); changes are lost.
        HostKey /etc/ssh/ssh_host_ed25519_key
    "#]],
    );
    check(
        "ssh-authorized-keys",
        PLAIN,
        &expect![[r#"
        --- /root/.ssh/authorized_keys 600
        # Written by Bedplate (overlay ssh-authorized-keys); changes are lost.
        ssh-ed25519 AAAA root@admin
    "#]],
    );
    check("ssh-authorized-keys", "{}", &expect![[""]]);
}

#[test]
fn substrate() {
    check(
        "substrate",
        PLAIN,
        &expect![[r#"
            --- /etc/systemd/system/bedplate-jobs.service 644
            # Written by Bedplate (overlay substrate); changes are lost.
            [Unit]
            Description=Bedplate jobs
            # Jobs outlive the agent; they end with this unit.

            [Service]
            Type=notify
            ExecStart=/usr/lib/bedplate/substrate jobs-holder
            Delegate=yes
            TasksMax=infinity
            # Without its holder systemd would end the unit, and every job with it.
            OOMScoreAdjust=-1000
            Restart=always
            TimeoutStopSec=15

            [Install]
            WantedBy=multi-user.target
            --- /etc/systemd/system/bedplate-substrate.service 644
            # Written by Bedplate (overlay substrate); changes are lost.
            [Unit]
            Description=Bedplate node agent
            Wants=bedplate-jobs.service
            After=network.target bedplate-jobs.service
            StartLimitIntervalSec=0

            [Service]
            Type=notify
            ExecStart=/usr/lib/bedplate/substrate agent
            Restart=always
            RestartSec=2
            TimeoutStartSec=infinity
            # What the agent started outlives it.
            KillMode=process

            [Install]
            WantedBy=multi-user.target
            --- /etc/systemd/system/multi-user.target.wants/bedplate-substrate.service -> ../bedplate-substrate.service
        "#]],
    );
}

#[test]
fn later_overlays_win_and_site_overlays_shadow() {
    let site = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = site.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("hosts/README.md", "# hosts\n\nOurs.\nAll of it.\n\nMore.\n");
    write("hosts/rootfs/etc/hosts", "ours\n");
    write("late/rootfs/etc/hostname.j2", "late {{ node.name }}\n");
    write("broken/rootfs/etc/x.j2", "a\n{{ node.nmae }}\n");
    write("syntax/rootfs/etc/y.j2", "{% if %}\n");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlays");
    let library = Library::load(&directory, site.path());
    let hosts = library.get("hosts").unwrap();
    assert_eq!(
        (hosts.source.as_str(), hosts.summary.as_str()),
        ("site over shipped", "Ours. All of it.")
    );
    let renderer = Renderer::default();
    let of = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        renderer.entries(&library, &names, &variables("{}"))
    };
    let entries = of(&["hostname", "hosts", "late"]).unwrap();
    let text = |path: &str| {
        let entry = entries.iter().find(|entry| entry.path == path).unwrap();
        match &entry.content {
            Content::File { bytes, .. } => String::from_utf8(bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(
        (text("/etc/hosts").as_str(), text("/etc/hostname").as_str()),
        ("ours\n", "late n1\n")
    );
    let error = |name: &str| of(&[name]).unwrap_err().to_string();
    assert_eq!(
        error("broken"),
        "overlay broken, /etc/x.j2, line 2: undefined value: `node.nmae` is undefined"
    );
    assert!(
        error("syntax").starts_with("overlay syntax, /etc/y.j2, line 1: syntax error"),
        "{}",
        error("syntax")
    );
    assert_eq!(error("none"), "overlay \"none\" does not exist");
}

#[test]
fn what_is_the_same_for_all_nodes_is_rendered_once() {
    let renderer = Renderer::default();
    let library = shipped();
    let overlays = ["hosts".to_owned(), "ssh-authorized-keys".to_owned()];
    let spec = |number: u32| -> MachineSpec {
        serde_saphyr::from_str(&format!(
            "{{interfaces: {{lan0: {{address: 10.{}.{}.1/8}}}}, tags: {{ssh-authorized-keys: k}}}}",
            number / 250,
            number % 250
        ))
        .unwrap()
    };
    let nodes: Vec<(NodeName, MachineSpec)> =
        (0..500).map(|number| (format!("n{number}").parse().unwrap(), spec(number))).collect();
    let cluster = ClusterVariables::new(nodes.iter().map(|(name, spec)| (name, spec)), &[]);
    let archives: std::collections::BTreeSet<_> = nodes
        .iter()
        .map(|(name, spec)| {
            let id = NodeId(uuid::Uuid::nil());
            let facts = NodeFacts { name, id, spec, image: None, host_key: None };
            let variables = Variables::new(&cluster, &facts);
            archive::generation(&renderer.entries(&library, &overlays, &variables).unwrap()).digest
        })
        .collect();
    assert_eq!(archives.len(), 1);
    assert_eq!(lock(&renderer.files).by_key.len(), 2);
}
