//! A registry on loopback that does what a test wants it to do wrong. HTTP/1.1, one request a connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::ids::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every answer with a layer breaks off after so many bytes of it.
    Cut(usize),
    /// As `Cut`; then nobody listens any more.
    Die(usize),
    /// Layers have other bytes than announced.
    Falsify,
    /// The registry has only so many bytes of a layer, and thinks that is all.
    Short(usize),
    /// Layers come whole, whatever part was asked for; the first answer breaks off after so many bytes.
    NoRanges(usize),
    /// So many requests are answered with 503.
    Busy(usize),
    /// Nobody may read without a login.
    Login,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `/v2/…`.
    pub(crate) path: String,
    /// First byte asked for.
    pub(crate) from: usize,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    manifests: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, (Vec<u8>, bool)>,
    seen: Vec<Seen>,
}

/// The registry; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An image of some layers.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) architecture: &'static str,
    pub(crate) layers: Vec<Vec<u8>>,
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl Registry {
    /// Serves `image` as `site/node:1`.
    pub(crate) async fn serve(image: &Image, fault: Fault) -> Self {
        Self::serve_at("127.0.0.1:0".parse().unwrap(), image, fault).await
    }

    /// Serves at an address, such as that of a registry that died.
    pub(crate) async fn serve_at(address: std::net::SocketAddr, image: &Image, fault: Fault) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = serde_json::json!({
            "architecture": image.architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": image.layers.iter().map(|l| digest(l)).collect::<Vec<_>>()},
        });
        let config = config.to_string().into_bytes();
        let descriptor = |kind: &str, bytes: &[u8]| {
            serde_json::json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": digest(bytes), "size": bytes.len(),
            })
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config),
            "layers": image.layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect::<Vec<_>>(),
        });
        let mut blobs: HashMap<_, _> =
            image.layers.iter().map(|layer| (digest(layer).to_string(), (layer.clone(), true))).collect();
        blobs.insert(digest(&config).to_string(), (config, false));
        let manifests = HashMap::from([("1".to_owned(), manifest.to_string().into_bytes())]);
        let state = Arc::new(Mutex::new(State { fault, manifests, blobs, seen: Vec::new() }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !answer(stream, &shared).await {
                    break;
                }
            }
        });
        Self { address, state, task }
    }

    /// `HOST:PORT/site/node:1`.
    pub(crate) fn reference(&self) -> String {
        format!("{}/site/node:1", self.address)
    }

    /// Requests for layers so far, in the order that they came.
    pub(crate) fn layers_asked_for(&self) -> Vec<(Digest, usize)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = |seen: &Seen| {
            let name = seen.path.strip_prefix("/v2/site/node/blobs/")?;
            state.blobs.get(name).filter(|(_, is_layer)| *is_layer)?;
            Some((name.parse().unwrap(), seen.from))
        };
        state.seen.iter().filter_map(layer).collect()
    }
}

/// Head and body of an answer, and how much of the body is really sent.
struct Answer {
    head: String,
    body: Vec<u8>,
}

/// Answers one request; `false` if the registry dies of it.
async fn answer(mut stream: TcpStream, state: &Mutex<State>) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return true,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split_whitespace().nth(1).unwrap().to_owned();
    let header = |name: &str| {
        request.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let from =
        header("range").and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
    let from = from.unwrap_or(0);
    let (answer, lives) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen.push(Seen { path: path.clone(), from });
        state.answer(&path, from, header("authorization").as_deref())
    };
    let _ = stream.write_all(answer.head.as_bytes()).await;
    let _ = stream.write_all(&answer.body).await;
    let _ = stream.shutdown().await;
    lives
}

impl State {
    fn answer(&mut self, path: &str, from: usize, login: Option<&str>) -> (Answer, bool) {
        let head = |status: &str, length: usize, more: &str| {
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
        };
        let short = |status: &str, more: &str| Answer { head: head(status, 0, more), body: Vec::new() };
        // site:secret
        if self.fault == Fault::Login && login != Some("Basic c2l0ZTpzZWNyZXQ=") {
            return (short("401 Unauthorized", "WWW-Authenticate: Basic realm=\"site\"\r\n"), true);
        }
        if let Fault::Busy(left) = &mut self.fault
            && *left > 0
        {
            *left -= 1;
            return (short("503 Service Unavailable", ""), true);
        }
        if let Some(bytes) =
            path.strip_prefix("/v2/site/node/manifests/").and_then(|tag| self.manifests.get(tag))
        {
            let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
            return (Answer { head: head("200 OK", bytes.len(), kind), body: bytes.clone() }, true);
        }
        let Some((bytes, is_layer)) =
            path.strip_prefix("/v2/site/node/blobs/").and_then(|name| self.blobs.get(name))
        else {
            let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
            return (short(status, ""), true);
        };
        let (mut bytes, mut from) = (bytes.clone(), from);
        let mut lives = true;
        let mut sent = usize::MAX;
        match self.fault {
            _ if !is_layer => {}
            Fault::Cut(count) => sent = count,
            Fault::Die(count) => (sent, lives) = (count, false),
            Fault::Falsify => bytes[0] ^= 1,
            Fault::Short(count) => bytes.truncate(count),
            Fault::NoRanges(count) => {
                from = 0;
                sent = count;
                self.fault = Fault::NoRanges(usize::MAX);
            }
            Fault::None | Fault::Busy(_) | Fault::Login => {}
        }
        if from > 0 && from >= bytes.len() {
            return (short("416 Range Not Satisfiable", ""), lives);
        }
        let part = &bytes[from..];
        let (status, more) = match from {
            0 => ("200 OK", String::new()),
            _ => {
                let (last, all) = (bytes.len() - 1, bytes.len());
                ("206 Partial Content", format!("Content-Range: bytes {from}-{last}/{all}\r\n"))
            }
        };
        let body = part[..part.len().min(sent)].to_vec();
        (Answer { head: head(status, part.len(), &more), body }, lives)
    }
}
