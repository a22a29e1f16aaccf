//! An agent on the real channel, as a test speaks for it.

use std::sync::Arc;

use api::{
    channel::{Frame, FromAgent, FromServer, Offer},
    inventory::Inventory,
};
use futures_util::{SinkExt as _, StreamExt as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::Port;

/// An agent on the channel.
pub(crate) struct Agent {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    sent: u64,
}

impl Agent {
    /// Connects and says a hello of this release.
    pub(crate) async fn connect(port: &Port, identity: &str) -> Self {
        let mut agent = Self::dial(port, identity).await;
        agent.send(0, hello(Offer::ours())).await;
        agent
    }

    /// Connects and says nothing.
    pub(crate) async fn dial(port: &Port, identity: &str) -> Self {
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
        Self { socket, sent: 0 }
    }

    /// Sends a frame as it stands.
    pub(crate) async fn send_text(&mut self, text: String) {
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next frame; `Err` is the reason for which the server closes the connection.
    pub(crate) async fn receive(&mut self) -> Result<Frame<FromServer>, String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(close)))) => return Err(close.reason.to_string()),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn send(&mut self, seq: u64, message: FromAgent) {
        let frame = Frame { seq, ack: 0, message: Some(message) };
        self.send_text(serde_json::to_string(&frame).unwrap()).await;
    }

    /// Says something and waits until the server has it on disk.
    pub(crate) async fn say(&mut self, message: FromAgent) {
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

    pub(crate) async fn tell(&mut self, inventory: &Inventory) {
        self.say(FromAgent::Inventory { inventory: Box::new(inventory.clone()) }).await;
    }
}

/// The hello of an agent.
pub(crate) fn hello(offer: Offer) -> FromAgent {
    FromAgent::Hello {
        offer,
        agent_version: "1".to_owned(),
        boot_id: "boot".to_owned(),
        instance: "one".to_owned(),
        image: "debian@1".to_owned(),
        overlays: None,
    }
}
