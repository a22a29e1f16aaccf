//! The real agent with many jobs: it dials a server that is played here, is told to start them, and
//! its memory is read while they run.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use api::{
    channel::{Agreement, Capabilities, Frame, FromAgent, FromServer, MAX_PROTOCOL},
    enroll::AgentIdentity,
    ids::{Digest, Timestamp},
    run::{JobSpec, RunId, RunSpec, RunState, RunUser, Work, WorkflowId},
};
use futures_util::{SinkExt as _, StreamExt as _};
use linux::{
    mount::{self, Flags},
    namespace,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use substrate::{agent::runs::Places, identity};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{containers::ROOTFS, files::copy, program::program, say, usage::private_dirty};

/// How long the agent may take for all of them.
const LIMIT: Duration = Duration::from_secs(600);

/// Where the agent would keep the image that every job has.
const IMAGE: Digest = Digest([7; 32]);

type Ca = CertifiedIssuer<'static, KeyPair>;
type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Starts the agent, has it start `jobs` jobs, and tells what it holds while they run.
pub(crate) fn memory_with(jobs: usize) -> anyhow::Result<()> {
    namespace::bring_loopback_up()?;
    prepare_image()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, measure(jobs)).await.context("the agent is too slow")?
    })
}

/// The image is here already, and mounted: a file system of its own, as a squashfs would be.
fn prepare_image() -> anyhow::Result<()> {
    let places = Places::default();
    let mounted = places.images.join(IMAGE.hex());
    for directory in [&mounted, &places.artifacts] {
        fs::create_dir_all(directory)?;
    }
    fs::write(places.artifacts.join(IMAGE.hex()), "mounted already")?;
    mount::mount(Path::new("tmpfs"), &mounted, "tmpfs", Flags::empty(), "mode=0755")?;
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
        copy(&Path::new(ROOTFS).join(name), &mounted.join(name))?;
    }
    Ok(())
}

async fn measure(jobs: usize) -> anyhow::Result<()> {
    let ca = ca()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    identity::store(Path::new(identity::PATH), &identity(&ca, listener.local_addr()?)?)?;
    let acceptor = acceptor(&ca)?;
    let mut agent =
        program("/bin/substrate").arg("agent").spawn().context("cannot start the agent")?;
    let pid = agent.id();
    let mut socket = accept(&listener, &acceptor).await?;
    let idle = memory(pid)?;
    for number in 1..=jobs {
        let spec = Box::new(job(u128::try_from(number)?));
        send(&mut socket, u64::try_from(number)?, Some(FromServer::StartRun { spec })).await?;
    }
    let mut running = 0;
    while running < jobs {
        if let Some(FromAgent::Run { report }) = receive(&mut socket).await? {
            match report.state {
                RunState::Preparing {}
                | RunState::Prepared {}
                | RunState::Ready { .. }
                | RunState::Unknown => {}
                RunState::Running { .. } => running += 1,
                RunState::Ended(end) => bail!("run {} ended: {end:?}", report.run),
            }
        }
    }
    let busy = memory(pid)?;
    say(format!("agent-kib idle {} {} with {jobs} jobs {} {}", idle.0, idle.1, busy.0, busy.1));
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    agent.wait()?;
    Ok(())
}

/// Resident and private memory of a process, KiB (`proc_pid_status(5)`, `proc_pid_smaps(5)`).
fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok((line.trim().trim_end_matches("kB").trim().parse()?, private_dirty(&pid.to_string())?))
}

/// Takes connections until one is the channel; answers its hello.
async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor) -> anyhow::Result<Socket> {
    let (stream, _) = listener.accept().await?;
    let stream = acceptor.accept(stream).await.context("the agent's TLS")?;
    let mut socket =
        tokio_tungstenite::accept_async(stream).await.context("the agent opens no channel")?;
    let hello = receive(&mut socket).await?;
    ensure!(matches!(hello, Some(FromAgent::Hello { .. })), "the agent begins with {hello:?}");
    let welcome = FromServer::Welcome {
        agreement: Agreement { protocol: MAX_PROTOCOL, capabilities: Capabilities::all() },
        server_time: Timestamp(0),
        heartbeat_seconds: 60,
        resumed: false,
    };
    send(&mut socket, 0, Some(welcome)).await?;
    // What it does at its start is over when it has told its hardware.
    loop {
        if let Some(FromAgent::Inventory { .. }) = receive(&mut socket).await? {
            return Ok(socket);
        }
    }
}

async fn send(socket: &mut Socket, seq: u64, message: Option<FromServer>) -> anyhow::Result<()> {
    let frame = Frame { seq, ack: 0, message };
    Ok(socket.send(Message::text(serde_json::to_string(&frame)?)).await?)
}

/// The next frame, acknowledged if it says something.
async fn receive(socket: &mut Socket) -> anyhow::Result<Option<FromAgent>> {
    loop {
        let message = socket.next().await.context("the agent closed the channel")??;
        let Message::Text(text) = message else { continue };
        let frame: Frame<FromAgent> = serde_json::from_str(&text)?;
        if frame.seq > 0 {
            let acknowledged = Frame::<FromServer> { seq: 0, ack: frame.seq, message: None };
            socket.send(Message::text(serde_json::to_string(&acknowledged)?)).await?;
        }
        return Ok(frame.message);
    }
}

fn job(number: u128) -> RunSpec {
    let job = JobSpec {
        image: IMAGE,
        image_size: 15,
        command: vec!["/bin/sleep".into(), "600".into()],
        env: vec!["PATH=/bin".into(), format!("FB_TASK_ID={number}")],
        program_words: Vec::new(),
        sets_home: false,
        cwd: "/".into(),
        makes_cwd: false,
        hostname: "job".into(),
        mounts: Vec::new(),
        files: Vec::new(),
        cpus: vec![0, 1],
        mems: vec![0],
        memory_bytes: 64 << 20,
        pids: 100,
        devices: Vec::new(),
        isolated_network: false,
        log_limit_bytes: Some(64 << 20),
        log_times: true,
    };
    RunSpec {
        run: RunId(uuid::Uuid::from_u128(number)),
        workflow: WorkflowId(uuid::Uuid::from_u128(1)),
        subject: format!("job sleepers[{number}]"),
        user: RunUser { name: "ada".into(), uid: 1000, gid: 1000, groups: Vec::new() },
        work: Work::Job(Box::new(job)),
        timeout_seconds: 600,
        forbidden: Vec::new(),
        awaits_release: false,
    }
}

fn ca() -> anyhow::Result<Ca> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

fn identity(ca: &Ca, server: SocketAddr) -> anyhow::Result<AgentIdentity> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2999, 1, 1);
    let leaf = parameters.signed_by(&key, ca)?;
    Ok(AgentIdentity {
        node: "n1".parse()?,
        id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse()?,
        fleet_servers: vec![server],
        ca: ca.pem(),
        certificate: leaf.pem(),
        key: key.serialize_pem(),
        not_after: Timestamp(i64::MAX),
        image: "bench@1".to_owned(),
    })
}

fn acceptor(ca: &Ca) -> anyhow::Result<TlsAcceptor> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate()?;
    let leaf = parameters.signed_by(&key, ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![leaf.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
