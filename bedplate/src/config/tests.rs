//! What a file says, and every mistake in it.

use api::quota::QuotaName;
use expect_test::{Expect, expect};

use super::*;

fn machine() -> Interfaces {
    [("lo", "127.0.0.1/8"), ("eth0", "10.1.0.1/24")]
        .map(|(name, net)| (name.to_owned(), vec![net.parse().unwrap()]))
        .into_iter()
        .chain([("eth9".to_owned(), Vec::new())])
        .collect()
}

fn diagnostics(text: &str, expected: &Expect) {
    let found = Checked::parse(text, &machine()).expect_err("the file has mistakes");
    expected
        .assert_eq(&found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect::<String>());
}

#[test]
fn one_line_is_enough() {
    let checked = Checked::parse("interfaces: [eth0]", &machine()).unwrap();
    let closed = checked.out_of_reach_of_jobs();
    for address in ["10.1.0.1:9480", "10.1.0.1:9443", "10.1.0.1:69", "255.255.255.255:67"] {
        assert!(closed.contains(&address.parse().unwrap()), "{address} is not in {closed:?}");
    }
    assert!(!closed.iter().any(|address| address.port() == checked.api_listen.port()));
    let own = ["192.168.7.1".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    let text = "interfaces: [eth0]\nregistries: {allow: ['192.168.7.1:9470', '10.1.0.1:9480', 192.168.7.0/24]}";
    let named = Checked::parse(text, &machine()).unwrap().out_of_reach_of_transfers(&own);
    let closed = checked.out_of_reach_of_transfers(&own);
    for address in ["10.1.0.1:9480", "10.1.0.1:9470", "192.168.7.1:9443", "[2001:db8::7]:9480"] {
        let address = address.parse().unwrap();
        assert!(closed.contains(&address) && named.contains(&address), "{address}: {closed:?}");
    }
    let api = "192.168.7.1:9470".parse().unwrap();
    assert!(closed.contains(&api) && !named.contains(&api), "{named:?}");
    assert_eq!(checked.fleet_listen, ["10.1.0.1:9443".parse().unwrap()]);
    assert_eq!(checked.provisioner.boot_listen, ["10.1.0.1:9480".parse().unwrap()]);
    assert_eq!(checked.provisioner.dhcp.subnets[0].network, "10.1.0.0/24".parse().unwrap());
    assert_eq!(checked.api_listen, "127.0.0.1:9470".parse().unwrap());
    assert_eq!(checked.state_dir, PathBuf::from("/var/lib/bedplate"));
    assert_eq!(checked.job_log_bytes, 64 << 20);
    assert_eq!(checked.volume_bytes, 32 << 30);
    let text = "interfaces: [eth0]\njobs: {log-mib: 256, volume-gib: 2}";
    let set = Checked::parse(text, &machine()).unwrap();
    assert_eq!(set.volume_bytes, 2 << 30);
    assert_eq!(set.job_log_bytes, 256 << 20);
}

#[test]
fn what_is_kept_of_job_images_can_be_said() {
    let limits = |jobs: &str| {
        let text = format!("interfaces: [eth0]\njobs: {jobs}");
        Checked::parse(&text, &machine()).unwrap().job_images
    };
    assert_eq!(limits("{}"), ImageLimits { days: 7, bytes: None });
    assert_eq!(
        limits("{image-days: 30, image-gib: 200}"),
        ImageLimits { days: 30, bytes: Some(200 << 30) }
    );
    diagnostics(
        "interfaces: [eth0]\njobs: {image-days: 0, image-gib: 2000000}",
        &expect![[r#"
            2:20: jobs.image-days: 0 is not between 1 and 3650 (leave it out for the default; what workflows use is kept in any case)
            2:34: jobs.image-gib: 2000000 is not between 1 and 1048576 (leave it out for the default; what workflows use is kept in any case)
        "#]],
    );
}

#[test]
fn quotas_of_everybody_can_be_set() {
    let quotas = |text: &str| {
        let text = format!("interfaces: [eth0]\n{text}");
        Checked::parse(&text, &machine()).unwrap().quotas
    };
    assert_eq!(quotas(""), QuotaLimits::default());
    let set = quotas("quotas: {logs: 20GiB, tokens: 7, images: none, requests: none}");
    let limits = [QuotaName::Logs, QuotaName::Tokens, QuotaName::Images, QuotaName::Requests];
    assert_eq!(limits.map(|name| set.get(name)), [Some(20 << 30), Some(7), None, None]);
    assert_eq!(set.get(QuotaName::Tasks), QuotaLimits::default().get(QuotaName::Tasks));
}

#[test]
fn connections_can_be_limited() {
    let connections = |text: &str| {
        let text = format!("interfaces: [eth0]\n{text}");
        Checked::parse(&text, &machine()).unwrap().connections
    };
    assert_eq!(connections(""), ConnectionLimits::default());
    let written =
        "limits: {connections: 9000, unproven-connections: 3000, unproven-per-address: 40}";
    let limits = ConnectionLimits {
        connections: Some(9_000),
        unproven: Some(3_000),
        unproven_per_address: Some(40),
    };
    assert_eq!(connections(written), limits);
    diagnostics(
        "interfaces: [eth0]\nlimits: {connections: 10, unproven-connections: 200, unproven-per-address: 300}",
        &expect![[r#"
            2:23: limits.connections: 10 is not between 64 and 1048576 (leave it out for the default)
            2:49: limits.unproven-connections: 200 is more than connections, 10
            2:76: limits.unproven-per-address: 300 is more than those that it is a part of, 200
        "#]],
    );
}

#[test]
fn every_diagnostic_is_told_at_once() {
    diagnostics(
        "interfaces: [eth0, eth7]\nstatedir: /x\nfleet: {port: 9480, heartbeat-seconds: 0}\nboot:\n  tftp: maybe\n\
         dhcp:\n  mode: sometimes\n  lease-seconds: 5\n  subnets:\n  - {gateway: 10.1.0.1}\n  \
         - {network: 10.1.0.0/24, gateway: 10.2.0.1, pool: 10.1.0.9}\nlog: {format: xml}\njobs:\n  log-mib: 5000\n  volume-gib: 0\n",
        &expect![[r#"
            1:1: boot.http-port: port 9480 is taken by fleet.port (choose another port)
            1:20: interfaces[1]: there is no interface eth7 (this machine has eth0, eth9, lo)
            2:1: statedir: unknown key (did you mean `state-dir`?)
            3:40: fleet.heartbeat-seconds: 0 is not between 1 and 300
            5:9: boot.tftp: "maybe" is not true or false
            7:9: dhcp.mode: "sometimes" is no mode (use authoritative, proxy or off)
            8:18: dhcp.lease-seconds: 5 is below 60: clients would renew all the time
            10:5: dhcp.subnets[0]: has no network (write network: 10.1.0.0/24)
            11:37: dhcp.subnets[1].gateway: 10.2.0.1 is not in 10.1.0.0/24
            11:53: dhcp.subnets[1].pool: "10.1.0.9" is no range of addresses (write pool: 10.1.0.100-10.1.0.199)
            12:15: log.format: "xml" is no format (use text or json)
            14:12: jobs.log-mib: 5000 is not between 1 and 4096 (it is kept in the memory of the node; larger results belong in a file)
            15:15: jobs.volume-gib: 0 is not between 1 and 1048576 (a workflow that wants another size says so in its document)
        "#]],
    );
}

#[test]
fn pools_do_not_give_what_is_somebodys() {
    let notes = |subnet: &str| {
        let text = format!(
            "interfaces: [eth0]\ndhcp:\n  subnets:\n  - {{network: 10.1.0.0/24, {subnet}}}\n"
        );
        Checked::parse(&text, &machine())
            .map(|checked| checked.notes.iter().map(|note| format!("{note}\n")).collect::<String>())
    };
    assert_eq!(
        notes("pool: 10.1.0.100-10.1.0.199, gateway: 10.1.0.254, dns: [10.1.0.2]").unwrap(),
        ""
    );
    expect![[r#"
        4:34: dhcp.subnets[0].pool: is not given whole: 10.1.0.254 is the gateway of 10.1.0.0/24
    "#]]
    .assert_eq(&notes("pool: 10.1.0.253-10.1.0.254, gateway: 10.1.0.254").unwrap());
    expect![[r#"
        4:34: dhcp.subnets[0].pool: is not given whole: 10.1.0.0 is the network address of 10.1.0.0/24; 10.1.0.1 is this server's, and the gateway of 10.1.0.0/24; 10.1.0.2 is a name server of 10.1.0.0/24; 10.1.0.3 is a name server of 10.1.0.0/24; 10.1.0.4 is a name server of 10.1.0.0/24; and 1 more are somebody's
    "#]]
    .assert_eq(
        &notes("pool: 10.1.0.0-10.1.0.255, gateway: 10.1.0.1, dns: [10.1.0.2, 10.1.0.3, 10.1.0.4]").unwrap(),
    );
    diagnostics(
        "interfaces: [eth0]\ndhcp:\n  subnets:\n  - {network: 10.1.0.0/24, pool: 10.1.0.254-10.1.0.255, gateway: 10.1.0.254}\n",
        &expect![[r#"
            4:34: dhcp.subnets[0].pool: has no address to give: 10.1.0.254 is the gateway of 10.1.0.0/24; 10.1.0.255 is the broadcast address of 10.1.0.0/24 (choose a range of addresses that are nobody's)
        "#]],
    );
}

#[test]
fn a_certificate_has_a_key_and_sessions_have_limits() {
    let files =
        "interfaces: [eth0]\napi: {certificate: /etc/bedplate/api.pem, key: /etc/bedplate/api.key}";
    let checked = Checked::parse(files, &machine()).unwrap();
    assert_eq!(checked.api_certificate.unwrap().key, PathBuf::from("/etc/bedplate/api.key"));
    assert_eq!(checked.sessions, SessionLimits::default());
    diagnostics(
        "interfaces: [eth0]\napi:\n  certificate: /x\n  session-idle-seconds: 5\n  session-life-seconds: 99999999\n",
        &expect![[r#"
            3:16: api.certificate: goes with api.key, which is not there (write api.key too)
            4:25: api.session-idle-seconds: 5 is not between 300 and 7776000
            5:25: api.session-life-seconds: 99999999 is not between 300 and 7776000
        "#]],
    );
}

#[test]
fn heads_of_the_audit_log_have_a_file_of_their_own() {
    assert_eq!(Checked::parse("interfaces: [eth0]", &machine()).unwrap().audit_head_file, None);
    let text = "interfaces: [eth0]\naudit: {head-file: /mnt/elsewhere/heads}";
    let file = Checked::parse(text, &machine()).unwrap().audit_head_file;
    assert_eq!(file, Some(PathBuf::from("/mnt/elsewhere/heads")));
    diagnostics(
        "interfaces: [eth0]\naudit: {head-file: heads, head-fil: 1}",
        &expect![[r#"
            2:20: audit.head-file: "heads" is no absolute path (begin it with /)
            2:27: audit.head-fil: unknown key (did you mean `head-file`?)
        "#]],
    );
}

#[test]
fn the_audit_log_is_kept_by_the_configuration() {
    let keep = |audit: &str| {
        let text = format!("interfaces: [eth0]\naudit: {{{audit}}}");
        let keep = Checked::parse(&text, &machine()).unwrap().audit_keep;
        (keep.days, keep.max_bytes.map(|bytes| bytes >> 30))
    };
    assert_eq!(keep(""), (None, None));
    assert_eq!(keep("keep-days: 400, max-gib: 1"), (Some(400), Some(1)));
    diagnostics(
        "interfaces: [eth0]\naudit:\n  keep-days: 0\n  max-gib: 9999999\n",
        &expect![[r#"
            3:14: audit.keep-days: 0 is not between 1 and 36500
            4:12: audit.max-gib: 9999999 is not between 1 and 1048576
        "#]],
    );
}

#[test]
fn tokens_end_by_the_configuration() {
    let tokens = |api: &str| {
        let text = format!("interfaces: [eth0]\napi: {{{api}}}");
        let tokens = Checked::parse(&text, &machine()).unwrap().tokens;
        (
            tokens.default_life.as_secs() / 86_400,
            tokens.longest_life.map(|life| life.as_secs() / 86_400),
        )
    };
    assert_eq!(tokens(""), (90, None));
    assert_eq!(tokens("token-days: 30, token-max-days: 60"), (30, Some(60)));
    diagnostics(
        "interfaces: [eth0]\napi:\n  token-days: 0\n  token-max-days: 3651\n",
        &expect![[r#"
            3:15: api.token-days: 0 is not between 1 and 3650
            4:19: api.token-max-days: 3651 is not between 1 and 3650
        "#]],
    );
    diagnostics(
        "interfaces: [eth0]\napi:\n  token-days: 61\n  token-max-days: 60\n",
        &expect![[r#"
            3:15: api.token-days: 61 is more than api.token-max-days
        "#]],
    );
}

#[test]
fn where_the_server_will_be_is_announced() {
    let text = "interfaces: [eth0]\nannounced-addresses: [10.1.0.9]\n\
                dhcp: {subnets: [{network: 10.1.0.0/24, pool: 10.1.0.8-10.1.0.20, ntp: [10.1.0.1, 192.0.2.1]}]}";
    let checked = Checked::parse(text, &machine()).unwrap();
    let both: Vec<SocketAddr> =
        ["10.1.0.1:9443", "10.1.0.9:9443"].map(|at| at.parse().unwrap()).into();
    assert_eq!(checked.fleet.fleet_servers, both);
    assert_eq!(checked.fleet.server_addresses, both.iter().map(SocketAddr::ip).collect::<Vec<_>>());
    assert_eq!(checked.fleet_listen, both[..1]);
    assert!(checked.out_of_reach_of_jobs().contains(&both[1]));
    assert_eq!(checked.provisioner.dhcp.subnets[0].ntp.len(), 2);
    let notes: String = checked.notes.iter().map(|note| format!("{note}\n")).collect();
    expect![[r#"
            3:47: dhcp.subnets[0].pool: is not given whole: 10.1.0.9 is this server's
            3:73: dhcp.subnets[0].ntp[0]: 10.1.0.1 is this server's, and Bedplate serves no NTP: a program such as chrony must do so there
        "#]]
    .assert_eq(&notes);
    diagnostics(
        "interfaces: [eth0]\nannounced-addresses: [10.1.0.1, 10.1.0.9, 10.1.0.9, 127.0.0.1]\ndhcp:\n  subnets:\n  \
         - {network: 10.1.0.0/24, dns: [0.0.0.0], ntp: [224.0.1.1, time.example]}\n",
        &expect![[r#"
            2:23: announced-addresses[0]: 10.1.0.1 is one of the server's addresses, which nodes are told anyway (leave it out)
            2:43: announced-addresses[2]: 10.1.0.9 is written twice (keep one)
            2:53: announced-addresses[3]: 127.0.0.1 is no address that a node can reach (write where nodes will find the server)
            5:34: dhcp.subnets[0].dns[0]: 0.0.0.0 is no address that a node can ask
            5:50: dhcp.subnets[0].ntp[0]: 224.0.1.1 is no address that a node can ask
            5:61: dhcp.subnets[0].ntp[1]: "time.example" is not IPv4 addresses
        "#]],
    );
    let many: Vec<String> = (2..18).map(|last| format!("10.1.0.{last}")).collect();
    let text = format!("interfaces: [eth0]\nannounced-addresses: [{}]", many.join(", "));
    diagnostics(
        &text,
        &expect![[r#"
            2:23: server-addresses: nodes are told at most 16 addresses, and these are more (name those that nodes reach in server-addresses)
        "#]],
    );
}

#[test]
fn an_interface_without_address_needs_one() {
    diagnostics(
        "interfaces: [eth9]",
        &expect![[r#"
        1:14: interfaces[0]: interface eth9 has no IPv4 address (give it one, or set server-addresses)
    "#]],
    );
}

#[test]
fn no_file_says_what_is_missing() {
    diagnostics(
        "",
        &expect![[r#"
        1:1: interfaces: DHCP needs interfaces to listen on (name them, or set dhcp.mode to off)
        1:1: interfaces: no address to serve nodes on (name the interface that nodes boot from: `interfaces: [eth1]`)
    "#]],
    );
}

#[test]
fn what_is_no_yaml_is_told_with_its_place() {
    diagnostics(
        "interfaces: [eth0\nfoo: bar",
        &expect![[r#"
        2:4: illegal placement of ':' indicator
    "#]],
    );
}

/// Each of these was called good once, and then the server did not start, or served nothing.
#[test]
fn rules_of_use_are_rules_of_the_check() {
    diagnostics(
        "state-dir: state\ninterfaces: [eth0, eth0]\nserver-addresses: [10.1.0.1, 10.1.0.1]\n\
         server-names: ['no name']\ndhcp:\n  subnets:\n  \
         - {network: 10.1.0.0/24, domain: 'cluster_example!'}\n  \
         - {network: 10.1.0.0/24}\n  - {network: 10.2.0.0/24, pool: 10.2.0.100-10.2.0.200}\n  \
         - {network: 10.2.0.128/25, pool: 10.2.0.150-10.2.0.160}\nlog: {level: loud}\n",
        &expect![[r#"
            1:12: state-dir: "state" is no absolute path (begin it with /)
            2:20: interfaces[1]: interface eth0 is named twice (keep one)
            3:30: server-addresses[1]: 10.1.0.1 is written twice (keep one)
            4:16: server-names[0]: "no name" is no DNS name
            7:36: dhcp.subnets[0].domain: "cluster_example!" is no domain name (write domain: cluster.example)
            8:15: dhcp.subnets[1].network: 10.1.0.0/24 is that of dhcp.subnets[0] too (make one subnet of both)
            10:36: dhcp.subnets[3].pool: 10.2.0.150 to 10.2.0.160 are in the pool of 10.2.0.0/24 too (give each address to one pool)
            11:14: log.level: "loud" names no level (use error, warn, info, debug or trace, or a filter such as info,provisioner=debug)
        "#]],
    );
    for level in ["info", "debug,provisioner=trace", "warn, fleet=off", "info,hyper", "info,"] {
        Checked::parse(&format!("interfaces: [eth0]\nlog: {{level: '{level}'}}"), &machine())
            .unwrap();
    }
    for level in ["provisioner", "loud,hyper", "provisioner=loud", ""] {
        Checked::parse(&format!("interfaces: [eth0]\nlog: {{level: '{level}'}}"), &machine())
            .unwrap_err();
    }
}

#[test]
fn subnets_that_are_worth_a_look_are_noted() {
    let text = "interfaces: [eth0]\ndhcp: {subnets: [{network: 10.1.0.128/25}, {network: 10.1.0.0/24}, \
                {network: 10.2.0.0/24, domain: 'a.example b.example'}]}";
    let checked = Checked::parse(text, &machine()).unwrap();
    let notes: String = checked.notes.iter().map(|note| format!("{note}\n")).collect();
    expect![[r#"
        2:28: dhcp.subnets[0].network: 10.1.0.128/25 lies in 10.1.0.0/24 of dhcp.subnets[1]: of subnets that fit a request the first of the file is taken
        2:28: dhcp.subnets[0].network: none of the interfaces has an address in 10.1.0.128/25: only requests that a DHCP relay forwards are answered from it
        2:78: dhcp.subnets[2].network: none of the interfaces has an address in 10.2.0.0/24: only requests that a DHCP relay forwards are answered from it
    "#]].assert_eq(&notes);
}

/// What the configuration leads to on this machine: missing files, and a state
/// directory that is none.
#[test]
fn files_that_the_server_reads_are_read_by_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("file"), "").unwrap();
    std::fs::write(path("boot.ipxe.j2"), "#!ipxe\n{% if %}\n").unwrap();
    let text = format!(
        "interfaces: [eth0]\nstate-dir: {}\nfirmware:\n  bios: {}\n  efi-x86-64: {}\nboot:\n  \
         templates: {}\n  substrate: {}\napi:\n  certificate: {}\n  key: {}\n  listen: 192.0.2.77:9470\n\
         server-addresses: [127.1.2.3, 192.0.2.78]\n",
        path("file"),
        path("missing"),
        path("file"),
        path(""),
        path("nothing"),
        path("file"),
        path("file"),
    );
    let checked = Checked::parse(&text, &machine()).unwrap();
    let (found, _) = check::check_files(&Raw::read(&text), &checked);
    let told: String = found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect();
    expect![[r#"
        2:12: state-dir: TMP/file is there and is no directory (the server makes it at its first start, with mode 0700)
        4:9: firmware.bios: cannot read TMP/missing from firmware.bios; iPXE comes with the Debian package ipxe (/usr/lib/ipxe), see ipxe/README.md: No such file or directory (os error 2)
        5:15: firmware.efi-x86-64: TMP/file from firmware.efi-x86-64 has 0 bytes; a boot file has 1 to 134217728
        7:14: boot.templates: cannot read boot script template boot.ipxe.j2: syntax error: unexpected end of block (in boot.ipxe.j2:2)
        8:14: boot.substrate: cannot read TMP/nothing: No such file or directory (os error 2)
        10:16: api.certificate: TMP/file holds no certificate in PEM: no items found
        12:11: api.listen: 192.0.2.77 is no address of this machine (write an address that this machine has; see `ip address`)
        13:31: server-addresses[1]: 192.0.2.78 is no address of this machine (write an address that this machine has; see `ip address`)
    "#]].assert_eq(&told.replace(&path(""), "TMP/"));
}

#[test]
fn registries_by_host() {
    let checked = Checked::parse("interfaces: [eth0]", &machine()).unwrap();
    let reach = checked.registries.reach.clone();
    assert_eq!(
        *checked.registries,
        oci_pull::Registries { reach, ..oci_pull::Registries::default() }
    );
    let text = "interfaces: [eth0]\nregistries:\n  wait-seconds: 60\n  least-kb-per-second: 100\n  \
                layer-seconds: 600\n  pull-seconds: 900\n  hosts:\n    \
                registry.example:\n      mirrors: [mirror.example:5000/hub, cache.example]\n      \
                credentials: /etc/bedplate/login.json\n      proxy: none\n    \
                mirror.example:5000: {plain-http: true}\n    cache.example:\n";
    let checked = Checked::parse(text, &machine()).unwrap();
    let (hosts, patience) = (&checked.registries.hosts, checked.registries.patience);
    assert_eq!((hosts.len(), patience.as_secs()), (3, 60));
    let limits = &checked.registries.limits;
    let numbers = (limits.least_bytes_per_second, limits.layer.as_secs(), limits.pull.as_secs());
    assert_eq!(numbers, (100_000, 600, 900));
    let host = &hosts[&"registry.example".parse().unwrap()];
    let mirrors: Vec<String> = host.mirrors.iter().map(ToString::to_string).collect();
    assert_eq!(mirrors, ["mirror.example:5000/hub", "cache.example"]);
    assert_eq!(host.credentials, Some(PathBuf::from("/etc/bedplate/login.json")));
    assert_eq!((&host.proxy, host.plain_http), (&oci_pull::Proxy::Direct, false));
    assert!(hosts[&"mirror.example:5000".parse().unwrap()].plain_http);
}

#[test]
fn every_diagnostic_of_registries_is_told() {
    diagnostics(
        "interfaces: [eth0]\nregistries:\n  wait-seconds: 100000\n  waits: 1\n  hosts:\n    \
         https://registry.example: {}\n    cache: {}\n    registry.example:\n      \
         mirrors: [registry.example, a.example, a.example, x]\n      plain-http: true\n      \
         ca: ca.pem\n      proxy: http://me:secret@proxy.example\n      credential: /x\n    \
         Registry.Example: {proxy: proxy}\n    registry.example: {}\n",
        &expect![[r#"
            3:17: registries.wait-seconds: 100000 is not between 0 and 86400
            4:3: registries.waits: unknown key (known here: wait-seconds, least-kb-per-second, layer-seconds, pull-seconds, allow, deny, hosts)
            6:5: registries.hosts.https://registry.example: "https://registry.example" is not HOST[:PORT], without a scheme (write it as images are named: registry.example:5000)
            7:5: registries.hosts.cache: "cache" has neither a dot nor a port, so that references take it for a repository of docker.io (write it as images are named: registry.example:5000)
            8:5: registries.hosts.registry.example.mirrors[0]: registry.example is no mirror of itself (remove it)
            9:46: registries.hosts.registry.example.mirrors[2]: a.example is written twice (keep one)
            9:57: registries.hosts.registry.example.mirrors[3]: "x" has neither a dot nor a port, so that references take it for a repository of docker.io (write mirrors: [mirror.example:5000/hub])
            11:11: registries.hosts.registry.example.ca: "ca.pem" is no absolute path (begin it with /)
            11:11: registries.hosts.registry.example.ca: is for HTTPS, and plain-http is set (keep one of both)
            12:14: registries.hosts.registry.example.proxy: holds a login, which would be shown with the configuration (let the proxy know this machine by its address)
            13:7: registries.hosts.registry.example.credential: unknown key (did you mean `credentials`?)
            14:5: registries.hosts.Registry.Example: registry.example is written twice, in other letters (keep one)
            14:31: registries.hosts.Registry.Example.proxy: "proxy" is not http://HOST[:PORT], https://HOST[:PORT] or none (write proxy: http://proxy.example:3128)
            15:5: registries.hosts.registry.example: written twice (keep one)
        "#]],
    );
}

#[test]
fn pulls_go_to_no_port_of_the_server_and_to_loopback_where_it_is_named() {
    let reach = |text: &str| Checked::parse(text, &machine()).unwrap().registries.reach.clone();
    let usual = reach("interfaces: [eth0]\nannounced-addresses: [10.9.0.1]\n");
    assert_eq!(usual.own_ports, std::collections::BTreeSet::from([9443, 9470, 9480]));
    assert!(usual.own_addresses.contains(&IpAddr::from([10, 9, 0, 1])), "{usual:?}");
    assert_eq!(usual.allowed, []);
    let set = reach(
        "interfaces: [eth0]\napi: {listen: '0.0.0.0:443'}\nfleet: {port: 9000}\nboot: {http-port: 80}\n\
         registries: {allow: ['127.0.0.1:5000', '[::1]:5000', 169.254.7.0/24], deny: [10.9.0.0/16]}\n",
    );
    assert_eq!(set.own_ports, std::collections::BTreeSet::from([80, 443, 9000]));
    let allowed: Vec<String> = set.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["127.0.0.1:5000", "[::1]:5000", "169.254.7.0/24"]);
    assert_eq!(set.denied, ["10.9.0.0/16".parse().unwrap()]);
}

#[test]
fn what_pulls_may_reach_is_named_by_address() {
    diagnostics(
        "interfaces: [eth0]\nregistries:\n  allow: [localhost, 127.0.0.0/40]\n  hosts:\n    \
         registry.example: {token-service: 'https://me:secret@auth.example'}\n    \
         other.example: {token-service: 'http://auth.example'}\n    \
         plain.example: {plain-http: true, token-service: 'http://auth.example'}\n",
        &expect![[r#"
            3:11: registries.allow[0]: "localhost" is not ADDRESS, ADDRESS:PORT or NETWORK/PREFIX (write 127.0.0.1:5000 or 10.0.0.0/8; a name goes into registries.hosts)
            3:22: registries.allow[1]: "127.0.0.0/40" is not ADDRESS, ADDRESS:PORT or NETWORK/PREFIX (write 127.0.0.1:5000 or 10.0.0.0/8; a name goes into registries.hosts)
            5:39: registries.hosts.registry.example.token-service: is not https://HOST[:PORT] (write token-service: https://auth.example)
            6:36: registries.hosts.other.example.token-service: would get the login in plain HTTP, and plain-http is not set (write token-service: https://auth.example)
        "#]],
    );
}

#[test]
fn limits_of_pulls_have_their_ranges() {
    diagnostics(
        "interfaces: [eth0]\nregistries:\n  least-kb-per-second: 2000000\n  layer-seconds: 0\n  \
         pull-seconds: 700000\n",
        &expect![[r#"
            3:24: registries.least-kb-per-second: 2000000 is not between 0 and 1000000
            4:18: registries.layer-seconds: 0 is not between 1 and 604800
            5:17: registries.pull-seconds: 700000 is not between 1 and 604800
        "#]],
    );
}

#[test]
fn the_files_of_registries_are_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (ca, login, missing) = (path("ca.pem"), path("login.json"), path("missing"));
    let text = format!(
        "state-dir: {}\ninterfaces: [eth0]\nregistries:\n  hosts:\n    a.example: {{ca: {ca}, credentials: {login}}}\n    \
         b.example: {{credentials: {missing}}}\n",
        path("state")
    );
    let certified =
        rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let problems = |certificate: &str, auths: &str, mode: u32| {
        std::fs::write(&ca, certificate).unwrap();
        std::fs::write(&login, format!("{{\"auths\": {auths}}}")).unwrap();
        std::fs::set_permissions(&login, std::fs::Permissions::from_mode(mode)).unwrap();
        let checked = Checked::parse(&text, &machine()).unwrap();
        let (diagnostics, _) = check::check_files(&Raw::read(&text), &checked);
        let of_registries =
            diagnostics.iter().filter(|diagnostic| diagnostic.path.starts_with("registries."));
        of_registries
            .map(|diagnostic| format!("{diagnostic}\n").replace(&path(""), "DIR/"))
            .collect::<String>()
    };
    expect![[r#"
        5:21: registries.hosts.a.example.ca: cannot use DIR/ca.pem: it holds no certificate in PEM
        5:58: registries.hosts.a.example.credentials: cannot use DIR/login.json: it has no login for a.example: write it with `podman login --authfile DIR/login.json a.example`
        6:30: registries.hosts.b.example.credentials: cannot use DIR/missing: No such file or directory (os error 2)
    "#]]
    .assert_eq(&problems("no certificate", r#"{"other.example": {"auth": "dTpw"}}"#, 0o600));
    expect![[r#"
        5:58: registries.hosts.a.example.credentials: cannot use DIR/login.json: others may read or change it (mode 0644): chmod 600 DIR/login.json
        6:30: registries.hosts.b.example.credentials: cannot use DIR/missing: No such file or directory (os error 2)
    "#]]
    .assert_eq(&problems(&certified, r#"{"a.example": {"auth": "dTpw"}}"#, 0o644));
    expect![[r#"
        6:30: registries.hosts.b.example.credentials: cannot use DIR/missing: No such file or directory (os error 2)
    "#]]
    .assert_eq(&problems(&certified, r#"{"a.example": {"auth": "dTpw"}}"#, 0o600));
}
