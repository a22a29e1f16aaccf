//! What who has no certificate, or does not speak the protocol, can use of the port.

use std::time::Duration;

use api::channel::{FromServer, Offer};
use rest::shell::{Deadlines, Limits};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    NODE, OTHER, Port,
    agent::{Agent, hello, tls},
    enrolled,
};

/// Few strangers of one address, all of whom may go at once.
fn tight() -> Limits {
    let deadlines = Deadlines { settling: Duration::ZERO, ..Deadlines::default() };
    Limits { unproven_per_address: 4, deadlines, ..Limits::of_descriptors(1_024, None) }
}

async fn silent(port: &Port) -> TcpStream {
    TcpStream::connect(port.url.trim_start_matches("https://")).await.unwrap()
}

/// Waits until the metrics have this line.
async fn wait_for(port: &Port, line: &str) {
    while !port.metrics().lines().any(|told| told == line) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn silent_connections_keep_no_node_out_and_nodes_are_not_counted_by_address() {
    let port = Port::open_within(tight()).await;
    let identity = enrolled(&port, NODE).await;
    let mut strangers = Vec::new();
    for _ in 0..20 {
        strangers.push(silent(&port).await);
    }
    let mut nodes = Vec::new();
    for _ in 0..10 {
        nodes.push(tls(&port, Some(&identity), &[]).await.unwrap());
    }
    wait_for(&port, r#"bedplate_connections{listener="fleet",client="proven"} 10"#).await;
    for _ in 0..20 {
        strangers.push(silent(&port).await);
    }
    let request = b"POST /node/v1/report HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    for node in &mut nodes {
        let mut answer = [0; 12];
        node.write_all(request).await.unwrap();
        node.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"HTTP/1.1 415", "it is asked for JSON: the connection was not ended");
    }
    drop((strangers, nodes));
    port.close().await;
}

#[tokio::test]
async fn http2_is_refused_by_alpn_and_by_its_preface() {
    let port = Port::open().await;
    let refused = tls(&port, None, &[b"h2"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    let agreed = tls(&port, None, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(agreed.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut connection = tls(&port, None, &[]).await.unwrap();
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut heard = Vec::new();
    let _ = connection.read_to_end(&mut heard).await;
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"), "{heard:?}");
    port.close().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_dropped() {
    let mut limits = tight();
    limits.deadlines.handshake = Duration::from_millis(100);
    let port = Port::open_within(limits).await;
    let mut connection = silent(&port).await;
    // The beginning of a ClientHello.
    connection.write_all(&[22, 3, 1]).await.unwrap();
    let mut heard = Vec::new();
    let _ = connection.read_to_end(&mut heard).await;
    wait_for(&port, r#"bedplate_connections_ended_total{listener="fleet",cause="handshake"} 1"#)
        .await;
    wait_for(&port, "bedplate_fleet_handshake_failures_total 1").await;
    port.close().await;
}

/// The beginning of an answer to a request to enrol whose body is declared and not sent.
async fn asked_to_enrol(port: &Port, length: usize, sent: &str) -> String {
    let mut connection = tls(port, None, &[]).await.unwrap();
    let head = format!(
        "POST /node/v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{sent}"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn who_asks_to_enrol_may_say_little_and_nothing_after_many_failures() {
    let port = Port::open().await;
    let long = "x".repeat(17 << 10);
    assert_eq!(asked_to_enrol(&port, long.len(), &long).await, "HTTP/1.1 413");
    let wrong = format!(r#"{{"id":"{NODE}","token":"x","csr":"none"}}"#);
    let mut answer = String::new();
    while answer != "HTTP/1.1 429" {
        assert!(answer.is_empty() || answer == "HTTP/1.1 400", "{answer}");
        answer = asked_to_enrol(&port, wrong.len(), &wrong).await;
    }
    // Nothing of the body came, and nothing is waited for.
    assert_eq!(asked_to_enrol(&port, 1_000, "").await, "HTTP/1.1 429");
    port.close().await;
}

#[tokio::test]
async fn a_hello_of_15_mib_is_not_taken() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let mut agents = Vec::new();
    for _ in 0..4 {
        agents.push(Agent::dial(&port, &identity).await);
    }
    // One hello of a node is awaited at a time: this one's are replaced.
    for agent in &mut agents[..3] {
        let why = agent.receive().await.unwrap_err();
        assert!(why.contains("replaced by a newer connection"), "{why}");
    }
    // More than both kernels hold: a server that read it would let it be sent.
    let sent = agents[3].try_to_send("x".repeat(15 << 20)).await;
    assert!(sent.is_err(), "all of it was taken");
    // The node itself is as welcome as before, and so are its large messages behind the hello.
    let mut agent = Agent::dial(&port, &identity).await;
    agent.send(0, hello(Offer::ours())).await;
    let welcome = agent.receive().await.unwrap().message;
    assert!(matches!(welcome, Some(FromServer::Welcome { .. })), "{welcome:?}");
    agent.say(api::channel::FromAgent::Topology { xml: "<x/>".repeat(50_000) }).await;
    port.close().await;
}

#[tokio::test]
async fn what_an_agent_sends_behind_its_hello_is_read() {
    let port = Port::open().await;
    let identity = enrolled(&port, OTHER).await;
    let mut agent = Agent::dial(&port, &identity).await;
    // Both at once: the second is longer than a hello may be.
    agent.send(0, hello(Offer::ours())).await;
    agent.say(api::channel::FromAgent::Topology { xml: "<x/>".repeat(50_000) }).await;
    port.close().await;
}
