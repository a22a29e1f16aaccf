//! Dialling real servers on the loopback interface, with certificates made on the spot.

use api::enroll::AgentIdentity;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::agent::test_server::{acceptor, ca, identity, listen};

fn tls(identity: &AgentIdentity) -> Arc<rustls::ClientConfig> {
    Arc::new(crate::tls::authenticated(identity).unwrap())
}

#[tokio::test]
async fn a_channel_opens_with_both_certificates() {
    let ca = ca();
    let (listener, address) = listen().await;
    let acceptor = acceptor(&ca);
    let server = tokio::spawn(async move {
        let stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().map(<[_]>::len), Some(1));
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let heard = socket.next().await.unwrap().unwrap();
        socket.send(heard).await.unwrap();
    });
    let mut socket = dial(address, tls(&identity(&ca, &ca))).await.unwrap();
    socket.send(Message::text("x")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("x"));
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_or_node_of_another_ca_is_told_by_the_error() {
    let (ca, other) = (ca(), ca());
    let (listener, address) = listen().await;
    let acceptor = acceptor(&ca);
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            acceptor.accept(listener.accept().await.unwrap().0).await.unwrap_err();
        }
    });
    // The node does not trust the server.
    let error = dial(address, tls(&identity(&other, &ca))).await.unwrap_err();
    assert!(matches!(error, DialError::Tls(..)), "{error:?}");
    assert!(
        crate::console::chain(&error).contains("of another CA: expected fingerprint"),
        "{error:?}"
    );
    // The server does not trust the node; TLS 1.3 tells it after the handshake.
    let error = dial(address, tls(&identity(&ca, &other))).await.unwrap_err();
    assert!(matches!(error, DialError::OwnCertificate(..)), "{error:?}");
    assert!(error.to_string().contains("another CA than the server's"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_told_by_name() {
    let ca = ca();
    let (listener, address) = listen().await;
    let acceptor = acceptor(&ca);
    let server = tokio::spawn(async move {
        acceptor.accept(listener.accept().await.unwrap().0).await.unwrap_err()
    });
    let expired = crate::agent::test_server::identity_until(&ca, 2021);
    let error = dial(address, tls(&expired)).await.unwrap_err();
    assert!(matches!(error, DialError::OwnCertificate(..)), "{error:?}");
    assert!(error.to_string().contains("compare the clocks"), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_refusal_carries_the_servers_reason() {
    let ca = ca();
    let (listener, address) = listen().await;
    let acceptor = acceptor(&ca);
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let mut request = [0; 2048];
        let length = stream.read(&mut request).await.unwrap();
        assert!(request[..length].starts_with(b"GET /node/v1/channel HTTP/1.1\r\n"));
        let body = r#"{"status":403,"title":"no channel","detail":"the node was deleted"}"#;
        let answer =
            format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let error = dial(address, tls(&identity(&ca, &ca))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{address} refuses the channel: no channel: the node was deleted")
    );
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_past_the_deadline() {
    let ca = ca();
    let (listener, address) = listen().await;
    let error = dial(address, tls(&identity(&ca, &ca))).await.unwrap_err();
    assert!(matches!(error, DialError::Deadline(..)), "{error:?}");
    drop(listener);
}

#[tokio::test]
async fn a_closed_port_is_told_at_once() {
    let ca = ca();
    let (listener, address) = listen().await;
    drop(listener);
    let error = dial(address, tls(&identity(&ca, &ca))).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(..)), "{error:?}");
}
