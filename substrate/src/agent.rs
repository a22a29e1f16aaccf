//! The agent: keeps one channel to the servers for as long as the node runs, and
//! does what they ask.
//!
//! `main.rs` calls [`run`] for `substrate agent`, which `bedplate-substrate.service` starts. It
//! needs the identity that stage 1 left ([`crate::identity`]) and nothing else.
//!
//! | module | is |
//! |---|---|
//! | [`backoff`] | pure: pauses between attempts |
//! | [`dial`], [`conversation`] | one WebSocket; what is said over one after another |
//! | [`hardware`] | threads that keep the inventory |
//! | [`runtime_overlays`] | a task that fetches and applies them |
//! | [`runs`] | tasks that do the work of workflows |
//! | [`streams`] | tasks that let users into running jobs |
//! | [`kept_identity`] | who the node is, in its file and for all tasks |
//! | [`renewal`] | a task that renews the certificate |
//! | [`server_addresses`] | a task that keeps where the servers are |
//! | [`upgrade`] | a task that puts another agent in this one's place |
//! | [`stop`] | why the agent stops, and how its tasks hear of it |
//! | [`machine`] | reboot, and how it is noticed |
//! | [`log`] | what systemd's journal is told |
//!
//! Servers may be away for hours: the agent tries them in turn for ever, with pauses, holds a
//! bounded number of messages, and never holds up the boot or the shutdown of the node.

pub mod backoff;
pub mod conversation;
pub mod dial;
pub mod hardware;
pub mod kept_identity;
pub mod log;
pub mod machine;
pub mod renewal;
pub mod runs;
pub mod runtime_overlays;
pub mod server_addresses;
pub mod stop;
pub mod streams;
#[cfg(test)]
pub(crate) mod test_server;
pub mod upgrade;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use api::{
    channel::{FromAgent, Session},
    enroll::AgentIdentity,
    run::VolumeUse,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use self::{
    backoff::{agent_backoff, jitter},
    conversation::{Channel, ConversationEnd, HelloFacts},
    kept_identity::KeptIdentity,
    runs::{images::Mounting, node_containers::NodeContainers},
    stop::{Stop, stopped},
};
use crate::{clock, identity, notify, random::random, tls};

/// Results that wait for the channel. The tasks that make them wait when it is full; each
/// makes one at a time.
const OUTBOX: usize = 16;

/// A conversation of this length was a good one: the next pause is short again.
const STEADY: Duration = Duration::from_secs(30);

/// Conversations in a row that may break off early before the session itself is taken for the
/// cause and given up, with what waits in it: the next hello and inventory tell the server
/// all that counts.
const MAX_BROKEN: u32 = 5;

/// Time that the machine has to go down after a reboot was ordered; then the agent
/// reports back for duty.
const REBOOT_DEADLINE: Duration = Duration::from_secs(180);

/// Each stream, run and directory on its way out is open files, and systemd lets a service
/// have 1,024 where the system would let it have more (`getrlimit(2)`). Processes of jobs get
/// their own limit.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!("the agent may open {:?} files only: {error}", limit.current);
    }
}

/// Runs the agent until the service manager stops it: `None`; or until another one shall go on in
/// this process: its program.
///
/// # Errors
/// If the node has no identity, or the system no threads and signals to give.
pub async fn run() -> anyhow::Result<Option<PathBuf>> {
    log::start();
    allow_open_files();
    let identity = identity::load(Path::new(identity::PATH))?;
    anyhow::ensure!(
        !identity.fleet_servers.is_empty(),
        "the node's identity names no fleet server"
    );
    tracing::info!(node = %identity.node, image = %identity.image, "substrate agent {} starts", env!("CARGO_PKG_VERSION"));
    let about = HelloFacts {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id()?,
        instance: instance(),
        image: identity.image.clone(),
    };
    // Asked now: when it is replaced, the kernel knows this file by no name any more.
    let program = std::env::current_exe().context("cannot tell the agent's own program")?;
    let (stopping, stop) = watch::channel(None);
    watch_signals(stopping.clone())?;
    let hardware =
        hardware::start_for_this_machine().context("cannot start the threads of the inventory")?;
    let place = runtime_overlays::OverlayTarget::default();
    let (applied_here, applied) = watch::channel(place.applied().generation);
    let (wanted, overlays_wanted) = watch::channel(None);
    let (outbox_in, outbox) = mpsc::channel(OUTBOX);
    let (identity, servers_told) = keep_identity(identity);
    tokio::spawn(runtime_overlays::apply_overlays_forever(
        place,
        identity.clone(),
        overlays_wanted,
        applied_here,
        outbox_in.clone(),
    ));
    let servers = runs::servers::Servers::new(identity.clone());
    let (upgrade, upgrade_wanted) = watch::channel(None);
    tokio::spawn(upgrade::run_upgrades(
        program.clone(),
        servers.clone(),
        upgrade_wanted,
        stopping.clone(),
        outbox_in.clone(),
    ));
    let (runs, streams, volumes) = keep_runs(&identity, servers, outbox_in);
    notify::ready();
    let channel = Channel {
        about,
        inventory: hardware.inventory,
        topology_xml: hardware.topology_xml,
        outbox,
        stop,
        wanted,
        upgrade,
        servers: servers_told,
        reached: None,
        applied,
        runs,
        streams,
        uptime: clock::uptime_seconds,
        volumes,
        session: Session::default(),
    };
    keep_connected(channel, identity).await;
    if stopping.borrow().as_ref().is_some_and(|stop| stop.successor) {
        return Ok(Some(program));
    }
    notify::stopping();
    tracing::info!("substrate agent ends");
    Ok(None)
}

/// Starts the tasks of jobs and of people in them; where they are asked.
fn keep_runs(
    identity: &watch::Receiver<Arc<AgentIdentity>>,
    servers: runs::servers::Servers,
    outbox: mpsc::Sender<FromAgent>,
) -> (mpsc::Sender<runs::Request>, mpsc::Sender<streams::Opening>, watch::Receiver<VolumeUse>) {
    let (places, containers) = (runs::Places::default(), NodeContainers::default());
    let (streams, openings) = mpsc::channel(streams::MAX_OPENINGS);
    tokio::spawn(streams::keep(
        places.runs.clone(),
        identity.clone(),
        containers.clone(),
        openings,
    ));
    let node = runs::Node::new(places, servers, Mounting::default(), containers);
    let volumes = node.volume_use.subscribe();
    let (runs, requests) = mpsc::channel(runs::MAX_REQUESTS);
    tokio::spawn(async move {
        if let Err(error) = runs::keep(node, requests, outbox).await {
            tracing::error!("no runs on this node: {:#}", anyhow::Error::from(error));
        }
    });
    (runs, streams, volumes)
}

/// Starts the tasks that change the identity; says where they are told of the servers' addresses.
fn keep_identity(
    identity: AgentIdentity,
) -> (watch::Receiver<Arc<AgentIdentity>>, watch::Sender<Option<server_addresses::ServerList>>) {
    let (kept, seen) = KeptIdentity::new(identity::PATH.into(), identity);
    let kept = Arc::new(kept);
    let (servers_told, told) = watch::channel(None);
    tokio::spawn(server_addresses::save_server_list(kept.clone(), told));
    tokio::spawn(renewal::renew_certificates(kept));
    (seen, servers_told)
}

/// Dials and converses until the agent must stop.
async fn keep_connected(mut channel: Channel, identity: watch::Receiver<Arc<AgentIdentity>>) {
    let mut stop = channel.stop.clone();
    let mut backoff = agent_backoff();
    let mut broken = 0;
    for attempt in 0.. {
        let present = identity.borrow().clone();
        let server = present.fleet_servers[attempt % present.fleet_servers.len()];
        let dialled = async {
            let tls = tls::authenticated(&present)?;
            anyhow::Ok(dial::dial(server, Arc::new(tls)).await?)
        };
        let socket = tokio::select! {
            dialled = dialled => dialled,
            _ = stopped(&mut stop) => return,
        };
        let (started, dialled) = (clock::monotonic(), socket.is_ok());
        let ended = match socket {
            Ok(socket) => {
                let welcomed = || {
                    tracing::info!(%server, "connected");
                    notify::status(&format!("connected to {server}"));
                };
                broken += 1;
                channel.reached = Some(server);
                channel.converse(socket, welcomed).await.map_err(|error| {
                    if Channel::needs_new_session(&error) || broken > MAX_BROKEN {
                        channel.begin_new_session(instance());
                        broken = 0;
                    }
                    anyhow::Error::from(error)
                })
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(ConversationEnd::Stopped) => return,
            Ok(ConversationEnd::Reboot { reason }) => {
                if reboot(&reason, &mut stop).await {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%server, "not connected: {error:#}");
                notify::status(&format!("not connected: {server}: {error:#}"));
            }
        }
        if started.elapsed() >= STEADY {
            backoff.reset();
            broken = 0;
        }
        // Servers that cannot be reached are passed over without a pause: the next one may well be
        // there. One that was lost was lost by all its nodes at once.
        let round_over = (attempt + 1) % present.fleet_servers.len() == 0;
        let pause =
            if dialled || round_over { backoff.pause(jitter(random())) } else { Duration::ZERO };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stopped(&mut stop) => return,
        }
    }
}

/// Orders the reboot and waits for the end. `false` if the machine is still there.
async fn reboot(reason: &str, stop: &mut watch::Receiver<Option<Stop>>) -> bool {
    tracing::warn!("rebooting: {reason}");
    notify::status("rebooting");
    machine::reboot().await;
    let gone = tokio::time::timeout(REBOOT_DEADLINE, stopped(stop)).await.is_ok();
    if !gone {
        tracing::error!("the machine did not go down within {} s", REBOOT_DEADLINE.as_secs());
    }
    gone
}

/// Set when SIGTERM or SIGINT comes, with where the machine goes.
fn watch_signals(stop: watch::Sender<Option<Stop>>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let going_down = machine::going_down().await;
        stop.send_replace(Some(Stop { going_down, successor: false }));
    });
    Ok(())
}

fn boot_id() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

/// A name for this start of the agent.
fn instance() -> String {
    format!("{:016x}{:016x}", random(), random())
}
