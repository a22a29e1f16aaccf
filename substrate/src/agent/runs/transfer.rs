//! Files into and out of volumes: GET and PUT over http(s), artifacts of the server, files for the client.
//!
//! A transfer that breaks off is begun anew, with pauses, up to [`MAX_ATTEMPTS`] times; a 4xx is final. What it does is
//! told in the run's log, and a URL there is without user and password.

use std::{fs::File, io, path::Path};

use api::run::{Destination, RunSpec, Source};
use reqwest::{StatusCode, header::CONTENT_LENGTH};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::{
    Node,
    artifacts::{ArtifactError, SPACE_TO_SPARE, is_passing},
    folder::RunFolder,
    public_http::{self, PublicHttpError},
    reach::{Forbidden, Reach},
    servers::ServersError,
    volumes::{self, VolumeError},
};
use crate::agent::{backoff::Backoff, random};

/// Times that a transfer is begun: about a minute of pauses.
const MAX_ATTEMPTS: u32 = 6;

/// How often the space left is measured while bytes come, bytes.
const MEASURE_EVERY: u64 = 16 << 20;

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The volume, or the file in it.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The artifact could not be had.
    #[error("cannot fetch the contents from the server")]
    Artifact(#[from] ArtifactError),
    /// There is no client for the URL.
    #[error(transparent)]
    Client(#[from] PublicHttpError),
    /// The server of the cluster cannot be asked.
    #[error("cannot ask the server")]
    Servers(#[from] ServersError),
    /// There is no server in the list.
    #[error("no fleet server is known")]
    NoServer,
    /// The connection failed or broke.
    #[error("cannot speak with {url}")]
    Http {
        /// With whom.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The other side refuses.
    #[error("{url} answers {status}")]
    Status {
        /// Who.
        url: String,
        /// What.
        status: StatusCode,
    },
    /// The file in the volume cannot be read or written.
    #[error("cannot {step} the file in the volume")]
    File {
        /// What was tried.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node's disk is nearly full.
    #[error("the node has {0} bytes left for volumes")]
    Space(u64),
    /// A release that this agent does not know ordered it, before this agent took the place of a newer one.
    #[error("the node's agent doesn't know this kind of work: upgrade it")]
    UnknownKind,
}

impl TransferError {
    /// `true` if the same may work at another time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Volume(error) => error.is_transient(),
            Self::Artifact(error) => error.is_transient(),
            Self::Client(_) | Self::UnknownKind => false,
            Self::Status { status, .. } => is_passing(*status),
            Self::Http { source, .. } => {
                !source.is_builder() && !source.is_redirect() && !is_out_of_reach(source)
            }
            Self::File { source, .. } => volumes::is_transient(source),
            Self::Servers(_) | Self::NoServer | Self::Space(_) => true,
        }
    }

    /// Whether trying at once again may help: what waits for space does not.
    fn is_worth_another_attempt(&self) -> bool {
        matches!(self, Self::Http { .. } | Self::Status { .. } | Self::Servers(_)) && self.is_transient()
    }
}

/// A name led to what is out of reach.
fn is_out_of_reach(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<Forbidden>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// How often it was tried.
#[derive(Debug, Default)]
struct Attempts {
    made: u32,
    backoff: Backoff,
}

/// One transfer of a run.
#[derive(Debug)]
pub struct Transfer<'a, C> {
    node: &'a Node<C>,
    spec: &'a RunSpec,
    folder: &'a RunFolder,
    volume: &'a str,
    path: &'a str,
}

impl<'a, C> Transfer<'a, C> {
    /// A file of a volume of the run's workflow.
    pub fn new(
        node: &'a Node<C>,
        spec: &'a RunSpec,
        folder: &'a RunFolder,
        volume: &'a str,
        path: &'a str,
    ) -> Self {
        Self { node, spec, folder, volume, path }
    }

    /// Fills the file.
    ///
    /// # Errors
    /// [`TransferError`], when trying on did not help.
    pub async fn fetch(&self, source: &Source) -> Result<(), TransferError> {
        let mut attempts = Attempts::default();
        match source {
            Source::Http { url } => {
                let client = self.client(url)?;
                self.folder.say(&format!("GET {}", shown(url)));
                let length = loop {
                    let result = self.get(&client, url).await;
                    if let Some(result) = self.settled(result, &mut attempts).await {
                        break result?;
                    }
                };
                self.done(length);
            }
            Source::Artifact { digest, size } => {
                let artifact = self.node.artifacts.get(*digest, *size).await?;
                let length = self.copy(&artifact).await?;
                self.done(length);
            }
            Source::Unknown => return Err(TransferError::UnknownKind),
        }
        Ok(())
    }

    /// Sends the file.
    ///
    /// # Errors
    /// [`TransferError`], when trying on did not help.
    pub async fn send(&self, destination: &Destination) -> Result<(), TransferError> {
        let mut attempts = Attempts::default();
        let length = match destination {
            Destination::Http { url } => {
                let client = self.client(url)?;
                self.folder.say(&format!("PUT {}", shown(url)));
                loop {
                    let result = self.put(&client, url).await;
                    if let Some(result) = self.settled(result, &mut attempts).await {
                        break result?;
                    }
                }
            }
            Destination::Client {} => {
                self.folder.say("sending the file to the server");
                loop {
                    let result = self.put_to_server().await;
                    if let Some(result) = self.settled(result, &mut attempts).await {
                        break result?;
                    }
                }
            }
            Destination::Unknown => return Err(TransferError::UnknownKind),
        };
        self.done(length);
        Ok(())
    }

    fn client(&self, url: &str) -> Result<reqwest::Client, PublicHttpError> {
        public_http::client(url, &self.node.places.authorities, &Reach::new(&self.spec.forbidden))
    }

    fn done(&self, length: u64) {
        self.folder.say(&format!("{} in volume {}: {length} bytes", self.path, self.volume));
    }

    /// The result, unless another attempt may help: then it is `None` after a pause.
    async fn settled(
        &self,
        result: Result<u64, TransferError>,
        attempts: &mut Attempts,
    ) -> Option<Result<u64, TransferError>> {
        attempts.made += 1;
        match result {
            Err(error) if error.is_worth_another_attempt() && attempts.made < MAX_ATTEMPTS => {
                let pause = attempts.backoff.pause(random());
                let why = format!("{:#}", anyhow::Error::from(error));
                self.folder.say(&format!("{why}; trying again in {} s", pause.as_secs().max(1)));
                tokio::time::sleep(pause).await;
                None
            }
            result => Some(result),
        }
    }

    async fn get(&self, client: &reqwest::Client, url: &str) -> Result<u64, TransferError> {
        let mut response = answer(client.get(url).send().await, url)?;
        let available = self.node.volumes.available_bytes();
        if response.content_length().is_some_and(|length| length.saturating_add(SPACE_TO_SPARE) > available) {
            return Err(TransferError::Space(available));
        }
        let mut file = tokio::fs::File::from_std(self.create()?);
        let (mut length, mut measured) = (0_u64, 0_u64);
        while let Some(chunk) = response.chunk().await.map_err(broken(url))? {
            file.write_all(&chunk).await.map_err(cannot("write"))?;
            length += chunk.len() as u64;
            if length - measured >= MEASURE_EVERY {
                measured = length;
                let available = self.node.volumes.available_bytes();
                if available < SPACE_TO_SPARE {
                    return Err(TransferError::Space(available));
                }
            }
        }
        file.flush().await.map_err(cannot("write"))?;
        Ok(length)
    }

    async fn copy(&self, artifact: &Path) -> Result<u64, TransferError> {
        let mut file = tokio::fs::File::from_std(self.create()?);
        let mut artifact = tokio::fs::File::open(artifact).await.map_err(cannot("read the contents of"))?;
        let length = tokio::io::copy(&mut artifact, &mut file).await.map_err(cannot("write"))?;
        file.flush().await.map_err(cannot("write"))?;
        Ok(length)
    }

    fn create(&self) -> Result<File, VolumeError> {
        self.node.volumes.create_file(self.spec.workflow, self.volume, self.path, &self.spec.user)
    }

    async fn put(&self, client: &reqwest::Client, url: &str) -> Result<u64, TransferError> {
        let (file, length) = self.node.volumes.read_file(self.spec.workflow, self.volume, self.path)?;
        // A job of the same workflow may still write to it: what is longer by now is cut.
        let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), length);
        let body = reqwest::Body::wrap_stream(ReaderStream::new(file));
        let sent = client.put(url).header(CONTENT_LENGTH, length).body(body).send().await;
        answer(sent, url)?;
        Ok(length)
    }

    async fn put_to_server(&self) -> Result<u64, TransferError> {
        let port = self.node.servers.port()?;
        let (urls, client) = port.urls(&format!("/node/v1/runs/{}/file", self.spec.run));
        let mut last = TransferError::NoServer;
        for url in urls {
            match self.put(client, &url).await {
                Err(error) if error.is_worth_another_attempt() => last = error,
                result => return result,
            }
        }
        Err(last)
    }
}

fn answer(sent: reqwest::Result<reqwest::Response>, url: &str) -> Result<reqwest::Response, TransferError> {
    let response = sent.map_err(broken(url))?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(TransferError::Status { url: shown(url), status: response.status() })
}

fn broken(url: &str) -> impl FnOnce(reqwest::Error) -> TransferError {
    let url = shown(url);
    // The URL is told once, and without what is secret in it.
    move |source| TransferError::Http { url, source: source.without_url() }
}

fn cannot(step: &'static str) -> impl FnOnce(io::Error) -> TransferError {
    move |source| TransferError::File { step, source }
}

/// A URL without user, password and query: signed URLs carry their secret there.
fn shown(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return "the URL".to_owned() };
    // Both fail only for URLs that have no host, and so nothing to hide.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_query(None);
    parsed.to_string()
}
