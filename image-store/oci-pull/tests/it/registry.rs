//! A registry on loopback that does what a test wants it to do wrong. HTTP/1.1, one
//! request a connection.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
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
    /// Layers come whole, whatever part was asked for; the first answer breaks off
    /// after so many bytes.
    NoRanges(usize),
    /// As `NoRanges`, and every answer breaks off there.
    NoRangesCut(usize),
    /// So many requests are answered with 503.
    Busy(usize),
    /// So many requests are answered with 429, and the wish to be left alone for a second.
    Throttled(usize),
    /// Nobody may read without a login.
    Login,
    /// Nobody may read without a token, which the registry's own service gives for a login. So many
    /// requests for tokens are answered with 503.
    Token(usize),
    /// As `Token`, of a service that is at this address.
    TokenAt(SocketAddr),
    /// Layers are at this address.
    Elsewhere(SocketAddr),
    /// Of layers a byte comes now and then.
    Drip,
    /// Layers are announced, and never come.
    Silent,
    /// Configs say `arm64` where their digests mean `amd64`.
    FalseDocuments,
}

/// A request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `/v2/…`.
    pub(crate) path: String,
    /// First byte asked for.
    pub(crate) from: usize,
    /// `Authorization`.
    pub(crate) authorization: Option<String>,
}

#[derive(Debug)]
struct State {
    address: SocketAddr,
    fault: Fault,
    /// The name of its repository.
    directory: &'static str,
    manifests: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, (Vec<u8>, bool)>,
    seen: Vec<Seen>,
}

/// The registry; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
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
    pub(crate) async fn serve_at(address: SocketAddr, image: &Image, fault: Fault) -> Self {
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
        let mut blobs: HashMap<_, _> = image
            .layers
            .iter()
            .map(|layer| (digest(layer).to_string(), (layer.clone(), true)))
            .collect();
        blobs.insert(digest(&config).to_string(), (config, false));
        let manifest = manifest.to_string().into_bytes();
        let manifests = HashMap::from([
            ("1".to_owned(), manifest.clone()),
            (digest(&manifest).to_string(), manifest),
        ]);
        let directory = "site/node";
        let state = State { address, fault, directory, manifests, blobs, seen: Vec::new() };
        let state = Arc::new(Mutex::new(state));
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

    /// Serves `image` as `/hub/site/node:1`, as a mirror of many registries would.
    pub(crate) async fn mirror(image: &Image, fault: Fault) -> Self {
        let registry = Self::serve(image, fault).await;
        registry.state.lock().unwrap_or_else(PoisonError::into_inner).directory = "hub/site/node";
        registry
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).seen.clone()
    }

    /// What was sent as `Authorization`, each once.
    pub(crate) fn authorizations(&self) -> BTreeSet<String> {
        self.seen().into_iter().filter_map(|seen| seen.authorization).collect()
    }

    /// The digest of its manifest.
    pub(crate) fn manifest(&self) -> Digest {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        digest(&state.manifests["1"])
    }

    /// Requests for layers so far, in the order that they came.
    pub(crate) fn layers_asked_for(&self) -> Vec<(Digest, usize)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = |seen: &Seen| {
            let name = seen.path.strip_prefix(&format!("/v2/{}/blobs/", state.directory))?;
            state.blobs.get(name).filter(|(_, is_layer)| *is_layer)?;
            Some((name.parse().unwrap(), seen.from))
        };
        state.seen.iter().filter_map(layer).collect()
    }
}

/// Pause between two bytes of [`Fault::Drip`].
const DRIP: Duration = Duration::from_millis(5);

/// No manifest or config has so many bytes, and every layer that matters has more.
const SMALL: usize = 10_000;

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
    // A proxy is asked with the whole URL.
    let target = request.split_whitespace().nth(1).unwrap();
    let below_host = target.split_once("://").map(|(_, rest)| &rest[rest.find('/').unwrap()..]);
    let path = below_host.unwrap_or(target).to_owned();
    let header = |name: &str| {
        request.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let from = header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok());
    let from = from.unwrap_or(0);
    let (answer, lives, fault) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let authorization = header("authorization");
        state.seen.push(Seen { path: path.clone(), from, authorization: authorization.clone() });
        let (answer, lives) = state.answer(&path, from, authorization.as_deref());
        (answer, lives, state.fault)
    };
    let _ = stream.write_all(answer.head.as_bytes()).await;
    let is_layer = answer.body.len() > SMALL;
    if is_layer && fault == Fault::Drip {
        for byte in answer.body {
            if stream.write_all(&[byte]).await.is_err() {
                return true;
            }
            tokio::time::sleep(DRIP).await;
        }
        return true;
    }
    if is_layer && fault == Fault::Silent {
        // Until the other side goes.
        let _ = stream.read_u8().await;
        return true;
    }
    let _ = stream.write_all(&answer.body).await;
    let _ = stream.shutdown().await;
    lives
}

fn head(status: &str, length: usize, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
}

fn short(status: &str, more: &str) -> Answer {
    Answer { head: head(status, 0, more), body: Vec::new() }
}

/// The login that is good: `site:secret`.
const LOGIN: &str = "Basic c2l0ZTpzZWNyZXQ=";

impl State {
    /// A manifest or config as it is sent.
    fn document(&self, bytes: &[u8]) -> Vec<u8> {
        match self.fault {
            Fault::FalseDocuments => {
                String::from_utf8(bytes.to_vec()).unwrap().replace("amd64", "arm64").into_bytes()
            }
            _ => bytes.to_vec(),
        }
    }

    /// What is answered instead of what was asked for.
    fn refuses(&mut self, path: &str, login: Option<&str>) -> Option<Answer> {
        let address = self.address;
        let left = |count: &mut usize| {
            let is_left = *count > 0;
            *count = count.saturating_sub(1);
            is_left
        };
        match &mut self.fault {
            Fault::Busy(count) => left(count).then(|| short("503 Service Unavailable", "")),
            Fault::Throttled(count) => {
                left(count).then(|| short("429 Too Many Requests", "Retry-After: 1\r\n"))
            }
            Fault::Login if login != Some(LOGIN) => {
                Some(short("401 Unauthorized", "WWW-Authenticate: Basic realm=\"site\"\r\n"))
            }
            Fault::Token(count) if path.starts_with("/token?") => Some(if left(count) {
                short("503 Service Unavailable", "")
            } else if login == Some(LOGIN) && path.contains("scope=repository%3Asite%2Fnode%3Apull")
            {
                let body = br#"{"token": "t0k"}"#.to_vec();
                Answer { head: head("200 OK", body.len(), ""), body }
            } else {
                short("401 Unauthorized", "")
            }),
            Fault::TokenAt(service) if login != Some("Bearer t0k") => {
                let realm =
                    format!("realm=\"http://{service}/token\",service=\"registry.example\"");
                Some(short("401 Unauthorized", &format!("WWW-Authenticate: Bearer {realm}\r\n")))
            }
            Fault::Token(_) if login != Some("Bearer t0k") => {
                let realm =
                    format!("realm=\"http://{address}/token\",service=\"registry.example\"");
                Some(short("401 Unauthorized", &format!("WWW-Authenticate: Bearer {realm}\r\n")))
            }
            _ => None,
        }
    }

    fn answer(&mut self, path: &str, from: usize, login: Option<&str>) -> (Answer, bool) {
        if let Some(refusal) = self.refuses(path, login) {
            return (refusal, true);
        }
        let name = |kind: &str| path.strip_prefix(&format!("/v2/{}/{kind}/", self.directory));
        if let Some(bytes) = name("manifests").and_then(|tag| self.manifests.get(tag)) {
            let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
            let body = self.document(bytes);
            return (Answer { head: head("200 OK", body.len(), kind), body }, true);
        }
        let Some((bytes, is_layer)) = name("blobs").and_then(|name| self.blobs.get(name)) else {
            let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
            return (short(status, ""), true);
        };
        if let Fault::Elsewhere(address) = self.fault
            && *is_layer
        {
            let location = format!("Location: http://{address}{path}\r\n");
            return (short("307 Temporary Redirect", &location), true);
        }
        if !is_layer {
            let body = self.document(bytes);
            return (Answer { head: head("200 OK", body.len(), ""), body }, true);
        }
        let (mut bytes, mut from) = (bytes.clone(), from);
        let mut lives = true;
        let mut sent = usize::MAX;
        match self.fault {
            Fault::Cut(count) => sent = count,
            Fault::Die(count) => (sent, lives) = (count, false),
            Fault::Falsify => bytes[0] ^= 1,
            Fault::Short(count) => bytes.truncate(count),
            Fault::NoRanges(count) => {
                from = 0;
                sent = count;
                self.fault = Fault::NoRanges(usize::MAX);
            }
            Fault::NoRangesCut(count) => (from, sent) = (0, count),
            _ => {}
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
