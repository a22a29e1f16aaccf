//! Agents of other releases: what is agreed, what is ignored, who is refused and how that shows.

use std::net::SocketAddr;

use api::{
    channel::{
        Agreement, Capabilities, Capability, FromAgent, FromServer, MAX_PROTOCOL, Offer,
        negotiation::HEADER,
    },
    inventory::Inventory,
    status::Phase,
};

use crate::{
    NODE, Port,
    agent::{Agent, hello},
    enrolled,
};

async fn agreement(agent: &mut Agent) -> Agreement {
    let Some(FromServer::Welcome { agreement, .. }) = agent.receive().await.unwrap().message else {
        panic!("no welcome");
    };
    agreement
}

async fn history_has(port: &Port, words: &str) -> bool {
    let events = port.history().await;
    events.iter().any(|event| event.message.contains(words))
}

/// Reads a counter; its samples end in `_total`.
async fn metric(port: &Port, name: &str) -> u64 {
    let text = port.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bedplate_{name}_total ")));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_agent_of_version_1_is_answered_as_before() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let mut agent = Agent::dial(&port, &identity).await;
    let hello = r#"{"seq":0,"ack":0,"message":{"type":"hello","protocol":1,"agent-version":"0.1.0","boot-id":"b","instance":"i","image":"debian@1","overlays":null}}"#;
    agent.send_text(hello.to_owned()).await;
    let none = Capabilities::default();
    assert_eq!(agreement(&mut agent).await, Agreement { protocol: 1, capabilities: none });
    agent.tell(&Inventory::default()).await;
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Ready);
    port.close().await;
}

/// The next message with its number, acknowledgements passed over.
async fn message(agent: &mut Agent) -> (u64, FromServer) {
    loop {
        let frame = agent.receive().await.unwrap();
        if let Some(message) = frame.message {
            return (frame.seq, message);
        }
    }
}

#[tokio::test]
async fn where_the_servers_are_is_told_to_agents_that_keep_it() {
    let fleet_servers: Vec<SocketAddr> =
        ["10.0.0.1:9443", "10.7.0.1:9443"].map(|at| at.parse().unwrap()).into();
    let port = Port::open_at(&fleet_servers).await;
    let identity = enrolled(&port, NODE).await;
    let mut agent = Agent::connect(&port, &identity).await;
    agreement(&mut agent).await;
    assert_eq!(message(&mut agent).await, (1, FromServer::Servers { fleet_servers }));
    drop(agent);
    // One of the release before offers less, and is told nothing that it does not know.
    let mut before = Agent::dial(&port, &identity).await;
    let hello = r#"{"seq":0,"ack":0,"message":{"type":"hello","protocol":1,"min":1,"max":2,"capabilities":["unsupported"],"agent-version":"0.1.0","boot-id":"b","instance":"i","image":"debian@1","overlays":null}}"#;
    before.send_text(hello.to_owned()).await;
    assert!(!agreement(&mut before).await.capabilities.has(Capability::ServerAddresses));
    port.fleet.reboot(NODE, "the test").await.unwrap();
    let first = message(&mut before).await;
    assert!(matches!(first, (1, FromServer::Reboot { .. })), "{first:?}");
    port.close().await;
}

#[tokio::test]
async fn reports_of_a_newer_agent_are_acknowledged_counted_and_ignored() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let mut agent = Agent::dial(&port, &identity).await;
    let newer = Offer { max: Some(9), ..Offer::ours() };
    agent.send(0, hello(newer)).await;
    let agreed = agreement(&mut agent).await;
    assert_eq!(agreed.protocol, MAX_PROTOCOL);
    assert!(agreed.capabilities.has(Capability::Unsupported));
    for seq in 1..=3 {
        let report = r#"{"type":"dance","steps":[1,{"state":"x"}]}"#;
        agent.send_text(format!(r#"{{"seq":{seq},"ack":0,"more":1,"message":{report}}}"#)).await;
        while agent.receive().await.unwrap().ack != seq {}
    }
    assert_eq!(metric(&port, "unknown_reports").await, 3);
    let events = port.history().await;
    assert_eq!(
        events.iter().filter(|event| event.message.contains("`dance`")).count(),
        1,
        "{events:?}"
    );
    port.close().await;
}

#[tokio::test]
async fn a_command_that_an_agent_does_not_know_shows_in_its_history() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let mut agent = Agent::connect(&port, &identity).await;
    agent.say(FromAgent::Unsupported { command: format!("fly{}", "y".repeat(1 << 20)) }).await;
    assert_eq!(metric(&port, "unsupported_commands").await, 1);
    assert!(history_has(&port, "doesn't know the command `flyyy").await);
    port.close().await;
}

#[tokio::test]
async fn an_agent_without_a_common_version_is_refused_and_that_is_in_its_history() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    for (min, max) in [(7, 9), (2, 1)] {
        let mut agent = Agent::dial(&port, &identity).await;
        let offer = Offer { protocol: min, min: Some(min), max: Some(max), ..Offer::ours() };
        agent.send(0, hello(offer)).await;
        let why = agent.receive().await.unwrap_err();
        let theirs = format!("the other {min}-{max}");
        assert!(why.contains("no common protocol version") && why.contains(&theirs), "{why}");
        assert!(history_has(&port, &theirs).await);
    }
    port.close().await;
}

#[tokio::test]
async fn the_routes_of_the_fleet_port_are_under_the_same_versions() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let client = port.client(Some(identity));
    let url = format!("{}/node/v1/report", port.url);
    let report = |versions: &'static str, phase: &str| {
        let body = format!(r#"{{"phase":"{phase}","message":"here","invented":{{"a":[1]}}}}"#);
        let request = client.post(&url).header("content-type", "application/json").body(body);
        request.header(HEADER, versions).send()
    };
    let answer = report("1-9", "stage1").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[HEADER]),
        (204, &"1-2".parse().unwrap())
    );
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Stage1);
    assert_eq!(report("1-2", "dancing").await.unwrap().status(), 204, "acknowledged");
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Stage1, "and ignored");
    assert_eq!(metric(&port, "unknown_reports").await, 1);
    let refused = report("8-9", "fetching").await.unwrap();
    assert_eq!(refused.status(), 426);
    assert!(refused.text().await.unwrap().contains("this side speaks 1-2, the other 8-9"));
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Stage1, "nothing was done");
    port.close().await;
}
