//! Who enrols in the place of a node: what shows, what is refused, and what an admin's word does.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use api::{
    channel::{FromAgent, Offer},
    enroll::{Enroll, Enrolled, Renew},
    inventory::Inventory,
    status::{NodeConflict, Phase, Severity},
};
use axum::{Extension, Router, routing::any};
use fleet::{Fleet, FleetConfig, NodeIdentity, Observation};
use serde_json::json;

use crate::{
    IMAGE, NODE, OTHER, Port,
    agent::{Agent, hello},
    declare, enrolled, key_and_request,
};

/// Every route that takes a node's certificate: those of fleet, and of the roles behind its port.
const ROUTES: [(&str, &str); 10] = [
    ("POST", "/node/v1/renew"),
    ("POST", "/node/v1/report"),
    ("GET", "/node/v1/channel"),
    ("GET", "/node/v1/agent"),
    ("GET", "/node/v1/overlays/boot"),
    ("GET", "/node/v1/overlays/runtime"),
    ("GET", "/node/v1/artifacts/sha256/00"),
    ("POST", "/node/v1/runs/1/log"),
    ("PUT", "/node/v1/runs/1/file"),
    ("GET", "/node/v1/streams/1"),
];

/// The routes of the other roles: they say who asks.
pub(crate) fn extra() -> Router {
    let who = |Extension(node): Extension<NodeIdentity>| async move {
        format!("{} enrolment {} in conflict: {}", node.name, node.epoch, node.in_conflict)
    };
    let own = &ROUTES[..3];
    let others = ROUTES.iter().filter(|route| !own.contains(route));
    others.fold(Router::new(), |router, (_, path)| router.route(path, any(who)))
}

/// What a route answers to a certificate, over a connection of its own.
async fn ask(port: &Port, identity: &str, method: &str, path: &str) -> (u16, String) {
    let (_, csr) = key_and_request();
    let url = format!("{}{path}", port.url);
    let request = port.client(Some(identity.to_owned())).request(method.parse().unwrap(), url);
    let body = json!({"csr": csr, "phase": "stage1", "message": "here"});
    let answer = request.json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn overlays(port: &Port, identity: &str) -> (u16, String) {
    ask(port, identity, "GET", "/node/v1/overlays/boot").await
}

/// Each route refuses a certificate, with these words.
async fn is_dead(port: &Port, identity: &str, words: &str) {
    for (method, path) in ROUTES {
        let (status, text) = ask(port, identity, method, path).await;
        assert!(status == 403 && text.contains(words), "{method} {path}: {status} {text}");
    }
}

async fn is_alive(port: &Port, identity: &str) {
    for (method, path) in ROUTES {
        let (status, text) = ask(port, identity, method, path).await;
        assert_ne!(status, 403, "{method} {path}: {text}");
    }
}

/// A fresh certificate for one that is good.
async fn renewed(port: &Port, identity: &str) -> String {
    let (key, csr) = key_and_request();
    let request =
        port.client(Some(identity.to_owned())).post(format!("{}/node/v1/renew", port.url));
    let enrolled: Enrolled =
        request.json(&Renew { csr }).send().await.unwrap().json().await.unwrap();
    format!("{}{}", enrolled.certificate, key.serialize_pem())
}

/// The node's boot token, as who reads the wire has it.
async fn token(port: &Port) -> String {
    let here = Ipv4Addr::LOCALHOST.into();
    port.fleet.observe(NODE, Observation::Offered { address: here }).unwrap();
    port.fleet.issue_token(NODE, here, Some(here), IMAGE.into()).unwrap()
}

/// Trades a token for a certificate with a key of one's own; `Err` is the refusal.
async fn trade(port: &Port, token: &str) -> Result<String, String> {
    let (key, csr) = key_and_request();
    let request = port.client(None).post(format!("{}/node/v1/enroll", port.url));
    let answer =
        request.json(&Enroll { id: NODE, token: token.to_owned(), csr }).send().await.unwrap();
    if !answer.status().is_success() {
        return Err(answer.text().await.unwrap());
    }
    let enrolled: Enrolled = answer.json().await.unwrap();
    Ok(format!("{}{}", enrolled.certificate, key.serialize_pem()))
}

fn conflict(port: &Port) -> Option<NodeConflict> {
    port.fleet.status(NODE).unwrap().conflict
}

/// A conflict shows in the status, the history and the metrics.
async fn is_alarmed(port: &Port, words: &str) {
    let cause = conflict(port).unwrap().cause;
    assert!(cause.contains(words), "{cause}");
    let history = port.history().await;
    let is_told = |event: &api::status::NodeEvent| {
        event.severity == Severity::Security && event.message.contains(words)
    };
    // The history is on disk soon after.
    let mut told = history.iter().any(is_told);
    for _ in 0..100 {
        if told {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = port.history().await.iter().any(is_told);
    }
    assert!(told, "{history:?}");
    assert!(port.metrics().contains("bedplate_nodes_in_conflict 1\n"));
}

async fn is_gone(port: &Port) {
    for _ in 0..500 {
        if port.fleet.connected().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the agent is still connected");
}

/// An agent of its own, in a session of its own, that has told its inventory.
async fn ready(port: &Port, identity: &str) -> Agent {
    static AGENTS: AtomicU32 = AtomicU32::new(0);
    let number = AGENTS.fetch_add(1, Ordering::Relaxed);
    let mut agent = Agent::dial(port, identity).await;
    let mut hello = hello(Offer::ours());
    if let FromAgent::Hello { instance, .. } = &mut hello {
        *instance = number.to_string();
    }
    agent.send(0, hello).await;
    agent.tell(&Inventory::default()).await;
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Ready);
    agent
}

#[tokio::test]
async fn who_enrolled_while_the_node_was_off_is_seen_with_its_first_word_and_its_renewals_die_too()
{
    let port = Port::open().await;
    let thief = enrolled(&port, NODE).await;
    let first = thief.clone();
    let thief = renewed(&port, &thief).await;
    is_alive(&port, &thief).await;
    assert_eq!(
        overlays(&port, &thief).await,
        (200, "n1 enrolment 1 in conflict: false".to_owned())
    );

    let node = enrolled(&port, NODE).await;
    is_alive(&port, &node).await;
    assert_eq!(conflict(&port), None, "an honest boot looks the same");
    let again = renewed(&port, &thief).await;
    is_alarmed(&port, "the agent of enrolment 1 lives").await;
    let shown = conflict(&port).unwrap();
    let epochs: Vec<u64> = shown.enrolments.iter().map(|enrolment| enrolment.epoch).collect();
    assert_eq!((epochs, shown.channel), (vec![2, 1], Some(1)));
    let known = |enrolment: &api::status::NodeEnrolment| {
        enrolment.address.is_some() && enrolment.serial.is_some() && enrolment.last_seen.is_some()
    };
    assert!(shown.enrolments.iter().all(known), "{shown:?}");

    // Neither gets a secret: one is refused, the other is marked.
    assert_eq!(overlays(&port, &thief).await, (200, "n1 enrolment 1 in conflict: true".to_owned()));
    let (status, text) = overlays(&port, &node).await;
    assert!(status == 403 && text.contains("two claim to be n1"), "{status} {text}");
    assert_eq!(ask(&port, &node, "GET", "/node/v1/channel").await.0, 403);
    // But it keeps a certificate until an admin decides.
    let node = renewed(&port, &node).await;

    port.fleet.revoke(NODE, Some(1), "root").await.unwrap();
    assert_eq!(conflict(&port), None);
    for dead in [&first, &thief, &again] {
        is_dead(&port, dead, "certificates of its enrolment 1 were revoked").await;
    }
    is_alive(&port, &node).await;
    let _agent = ready(&port, &node).await;
    port.close().await;
}

#[tokio::test]
async fn who_enrolled_while_the_node_was_cut_off_is_seen_when_it_is_back_and_ends_at_an_admins_word()
 {
    let port = Port::open().await;
    let node = enrolled(&port, NODE).await;
    drop(ready(&port, &node).await);
    is_gone(&port).await;
    let thief = enrolled(&port, NODE).await;
    let mut pretender = ready(&port, &thief).await;

    let (status, text) = ask(&port, &node, "GET", "/node/v1/channel").await;
    assert!(status == 403 && text.contains("two claim to be n1"), "{status} {text}");
    is_alarmed(&port, "the agent of enrolment 1 lives").await;
    pretender.say(FromAgent::Heartbeat { uptime_seconds: 1, volumes: None }).await;

    port.fleet.trust(NODE, 1, "root").await.unwrap();
    let why = loop {
        if let Err(why) = pretender.receive().await {
            break why;
        }
    };
    assert!(why.contains("not the node's any more"), "{why}");
    is_gone(&port).await;
    assert_eq!(conflict(&port), None);
    is_dead(&port, &thief, "certificates of its enrolment 2 were revoked").await;
    let _agent = ready(&port, &node).await;
    is_alive(&port, &node).await;
    port.close().await;
}

#[tokio::test]
async fn an_agent_that_comes_back_before_the_thief_has_the_channel_keeps_it() {
    let port = Port::open().await;
    let node = enrolled(&port, NODE).await;
    drop(ready(&port, &node).await);
    is_gone(&port).await;
    let thief = enrolled(&port, NODE).await;
    let mut agent = ready(&port, &node).await;
    is_alarmed(&port, "the agent of enrolment 1 lives").await;
    assert_eq!(ask(&port, &thief, "GET", "/node/v1/channel").await.0, 403);
    let report = ask(&port, &thief, "POST", "/node/v1/report").await.0;
    assert_eq!((report, port.fleet.status(NODE).unwrap().phase), (403, Phase::Ready));
    agent.say(FromAgent::Heartbeat { uptime_seconds: 1, volumes: None }).await;
    port.close().await;
}

#[tokio::test]
async fn a_token_that_is_used_twice_stops_new_tokens_and_secrets_and_ends_nothing_that_runs() {
    let port = Port::open().await;
    let stolen = token(&port).await;
    let first = trade(&port, &stolen).await.unwrap();
    let mut agent = ready(&port, &first).await;
    let refused = trade(&port, &stolen).await.unwrap_err();
    assert!(refused.contains("the token was used before"), "{refused}");
    is_alarmed(&port, "the token of enrolment 1 was used again").await;
    // A stranger who has read the token cannot end what runs.
    agent.say(FromAgent::Heartbeat { uptime_seconds: 1, volumes: None }).await;
    is_alive(&port, &first).await;
    assert_eq!(overlays(&port, &first).await.1, "n1 enrolment 1 in conflict: true");
    drop(agent);
    is_gone(&port).await;
    let here = Ipv4Addr::LOCALHOST.into();
    port.fleet.observe(NODE, Observation::Offered { address: here }).unwrap();
    let refused = port.fleet.issue_token(NODE, here, Some(here), IMAGE.into()).unwrap_err();
    assert!(refused.to_string().contains("disarmed"), "{refused}");

    // The admin is at the machine, and boots it: what the other one has is of an earlier enrolment.
    port.fleet.arm(NODE, "the test").await.unwrap();
    let node = enrolled(&port, NODE).await;
    assert_eq!((conflict(&port), overlays(&port, &node).await.0), (None, 200));
    overlays(&port, &first).await;
    is_alarmed(&port, "the agent of enrolment 1 lives").await;
    port.close().await;
}

#[tokio::test]
async fn who_has_read_a_token_makes_no_conflict_about_an_enrolment_that_an_admin_trusts() {
    let port = Port::open().await;
    let stolen = token(&port).await;
    let node = trade(&port, &stolen).await.unwrap();
    let mut agent = ready(&port, &node).await;
    trade(&port, &stolen).await.unwrap_err();
    is_alarmed(&port, "the token of enrolment 1 was used again").await;
    port.fleet.trust(NODE, 1, "root").await.unwrap();
    port.fleet.arm(NODE, "the test").await.unwrap();
    let refused = trade(&port, &stolen).await.unwrap_err();
    assert!(refused.contains("the token was used before"), "{refused}");
    assert_eq!(conflict(&port), None);
    assert_eq!(overlays(&port, &node).await.1, "n1 enrolment 1 in conflict: false");
    agent.say(FromAgent::Heartbeat { uptime_seconds: 1, volumes: None }).await;
    port.close().await;
}

#[tokio::test]
async fn revoked_certificates_are_dead_on_every_route_and_the_node_boots_again_when_it_is_armed() {
    let port = Port::open().await;
    let node = enrolled(&port, NODE).await;
    let mut agent = ready(&port, &node).await;
    port.fleet.revoke(NODE, None, "root").await.unwrap();
    while agent.receive().await.is_ok() {}
    is_dead(&port, &node, "were revoked").await;
    let status = port.fleet.status(NODE).unwrap();
    assert!(!status.armed, "{status:?}");
    is_gone(&port).await;
    port.fleet.arm(NODE, "the test").await.unwrap();
    let node = enrolled(&port, NODE).await;
    // Certificates may be out that are newer than what was known: their numbers are left out.
    let epoch = port.fleet.status(NODE).unwrap().epoch;
    assert!(epoch > 1_000_000, "{epoch}");
    is_alive(&port, &node).await;
    let error = port.fleet.trust(NODE, 1, "root").await.unwrap_err().to_string();
    assert!(error.contains("enrolment 1 were revoked already"), "{error}");
    let later = port.fleet.revoke(NODE, Some(epoch + 7), "root").await.unwrap_err().to_string();
    let words = format!("never enrolled as {}; its newest enrolment is {epoch}", epoch + 7);
    assert!(later.contains(&words), "{later}");
    port.close().await;
}

#[tokio::test]
async fn certificates_of_a_deleted_node_are_dead_also_for_a_new_one_of_its_name() {
    let port = Port::open().await;
    let node = enrolled(&port, NODE).await;
    declare(&port.fleet, &port.database, &[(OTHER, "n1")], &[NODE]).await;
    is_dead(&port, &node, "was deleted").await;
    port.close().await;
}

#[tokio::test]
async fn agents_of_releases_before_go_on_and_are_an_earlier_enrolment_after_the_next_boot() {
    let port = Port::open().await;
    let before = port.signed_by_the_authority(&NODE.to_string(), (2020, 2999));
    is_alive(&port, &before).await;
    drop(ready(&port, &before).await);
    is_gone(&port).await;
    let before = renewed(&port, &before).await;
    assert_eq!(port.fleet.status(NODE).unwrap().epoch, 0);
    let node = enrolled(&port, NODE).await;
    assert_eq!((port.fleet.status(NODE).unwrap().epoch, overlays(&port, &node).await.0), (1, 200));
    overlays(&port, &before).await;
    is_alarmed(&port, "the agent of enrolment 0 lives").await;
    port.close().await;
}

#[tokio::test]
async fn a_conflict_and_its_end_outlive_the_server() {
    let port = Port::open().await;
    let thief = enrolled(&port, NODE).await;
    enrolled(&port, NODE).await;
    overlays(&port, &thief).await;
    is_alarmed(&port, "the agent of enrolment 1 lives").await;
    let Port { directory, database, fleet, reports, stop, serving, .. } = port;
    stop.cancel();
    serving.await.unwrap();
    fleet.close().await;
    for trusted in [false, true] {
        let config =
            FleetConfig::new(directory.path().to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
        let fleet = Fleet::open(database.clone(), config, reports.clone()).await.unwrap();
        assert_eq!(fleet.status(NODE).unwrap().conflict.is_none(), trusted);
        if !trusted {
            fleet.trust(NODE, 2, "root").await.unwrap();
        }
        fleet.close().await;
    }
}
