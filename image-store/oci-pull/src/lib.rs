//! Pulls an OCI image from a registry into an [`image_store::Store`]. Called by `image-catalog` for
//! OS images and for the images of jobs.
//!
//! OCI distribution-spec 1.1 over HTTPS; plain HTTP only to loopback addresses, or where the
//! configuration or the caller says so. Manifest and config first (small, checked against their
//! digests), then the layers, [`PARALLEL_LAYERS`] at a time, streamed to disk. A broken transfer
//! goes on where it stopped, in the same pull or in the next one. Digests and sizes are checked by
//! the store, not by the registry's word.
//!
//! | module | is |
//! |---|---|
//! | `registries` | how each host is reached: mirrors, plain HTTP, certificates, proxy, login |
//! | `reach` | which addresses are connected to |
//! | `audience` | what users are told of errors |
//! | `endpoint`, `challenge`, `clients`, `credentials` | one host, spoken to |
//! | `source` | manifest and config of an image at one host |
//! | `layers`, `transfer` | layers on their way, and how far they came |
//! | `pace` | how fast they must come, and in how long |
//! | `turns` | places for pulls, given to users in turn |
//! | `patience` | one clock over all tries while registries are away |
//! | `stored` | what needs no registry |
//! | `unusable` | what is wrong with a configuration's files |

mod audience;
mod challenge;
mod clients;
mod credentials;
mod endpoint;
mod error;
mod layers;
mod pace;
mod patience;
mod reach;
mod registries;
mod source;
mod stored;
mod transfer;
mod turns;
mod unusable;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::{backoff::Schedule, ids::Digest, sources::shown};
use image_store::{OciImage, Platform, Progress, Store};
use oci_spec::distribution::Reference;
use tokio::time::{Instant, sleep, timeout};

pub use audience::Audience;
pub use clients::Clients;
pub use credentials::usual_credential_files;
pub use error::{PullError, RequestError, Stage};
pub use pace::Limits;
pub use patience::{NoWaits, PAUSES, Wait, Waits};
pub use reach::{AddressPattern, InvalidAddressPattern, Reach};
pub use registries::{
    DEFAULT_PATIENCE, HostSettings, InvalidHost, InvalidMirror, InvalidProxy, InvalidTokenService,
    MAX_MIRRORS, Mirror, Proxy, Registries, RegistryHost,
};
pub use stored::manifest_in_store;
pub use turns::{Claim, Permit, Standing, Turns};
pub use unusable::{UnusableFile, unusable_files};

use endpoint::Endpoint;
use pace::Traffic;
use patience::PullClock;
use reach::Rules;
use source::Source;
use transfer::TransferProgress;

/// Layers that are transferred at the same time. More gained 2 % on loopback and asks
/// more of a registry.
pub const PARALLEL_LAYERS: usize = 4;

/// How long manifest and config of an image may take at one registry. They have at most 8 MiB.
const DOCUMENTS_TIMEOUT: Duration = Duration::from_secs(60);

/// How often somebody who waits looks whether the work was cancelled.
const LOOK: Duration = Duration::from_millis(250);

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The image to choose where there are several.
    pub platform: Platform,
    /// Speak plain HTTP to the registry of the reference, whatever the configuration says.
    pub insecure: bool,
    /// How registries are reached, and how long they are waited for.
    pub registries: Arc<Registries>,
    /// `auth.json` or `config.json` files to look for a login in, best first, for hosts whose
    /// settings name none; those that are missing are skipped.
    pub credential_files: Vec<PathBuf>,
    /// Pauses between tries.
    pub pauses: Schedule,
    /// Where the clients of registries are kept for the next pull; clones of one
    /// [`Clients`] share them.
    pub clients: Clients,
    /// Its place is held while something is asked for or transferred, and not while a registry is
    /// waited for: who waits keeps nobody else from pulling. `None`: there is always a place.
    pub turn: Option<Claim>,
    /// Is told when a registry is waited for.
    pub waits: Arc<dyn Waits>,
    /// Who is told of errors, and has named the registry.
    pub wanted_by: Audience,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: Platform::default(),
            insecure: false,
            registries: Arc::default(),
            credential_files: usual_credential_files(),
            pauses: PAUSES,
            clients: Clients::default(),
            turn: None,
            waits: Arc::new(NoWaits),
            wanted_by: Audience::default(),
        }
    }
}

/// Pulls `reference` (`HOST[:PORT]/REPOSITORY[:TAG|@DIGEST]`) into the store: from a mirror of its
/// registry that has it, else from the registry. While that is away it is waited for; see
/// [`Registries::patience`].
///
/// Safe to drop at any point: layers that are whole stay in the store, a layer under way stays
/// as a partial file that the next pull takes up. Needs a rustls provider installed as the
/// process default.
///
/// # Errors
/// [`PullError`]; the messages name registry and repository, and tell users no more than
/// [`PullOptions::wanted_by`] says. The rest is logged.
pub async fn pull(
    reference: &str,
    options: &PullOptions,
    store: &Store,
    progress: Arc<dyn Progress>,
) -> Result<OciImage, PullError> {
    let reference = parse(reference)?;
    let host = RegistryHost::of_reference(reference.registry());
    let pulled = pull_parsed(&reference, options, store, progress).await;
    pulled.map_err(|error| options.told(&host, error))
}

async fn pull_parsed(
    reference: &Reference,
    options: &PullOptions,
    store: &Store,
    progress: Arc<dyn Progress>,
) -> Result<OciImage, PullError> {
    let (moved, is_waiting) = (TransferProgress::default(), AtomicBool::default());
    let pull = Pull { reference, options, store, progress, moved, is_waiting };
    let host = RegistryHost::of_reference(pull.reference.registry());
    let mut patience = PullClock::new(options.registries.patience, options.pauses);
    let mut left = options.registries.limits.pull;
    loop {
        let permit = pull.permit().await;
        pull.progress.begins();
        let (placed, before) = (Instant::now(), pull.moved.bytes());
        let tried = tokio::select! {
            tried = timeout(left, pull.try_hosts(&host)) => Some(tried),
            () = recalled(permit.as_ref()) => None,
        };
        drop(permit);
        let error = match tried {
            Some(Ok(Ok(image))) => return Ok(image),
            Some(Ok(Err(error))) => error,
            Some(Err(_)) => return Err(pull.too_long(&host)),
            // It goes on from here when it is its turn again.
            None => {
                left = left.saturating_sub(placed.elapsed());
                if pull.moved.bytes() - before >= layers::LEAST_BYTES {
                    patience = PullClock::new(options.registries.patience, options.pauses);
                }
                continue;
            }
        };
        let Some(cause) = error.passing().cloned() else { return Err(error) };
        let now = Instant::now();
        let (began, moved) = pull.went(&cause, (placed, now), pull.moved.bytes() - before);
        let Some(pause) = patience.after_failure((began, now), moved, cause.retry_after()) else {
            let (waited, tries) = (patience.waited(now), patience.failures());
            let (registry, source) = (host.to_string(), Box::new(error));
            return Err(PullError::Away { registry, waited, tries, source });
        };
        left = left.saturating_sub(pause + now.saturating_duration_since(placed));
        if left.is_zero() {
            return Err(pull.too_long(&host));
        }
        let wait = Wait { registry: host.clone(), cause, pause };
        tracing::warn!(repository = pull.reference.repository(), "{wait}");
        let wait = Wait { cause: options.wait_reason_for_users(&host, wait.cause), ..wait };
        pull.is_waiting.store(true, Ordering::Relaxed);
        options.waits.waits(Some(&wait));
        pull.progress.pauses();
        pull.wait(pause).await?;
    }
}

/// Ends when somebody else is to have the place; never without one.
async fn recalled(permit: Option<&Permit>) {
    match permit {
        Some(permit) => permit.recalled().await,
        None => std::future::pending().await,
    }
}

fn parse(text: &str) -> Result<Reference, PullError> {
    let invalid = |problem| PullError::Reference { reference: shown(text).into(), problem };
    let reference = Reference::try_from(text).map_err(|error| invalid(error.to_string()))?;
    if reference.digest().is_some_and(|digest| digest.parse::<Digest>().is_err()) {
        return Err(invalid("its digest is not one of sha256".to_owned()));
    }
    Ok(reference)
}

/// One pull.
struct Pull<'a> {
    reference: &'a Reference,
    options: &'a PullOptions,
    store: &'a Store,
    progress: Arc<dyn Progress>,
    moved: TransferProgress,
    /// Somebody was told that a registry is waited for, and not that it is there again.
    is_waiting: AtomicBool,
}

impl Pull<'_> {
    /// Waits until it is this pull's turn.
    async fn permit(&self) -> Option<Permit> {
        match &self.options.turn {
            Some(claim) => Some(claim.shared_permit(self.options.registries.limits.share).await),
            None => None,
        }
    }

    /// Since when a try that failed was fruitless, and whether it went further. One that ended
    /// because too little came went further only if it was fast enough as a whole.
    fn went(
        &self,
        cause: &RequestError,
        (began, now): (Instant, Instant),
        brought: u64,
    ) -> (Instant, bool) {
        let moved = brought >= layers::LEAST_BYTES;
        let RequestError::Slow { .. } = cause else { return (began, moved) };
        let Limits { least_bytes_per_second, window, .. } = self.options.registries.limits;
        let lasted = now.saturating_duration_since(began);
        let enough = least_bytes_per_second.saturating_mul(lasted.as_secs());
        (now - window.min(lasted), moved && brought >= enough)
    }

    /// The pull has used up its time.
    fn too_long(&self, host: &RegistryHost) -> PullError {
        PullError::TooLong {
            registry: host.to_string(),
            repository: self.reference.repository().to_owned(),
            got: self.moved.bytes(),
            limit: self.options.registries.limits.pull,
        }
    }

    /// Pauses, unless the work is cancelled.
    async fn wait(&self, pause: Duration) -> Result<(), PullError> {
        let end = Instant::now() + pause;
        loop {
            if self.progress.cancelled() {
                return Err(PullError::Cancelled);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LOOK)).await;
        }
    }

    /// One try: the mirrors of a host in their order, then the host itself, whose answer counts.
    async fn try_hosts(&self, host: &RegistryHost) -> Result<OciImage, PullError> {
        let mirrors =
            self.options.registries.hosts.get(host).map_or(&[][..], |host| host.mirrors.as_slice());
        for mirror in mirrors.iter().take(MAX_MIRRORS) {
            let repository = mirror.repository(self.reference.repository());
            match self.from(&mirror.host, repository, false).await {
                Err(error) if !error.is_ours() => {
                    let cause =
                        error.passing().map_or_else(|| error.to_string(), ToString::to_string);
                    tracing::info!("the mirror {mirror} of {host} is passed over: {cause}");
                }
                result => return result,
            }
        }
        self.from(host, self.reference.repository().to_owned(), self.options.insecure).await
    }

    /// From one host, with its own settings and its own login.
    async fn from(
        &self,
        host: &RegistryHost,
        repository: String,
        insecure: bool,
    ) -> Result<OciImage, PullError> {
        let none = HostSettings::default();
        let settings = self.options.registries.hosts.get(host).unwrap_or(&none);
        let login = match &settings.credentials {
            Some(path) => Some(credentials::configured(path, host, &repository)?),
            None => credentials::find(&self.options.credential_files, host, &repository)?,
        };
        let plain = insecure || settings.plain_http || host.is_loopback();
        // This host, and not what it leads to.
        let is_trusted = self.options.wanted_by == Audience::Admin;
        let rules = Rules::new(&self.options.registries, host, is_trusted);
        let client = self.options.clients.of(host, settings, rules)?;
        let unreachable = |source| PullError::Unreachable {
            registry: host.to_string(),
            source: Box::new(source),
        };
        let logins = (login, settings.token_service(host));
        let endpoint =
            Endpoint::new(host.clone(), repository, plain, client, logins).map_err(unreachable)?;
        let limits = &self.options.registries.limits;
        let traffic = Traffic::new(limits, Instant::now());
        let source = Source { endpoint, moved: &self.moved, limits, traffic };
        let version = self.reference.digest().or(self.reference.tag()).unwrap_or("latest");
        let image = source.image(version, &self.options.platform, self.store);
        let image = match timeout(DOCUMENTS_TIMEOUT, image).await {
            Ok(image) => image?,
            Err(_) => return Err(source.failed("the manifest", RequestError::timed_out())),
        };
        if self.is_waiting.swap(false, Ordering::Relaxed) {
            self.options.waits.waits(None);
        }
        self.progress.found(&image.manifest);
        // It may have been told that another pull brings the same.
        if self.progress.cancelled() {
            return Err(PullError::Cancelled);
        }
        layers::pull_layers(&source, &image, self.store, &self.progress).await?;
        Ok(image)
    }
}
