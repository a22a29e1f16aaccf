//! What an agent tells of its hardware over the real channel, and what is kept of it.

use std::sync::Arc;

use api::{
    channel::{Frame, FromAgent, FromServer, MAX_TOPOLOGY_BYTES, PROTOCOL},
    inventory::{Disk, Fault, FaultLevel, Inventory},
};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{NODE, Port, enrolled};

/// An agent on the channel.
struct Agent {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    sent: u64,
}

impl Agent {
    async fn connect(port: &Port, identity: &str) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(port.fleet.ca_pem().as_bytes()).unwrap()).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(identity.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.as_bytes()).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        let address = port.url.trim_start_matches("https://").to_owned();
        let stream = TcpStream::connect(&address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let request = format!("wss://{address}/node/v1/channel").into_client_request().unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let mut agent = Self { socket, sent: 0 };
        let hello = FromAgent::Hello {
            protocol: PROTOCOL,
            agent_version: "1".to_owned(),
            boot_id: "boot".to_owned(),
            instance: "one".to_owned(),
            image: "debian@1".to_owned(),
            overlays: None,
        };
        agent.send(0, hello).await;
        agent
    }

    async fn send(&mut self, seq: u64, message: FromAgent) {
        let frame = Frame { seq, ack: 0, message: Some(message) };
        let text = serde_json::to_string(&frame).unwrap();
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    /// Says something and waits until the server has it on disk.
    async fn say(&mut self, message: FromAgent) {
        self.sent += 1;
        self.send(self.sent, message).await;
        loop {
            let Some(Ok(Message::Text(text))) = self.socket.next().await else { continue };
            let frame: Frame<FromServer> = serde_json::from_str(&text).unwrap();
            if frame.ack == self.sent {
                return;
            }
        }
    }

    async fn tell(&mut self, inventory: &Inventory) {
        self.say(FromAgent::Inventory { inventory: Box::new(inventory.clone()) }).await;
    }
}

/// The history without its times, the oldest first, from the first inventory on.
async fn history(port: &Port) -> String {
    let events = port.fleet.history(NODE, 100).await.unwrap();
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

    let metrics = port.fleet.metrics().await.unwrap();
    for line in
        ["bedplate_nodes{phase=\"ready\"} 1\n", "bedplate_node_memory_bytes{node=\"n1\"} 1073741824\n"]
    {
        assert!(metrics.contains(line), "{metrics}");
    }
    port.close().await;
}
