//! A whole folder out of a volume: to a URL, one PUT a file below it; to the client, as one stream.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::{
    run::{Destination, FOLDER_QUERY},
    stream::Copied,
};
use bytes::Bytes;
use copy_tree::CopyError;
use tokio::sync::mpsc;

use super::{
    super::volumes::{Kept, Listing, VolumeFolder},
    Transfer, TransferError, Tries, answer, broken, shown, unless_stalled,
};

/// Pieces of a packed folder that wait for the connection.
const MAX_PIECES: usize = 8;

/// Bytes of one piece.
const PIECE_BYTES: usize = 64 << 10;

/// Time for the thread that packs to notice that its reader is gone.
const PACKER_PATIENCE: Duration = Duration::from_secs(5);

impl<C> Transfer<'_, C> {
    /// Sends a folder with all that is below it.
    pub(super) async fn send_folder(
        &self,
        folder: VolumeFolder,
        destination: &Destination,
    ) -> Result<(), TransferError> {
        match destination {
            Destination::Http { url } => self.put_files(folder, url).await,
            Destination::Client { takes_folders: true } => {
                self.progress.say("sending the folder to the server");
                let mut tries = Tries::default();
                let copied = loop {
                    let result = self.put_folder_to_server().await;
                    if let Some(result) = self.settled(result, &mut tries).await {
                        break result?;
                    }
                };
                self.remark_left_out(&copied.left_out, copied.left_out_count).await;
                self.done(copied.bytes);
                Ok(())
            }
            Destination::Client { takes_folders: false } => Err(TransferError::NoFolder {
                path: self.path.to_owned(),
                why: "this server is older than the node's agent and takes single files",
            }),
            Destination::Unknown => Err(TransferError::UnknownKind),
        }
    }

    async fn put_files(&self, folder: VolumeFolder, url: &str) -> Result<(), TransferError> {
        let client = self.upload_client(url)?;
        let base = self.folder_url(url)?;
        let listed = tokio::task::spawn_blocking(move || folder.list().map(|listing| (folder, listing)));
        let (folder, listing) = listed.await.map_err(|error| stopped("list", error))??;
        let Listing { files, left_out, left_out_count, .. } = listing;
        self.progress.say(&format!("PUT of {} files below {}", files.len(), shown(url)));
        let mut total = 0;
        for file in &files {
            let url = below(&base, file);
            let mut tries = Tries::default();
            total += loop {
                let result = match folder.read_file(file) {
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

    /// The URL of the folder, which those of its files begin with.
    fn folder_url(&self, url: &str) -> Result<url::Url, TransferError> {
        let no_folder = |why| TransferError::NoFolder { path: self.path.to_owned(), why };
        let parsed = url::Url::parse(url).map_err(|_| no_folder("its destination is no URL"))?;
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(no_folder("a URL with a query or fragment names one file"));
        }
        Ok(parsed)
    }

    async fn put_folder_to_server(&self) -> Result<Copied, TransferError> {
        let port = self.node.servers.port()?;
        let (urls, client) =
            port.upload_urls(&format!("/node/v1/runs/{}/file?{FOLDER_QUERY}", self.spec.run));
        let mut last = TransferError::NoServer;
        for url in urls {
            match self.put_packed(client, &url).await {
                Err(error) if error.is_worth_another_attempt() => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    async fn put_packed(&self, client: &reqwest::Client, url: &str) -> Result<Copied, TransferError> {
        let Kept::Folder(folder) = self.kept()? else {
            return Err(TransferError::Changed(self.path.to_owned()));
        };
        let (folder, label) = (folder.descriptor()?, self.path.to_owned());
        let moved = self.progress.begins(format!("PUT {}", shown(url)));
        let (sender, pieces) = mpsc::channel(MAX_PIECES);
        let mut packer = Packer { sender, piece: Vec::with_capacity(PIECE_BYTES), moved: moved.clone() };
        let packing = tokio::task::spawn_blocking(move || {
            let packed = copy_tree::pack_folder(&folder, Path::new(&label), &mut packer);
            if let Err(error) = &packed {
                // Without its last bytes: the server must not take it for whole.
                let _ = packer.sender.blocking_send(Err(io::Error::other(error.to_string())));
            }
            packed
        });
        let body = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let piece: io::Result<Bytes> = pieces.recv().await?;
            Some((piece, pieces))
        });
        let request = client.put(url).body(reqwest::Body::wrap_stream(body));
        let sent = unless_stalled(&moved, url, request.send()).await;
        // Why the folder cannot be read says more than that its stream broke off.
        match tokio::time::timeout(PACKER_PATIENCE, packing).await {
            Ok(Ok(Err(error @ (CopyError::Step { .. } | CopyError::Place(_) | CopyError::Stream(_))))) => {
                Err(TransferError::Packing(error))
            }
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

    async fn remark_left_out(&self, left_out: &[String], count: u64) {
        if count == 0 {
            return;
        }
        let more = count.saturating_sub(left_out.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.progress.remark(&format!("left out: {}{more}", left_out.join(", "))).await;
    }
}

fn stopped(step: &'static str, error: tokio::task::JoinError) -> TransferError {
    TransferError::File { step, source: io::Error::other(error) }
}

/// The URL of a file below that of its folder. Names are bytes: what is no unreserved character
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

/// Takes the stream of a folder in pieces; fails when nobody reads any more.
struct Packer {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    moved: Arc<AtomicU64>,
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
    use super::*;

    #[test]
    fn files_have_urls_below_that_of_their_folder() {
        for (base, file, expected) in [
            ("http://host/out", "a", "http://host/out/a"),
            ("http://user:pw@host:8/out/", "a b/ü?#%", "http://user:pw@host:8/out/a%20b/%C3%BC%3F%23%25"),
            ("http://host", "..x/.y", "http://host/..x/.y"),
        ] {
            assert_eq!(below(&url::Url::parse(base).unwrap(), Path::new(file)), expected);
        }
        let odd = std::ffi::OsStr::from_bytes(b"\xff");
        assert_eq!(below(&url::Url::parse("http://h/a%20b").unwrap(), Path::new(odd)), "http://h/a%20b/%FF");
    }
}
