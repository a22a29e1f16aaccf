//! What an agent tells of its hardware over the real channel, and what is kept of it.

use api::{
    channel::{FromAgent, MAX_TOPOLOGY_BYTES},
    inventory::{Disk, Fault, FaultLevel, Inventory},
};

use crate::{NODE, Port, agent::Agent, enrolled};

/// The history without its times, the oldest first, from the first inventory on.
async fn history(port: &Port) -> String {
    let events = port.history().await;
    let lines = events.iter().rev().map(|event| format!("{}: {}\n", event.severity.as_str(), event.message));
    lines.skip_while(|line| !line.contains("inventory")).filter(|line| !line.contains("ready")).collect()
}

#[tokio::test]
async fn changes_are_kept_in_the_history_and_the_newest_topology_can_be_had() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let mut agent = Agent::connect(&port, &identity).await;
    let disk = Disk { name: "vda".to_owned(), size_bytes: 1 << 30, ..Disk::default() };
    let mut inventory = Inventory { memory_bytes: 2 << 30, disks: vec![disk], ..Inventory::default() };
    agent.tell(&inventory).await;
    agent.tell(&inventory).await;
    inventory.memory_bytes = 1 << 30;
    let (level, subject) = (FaultLevel::Error, "disk vda".to_owned());
    inventory.faults = vec![Fault { level, subject, message: "its medium fails".to_owned() }];
    agent.tell(&inventory).await;
    inventory.faults.clear();
    inventory.disks.clear();
    agent.tell(&inventory).await;

    assert_eq!(port.fleet.topology(NODE).await.unwrap(), None);
    for xml in ["<topology version=\"2.0\"/>\n", "<topology version=\"2.0\">ä</topology>\n"] {
        agent.say(FromAgent::Topology { xml: xml.to_owned() }).await;
        assert_eq!(port.fleet.topology(NODE).await.unwrap().as_deref(), Some(xml));
    }
    agent.say(FromAgent::Topology { xml: " ".repeat(MAX_TOPOLOGY_BYTES + 1) }).await;
    let kept = port.fleet.topology(NODE).await.unwrap().unwrap();
    assert!(kept.contains('ä'), "one that is too long changes nothing");
    expect_test::expect![[r#"
        info: sent its first inventory
        error: disk vda: its medium fails
        warning: memory: 1 GiB, 1 GiB less than before
        warning: disk vda (1 GiB) is gone
        warning: sent a topology of 8388609 bytes; more than 8388608 are not kept
    "#]]
    .assert_eq(&history(&port).await);

    let metrics = port.metrics().await;
    for line in
        ["bedplate_nodes{phase=\"ready\"} 1\n", "bedplate_node_memory_bytes{node=\"n1\"} 1073741824\n"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    port.close().await;
}
