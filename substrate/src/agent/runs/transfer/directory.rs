//! A whole directory out of a volume: to a URL, one PUT a file below it; to the
//! client, as one stream.

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use api::{
    run::{DIRECTORY_QUERY, Destination},
    stream::Copied,
};
use bytes::Bytes;
use copy_tree::{CopyError, Limits};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::{
    super::volumes::{Kept, Listing, MAX_DEPTH, MAX_ENTRIES, VolumeDirectory},
    Transfer, TransferError, Tries, answer, broken, cannot, shown, unless_stalled,
};

/// Pieces of a packed directory that wait for the connection.
const MAX_PIECES: usize = 8;

/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// What a packed directory may hold: as much as one that is sent file by file.
const LIMITS: Limits = Limits { entries: MAX_ENTRIES, depth: MAX_DEPTH };

/// Time for the thread that packs to notice that its reader is gone.
const PACKER_PATIENCE: Duration = Duration::from_secs(5);

impl<C> Transfer<'_, C> {
    /// Sends a directory with all that is below it.
    pub(super) async fn send_directory(
        &self,
        directory: VolumeDirectory,
        destination: &Destination,
    ) -> Result<(), TransferError> {
        match destination {
            Destination::Http { url } => self.put_files(directory, url).await,
            Destination::Client { takes_directories: true } => {
                self.progress.say("sending the directory to the server");
                let mut tries = Tries::default();
                let copied = loop {
                    let result = self.put_directory_to_server().await;
                    if let Some(result) = self.settled(result, &mut tries).await {
                        break result?;
                    }
                };
                self.remark_left_out(&copied.left_out, copied.left_out_count).await;
                self.done(copied.bytes);
                Ok(())
            }
            Destination::Client { takes_directories: false } => Err(TransferError::NoDirectory {
                path: self.path.to_owned(),
                why: "this server is older than the node's agent and takes single files",
            }),
            Destination::Unknown => Err(TransferError::UnknownKind),
        }
    }

    async fn put_files(&self, directory: VolumeDirectory, url: &str) -> Result<(), TransferError> {
        let client = self.upload_client(url)?;
        let base = self.directory_url(url)?;
        let listed = tokio::task::spawn_blocking(move || {
            directory.list().map(|listing| (directory, listing))
        });
        let (directory, listing) = listed.await.map_err(|error| stopped("list", error))??;
        let Listing { files, left_out, left_out_count, .. } = listing;
        self.progress.say(&format!("PUT of {} files below {}", files.len(), shown(url)));
        let mut total = 0;
        for file in &files {
            let url = below(&base, file);
            let mut tries = Tries::default();
            total += loop {
                let result = match directory.read_file(file) {
                    Ok(opened) => self.put(&client, &url, opened).await,
                    Err(error) => Err(error.into()),
                };
                if let Some(result) = self.settled(result, &mut tries).await {
                    break result?;
                }
            };
        }
        if files.is_empty() {
            self.progress.remark(&format!("{} holds no file: nothing was sent", self.path)).await;
        }
        self.remark_left_out(&left_out, left_out_count as u64).await;
        self.progress.say(&format!("{} files", files.len()));
        self.done(total);
        Ok(())
    }

    /// The URL of the directory, which those of its files begin with.
    fn directory_url(&self, url: &str) -> Result<url::Url, TransferError> {
        let no_directory = |why| TransferError::NoDirectory { path: self.path.to_owned(), why };
        let parsed = url::Url::parse(url).map_err(|_| no_directory("its destination is no URL"))?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(no_directory("a URL with a query or fragment names one file"));
        }
        Ok(parsed)
    }

    async fn put_directory_to_server(&self) -> Result<Copied, TransferError> {
        let port = self.node.servers.port()?;
        let (urls, client) =
            port.upload_urls(&format!("/node/v1/runs/{}/file?{DIRECTORY_QUERY}", self.spec.run));
        let mut last = TransferError::NoServer;
        for url in urls {
            match self.put_packed(client, &url).await {
                Err(error) if error.is_worth_another_attempt() => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    async fn put_packed(
        &self,
        client: &reqwest::Client,
        url: &str,
    ) -> Result<Copied, TransferError> {
        // Before there is a request: to wait for others is no stall.
        let turn = self.packing_permit().await?;
        let Kept::Directory(directory) = self.kept()? else {
            return Err(TransferError::Changed(self.path.to_owned()));
        };
        let directory = directory.descriptor()?;
        let moved = self.progress.begins(format!("PUT {}", shown(url)));
        let (sender, pieces) = mpsc::channel(MAX_PIECES);
        let packer =
            Packer { sender, piece: Vec::with_capacity(PIECE_BYTES), moved: moved.clone() };
        let packing =
            packer.start(directory, self.path.to_owned(), turn).map_err(cannot("pack"))?;
        let body = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let piece: io::Result<Bytes> = pieces.recv().await?;
            Some((piece, pieces))
        });
        let request = client.put(url).body(reqwest::Body::wrap_stream(body));
        let sent = unless_stalled(&moved, url, request.send()).await;
        // Why the directory cannot be read says more than that its stream broke off.
        match tokio::time::timeout(PACKER_PATIENCE, packing).await {
            Ok(Ok(Err(
                error @ (CopyError::Step { .. }
                | CopyError::Target(_)
                | CopyError::TooMany { .. }
                | CopyError::Stream(_)),
            ))) => Err(TransferError::Packing(error)),
            Ok(Ok(Ok(copied))) => {
                answer(sent?, url)?;
                self.progress.succeeded();
                Ok(copied)
            }
            Ok(Err(error)) => Err(stopped("pack", error)),
            Ok(Ok(Err(CopyError::Broken(source)))) => match sent? {
                Err(error) => Err(broken(url)(error)),
                answered => {
                    answer(answered, url)?;
                    Err(TransferError::Packing(CopyError::Broken(source)))
                }
            },
            Err(_) => {
                answer(sent?, url)?;
                Err(TransferError::Changed(self.path.to_owned()))
            }
        }
    }

    /// Waits until this node packs few enough directories.
    async fn packing_permit(&self) -> Result<OwnedSemaphorePermit, TransferError> {
        let turns = &self.node.packings;
        if let Ok(turn) = turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        self.progress.say("waiting for other directories that this node sends");
        turns.clone().acquire_owned().await.map_err(|error| stopped("pack", error))
    }

    async fn remark_left_out(&self, left_out: &[String], count: u64) {
        if count == 0 {
            return;
        }
        let more = count.saturating_sub(left_out.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.progress.remark(&format!("left out: {}{more}", left_out.join(", "))).await;
    }
}

fn stopped(
    step: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> TransferError {
    TransferError::File { step, source: io::Error::other(error) }
}

/// The URL of a file below that of its directory. Names are bytes: what is no unreserved character
/// (RFC 3986, section 2.3) is escaped.
fn below(base: &url::Url, file: &Path) -> String {
    let mut path = base.path().trim_end_matches('/').to_owned();
    for name in file {
        path.push('/');
        for &byte in name.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    let mut url = base.clone();
    url.set_path(&path);
    url.into()
}

/// Takes the stream of a directory in pieces; fails when nobody reads any more.
struct Packer {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    moved: Arc<AtomicU64>,
}

impl Packer {
    /// Packs in a thread of its own, as it may take as long as the upload: the runtime's few
    /// blocking threads are for what is short. The thread ends with its reader, and only then
    /// gives its turn back.
    fn start(
        self,
        directory: OwnedFd,
        shown: String,
        turn: OwnedSemaphorePermit,
    ) -> io::Result<oneshot::Receiver<Result<Copied, CopyError>>> {
        let (done, packing) = oneshot::channel();
        thread::Builder::new().name("pack-folder".to_owned()).spawn(move || {
            // Its upload may be over, and then nobody asks how it went.
            let _ = done.send(self.pack(&directory, Path::new(&shown)));
            drop(turn);
        })?;
        Ok(packing)
    }

    fn pack(mut self, directory: &OwnedFd, shown: &Path) -> Result<Copied, CopyError> {
        let packed = copy_tree::pack_directory(directory, shown, LIMITS, &mut self);
        if let Err(error) = &packed {
            // Without its last bytes: the server must not take it for whole. It may be gone itself,
            // and then nobody is left to tell.
            let _ = self.sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
        packed
    }
}

impl Write for Packer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::Semaphore;

    use super::*;

    fn packer() -> (Packer, mpsc::Receiver<io::Result<Bytes>>) {
        let (sender, pieces) = mpsc::channel(MAX_PIECES);
        (Packer { sender, piece: Vec::new(), moved: Arc::default() }, pieces)
    }

    #[tokio::test]
    async fn a_directory_is_packed_when_the_one_before_is_done_or_given_up() {
        let place = tempfile::tempdir().unwrap();
        // More than waits for the connection.
        fs::write(place.path().join("large"), vec![1; 2 * MAX_PIECES * PIECE_BYTES]).unwrap();
        let directory = || OwnedFd::from(fs::File::open(place.path()).unwrap());
        let turns = Arc::new(Semaphore::new(1));
        let next_turn = || async {
            let turn = turns.clone().acquire_owned();
            tokio::time::timeout(Duration::from_secs(20), turn).await.expect("no turn").unwrap()
        };

        let (first, unread) = packer();
        let packing = first.start(directory(), "out".into(), next_turn().await).unwrap();
        let early =
            tokio::time::timeout(Duration::from_millis(100), turns.clone().acquire_owned()).await;
        assert!(early.is_err(), "two at once");
        drop(unread);
        let turn = next_turn().await;
        assert!(matches!(packing.await.unwrap(), Err(CopyError::Broken(_))));

        let (second, mut pieces) = packer();
        let packing = second.start(directory(), "out".into(), turn).unwrap();
        let mut bytes = 0;
        while let Some(piece) = pieces.recv().await {
            bytes += piece.unwrap().len();
        }
        assert!(bytes > 2 * MAX_PIECES * PIECE_BYTES, "{bytes}");
        assert_eq!(packing.await.unwrap().unwrap().entries, 2);
        drop(next_turn().await);
    }

    #[test]
    fn files_have_urls_below_that_of_their_directory() {
        for (base, file, expected) in [
            ("http://host/out", "a", "http://host/out/a"),
            (
                "http://user:pw@host:8/out/",
                "a b/ü?#%",
                "http://user:pw@host:8/out/a%20b/%C3%BC%3F%23%25",
            ),
            ("http://host", "..x/.y", "http://host/..x/.y"),
        ] {
            assert_eq!(below(&url::Url::parse(base).unwrap(), Path::new(file)), expected);
        }
        let odd = std::ffi::OsStr::from_bytes(b"\xff");
        assert_eq!(
            below(&url::Url::parse("http://h/a%20b").unwrap(), Path::new(odd)),
            "http://h/a%20b/%FF"
        );
    }
}
