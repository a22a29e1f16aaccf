//! Streams: users in the jobs of this node. Told over the channel, each over a WebSocket of its own
//! that the agent dials; protocol: [`api::stream`].
//!
//! ```text
//!   conversation ──Opening──► keep ──► serve: dial ─► spool   attach: the log as it grows
//!                                                  └► pump    all else: a process in the container ([`crate::container::enter`])
//! ```
//! A stream dies with the agent, and with it what it started: a program in a job is its user's,
//! not the node's.

mod end;
mod pump;
mod spool;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use api::{
    enroll::AgentIdentity,
    run::RunId,
    stream::{Control, DIAL_SECONDS, MAX_STREAMS_PER_NODE, StreamId, StreamRequest},
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{
    dial,
    runs::{changes::Changes, directory::RunDirectory, node_containers::NodeContainers},
};
use crate::{container::enter::EnterRequest, tls};

/// Streams that were told and are not yet dealt with. What is more is lost: its user is told that
/// the node did not dial.
pub const MAX_OPENINGS: usize = 64;

/// The socket of one stream.
type Line = stream_line::StreamSocket<TlsStream<TcpStream>>;

/// A stream that the server wants.
#[derive(Debug)]
pub struct Opening {
    /// Id of the stream, under which the node dials back.
    pub stream: StreamId,
    /// Run whose container it leads into.
    pub run: RunId,
    /// What to do there: `exec`, `attach`, `port-forward` or `cp`.
    pub request: StreamRequest,
}

#[derive(Debug)]
struct Streams {
    runs: PathBuf,
    identity: watch::Receiver<Arc<AgentIdentity>>,
    containers: NodeContainers,
    changes: Changes,
}

/// Serves streams for ever. `runs` is the directory of all runs.
pub async fn keep(
    runs: PathBuf,
    identity: watch::Receiver<Arc<AgentIdentity>>,
    containers: NodeContainers,
    mut openings: mpsc::Receiver<Opening>,
) {
    let streams = Arc::new(Streams { runs, identity, containers, changes: Changes::default() });
    let mut open = JoinSet::new();
    while let Some(opening) = openings.recv().await {
        while open.try_join_next().is_some() {}
        if open.len() >= MAX_STREAMS_PER_NODE {
            tracing::warn!(stream = %opening.stream, "{MAX_STREAMS_PER_NODE} streams are open already");
            continue;
        }
        let streams = streams.clone();
        open.spawn(async move {
            let stream = opening.stream;
            if let Err(error) = streams.serve(opening).await {
                tracing::warn!(%stream, "{error:#}");
            }
        });
    }
}

impl Streams {
    async fn serve(&self, opening: Opening) -> anyhow::Result<()> {
        let dialling = timeout(Duration::from_secs(DIAL_SECONDS), self.dial(opening.stream));
        let mut line = dialling.await.context("no server answered in time")??;
        if let Some(last) = self.carry(&mut line, opening).await {
            line.send_control(&last);
        }
        line.close().await;
        Ok(())
    }

    /// Only the server that told of a stream knows it; the others refuse.
    async fn dial(&self, stream: StreamId) -> anyhow::Result<Line> {
        let identity = self.identity.borrow().clone();
        let tls = Arc::new(tls::authenticated(&identity)?);
        let route = format!("/node/v1/streams/{stream}");
        let mut last = None;
        for server in &identity.fleet_servers {
            match dial::dial_to(*server, tls.clone(), &route, stream_line::limits()).await {
                Ok(socket) => return Ok(Line::new(socket)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| anyhow::anyhow!("there is no server"), Into::into))
    }

    /// Does what is wanted, to its end; the last word, if there is somebody to hear it.
    async fn carry(&self, line: &mut Line, opening: Opening) -> Option<Control> {
        let Opening { run, request, .. } = opening;
        let Some(directory) = RunDirectory::existing(&self.runs, run) else {
            return Some(failed("the job is not on its node any more"));
        };
        if request == StreamRequest::Unknown {
            return Some(failed(
                "this node's agent doesn't know this: upgrade it with `bedplate node upgrade`",
            ));
        }
        if let StreamRequest::Attach { all } = request {
            return spool::follow(line, &directory, &self.changes, all).await;
        }
        // What is made in it would stand still as well.
        if directory.is_paused() {
            return Some(failed("the job is paused: `bedplate workflow resume` lets it go on"));
        }
        let entry = EnterRequest { directory: directory.path().to_owned(), request };
        match self.containers.enter(&entry) {
            Ok(answers) => pump::run(line, answers, &entry.request).await,
            Err(error) => Some(failed(&format!("cannot reach the spawner of containers: {error}"))),
        }
    }
}

fn failed(why: &str) -> Control {
    Control::Failed { why: why.to_owned() }
}
