//! Lane `sim`: the whole server in one process, with simulated nodes that speak the real protocols.
//!
//! Each test has a network namespace of its own, in which every node has an address of its own on
//! the loopback interface; so it needs root.

#![allow(clippy::unwrap_used)]

#[path = "sim/attempts.rs"]
mod attempts;
#[path = "sim/browser.rs"]
mod browser;
#[path = "sim/cluster.rs"]
mod cluster;
#[path = "sim/enrolments.rs"]
mod enrolments;
#[path = "sim/labels.rs"]
mod labels;
#[path = "sim/logs.rs"]
mod logs;
#[path = "sim/names.rs"]
mod names;
#[path = "sim/rights.rs"]
mod rights;
#[path = "sim/slides.rs"]
mod slides;
#[path = "sim/streams.rs"]
mod streams;
#[path = "sim/submissions.rs"]
mod submissions;
#[path = "sim/user_work.rs"]
mod user_work;
#[path = "sim/workflows.rs"]
mod workflows;

use std::{collections::BTreeMap, time::Duration};

use api::{
    ids::NodeName,
    status::{NodeUpdate, Phase, Severity},
};
use futures_util::future::try_join_all;
use sim_cluster::{image::Padding, simulated_node::Agent};

use cluster::{Cluster, in_namespace, name};

/// Nodes of the test that boots many.
const MANY: u8 = 64;

#[test]
fn many_nodes_become_ready_in_the_right_order() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(MANY).await?;
        let mut events = cluster.client().watch_nodes().await?;
        let booting = (1..=MANY).map(|number| {
            let node = cluster.node(number);
            async move { node.boot().await }
        });
        let booted = try_join_all(booting).await?;
        let hostname = &booted[6].boot_overlays["/etc/hostname"];
        assert_eq!(*hostname, sim_cluster::image::digest(b"n7\n"));
        let agents: Vec<Agent> = booted.into_iter().map(|booted| booted.start_agent()).collect();

        let mut seen: BTreeMap<NodeName, Vec<Phase>> = BTreeMap::new();
        let ready = |seen: &BTreeMap<NodeName, Vec<Phase>>| {
            seen.len() == usize::from(MANY)
                && seen.values().all(|phases| phases.last() == Some(&Phase::Ready))
        };
        while !ready(&seen) {
            let next = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
            let update: NodeUpdate = next.expect("no event for 30 s")?.unwrap();
            let phases = seen.entry(update.name).or_default();
            if phases.last() != Some(&update.status.phase) {
                phases.push(update.status.phase);
            }
        }
        let expected = [
            Phase::Unseen,
            Phase::Firmware,
            Phase::Stage1,
            Phase::Fetching,
            Phase::Switching,
            Phase::Enrolled,
            Phase::Ready,
        ];
        for (name, phases) in &seen {
            assert_eq!(phases.as_slice(), expected, "{name}");
        }
        assert_eq!(cluster.client().inventory(&name(9)).await?.memory_bytes, 16 << 30);
        let node = cluster.client().node(&name(9)).await?;
        assert_eq!(node.status.image.as_deref(), Some("tiny@1"));
        assert!(!node.status.armed);
        drop(agents);
        Ok(())
    });
}

#[test]
fn runtime_overlays_reach_every_running_node() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(3).await?;
        let agents = cluster.run_all(3).await?;
        let generation = |agent: &Agent| agent.state().borrow().applied;
        cluster
            .until("all have their first runtime overlays", || {
                agents.iter().all(|a| generation(a).is_some())
            })
            .await;
        let first = generation(&agents[0]);
        assert!(agents.iter().all(|agent| generation(agent) == first));

        let (overlay, path) = ("hosts".parse()?, "/etc/motd");
        cluster
            .client()
            .put_overlay_file(&overlay, path, 0o644, true, b"this is {{ node.name }}\n".to_vec())
            .await?;
        cluster
            .until("each has another", || {
                let all: Vec<_> = agents.iter().map(generation).collect();
                all.iter().all(|one| *one != first) && all[0] != all[1] && all[1] != all[2]
            })
            .await;
        let rendered = cluster.client().render(&overlay, &name(2), Some(path)).await?;
        assert_eq!(rendered[0].content, "this is n2\n");

        cluster.client().delete_overlay_file(&overlay, path).await?;
        cluster
            .until("all are back", || agents.iter().all(|agent| generation(agent) == first))
            .await;
        Ok(())
    });
}

#[test]
fn a_token_is_good_once_for_its_node_at_its_address() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(4).await?;
        let client = cluster.client();

        // Another address gets no token at all.
        let thief = cluster.machine(1, 2);
        let refused = thief.stage1().await.unwrap_err().to_string();
        assert!(
            refused.contains("403") && refused.contains("not from the node's address"),
            "{refused}"
        );

        // Twice.
        let node = cluster.node(1);
        let document = node.stage1().await?;
        node.enrol(&document).await?;
        let refused = node.enrol(&document).await.unwrap_err().to_string();
        assert!(refused.contains("the token was used before"), "{refused}");
        assert!(!client.node(&name(1)).await?.status.armed);
        let held = async |number| {
            client.node(&name(number)).await.unwrap().status.held.unwrap_or_default()
        };
        assert!(held(1).await.contains("the token was used before"), "{}", held(1).await);
        let refused = node.stage1().await.unwrap_err().to_string();
        assert!(refused.contains("`bedplate node arm` arms it again"), "{refused}");
        assert!(
            held(1).await.starts_with("gets no boot token: it was disarmed"),
            "{}",
            held(1).await
        );
        client.arm(&name(1)).await?;
        assert_eq!(held(1).await, "");
        node.boot().await?;

        // One that was never issued to anybody, and two of one node, of which the first that is
        // used makes the other void.
        let first = cluster.node(4).stage1().await?;
        let second = cluster.node(4).stage1().await?;
        let mut invented = cluster.node(4).stage1().await?;
        invented.token = Some("AAAA".to_owned());
        let refused = cluster.node(3).enrol(&invented).await.unwrap_err().to_string();
        assert!(refused.contains("the token is unknown"), "{refused}");
        assert_eq!(held(4).await, "");
        cluster.node(4).enrol(&first).await?;
        let refused = cluster.node(4).enrol(&second).await.unwrap_err().to_string();
        assert!(refused.contains("was used first"), "{refused}");
        assert!(held(4).await.contains("was used first"), "{}", held(4).await);
        client.arm(&name(4)).await?;
        cluster.node(4).boot().await?;
        assert_eq!(held(4).await, "");

        // From another address.
        let stolen = cluster.node(2).stage1().await?;
        let refused = cluster.node(3).enrol(&stolen).await.unwrap_err().to_string();
        assert!(refused.contains("bound to another address"), "{refused}");

        // In another node's name.
        let mut stolen = cluster.node(3).stage1().await?;
        stolen.id = client.node(&name(4)).await?.id;
        let refused = cluster.node(3).enrol(&stolen).await.unwrap_err().to_string();
        assert!(refused.contains("the token is another node's"), "{refused}");
        assert!(held(3).await.contains("another node's name"), "{}", held(3).await);
        assert_eq!(held(4).await, "");

        for number in 1..=3 {
            let history = client.history(&name(number), 100).await?;
            assert!(
                history.iter().any(|event| event.severity == Severity::Security),
                "n{number}: {history:?}"
            );
        }
        Ok(())
    });
}

#[test]
fn a_machine_with_too_little_memory_is_told_so_and_stands_as_held() {
    in_namespace(async {
        let padding = Padding { kernel_bytes: 1 << 20, root_bytes: 3 << 20 };
        let cluster = Cluster::with_padding(3, padding).await?;
        let client = cluster.client();
        let held = async |number| client.node(&name(number)).await.unwrap().status.held;
        // The name of another node from a stranger's address.
        let refused = cluster.machine(1, 2).script_with_memory(2).await?;
        assert!(
            refused.contains("n1 cannot boot tiny@1: it has 2 MiB of memory; this"),
            "{refused}"
        );
        assert_eq!(held(1).await, None);

        let refused = cluster.node(1).script_with_memory(2).await?;
        assert!(!refused.contains("/blobs/"), "{refused}");
        let cause = held(1).await.unwrap_or_default();
        assert!(cause.starts_with("has 2 MiB of memory; this image needs about "), "{cause}");
        // What was ordered is on disk, and with it all before.
        client.arm(&name(1)).await?;
        let lines = client.history(&name(1), 100).await?;
        let told =
            lines.iter().filter(|line| line.message.starts_with("held: has 2 MiB of memory"));
        assert_eq!(told.count(), 1, "{lines:?}");

        // It got more, or its iPXE does not tell.
        cluster.node(1).script().await?;
        assert_eq!(held(1).await, None);
        // What may do is only told, once.
        for _ in 0..5 {
            let script = cluster.node(2).script_with_memory(20).await?;
            assert!(script.contains("/blobs/"), "{script}");
        }
        assert_eq!(held(2).await, None);
        client.arm(&name(2)).await?;
        let lines = client.history(&name(2), 100).await?;
        let told = lines.iter().filter(|line| line.message.starts_with("may not boot: has 20 MiB"));
        assert_eq!(told.count(), 1, "{lines:?}");

        // A program on a node that runs says nothing of its machine.
        let booted = cluster.node(3).boot().await?.start_agent();
        cluster.until_phase(3, Phase::Ready).await;
        cluster.node(3).script_with_memory(2).await?;
        assert_eq!(held(3).await, None);
        drop(booted);
        Ok(())
    });
}

#[test]
fn a_silent_node_is_lost_and_a_running_one_gets_no_token() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(2).await?;
        let agents = cluster.run_all(2).await?;
        let refused = cluster.node(1).stage1().await.unwrap_err().to_string();
        assert!(refused.contains("its agent is connected"), "{refused}");
        agents[0].fall_silent();
        cluster.until_phase(1, Phase::Lost).await;
        assert_eq!(cluster.phase(2).await, Phase::Ready);
        let node = cluster.client().node(&name(1)).await?;
        assert!(node.status.reason.is_some() && node.status.armed, "{:?}", node.status);
        // The machine is reset and comes up again.
        let _again = cluster.node(1).boot().await?.start_agent();
        cluster.until_phase(1, Phase::Ready).await;
        Ok(())
    });
}

#[test]
fn a_server_that_restarts_finds_its_nodes_again() {
    in_namespace(async {
        let mut cluster = Cluster::with_nodes(8).await?;
        let agents = cluster.run_all(8).await?;
        let before = cluster.client().nodes(None).await?;
        cluster.restart().await?;
        cluster
            .until("all have dialled again", || {
                agents.iter().all(|agent| {
                    let state = agent.state().borrow().clone();
                    state.connected && state.connections == 2
                })
            })
            .await;
        for number in 1..=8 {
            cluster.until_phase(number, Phase::Ready).await;
        }
        let after = cluster.client().nodes(None).await?;
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(
                (before.id, &before.spec, before.version),
                (after.id, &after.spec, after.version)
            );
            assert_eq!(before.status.image, after.status.image);
        }
        Ok(())
    });
}

#[test]
fn a_node_reboots_when_told_and_a_deleted_one_is_let_in_no_more() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(2).await?;
        let agents = cluster.run_all(2).await?;
        cluster.client().reboot(&name(1)).await?;
        cluster.until("n1 is told to reboot", || agents[0].state().borrow().reboot.is_some()).await;
        cluster.until_phase(1, Phase::Rebooting).await;
        let refused = cluster.client().reboot(&name(1)).await.unwrap_err();
        assert_eq!(refused.status(), Some(409), "{refused}");
        let _again = cluster.node(1).boot().await?.start_agent();
        cluster.until_phase(1, Phase::Ready).await;

        cluster.client().delete_node(&name(2)).await?;
        cluster
            .until("n2 is let in no more", || agents[1].state().borrow().refused.is_some())
            .await;
        let why = agents[1].state().borrow().refused.clone().unwrap();
        assert!(why.contains("was deleted"), "{why}");
        let refused = cluster.node(2).script().await.unwrap_err().to_string();
        assert!(refused.contains("no node has the MAC address"), "{refused}");
        Ok(())
    });
}
