//! An agent on the real channel, as a test speaks for it.

use std::{io, sync::Arc};

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
    tungstenite::{self, Message, client::IntoClientRequest as _},
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
        let stream = tls(port, Some(identity), &[]).await.unwrap();
        let address = port.url.trim_start_matches("https://");
        let request = format!("wss://{address}/node/v1/channel").into_client_request().unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Self { socket, sent: 0 }
    }

    /// Sends a frame as it stands.
    pub(crate) async fn send_text(&mut self, text: String) {
        self.try_to_send(text).await.unwrap();
    }

    pub(crate) async fn try_to_send(&mut self, text: String) -> Result<(), tungstenite::Error> {
        self.socket.send(Message::Text(text.into())).await
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

/// A TLS session with the port, with the certificate of a node or none, that offers
/// these protocols.
pub(crate) async fn tls(
    port: &Port,
    identity: Option<&str>,
    offered: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(port.fleet.ca_pem().as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = vec![CertificateDer::from_pem_slice(identity.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(identity.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(port.url.trim_start_matches("https://")).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
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
