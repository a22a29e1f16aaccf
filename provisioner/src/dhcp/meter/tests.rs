//! What a scrape says of DHCP after requests and records.

use boot_proto::{FirmwareMap, Host, dhcp::LeaseRecord};

use super::*;
use crate::{DhcpConfig, DhcpMode, DhcpSubnet};

fn core(state_dir: &std::path::Path) -> DhcpCore {
    let subnet = DhcpSubnet {
        ntp: Vec::new(),
        network: "10.77.0.0/24".parse().unwrap(),
        pool: Some(("10.77.0.100".parse().unwrap(), "10.77.0.109".parse().unwrap())),
        gateway: None,
        dns: Vec::new(),
        domain: None,
    };
    let config = DhcpConfig {
        mode: DhcpMode::Authoritative,
        interfaces: Vec::new(),
        subnets: vec![subnet],
        lease_seconds: 600,
    };
    DhcpCore::with(
        &config,
        vec!["10.77.0.1".parse().unwrap()],
        &FirmwareMap::default(),
        9480,
        state_dir,
    )
    .unwrap()
}

/// The samples of a scrape that are not zero and no buckets, but for what the disk decides.
fn samples(core: &DhcpCore, hosts: &HostTable) -> String {
    let mut out = Exposition::new();
    core.expose(hosts, &mut out);
    let text = out.finish();
    let told = |line: &&str| {
        !line.starts_with('#')
            && !line.ends_with(" 0")
            && !["_bucket", "_sum", "_bytes"].iter().any(|part| line.contains(part))
    };
    text.lines().filter(told).map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn what_happens_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let core = core(directory.path());
    let fixed = Host {
        id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
        name: "n1".parse().unwrap(),
        mac: "52:54:00:00:00:01".parse().unwrap(),
        address: Some("10.77.0.105/24".parse().unwrap()),
        gateway: None,
        dns: Vec::new(),
        domain: None,
    };
    let hosts: HostTable = [fixed].into_iter().collect();
    expect_test::expect![[r#"
        bedplate_dhcp_pool_addresses{subnet="10.77.0.0/24"} 10
        bedplate_dhcp_pool_taken_addresses{subnet="10.77.0.0/24",state="reserved"} 1
    "#]]
    .assert_eq(&samples(&core, &hosts));
    let discover = [vec![0; 240], vec![53, 1, 1, 255]].concat();
    let meter = core.meter();
    meter.received(&discover);
    meter.received(b"noise");
    meter.sent(&discover, false);
    meter.probed(Some(true));
    meter.probed(None);
    meter.not_probed();
    let record = |last| LeaseRecord::Unusable { address: [10, 77, 0, last].into(), seconds: 600 };
    core.write(&[record(100), record(101)]).unwrap();
    core.write(&[record(102)]).unwrap();
    expect_test::expect![[r#"
        bedplate_dhcp_messages_total{direction="in",type="discover"} 1
        bedplate_dhcp_messages_total{direction="in",type="other"} 1
        bedplate_dhcp_send_failures_total 1
        bedplate_dhcp_pool_addresses{subnet="10.77.0.0/24"} 10
        bedplate_dhcp_pool_taken_addresses{subnet="10.77.0.0/24",state="reserved"} 1
        bedplate_dhcp_probes_total{outcome="in-use"} 1
        bedplate_dhcp_probes_total{outcome="failed"} 1
        bedplate_dhcp_probes_total{outcome="too-many"} 1
        bedplate_dhcp_lease_log_records_total 3
        bedplate_dhcp_lease_log_append_seconds_count 2
    "#]]
    .assert_eq(&samples(&core, &hosts));
}
