//! `workflow port-forward`: a port of this machine is one of a running job. Each connection is a
//! stream of its own.

use std::{net::Ipv4Addr, str::FromStr};

use anyhow::Context as _;
use api::stream::{MAX_STREAMS_PER_RUN, StreamRequest};
use clap::Args;
use clap_complete::ArgValueCompleter;
use client::{Client, StreamOf};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    super::{
        complete,
        context::Session,
        error,
        output::{print, print_note},
    },
    stream::{Local, carry},
};

/// Connections at once; further ones wait.
const MAX_CONNECTIONS: usize = MAX_STREAMS_PER_RUN;

/// Pieces of a connection that wait for the line, and their size, bytes.
const MAX_PIECES: usize = 4;
const PIECE_BYTES: usize = 64 << 10;

/// Make a port of a running job reachable on this machine until Ctrl-C.
#[derive(Debug, Args)]
#[command(
    allow_missing_positional = true,
    after_help = "It listens on 127.0.0.1 and prints where. In the job the connection goes to 127.0.0.1 (or ::1), with the rights of the job.

Examples:
  bedplate workflow port-forward notebook 8888
  bedplate workflow port-forward train web 8080:80
  bedplate workflow port-forward train web 0:80          # any free port"
)]
pub(in super::super) struct PortForward {
    /// Id, or a name: the newest workflow of it.
    #[arg(add = ArgValueCompleter::new(complete::workflows))]
    workflow: String,
    /// The job; may be left out if there is one.
    job: Option<String>,
    /// Port here and port in the job; one number is both.
    #[arg(value_name = "LOCAL:REMOTE")]
    ports: Ports,
    /// Task of an array, by its number [default: the first that runs].
    #[arg(long, value_name = "N")]
    task: Option<u32>,
    /// Member of the task's attempt, where it has several, from 0 [default: 0].
    #[arg(long, value_name = "N")]
    member: Option<u32>,
}

/// `8080:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

/// Why a text names no ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum PortsError {
    #[error("{0:?} is no port: use numbers up to 65535, as in 8080:80")]
    NotAPort(String),
    #[error("a job listens on no port 0")]
    Zero,
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let port =
            |text: &str| text.parse::<u16>().map_err(|_| PortsError::NotAPort(text.to_owned()));
        let ports = Self { local: port(local)?, remote: port(remote)? };
        if ports.remote == 0 {
            return Err(PortsError::Zero);
        }
        Ok(ports)
    }
}

pub(super) async fn run(
    session: &Session,
    client: &Client,
    forward: &PortForward,
) -> anyhow::Result<()> {
    session.out.refuse_format("workflow port-forward")?;
    let Ports { local, remote } = forward.ports;
    // One that does not exist is told now, not to the first who connects. A name may mean another
    // workflow later.
    let workflow = client.workflow(&forward.workflow).await?.summary.id.to_string();
    let (job, task, member) = (forward.job.clone(), forward.task, forward.member);
    let of = StreamOf { workflow, job, task, member };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local))
        .await
        .with_context(|| format!("cannot listen on port {local} of 127.0.0.1"))?;
    let address = listener.local_addr().context("cannot tell where it listens")?;
    print(&format!("{address}\n"))?;
    print_note(&format!("{address} leads to port {remote} of the job; Ctrl-C ends it"));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < MAX_CONNECTIONS => {
                let (connection, _) = accepted.context("cannot take a connection")?;
                let (client, of) = (client.clone(), of.clone());
                open.spawn(async move {
                    if let Err(failure) = connect(&client, &of, remote, connection).await
                        && !error::is_about_closed_pipe(&failure)
                    {
                        print_note(&error::text(&failure));
                    }
                });
            }
            Some(_) = open.join_next() => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn connect(
    client: &Client,
    of: &StreamOf,
    port: u16,
    connection: TcpStream,
) -> anyhow::Result<()> {
    connection.set_nodelay(true)?;
    let line = client.open_stream(of, &StreamRequest::Port { port }).await?;
    let (mut reader, mut writer) = connection.into_split();
    let (pieces, input) = mpsc::channel(MAX_PIECES);
    let (output, mut outgoing) = mpsc::unbounded_channel::<(_, bytes::Bytes)>();
    let (told, taken) = mpsc::unbounded_channel();
    let reading = async move {
        let mut buffer = vec![0; PIECE_BYTES];
        // A connection that breaks has ended, for the other side.
        while let Ok(read @ 1..) = reader.read(&mut buffer).await {
            if pieces.send(buffer[..read].to_vec()).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((_, bytes)) = outgoing.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
            // The stream may be over.
            let _ = told.send(bytes.len());
        }
        // It may be closed already.
        let _ = writer.shutdown().await;
    };
    let local = Local { input: Some(input), output: Some(output), taken, words: None };
    let reading = tokio::spawn(reading);
    let writing = tokio::spawn(writing);
    let carried = carry(line, local).await;
    // What came is written first; nobody reads any more.
    let _ = writing.await;
    reading.abort();
    carried.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_a_pair_or_one() {
        let parse = |text: &str| text.parse::<Ports>();
        assert_eq!(parse("8080:80"), Ok(Ports { local: 8080, remote: 80 }));
        assert_eq!(parse("80"), Ok(Ports { local: 80, remote: 80 }));
        assert_eq!(parse("0:80"), Ok(Ports { local: 0, remote: 80 }));
        for wrong in ["80:0", "0", "70000", "a:b", "1:2:3", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
