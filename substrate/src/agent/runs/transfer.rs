//! Files into and out of volumes: GET and PUT over http(s), artifacts of the server, files and
//! directories for the client.
//!
//! A transfer that breaks off is begun again, with pauses, up to [`MAX_ATTEMPTS`] times; what
//! another try cannot mend is final, such as a 4xx. Each try that failed is told at once, in the
//! run's log and to the server. A URL there is without user and password.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use api::{
    backoff::Backoff,
    run::{Destination, FailedTry, RunSpec, Source},
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use reqwest::{StatusCode, header::CONTENT_LENGTH};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::{
    Node,
    artifacts::{ArtifactError, is_passing},
    public_http::{self, Direction, PublicHttpError},
    reach::{Forbidden, Reach},
    servers::ServersError,
    volumes::{self, Kept, VolumeError},
};
use crate::{
    agent::backoff::{agent_backoff, jitter},
    random::random,
};

mod directory;
mod progress;
mod room;

pub use progress::Progress;

/// Times that a transfer is begun: about a minute of pauses.
const MAX_ATTEMPTS: u32 = 6;

/// Time without a byte after which an upload is begun again: a store may take its time over the
/// answer when it has all of a large file.
const STALL: Duration = Duration::from_secs(120);

/// How often the space and the memory left are measured while bytes come, bytes.
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
    /// Nothing moves any more.
    #[error("{url} has taken {bytes} bytes and then none for {} s", STALL.as_secs())]
    Stalled {
        /// Who.
        url: String,
        /// Bytes sent in all.
        bytes: u64,
    },
    /// All tries failed.
    #[error("gave up after {tries} tries")]
    GaveUp {
        /// How many.
        tries: u32,
        /// Why the last one failed.
        #[source]
        source: Box<TransferError>,
    },
    /// What is to be sent is a directory, and cannot go there.
    #[error(
        "{path} is a directory, and {why}; let a job pack it (`tar -cf`), and transfer the archive"
    )]
    NoDirectory {
        /// The path in the volume.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// A directory cannot be read, or its stream broke off.
    #[error("cannot pack the directory")]
    Packing(#[source] copy_tree::CopyError),
    /// A job is still at work on it.
    #[error("{0} was changed while it was sent")]
    Changed(String),
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
    /// The volume holds as much as it may.
    #[error(
        "the volume {volume} is full: it may hold {limit} bytes (its `size` in the document; `jobs.volume-gib` \
         of the server where it has none)"
    )]
    VolumeFull {
        /// The volume.
        volume: String,
        /// What it may hold, bytes.
        limit: u64,
    },
    /// What the agent writes where volumes are in memory counts as no job's.
    #[error("the node has no memory to spare for volumes: {0}")]
    Memory(String),
    /// A release that this agent does not know ordered it, before this agent took the place
    /// of a newer one.
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
            Self::Client(_)
            | Self::UnknownKind
            | Self::NoDirectory { .. }
            | Self::Changed(_)
            | Self::VolumeFull { .. } => false,
            Self::Status { status, .. } => is_passing(*status),
            Self::Http { source, .. } => {
                !source.is_builder() && !source.is_redirect() && !is_out_of_reach(source)
            }
            Self::GaveUp { source, .. } => source.is_transient(),
            Self::Packing(copy_tree::CopyError::Step { source, .. }) => {
                volumes::is_transient(source)
            }
            Self::Packing(copy_tree::CopyError::Broken(_)) | Self::Stalled { .. } => true,
            Self::Packing(_) => false,
            Self::File { source, .. } => volumes::is_transient(source),
            Self::Servers(_) | Self::NoServer | Self::Space(_) | Self::Memory(_) => true,
        }
    }

    /// Whether trying at once again may help: what waits for space does not.
    fn is_worth_another_attempt(&self) -> bool {
        let is_of_the_net = matches!(
            self,
            Self::Http { .. }
                | Self::Status { .. }
                | Self::Servers(_)
                | Self::Stalled { .. }
                | Self::Packing(copy_tree::CopyError::Broken(_))
        );
        is_of_the_net && self.is_transient()
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

/// The tries of one file.
#[derive(Debug)]
struct Tries {
    made: u32,
    backoff: Backoff,
}

impl Default for Tries {
    fn default() -> Self {
        Self { made: 0, backoff: agent_backoff() }
    }
}

/// One transfer of a run.
#[derive(Debug)]
pub struct Transfer<'a, C> {
    node: &'a Node<C>,
    spec: &'a RunSpec,
    progress: &'a Progress<'a>,
    volume: &'a str,
    path: &'a str,
}

impl<'a, C> Transfer<'a, C> {
    /// A file of a volume of the run's workflow, or a directory on its way out.
    pub fn new(
        node: &'a Node<C>,
        spec: &'a RunSpec,
        progress: &'a Progress<'a>,
        volume: &'a str,
        path: &'a str,
    ) -> Self {
        Self { node, spec, progress, volume, path }
    }

    /// Fills the file.
    ///
    /// # Errors
    /// [`TransferError`], when trying on did not help.
    pub async fn fetch(&self, source: &Source) -> Result<(), TransferError> {
        let mut tries = Tries::default();
        match source {
            Source::Http { url } => {
                let reach = self.reach();
                let authorities = &self.node.places.authorities;
                let client = public_http::client(url, Direction::Download, authorities, &reach)?;
                self.progress.say(&format!("GET {}", shown(url)));
                let length = loop {
                    let result = self.get(&client, url).await;
                    if let Some(result) = self.settled(result, &mut tries).await {
                        break result?;
                    }
                };
                self.done(length);
            }
            Source::Artifact { digest, size } => {
                let moved = self.progress.begins(format!("the server, asked for {digest},"));
                let artifact = self.node.artifacts.get(*digest, *size).await?;
                let length = self.copy(&artifact).await?;
                moved.store(length, Ordering::Relaxed);
                self.done(length);
            }
            Source::Unknown => return Err(TransferError::UnknownKind),
        }
        Ok(())
    }

    /// Sends the file, or the directory with all that is below it.
    ///
    /// # Errors
    /// [`TransferError`], when trying on did not help.
    pub async fn send(&self, destination: &Destination) -> Result<(), TransferError> {
        if let Kept::Directory(directory) = self.kept()? {
            return self.send_directory(directory, destination).await;
        }
        let mut tries = Tries::default();
        let length = match destination {
            Destination::Http { url } => {
                let client = self.upload_client(url)?;
                self.progress.say(&format!("PUT {}", shown(url)));
                loop {
                    let result = match self.file() {
                        Ok(file) => self.put(&client, url, file).await,
                        Err(error) => Err(error),
                    };
                    if let Some(result) = self.settled(result, &mut tries).await {
                        break result?;
                    }
                }
            }
            Destination::Client { .. } => {
                self.progress.say("sending the file to the server");
                loop {
                    let result = self.put_to_server().await;
                    if let Some(result) = self.settled(result, &mut tries).await {
                        break result?;
                    }
                }
            }
            Destination::Unknown => return Err(TransferError::UnknownKind),
        };
        self.done(length);
        Ok(())
    }

    fn reach(&self) -> Reach {
        Reach::new(&self.spec.forbidden, &self.node.places.near)
    }

    fn upload_client(&self, url: &str) -> Result<reqwest::Client, PublicHttpError> {
        let reach = self.reach();
        public_http::client(url, Direction::Upload, &self.node.places.authorities, &reach)
    }

    /// What is to be sent.
    fn kept(&self) -> Result<Kept, VolumeError> {
        self.node.volumes.open_kept(self.spec.workflow, self.volume, self.path)
    }

    fn file(&self) -> Result<(File, u64), TransferError> {
        match self.kept()? {
            Kept::File(file, length) => Ok((file, length)),
            Kept::Directory(_) => Err(TransferError::Changed(self.path.to_owned())),
        }
    }

    fn done(&self, length: u64) {
        self.progress.say(&format!("{} in volume {}: {length} bytes", self.path, self.volume));
    }

    /// The result, unless another try may help: then it is `None` after a pause. That a try failed,
    /// and why, is told before the pause.
    async fn settled<T>(
        &self,
        result: Result<T, TransferError>,
        tries: &mut Tries,
    ) -> Option<Result<T, TransferError>> {
        tries.made += 1;
        let error = match result {
            Err(error) if error.is_worth_another_attempt() => error,
            result => return Some(result),
        };
        if tries.made >= MAX_ATTEMPTS {
            return Some(Err(TransferError::GaveUp { tries: tries.made, source: Box::new(error) }));
        }
        let pause = tries.backoff.pause(jitter(random()));
        let why = format!("{:#}", anyhow::Error::from(error));
        let pause_seconds = pause.as_secs().max(1);
        let failed = FailedTry { number: tries.made, of: MAX_ATTEMPTS, why, pause_seconds };
        self.progress.failed(failed).await;
        tokio::time::sleep(pause).await;
        None
    }

    async fn get(&self, client: &reqwest::Client, url: &str) -> Result<u64, TransferError> {
        let moved = self.progress.begins(format!("GET {}", shown(url)));
        let mut response = answer(client.get(url).send().await, url)?;
        self.check_room(0)?;
        // Before its length is held against the room: what a try of before left makes room.
        let mut file = tokio::fs::File::from_std(self.create()?);
        self.check_room(response.content_length().unwrap_or(0))?;
        let (mut length, mut measured) = (0_u64, 0_u64);
        while let Some(chunk) = response.chunk().await.map_err(broken(url))? {
            file.write_all(&chunk).await.map_err(|error| self.not_written(error))?;
            length += chunk.len() as u64;
            moved.store(length, Ordering::Relaxed);
            if length - measured >= MEASURE_EVERY {
                measured = length;
                self.check_room(0)?;
            }
        }
        file.flush().await.map_err(|error| self.not_written(error))?;
        self.progress.succeeded();
        Ok(length)
    }

    async fn copy(&self, artifact: &Path) -> Result<u64, TransferError> {
        let mut file = tokio::fs::File::from_std(self.create()?);
        let mut artifact =
            tokio::fs::File::open(artifact).await.map_err(cannot("read the contents of"))?;
        let copied = tokio::io::copy(&mut artifact, &mut file).await;
        let length = copied.map_err(|error| self.not_written(error))?;
        file.flush().await.map_err(|error| self.not_written(error))?;
        Ok(length)
    }

    fn create(&self) -> Result<File, VolumeError> {
        self.node.volumes.create_file(self.spec.workflow, self.volume, self.path, &self.spec.user)
    }

    /// Sends `file` as it is now.
    async fn put(
        &self,
        client: &reqwest::Client,
        url: &str,
        (file, length): (File, u64),
    ) -> Result<u64, TransferError> {
        let moved = self.progress.begins(format!("PUT {}", shown(url)));
        // A job of the same workflow may still write to it: what is longer by now is cut.
        let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), length);
        let counted = moved.clone();
        let count = move |bytes: &Bytes| {
            counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        };
        let body = reqwest::Body::wrap_stream(ReaderStream::new(file).inspect_ok(count));
        let request = client.put(url).header(CONTENT_LENGTH, length).body(body);
        answer(unless_stalled(&moved, url, request.send()).await?, url)?;
        self.progress.succeeded();
        Ok(length)
    }

    async fn put_to_server(&self) -> Result<u64, TransferError> {
        let port = self.node.servers.port()?;
        let (urls, client) = port.upload_urls(&format!("/node/v1/runs/{}/file", self.spec.run));
        let mut last = TransferError::NoServer;
        for url in urls {
            match self.put(client, &url, self.file()?).await {
                Err(error) if error.is_worth_another_attempt() => last = error,
                result => return result,
            }
        }
        Err(last)
    }
}

/// Waits for a request for as long as it moves bytes. A client's own limit to the time without a
/// byte counts what it reads, and of an upload it reads nothing before its end.
async fn unless_stalled<T>(
    moved: &AtomicU64,
    url: &str,
    request: impl Future<Output = T>,
) -> Result<T, TransferError> {
    let mut request = std::pin::pin!(request);
    let mut seen = moved.load(Ordering::Relaxed);
    loop {
        if let Ok(done) = tokio::time::timeout(STALL, &mut request).await {
            return Ok(done);
        }
        let now = moved.load(Ordering::Relaxed);
        if now == seen {
            return Err(TransferError::Stalled { url: shown(url), bytes: now });
        }
        seen = now;
    }
}

fn answer(
    sent: reqwest::Result<reqwest::Response>,
    url: &str,
) -> Result<reqwest::Response, TransferError> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_has_all_the_time_in_which_bytes_move() {
        let moved = Arc::new(AtomicU64::new(0));
        let mover = moved.clone();
        let slow = async move {
            for _ in 0..50 {
                tokio::time::sleep(STALL - Duration::from_secs(1)).await;
                mover.fetch_add(1, Ordering::Relaxed);
            }
        };
        unless_stalled(&moved, "http://h/x", slow).await.unwrap();
        let stuck = unless_stalled(&moved, "http://u:p@h/x", std::future::pending::<()>()).await;
        let error = stuck.unwrap_err();
        assert_eq!(error.to_string(), "http://h/x has taken 50 bytes and then none for 120 s");
        assert!(error.is_transient() && error.is_worth_another_attempt());
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_told_as_that() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let step =
            copy_tree::CopyError::Step { step: "read", path: "out/x".into(), source: denied };
        let error = TransferError::Packing(step);
        assert!(!error.is_transient() && !error.is_worth_another_attempt());
        let gave_up = TransferError::GaveUp { tries: 6, source: Box::new(error) };
        assert!(!gave_up.is_transient());
        assert_eq!(
            format!("{:#}", anyhow::Error::from(gave_up)),
            "gave up after 6 tries: cannot pack the directory: cannot read out/x: permission denied"
        );
    }
}
