//! `bedplate server`: opens the roles on one database and one certificate authority, and serves
//! them until told to stop.
//!
//! | port | what | protection |
//! |---|---|---|
//! | `api.listen` | REST | TLS, bearer token |
//! | `fleet.port` | enrolment, reports, channel, overlays | TLS, client certificate |
//! | `boot.http-port` | boot scripts, images | none: plain HTTP, see docs/security.md |
//!
//! DHCP and TFTP are the provisioner's. Everything is bound before the first request is answered.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use ::rest::shell::Shell;
use access::{Access, AccessError, AuditHeads};
use controller::ControllerError;
use database::{Database, Schema};
use fleet::{Fleet, FleetError};
use hardware::Hardware;
use image_store::Converter;
use provisioner::{OpenError, ServeError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::config::Checked;
use alarms::Alarms;
use certificate::SiteCertificate;
use health::Health;
use roles::OwnRoles;
use scrape::{Roles, Scrape};

mod accept_cut;
mod admin_context;
mod adopt;
mod alarms;
mod certificate;
mod clock;
mod health;
mod log;
mod private_files;
mod problems;
mod recover;
mod rest;
mod roles;
mod scrape;

pub use accept_cut::{AcceptError, accept_audit_cut};
pub use admin_context::AdminContextError;
pub use adopt::{AdoptError, Adopted, SERVER_USER, ServerUser, adopt};
pub use alarms::certificates_of;
pub use certificate::{CertificateError, CertificateFiles};
pub use log::start as start_log;
pub use problems::{OnRead, Problems, problems};
pub use recover::{RecoverError, Recovered, recover_admin};

/// The database in the state directory.
const DATABASE: &str = "bedplate.db";

/// The tables of all roles.
static SCHEMAS: &[&Schema] =
    &[&access::SCHEMA, &fleet::SCHEMA, &provisioner::SCHEMA, &controller::SCHEMA];

/// First word of the command line with which the server starts itself as the converter of images.
pub const CONVERTER: &str = "image-converter";

/// Where crashes of the converter are counted, in the state directory.
const CONVERSIONS: &str = "conversions";

/// Held while the server runs, so that two servers never share a state directory.
const LOCK: &str = "server.lock";

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The state directory.
    #[error("cannot use the state directory {}", path.display())]
    StateDir {
        /// Path of the file or directory that it is about.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The state directory, or something in it, is not this user's.
    #[error(
        "cannot use the state directory {}: something in it is not this user's; `bedplate server adopt`, as root, \
         gives to the server's user what is root's",
        path.display()
    )]
    Denied {
        /// Path of the file or directory that it is about.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Root would leave files that the server's own user cannot change.
    #[error(
        "the state in {} belongs to uid {uid}, and this is root, whose files that user could not change: start \
         the server as its user (`systemctl start bedplate`); to run it as root again: chown -hR root: {}",
        path.display(),
        path.display()
    )]
    OwnUser {
        /// Path of the file or directory that it is about.
        path: PathBuf,
        /// Owner of the database.
        uid: u32,
    },
    /// A file in the state directory is another user's.
    #[error(
        "cannot use {}: it belongs to uid {uid}, and this is uid {own}; `bedplate server adopt`, as root, gives to \
         the server's user what is root's",
        path.display()
    )]
    OtherUser {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// This user.
        own: u32,
    },
    /// Another server runs on the state directory.
    #[error("another `bedplate server` runs on the state directory {}: stop it, or set state-dir", path.display())]
    Locked {
        /// Path of the file or directory that it is about.
        path: PathBuf,
    },
    /// The database.
    #[error(transparent)]
    Database(#[from] database::OpenError),
    /// Tables.
    #[error(transparent)]
    Migrate(#[from] database::MigrateError),
    /// Users and tokens.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The key of the audit log.
    #[error(transparent)]
    AuditKey(#[from] access::KeyError),
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The provisioner's state.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Images.
    #[error(transparent)]
    Images(#[from] image_catalog::OpenError),
    /// Workflows.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The program that runs cannot be opened.
    #[error("cannot open this program, which converts images too: /proc/self/exe")]
    Converter(#[source] io::Error),
    /// The provisioner's servers.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The site's certificate for the REST port.
    #[error("the certificate of `api.certificate` cannot be used")]
    Certificate(#[from] CertificateError),
    /// SIGHUP cannot be waited for.
    #[error("cannot wait for signals")]
    Signal(#[source] io::Error),
    /// The admin's context file.
    #[error(transparent)]
    AdminContext(#[from] AdminContextError),
    /// A port.
    #[error(
        "cannot listen on {address} ({setting}): is another server running, or is the address not this machine's?"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The key of the configuration.
        setting: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The REST port ended.
    #[error("the REST API cannot be served any more")]
    Api(#[source] io::Error),
    /// A part broke.
    #[error("a part of the server ended badly")]
    Broken(#[source] JoinError),
}

/// Runs the server until `shutdown`, or until a part of it fails. `converter` reads
/// what images hold.
///
/// # Errors
/// See [`ServerError`].
pub async fn run(
    config: Checked,
    converter: Converter,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    // Already installed is as good as installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let descriptors = allow_open_files();
    let shell = Shell::new(config.connections.limits(descriptors));
    let _lock = lock(&config.state_dir)?;
    close_to_others(&config);
    let database = Database::open(&config.state_dir.join(DATABASE), SCHEMAS).await?;
    let heads = AuditHeads::open(&config.state_dir, config.audit_head_file.clone())?;
    let access = Access::open(database.clone()).await?.with_session_limits(config.sessions);
    let access = access.with_audit_heads(heads).with_token_limits(config.tokens);
    let access = access.with_quota_limits(config.quotas).with_audit_keep(config.audit_keep);
    access.note_new_audit_key().await;
    let hardware = Hardware::new(database.clone());
    let reports = Arc::new(hardware.clone());
    let fleet = Fleet::open(database.clone(), config.fleet.clone(), reports).await?;
    let (audit, stop) = (access.clone(), CancellationToken::new());
    let audit_stop = stop.clone();
    let keeping = tokio::spawn(async move { audit.run_audit_writer(audit_stop.cancelled()).await });
    let nodes = (fleet.clone(), hardware);
    let served =
        serve(config, &database, access.clone(), nodes, (shell, converter), shutdown).await;
    fleet.close().await;
    // The last requests and the fleet's last changes have rows, too.
    stop.cancel();
    if let Err(error) = keeping.await {
        tracing::error!("the audit log was not kept to the end: {error}");
    }
    access.close_audit().await;
    database.close().await;
    tracing::info!("stopped");
    served
}

/// Each agent, download and TFTP transfer is an open file, and a shell lets a process have 1,024
/// where the system would let it have more (getrlimit(2)). Returns how many there may be.
fn allow_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!("the server may open {:?} files only: {error}", limit.current);
    }
    // None: as many as the kernel can.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

async fn serve(
    config: Checked,
    database: &Database,
    access: Access,
    (fleet, hardware): (Fleet, Hardware),
    (shell, converter): (Shell, Converter),
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let roles = OwnRoles::open(&config, database, &access, (&fleet, &hardware), converter).await?;
    let api = bind(config.api_listen, "api.listen")?;
    let fleet_listeners: Vec<TcpListener> = config
        .fleet_listen
        .iter()
        .map(|&address| bind(address, "fleet.port"))
        .collect::<Result<_, _>>()?;
    let address = api.local_addr().map_err(ServerError::Api)?;
    admin_context::write(&config.state_dir, &access, address, &fleet.ca_pem()).await?;

    let stop = shutdown.child_token();
    let mut parts: JoinSet<Result<(), ServerError>> = JoinSet::new();
    let health = || Health::new(database.clone(), config.state_dir.clone());
    let alarms = Alarms::new(access.clone(), fleet.clone(), health());
    let health = health().with_alarms(alarms.clone());
    let of_scrape = Roles {
        database: database.clone(),
        fleet: fleet.clone(),
        hardware: hardware.clone(),
        own: roles.clone(),
        shell: shell.clone(),
        access: access.clone(),
        alarms: alarms.clone(),
    };
    let scrape = Scrape::new(of_scrape, config.state_dir.clone());
    let of_roles = roles.rest().merge(fleet.rest()).merge(hardware.rest(&fleet));
    let of_roles = of_roles.merge(alarms.routes());
    let routes = rest::router(access, of_roles, health, &scrape);
    let api_tls =
        follow_certificates(&fleet, config.api_certificate, &scrape, &alarms, &mut parts, &stop)?;
    parts.spawn(rest::serve(shell.clone(), api, api_tls, routes, scrape, stop.clone()));
    for listener in fleet_listeners {
        let routes = roles.node_routes();
        let (fleet, shell, stop) = (fleet.clone(), shell.clone(), stop.clone());
        parts.spawn(async move { Ok(fleet.serve(&shell, listener, routes, stop).await?) });
    }
    roles.spawn(shell, &mut parts, &stop);
    tracing::info!(
        "bedplate {} serves its REST API at https://{address}",
        env!("CARGO_PKG_VERSION")
    );
    all_ended(parts, &stop).await
}

/// Waits until all parts have ended: with the first one the others are stopped. Fails as the
/// first that failed.
async fn all_ended(
    mut parts: JoinSet<Result<(), ServerError>>,
    stop: &CancellationToken,
) -> Result<(), ServerError> {
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        stop.cancel();
        let ended = ended.map_err(ServerError::Broken).flatten();
        outcome = outcome.and(ended);
    }
    outcome
}

/// The TLS of the REST port, with the site's certificate if there is one. Until `stop` its files
/// are followed, and what wants attention of certificates and tokens is told.
fn follow_certificates(
    fleet: &Fleet,
    files: Option<CertificateFiles>,
    scrape: &Scrape,
    alarms: &Alarms,
    parts: &mut JoinSet<Result<(), ServerError>>,
    stop: &CancellationToken,
) -> Result<Arc<rustls::ServerConfig>, ServerError> {
    let mut api_tls = fleet.server_tls(false);
    if let Some(files) = files {
        let (certificate, tls) = SiteCertificate::open(files, &api_tls)?;
        api_tls = tls;
        scrape.follow_certificate(certificate.clone());
        alarms.follow_certificate(certificate.clone());
        let following = certificate.follow(stop.clone());
        parts.spawn(async move { following.await.map_err(ServerError::Signal) });
    }
    let telling = alarms.clone().log_daily(stop.clone());
    parts.spawn(async move {
        telling.await;
        Ok(())
    });
    Ok(api_tls)
}

/// Makes the state directory, for its owner only, and locks it.
fn lock(state_dir: &Path) -> Result<File, ServerError> {
    let failed = |source: io::Error| {
        let path = state_dir.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ServerError::Denied { path, source },
            _ => ServerError::StateDir { path, source },
        }
    };
    problems::check_owner(state_dir)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(failed)?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(state_dir.join(LOCK))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(ServerError::Locked { path: state_dir.to_owned() })
        }
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Closes what an earlier release left open in the state directory.
fn close_to_others(config: &Checked) {
    let but =
        [config.provisioner.shipped_overlays.clone(), config.provisioner.site_overlays.clone()];
    let done = private_files::close(&config.state_dir, &but);
    let path = config.state_dir.display();
    if done.closed > 0 {
        tracing::info!(
            "{} files and directories of {path} are now the server's alone",
            done.closed
        );
    }
    if done.is_cut {
        tracing::warn!(
            "{path} has more files than are looked at; {path} itself is the server's alone"
        );
    }
    if let Some((file, why)) = done.failed {
        tracing::warn!(
            "others may be able to read {}, its mode cannot be changed: {why}",
            file.display()
        );
    }
}

fn bind(address: SocketAddr, setting: &'static str) -> Result<TcpListener, ServerError> {
    let failed = |source| ServerError::Bind { address, setting, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// What `bedplate server` does: reads the configuration, starts the log, and runs until
/// SIGTERM or SIGINT.
///
/// # Errors
/// Mistakes of the configuration, or what ended the server.
pub async fn start(config: Option<PathBuf>) -> anyhow::Result<()> {
    private_files::make_private();
    let config = Checked::load(config)?;
    // Before anything else: an upgrade may put another program in its place at any time.
    let converter = Converter::of_this_program(CONVERTER, config.state_dir.join(CONVERSIONS))
        .map_err(ServerError::Converter)?;
    start_log(&config.log);
    for note in &config.notes {
        tracing::warn!("configuration, line {note}");
    }
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(run(config, converter, shutdown).await?)
}
