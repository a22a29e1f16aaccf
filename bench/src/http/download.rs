//! Clients that download one file by plain HTTP and throw it away, each a thread.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpStream,
    sync::Barrier,
    thread,
};

use anyhow::{Context as _, anyhow, ensure};
use sha2::{Digest as _, Sha256};

use super::gigabytes;
use crate::{clock, network::SERVER};

/// What a client reads at once.
const BUFFER_BYTES: usize = 256 << 10;

/// GB/s of so many clients together, from the first request to the last byte.
///
/// # Errors
/// If a client does not get the whole file.
pub(super) fn all(port: u16, path: &str, bytes: u64, clients: usize) -> anyhow::Result<f64> {
    let barrier = Barrier::new(clients + 1);
    let ((), seconds) = thread::scope(|scope| {
        let client = || {
            let mut buffer = vec![0; BUFFER_BYTES];
            barrier.wait();
            fetch(port, path, bytes, &mut buffer, |_| {})
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        barrier.wait();
        clock::timed(|| {
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
        })
    })?;
    Ok(gigabytes(bytes * u64::try_from(clients)?) / seconds)
}

/// Digest of the file, in hexadecimal.
///
/// # Errors
/// If it does not come whole.
pub(super) fn sha256(port: u16, path: &str, bytes: u64) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    fetch(port, path, bytes, &mut vec![0; BUFFER_BYTES], |part| hash.update(part))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fetch(
    port: u16,
    path: &str,
    bytes: u64,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]),
) -> anyhow::Result<()> {
    let mut stream =
        TcpStream::connect((SERVER, port)).with_context(|| format!("cannot reach port {port}"))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nhost: bedplate\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "{path}: {}", line.trim());
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let rest = reader.buffer().to_vec();
    take(&rest);
    let mut got = u64::try_from(rest.len())?;
    let mut stream = reader.into_inner();
    loop {
        let length = stream.read(buffer).with_context(|| format!("{path}: after {got} bytes"))?;
        if length == 0 {
            break;
        }
        take(&buffer[..length]);
        got += u64::try_from(length)?;
    }
    ensure!(got == bytes, "{path}: {got} bytes came of {bytes}");
    Ok(())
}
