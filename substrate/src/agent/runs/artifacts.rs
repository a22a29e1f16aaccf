//! Files that the servers hold by digest: job images and inline files.
//! `GET /node/v1/artifacts/sha256/HEX` on the fleet port, into `ARTIFACTS/HEX`; what lies there
//! under that name has that digest.
//!
//! Each is fetched once, however many runs wait for it. A fetch that breaks off is resumed where it
//! stopped, at whichever server answers. Files that no live run needs are kept up to
//! [`MAX_KEPT_BYTES`]; the least recently used go first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use api::{
    ids::Digest,
    run::{RunSpec, Source, VolumeUse, Work},
};
use reqwest::{StatusCode, header::RANGE};
use ring::digest::{Context, SHA256};
use tokio::{io::AsyncWriteExt, sync::watch};

use super::{
    servers::{Servers, ServersError},
    volumes::is_in_memory,
};
use crate::{
    agent::backoff::{agent_backoff, jitter},
    clock,
    random::random,
};

/// Bytes kept of what nobody uses: on a node without disk this is memory.
const MAX_KEPT_BYTES: u64 = 1 << 30;

/// Space that must stay free beside a file that is fetched, bytes: the node itself needs to write.
pub const SPACE_TO_SPARE: u64 = 64 << 20;

/// Rounds over all servers in a row that may bring nothing: about two minutes.
const MAX_FRUITLESS: u32 = 8;

/// Times that a whole file may come with another digest: the second is no accident.
const MAX_WRONG: u32 = 2;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The node cannot ask.
    #[error("cannot ask the servers")]
    Servers(#[from] ServersError),
    /// There is no server in the list.
    #[error("no fleet server is known")]
    NoServer,
    /// It does not fit.
    #[error("{} has {available} bytes free, and {needed} are needed", directory.display())]
    Space {
        /// Where.
        directory: PathBuf,
        /// Bytes that are free.
        available: u64,
        /// Bytes that must be.
        needed: u64,
    },
    /// The file system refuses.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A server says no.
    #[error("the server answers {status} to {url}")]
    Refused {
        /// What was asked.
        url: String,
        /// The status.
        status: StatusCode,
    },
    /// The connection failed, or broke.
    #[error("cannot fetch {url}")]
    Http {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// It is not as long as it should be.
    #[error("{digest} came with {received} bytes and should have {size}")]
    Size {
        /// What was asked for.
        digest: Digest,
        /// What came.
        received: u64,
        /// What should.
        size: u64,
    },
    /// It is something else.
    #[error("{wanted} was asked for and {got} came")]
    Digest {
        /// What was asked for.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
}

impl ArtifactError {
    /// `true` if the node has no room for it.
    #[must_use]
    pub fn is_want_of_space(&self) -> bool {
        match self {
            Self::Space { .. } => true,
            Self::Write { source, .. } => super::volumes::is_full(source),
            _ => false,
        }
    }

    /// `false` if the same cannot work at another time.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { status, .. } => is_passing(*status),
            Self::Size { .. } | Self::Digest { .. } => false,
            _ => true,
        }
    }
}

/// Whether a status may be another one at another time.
#[must_use]
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// The artifacts that a run cannot do without.
#[must_use]
pub fn needed_by(spec: &RunSpec) -> Vec<Digest> {
    match &spec.work {
        Work::Job(job) => job.files.iter().map(|file| file.digest).chain([job.image]).collect(),
        Work::Ingress { source: Source::Artifact { digest, .. }, .. } => vec![*digest],
        _ => Vec::new(),
    }
}

type Locks = Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>;

/// The directory of artifacts.
#[derive(Debug)]
pub struct Artifacts {
    directory: PathBuf,
    servers: Servers,
    /// What volumes hold in memory, as it was looked at last.
    volumes: watch::Receiver<VolumeUse>,
    /// Held while one is fetched. There are as many as digests are being waited for.
    fetching: Locks,
    /// Held while files are looked for or deleted.
    shelf: Mutex<()>,
}

impl Artifacts {
    /// Files of these servers in this directory.
    #[must_use]
    pub fn new(directory: PathBuf, servers: Servers, volumes: watch::Receiver<VolumeUse>) -> Self {
        let (fetching, shelf) = (Mutex::default(), Mutex::default());
        Self { directory, servers, volumes, fetching, shelf }
    }

    /// The file, fetched if it is not there.
    ///
    /// # Errors
    /// [`ArtifactError`], when trying on did not help.
    pub async fn get(&self, digest: Digest, size: u64) -> Result<PathBuf, ArtifactError> {
        let lock = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, lock| Arc::strong_count(lock) > 1);
            fetching.entry(digest).or_default().clone()
        };
        let _turn = lock.lock().await;
        let path = self.directory.join(digest.hex());
        if self.take(&path) {
            return Ok(path);
        }
        self.make_room(size)?;
        let draft = self.directory.join(format!("{}.part", digest.hex()));
        let draft = Draft(&draft);
        self.fetch(digest, size, draft.0).await?;
        fs::rename(draft.0, &path)
            .map_err(|source| ArtifactError::Write { path: path.clone(), source })?;
        Ok(path)
    }

    /// Marks a file as used now. `false` if there is none.
    fn take(&self, path: &Path) -> bool {
        let _shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let now = std::time::UNIX_EPOCH
            + std::time::Duration::from_micros(u64::try_from(clock::now().0).unwrap_or(0));
        File::open(path).and_then(|file| file.set_modified(now)).is_ok()
    }

    fn make_room(&self, size: u64) -> Result<(), ArtifactError> {
        let write = |source| ArtifactError::Write { path: self.directory.clone(), source };
        fs::create_dir_all(&self.directory).map_err(write)?;
        let available =
            linux::mount::available_bytes(&self.directory).map_err(|error| write(error.errno))?;
        // In memory, what volumes hold is taken from the same: the root's file system
        // does not know it.
        let in_memory = is_in_memory(&self.directory);
        let held = if in_memory { self.volumes.borrow().used_bytes } else { 0 };
        let available = available.saturating_sub(held);
        let needed = size.saturating_add(SPACE_TO_SPARE);
        if available < needed {
            return Err(ArtifactError::Space {
                directory: self.directory.clone(),
                available,
                needed,
            });
        }
        Ok(())
    }

    async fn fetch(&self, digest: Digest, size: u64, draft: &Path) -> Result<(), ArtifactError> {
        let write = |source| ArtifactError::Write { path: draft.to_owned(), source };
        let file = tokio::fs::File::create(draft).await.map_err(write)?;
        let mut fetch =
            Fetch { digest, size, path: draft, file, hash: Context::new(&SHA256), received: 0 };
        let (mut backoff, mut fruitless, mut wrong) = (agent_backoff(), 0, 0);
        loop {
            let before = fetch.received;
            let error = match self.round(&mut fetch).await {
                Ok(()) => match fetch.check().await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        fetch.restart().await.map_err(write)?;
                        error
                    }
                },
                Err(error) => error,
            };
            if matches!(error, ArtifactError::Size { .. } | ArtifactError::Digest { .. }) {
                wrong += 1;
            }
            let gives_up = matches!(&error, ArtifactError::Write { .. })
                || matches!(&error, ArtifactError::Refused { status, .. } if !is_passing(*status));
            if fetch.received > before {
                fruitless = 0;
                backoff.reset();
            } else {
                fruitless += 1;
            }
            if gives_up || fruitless >= MAX_FRUITLESS || wrong >= MAX_WRONG {
                return Err(error);
            }
            tracing::warn!(%digest, "{:#}; trying again", anyhow::Error::from(error));
            tokio::time::sleep(backoff.pause(jitter(random()))).await;
        }
    }

    /// Asks each server once for what is missing.
    async fn round(&self, fetch: &mut Fetch<'_>) -> Result<(), ArtifactError> {
        let port = self.servers.port()?;
        let (urls, client) =
            port.urls(&format!("/node/v1/artifacts/sha256/{}", fetch.digest.hex()));
        let mut last = ArtifactError::NoServer;
        for url in urls {
            match fetch.ask(client, url).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Deletes what is neither `used` nor `mounted` past what is kept for later.
    pub fn sweep(&self, used: &BTreeSet<Digest>, mounted: &BTreeSet<Digest>) {
        let _shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut idle: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                let digest: Digest =
                    format!("sha256:{}", entry.file_name().to_str()?).parse().ok()?;
                let metadata = entry.metadata().ok()?;
                let keep = used.contains(&digest) || mounted.contains(&digest);
                (!keep).then(|| Some((metadata.modified().ok()?, metadata.len(), entry.path())))?
            })
            .collect();
        idle.sort();
        let mut kept: u64 = idle.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in idle {
            if kept <= MAX_KEPT_BYTES {
                return;
            }
            kept -= length;
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "cannot delete an artifact");
            }
        }
    }
}

/// A file that goes unless it is renamed: also when nobody waits for it any more.
struct Draft<'a>(&'a Path);

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// One file on its way.
struct Fetch<'a> {
    digest: Digest,
    size: u64,
    path: &'a Path,
    file: tokio::fs::File,
    hash: Context,
    received: u64,
}

impl Fetch<'_> {
    async fn ask(&mut self, client: &reqwest::Client, url: String) -> Result<(), ArtifactError> {
        let http = |source| ArtifactError::Http { url: url.clone(), source };
        let write = |source| ArtifactError::Write { path: self.path.to_owned(), source };
        let mut request = client.get(&url);
        if self.received > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.received));
        }
        let mut response = request.send().await.map_err(http)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.received > 0 => {}
            // All of it, asked for or not.
            StatusCode::OK => self.restart().await.map_err(write)?,
            status => return Err(ArtifactError::Refused { url, status }),
        }
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            self.received += chunk.len() as u64;
            if self.received > self.size {
                let received = self.received;
                self.restart().await.map_err(write)?;
                return Err(ArtifactError::Size { digest: self.digest, received, size: self.size });
            }
            self.hash.update(&chunk);
            self.file.write_all(&chunk).await.map_err(write)?;
        }
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        if self.received > 0 {
            self.file = tokio::fs::File::create(self.path).await?;
            self.hash = Context::new(&SHA256);
            self.received = 0;
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<(), ArtifactError> {
        let write = |source| ArtifactError::Write { path: self.path.to_owned(), source };
        if self.received != self.size {
            let (digest, received, size) = (self.digest, self.received, self.size);
            return Err(ArtifactError::Size { digest, received, size });
        }
        let mut value = [0; 32];
        value.copy_from_slice(self.hash.clone().finish().as_ref());
        let got = Digest(value);
        if got != self.digest {
            return Err(ArtifactError::Digest { wanted: self.digest, got });
        }
        self.file.sync_all().await.map_err(write)
    }
}
