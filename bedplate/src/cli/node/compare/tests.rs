//! Nodes that should be equal.

use expect_test::expect;
use serde_json::{Value, json};

use super::*;

fn node(name: &str, serial: &str, change: impl Fn(&mut Value)) -> (NodeName, Inventory) {
    let mut value = json!({
        "system": {"vendor": "Supermicro", "product": "AS-4125", "serial": serial, "uuid": serial},
        "firmware": {"version": "1.4", "boot-mode": "uefi", "secure-boot": true},
        "os": {"kernel": "6.1.0-38-amd64"},
        "bmc": {"firmware": "2.10", "address": "10.9.0.1", "mac": "3c:ec:ef:00:00:01"},
        "topology": {"cpu-flags": ["avx2", "avx512f", "sse2"], "microcode": "0xa1", "pus": 2},
        "memory-bytes": 68_719_476_736_u64,
        "memory-modules": [{"locator": "A1", "size-bytes": 34_359_738_368_u64, "kind": "DDR5", "serial": serial}],
        "nics": [{"name": "lan0", "mac": "52:54:00:00:00:01", "state": "up", "speed-mbits": 25000, "addresses": ["10.1.0.11"]}],
        "disks": [{"name": "nvme0n1", "size-bytes": 1_000_204_886_016_u64, "model": "PM9A3", "serial": serial,
            "firmware": "GDC5", "health": {"used-percent": 3}}],
        "gpus": [{"pci": "0000:3b:00.0", "vendor": "nvidia", "model": "H100", "uuid": serial, "driver-version": "550.90",
            "ecc": {"enabled": true, "corrected": 3}}],
        "infiniband": [{"name": "mlx5_0", "guid": serial, "ports": [{"number": 1, "state": "ACTIVE", "lid": serial}]}],
        "devices": [{"name": "nvidia.com/gpu=0", "numa-node": 0, "pci": "0000:3b:00.0", "source": "built-in"}]
    });
    change(&mut value);
    (name.parse().unwrap(), serde_json::from_value(value).unwrap())
}

#[test]
fn what_is_each_machines_own_does_not_count() {
    let mut nodes = vec![node("n1", "A", |_| {})];
    nodes.push(node("n2", "B", |value| {
        value["bmc"]["address"] = json!("10.9.0.2");
        value["nics"][0]["mac"] = json!("52:54:00:00:00:02");
        value["nics"][0]["addresses"] = json!(["10.1.0.12"]);
        value["gpus"][0]["ecc"]["corrected"] = json!(8);
        value["disks"][0]["health"]["used-percent"] = json!(4);
        value["memory-bytes"] = json!(68_719_476_736_u64 - (20 << 20));
    }));
    let same = compare(&nodes, Vec::new());
    assert_eq!(same.differences, []);
    let text = draw(Style::PLAIN, &same);
    assert!(text.ends_with(" facts of n[1-2]: equal\n"), "{text}");
}

#[test]
fn the_odd_ones_out() {
    let nodes = [
        node("n1", "A", |_| {}),
        node("n2", "B", |_| {}),
        node("n3", "C", |value| {
            value["firmware"]["version"] = json!("1.3");
            value["topology"]["cpu-flags"] = json!(["avx2", "sse2", "sse4a"]);
            value["devices"][0]["sick"] = json!("uncorrected errors");
            value["faults"] = json!([{"level": "error", "subject": "gpu 0000:3b:00.0", "message": "uncorrected errors"}]);
        }),
        node("n4", "D", |value| {
            value["infiniband"][0]["ports"][0]["state"] = json!("DOWN");
            value["gpus"] = json!([]);
            value["nics"][0]["speed-mbits"] = json!(10000);
        }),
    ];
    expect![[r#"
        FACT                           NODES     VALUE
        devices                        n[1-2,4]  1 × nvidia.com/gpu
                                       n3        -
        devices.out-of-service         n[1-2,4]  -
                                       n3        1 × nvidia.com/gpu
        faults                         n[1-2,4]  -
                                       n3        gpu 0000:3b:00.0: uncorrected errors
        firmware.version               n[1-2,4]  1.4
                                       n3        1.3
        gpus                           n[1-3]    1 × nvidia H100
                                       n4        -
        gpus.driver-version            n[1-3]    1 × 550.90
                                       n4        -
        gpus.ecc                       n[1-3]    1 × on
                                       n4        -
        infiniband.mlx5_0.port1.state  n[1-3]    ACTIVE
                                       n4        DOWN
        nics.lan0.speed-mbits          n[1-3]    25000
                                       n4        10000
        topology.cpu-flags             n[1-2,4]  avx2 avx512f sse2
                                       n3        -avx512f +sse4a

        n9 never told of their hardware
        27 facts of n[1-4]: 10 differ
    "#]]
    .assert_eq(&draw(Style::PLAIN, &compare(&nodes, vec!["n9".parse().unwrap()])));
    let halves = [
        node("n1", "A", |_| {}),
        node("n2", "B", |value| value["os"]["kernel"] = json!("6.1.0-39-amd64")),
    ];
    expect![[r#"
        [
          {
            "fact": "os.kernel",
            "groups": [
              {
                "value": "6.1.0-38-amd64",
                "nodes": [
                  "n1"
                ],
                "majority": false
              },
              {
                "value": "6.1.0-39-amd64",
                "nodes": [
                  "n2"
                ],
                "majority": false
              }
            ]
          }
        ]"#]]
    .assert_eq(&serde_json::to_string_pretty(&compare(&halves, Vec::new()).differences).unwrap());
}
