//! Fetching the root image: by digest, over plain HTTP, from whichever boot server answers.
//!
//! A fetch that breaks off is resumed where it stopped (`Range`, RFC 9110 section 14). The digest
//! is taken while the bytes go to the file, in a thread of its own ([`writer`]). A digest that does
//! not match means that somebody sent wrong bytes: all is thrown away and fetched once more,
//! beginning with another server, and then it is an error that names both digests.

mod writer;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{backoff::Schedule, ids::Digest, stage1::RootImage};
use reqwest::{
    StatusCode,
    header::{CONTENT_RANGE, RANGE},
};

use self::writer::Writer;

/// Pauses between rounds over all servers in which not one byte came, and how long all of them take
/// before it is given up.
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
const PATIENCE: Duration = Duration::from_secs(6 * 60);

/// Times that the whole image is fetched before a wrong digest is final.
const PASSES: usize = 2;

/// How often all servers are asked before it is given up.
fn tries() -> usize {
    PAUSES.within(PATIENCE).count() + 1
}

/// Why there is no root image.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no server in the list.
    #[error("no boot server is known")]
    NoServer,
    /// The bytes cannot be kept: most often too little memory.
    #[error("cannot write the root image to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody sends anything.
    #[error("no boot server sends the root image {version}; tried {} times, last", tries())]
    NoProgress {
        /// The image.
        version: String,
        /// The last failure.
        #[source]
        last: Box<AttemptError>,
    },
    /// The bytes are not the image.
    #[error(
        "the root image {version} is damaged on its way: its digest should be {expected} and is {actual}, {PASSES} \
         times; compare the server's file with `bedplate image show`"
    )]
    Digest {
        /// The image.
        version: String,
        /// The digest that the server promised.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
}

/// Why one request did not bring all that was missing.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// No connection, or it broke.
    #[error("cannot fetch from {server}")]
    Http {
        /// The server.
        server: SocketAddr,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server has no such image, or does not want to send it.
    #[error("{server} answers with status {status}")]
    Status {
        /// The server.
        server: SocketAddr,
        /// HTTP status.
        status: StatusCode,
    },
    /// The server sends another part than was asked for.
    #[error("{server} sends {range:?}, asked for from byte {offset}")]
    Range {
        /// The server.
        server: SocketAddr,
        /// Its `Content-Range`.
        range: String,
        /// What was asked for.
        offset: u64,
    },
    /// The connection ended early.
    #[error("{server} stopped after {received} of {size} bytes")]
    Truncated {
        /// The server.
        server: SocketAddr,
        /// Bytes received in all.
        received: u64,
        /// Bytes of the image.
        size: u64,
    },
    /// More bytes than the image has.
    #[error("{server} sends more than the {size} bytes of the image")]
    TooMuch {
        /// The server.
        server: SocketAddr,
        /// Bytes of the image.
        size: u64,
    },
    /// The file took no more.
    #[error("the file takes no more")]
    File,
}

/// Fetches `image` to the file `path`. `progress` gets the bytes received so far; `tell` gets
/// lines for people.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    client: &reqwest::Client,
    servers: &[SocketAddr],
    image: &RootImage,
    path: &Path,
    progress: &mut dyn FnMut(u64),
    tell: &mut dyn FnMut(&str),
) -> Result<(), FetchError> {
    if servers.is_empty() {
        return Err(FetchError::NoServer);
    }
    let write = |source| FetchError::Write { path: path.to_owned(), source };
    let mut servers = servers.to_vec();
    let mut actual = image.digest;
    for _ in 0..PASSES {
        let writer = Writer::create(path).map_err(write)?;
        let mut pass = Pass { client, image, writer, received: 0 };
        let given_up = pass.all(&servers, progress, tell).await;
        // The file's own failure says more than the attempts that it made fail.
        actual = pass.writer.finish().await.map_err(write)?;
        given_up?;
        if actual == image.digest {
            return Ok(());
        }
        tell(&format!("the digest of the root image is {actual} instead of {}", image.digest));
        servers.rotate_left(1);
    }
    Err(FetchError::Digest { version: image.version.clone(), expected: image.digest, actual })
}

/// One fetch of the whole image, from as many servers and in as many pieces as it takes.
struct Pass<'a> {
    client: &'a reqwest::Client,
    image: &'a RootImage,
    writer: Writer,
    received: u64,
}

impl Pass<'_> {
    /// Goes on until all bytes are there, or none come.
    async fn all(
        &mut self,
        servers: &[SocketAddr],
        progress: &mut dyn FnMut(u64),
        tell: &mut dyn FnMut(&str),
    ) -> Result<(), FetchError> {
        let mut pauses = PAUSES.within(PATIENCE);
        loop {
            let before = self.received;
            let mut last = AttemptError::File;
            for server in servers {
                // A connection may break behind the last byte.
                if self.received > 0 && self.received == self.image.size {
                    return Ok(());
                }
                match self.attempt(*server, progress).await {
                    Ok(()) => return Ok(()),
                    // finish() knows why.
                    Err(AttemptError::File) => return Ok(()),
                    Err(error) => {
                        tell(&crate::console::chain(&error));
                        last = error;
                    }
                }
            }
            if self.received > before {
                pauses = PAUSES.within(PATIENCE);
            }
            let Some(pause) = pauses.next() else {
                let version = self.image.version.clone();
                return Err(FetchError::NoProgress { version, last: Box::new(last) });
            };
            tell(&format!("trying the boot servers again in {} s", pause.as_secs()));
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks one server for what is missing.
    async fn attempt(
        &mut self,
        server: SocketAddr,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), AttemptError> {
        let http = |source| AttemptError::Http { server, source };
        let size = self.image.size;
        let url = format!("http://{server}/blobs/sha256/{}", self.image.digest.hex());
        let mut request = self.client.get(url);
        if self.received > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.received));
        }
        let mut response = request.send().await.map_err(http)?;
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|range| range.to_str().ok())
            .unwrap_or("");
        match response.status() {
            StatusCode::PARTIAL_CONTENT if range_starts_at(range, self.received) => {}
            StatusCode::PARTIAL_CONTENT => {
                return Err(AttemptError::Range {
                    server,
                    range: range.to_owned(),
                    offset: self.received,
                });
            }
            StatusCode::OK => {
                // All of it, asked for or not.
                if self.received > 0 {
                    self.received = 0;
                    self.writer.restart().await.map_err(|_| AttemptError::File)?;
                }
            }
            status => return Err(AttemptError::Status { server, status }),
        }
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            self.received += chunk.len() as u64;
            if self.received > size {
                self.received = 0;
                self.writer.restart().await.map_err(|_| AttemptError::File)?;
                return Err(AttemptError::TooMuch { server, size });
            }
            self.writer.write(chunk).await.map_err(|_| AttemptError::File)?;
            progress(self.received);
        }
        if self.received == size {
            Ok(())
        } else {
            Err(AttemptError::Truncated { server, received: self.received, size })
        }
    }
}

/// `bytes 100-199/200` starts at 100.
fn range_starts_at(range: &str, offset: u64) -> bool {
    range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('-'))
        .and_then(|(start, _)| start.trim().parse::<u64>().ok())
        == Some(offset)
}

#[cfg(test)]
#[path = "fetch/tests.rs"]
mod tests;
