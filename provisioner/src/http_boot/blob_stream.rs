//! A connection of the boot port. What is written to it and lies in a mapped blob is sent from the
//! blob's file by sendfile(2): the kernel takes the pages as they are and copies nothing. hyper
//! hands over each body as the slices that it is made of.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use image_store::{Mapped, Store};
use metrics::Entered;
use nix::errno::Errno;
use rest::shell::limit_unsent;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::{Meter, unsent_limit::UnsentLimit};

/// Shorter slices are written: looking for their blob and another system call cost more
/// than their copy.
const LEAST_BYTES: usize = 64 << 10;

/// Sent by one call at most: what is not in memory yet is read from disk meanwhile.
const MOST_BYTES: usize = 4 << 20;

/// See the module.
pub(crate) struct BlobStream {
    tcp: TcpStream,
    blobs: Store,
    meter: Arc<Meter>,
    unsent: UnsentLimit,
    _open: Entered,
}

impl BlobStream {
    pub(super) fn new(
        tcp: TcpStream,
        blobs: Store,
        meter: Arc<Meter>,
        unsent: UnsentLimit,
    ) -> Self {
        let open = meter.enter();
        Self { tcp, blobs, meter, unsent, _open: open }
    }

    fn count(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &sent {
            self.meter.sent(*bytes);
        }
        sent
    }

    fn blob(&self, part: &[u8]) -> Option<(Mapped, u64)> {
        (part.len() >= LEAST_BYTES).then(|| self.blobs.source(part)).flatten()
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        part: &[u8],
        (blob, offset): &(Mapped, u64),
    ) -> Poll<io::Result<usize>> {
        let send = || {
            let count = part.len().min(MOST_BYTES);
            Ok(rustix::fs::sendfile(&self.tcp, blob.file(), Some(&mut { *offset }), count)?)
        };
        loop {
            let Poll::Ready(is_ready) = self.tcp.poll_write_ready(context) else {
                self.unsent.is_full(Instant::now());
                return Poll::Pending;
            };
            is_ready?;
            match self.tcp.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_unable(&error) => {
                    return Pin::new(&mut self.tcp).poll_write(context, part);
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(bytes) => {
                    if let Some(unsent_bytes) = self.unsent.sent(bytes, Instant::now) {
                        limit_unsent(&self.tcp, unsent_bytes);
                    }
                    return Poll::Ready(Ok(bytes));
                }
            }
        }
    }

    /// Writes what is in no blob.
    fn poll_other(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.tcp).poll_write_vectored(context, parts));
        if let (Ok(_), Some(unsent_bytes)) = (&sent, self.unsent.sent_other()) {
            limit_unsent(&self.tcp, unsent_bytes);
        }
        Poll::Ready(sent)
    }
}

/// The file system or the system at all has no sendfile.
fn is_unable(error: &io::Error) -> bool {
    let unable = [Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|raw| unable.contains(&Errno::from_raw(raw)))
}

impl AsyncRead for BlobStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for BlobStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        part: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = match self.blob(part) {
            Some(source) => self.poll_send(context, part, &source),
            None => self.poll_other(context, &[IoSlice::new(part)]),
        };
        self.count(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let found =
            parts.iter().enumerate().find_map(|(index, part)| Some((index, self.blob(part)?)));
        let Some((index, source)) = found else {
            let sent = self.poll_other(context, parts);
            return self.count(sent);
        };
        let ahead = &parts[..index];
        let sent = if ahead.iter().all(|part| part.is_empty()) {
            self.poll_send(context, &parts[index], &source)
        } else {
            self.poll_other(context, ahead)
        };
        self.count(sent)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        sync::Semaphore,
    };

    use super::*;

    #[tokio::test]
    async fn what_is_written_arrives_in_order_from_wherever_it_came() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let content: Vec<u8> =
            (0..5_000_003_u32).map(|number| number.to_le_bytes()[0] ^ 0x5a).collect();
        let (digest, _) = store.put(content.as_slice()).unwrap();
        let blob = store.map(&digest).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.unwrap().read_to_end(&mut read).await.unwrap();
            read
        });
        let meter = Arc::new(Meter::default());
        let deep_queues = Arc::new(Semaphore::new(1));
        let queue = UnsentLimit::new(deep_queues.clone());
        let mut stream = BlobStream::new(accepted.unwrap().0, store, meter.clone(), queue);
        let part = &blob.as_ref()[7..];
        let mut parts: &mut [IoSlice<'_>] =
            &mut [&b"head"[..], b"", part, b"tail"].map(IoSlice::new);
        while !parts.is_empty() {
            let written = stream.write_vectored(parts).await.unwrap();
            IoSlice::advance_slices(&mut parts, written);
        }
        let mut expected = [b"head", &content[7..], b"tail"].concat();
        // A machine that stood still for a moment does not read fast.
        while deep_queues.available_permits() > 0 {
            stream.write_all(part).await.unwrap();
            expected.extend_from_slice(&content[7..]);
        }
        stream.shutdown().await.unwrap();
        assert!(reading.await.unwrap() == expected);
        let mut out = metrics::Exposition::new();
        meter.expose(&mut out);
        let text = out.finish();
        let sent = format!("bedplate_http_boot_sent_bytes_total {}\n", expected.len());
        assert!(
            text.contains(&sent) && text.contains("bedplate_http_boot_connections 1\n"),
            "{text}"
        );
        drop(stream);
        assert_eq!(deep_queues.available_permits(), 1);
        let mut out = metrics::Exposition::new();
        meter.expose(&mut out);
        assert!(out.finish().contains("bedplate_http_boot_connections 0\n"));
    }
}
