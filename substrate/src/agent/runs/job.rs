//! A container from what it needs to its end. The container's start and its init do the rest
//! ([`crate::container`]).
//!
//! ```text
//!   prepare: image, files, volumes, prolog ─► container.json ─► launching ─► spawner ─► watch until end.json ─► epilog
//!                                                           │ of a member of a larger attempt
//!                                                           └► prepared: hold until `released` ─► launching …
//! ```
//!
//! `launching` is on disk before the spawner is asked. An agent that finds it never starts
//! the container again: it watches what is there, and if nothing lives and no end was
//! written, the run is lost.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use api::run::{JobSpec, LiveUsage, Outcome, RunEnd, RunSpec, RunState};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Node,
    artifacts::ArtifactError,
    changes::Watched,
    devices::{self, DeviceError, Granted},
    directory::{DirectoryError, RunDirectory},
    report::{RunReporter, end, stop_ordered},
    site_programs::{SiteProgramError, When},
    volumes::{self, VolumeError},
};
use crate::run_directory::StopOrder;

/// How often a container is looked at: whether it lives, and its files if nobody tells of them.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How often its files are looked at where the kernel does not tell of them.
const UNTOLD_INTERVAL: Duration = Duration::from_millis(100);

/// What starts containers and reaches them: [`crate::container`] on a node.
pub trait Containers: Send + Sync + 'static {
    /// Writes what the start reads.
    ///
    /// # Errors
    /// As [`RunDirectory::write`].
    fn describe(&self, directory: &RunDirectory, parts: &Parts<'_>) -> Result<(), DirectoryError>;

    /// Starts the container of the run in `directory` and does not wait. What is
    /// started holds `lock`.
    ///
    /// # Errors
    /// It cannot be started; nothing was.
    fn launch(&self, directory: &Path, lock: File) -> io::Result<()>;

    /// Whether the container init lives.
    fn is_alive(&self, directory: &Path) -> bool;

    /// Makes the container init read `stop.json` and `paused`, and do what they say.
    ///
    /// # Errors
    /// There is none yet, or none any more.
    fn signal(&self, directory: &Path) -> io::Result<()>;

    /// What the container uses now; `None` if it is not there.
    fn usage(&self, directory: &Path) -> Option<LiveUsage>;

    /// Takes away what a container that has ended could not take away itself.
    fn clean(&self, directory: &Path);
}

/// What was prepared for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Specification of the run, from the server.
    pub spec: &'a RunSpec,
    /// The part of it that describes the container.
    pub job: &'a JobSpec,
    /// Root of the mounted image.
    pub image: PathBuf,
    /// Directories of the volumes, in the order of [`JobSpec::mounts`].
    pub volumes: Vec<PathBuf>,
    /// Files, in the order of [`JobSpec::files`].
    pub files: Vec<PathBuf>,
    /// What its devices bring.
    pub granted: Granted,
}

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The site's programs before the job.
    #[error("the prolog failed")]
    Prolog(#[source] SiteProgramError),
    /// No image.
    #[error("cannot fetch the image")]
    Image(#[source] ArtifactError),
    /// The image is none.
    #[error("cannot mount the image")]
    Mount(#[from] linux::LinuxError),
    /// No file.
    #[error("cannot fetch the file {path}")]
    File {
        /// Where it was to be in the container.
        path: String,
        /// Why.
        #[source]
        source: ArtifactError,
    },
    /// No volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// No device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The run's directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The spawner.
    #[error("cannot reach the spawner of containers")]
    Launch(#[source] io::Error),
}

impl JobError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Image(error) | Self::File { source: error, .. } => error.is_transient(),
            Self::Volume(error) => error.is_transient(),
            Self::Device(error) => error.is_transient(),
            Self::Prolog(_) | Self::Mount(_) | Self::Directory(_) | Self::Launch(_) => true,
        }
    }

    /// It is the node's want alone that kept the job from beginning.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Prolog(_) => true,
            Self::Image(error) | Self::File { source: error, .. } => error.is_want_of_space(),
            Self::Directory(error) => volumes::is_full(&error.source),
            Self::Launch(error) => volumes::is_full(error),
            Self::Device(error) => error.is_transient(),
            Self::Mount(_) | Self::Volume(_) => false,
        }
    }

    fn outcome(self) -> Outcome {
        if self.is_refusal() {
            return Outcome::Refused { why: format!("{:#}", anyhow::Error::from(self)) };
        }
        let transient = self.is_transient();
        Outcome::Failed { why: format!("{:#}", anyhow::Error::from(self)), transient }
    }
}

/// One job.
#[derive(Debug)]
pub(super) struct Job<'a, C> {
    pub(super) node: &'a Node<C>,
    pub(super) directory: &'a RunDirectory,
    pub(super) spec: &'a RunSpec,
    pub(super) container: &'a JobSpec,
}

impl<C: Containers> Job<'_, C> {
    pub(super) async fn run_to_completion(
        &self,
        stopped: &mut watch::Receiver<Option<StopOrder>>,
        released: &mut watch::Receiver<bool>,
        reporter: &RunReporter,
    ) -> RunEnd {
        if !self.directory.was_launched() {
            let begun = tokio::select! {
                biased;
                order = stop_ordered(stopped) => Err(Outcome::Stopped { why: order.why }),
                begun = self.begin(released, reporter) => begun.map_err(JobError::outcome),
            };
            if let Err(outcome) = begun {
                return end(self.directory, None, outcome);
            }
        }
        self.watch(stopped, reporter).await
    }

    async fn begin(
        &self,
        released: &mut watch::Receiver<bool>,
        reporter: &RunReporter,
    ) -> Result<(), JobError> {
        self.prepare().await?;
        // One that was released before its agent started again is not held again: others run.
        if self.spec.awaits_release && !*released.borrow() {
            reporter.report(RunState::Prepared {}).await;
            if released.wait_for(|is_released| *is_released).await.is_err() {
                // The agent ends; the next one holds it again.
                std::future::pending::<()>().await;
            }
        }
        self.launch()
    }

    async fn prepare(&self) -> Result<(), JobError> {
        let job = self.container;
        let mut volumes = Vec::new();
        for mount in &job.mounts {
            volumes.push(self.node.volumes.existing(self.spec.workflow, &mount.volume)?);
        }
        let artifact =
            self.node.artifacts.get(job.image, job.image_size).await.map_err(JobError::Image)?;
        let image = self.node.images.mount(job.image, &artifact)?;
        let mut files = Vec::new();
        for file in &job.files {
            let fetched = self.node.artifacts.get(file.digest, file.size).await;
            files.push(
                fetched.map_err(|source| JobError::File { path: file.path.clone(), source })?,
            );
        }
        let granted = self.take_devices()?;
        let parts = Parts { spec: self.spec, job, image, volumes, files, granted };
        self.node.containers.describe(self.directory, &parts)?;
        self.prolog().await
    }

    async fn prolog(&self) -> Result<(), JobError> {
        let site = &self.node.site_programs;
        let (before, after) = (site.list(When::Before), site.list(When::After));
        let before = before.map_err(JobError::Prolog)?;
        if !before.is_empty() || !matches!(&after, Ok(after) if after.is_empty()) {
            self.directory.mark_site_programs(When::Before)?;
        }
        site.run(&before, self.spec, self.container).await.map_err(|error| {
            let error = JobError::Prolog(error);
            let why = crate::console::chain(&error);
            self.node.fitness.fail(why, linux::clock::monotonic());
            error
        })
    }

    /// What the site wants done after a job, if its programs before it were begun. One that fails
    /// changes nothing of the job's end.
    pub(super) async fn epilog(&self) {
        if !self.directory.owes_epilog() {
            return;
        }
        let site = &self.node.site_programs;
        let done = match site.list(When::After) {
            Ok(programs) => site.run(&programs, self.spec, self.container).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            let why = format!(
                "the epilog of {} failed: {}",
                self.spec.subject,
                crate::console::chain(&error)
            );
            tracing::error!(run = %self.spec.run, "{why}");
            self.node.fitness.fail(why, linux::clock::monotonic());
        }
        if let Err(error) = self.directory.mark_site_programs(When::After) {
            tracing::error!(run = %self.spec.run, "{:#}", anyhow::Error::from(error));
        }
    }

    /// What its devices are now. They are its own until it is over.
    fn take_devices(&self) -> Result<Granted, JobError> {
        let (names, user) = (&self.container.devices, &self.spec.user);
        let granted = devices::resolve(&self.node.places.machine, names, user)?;
        if !names.is_empty() {
            self.node.claims.take(self.spec.run, granted.claim.clone())?;
            self.directory.write(devices::FILE, &granted.claim)?;
        }
        Ok(granted)
    }

    fn launch(&self) -> Result<(), JobError> {
        let lock = self.directory.mark_launching()?;
        self.node.containers.launch(self.directory.path(), lock).map_err(JobError::Launch)
    }

    /// Looks until the end is on disk, or nobody is left who could write it.
    async fn watch(
        &self,
        stopped: &mut watch::Receiver<Option<StopOrder>>,
        reporter: &RunReporter,
    ) -> RunEnd {
        let changes = self.node.changes.watch(self.directory.path());
        let mut look = interval(if changes.is_some() { LOOK_INTERVAL } else { UNTOLD_INTERVAL });
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut signalled, mut checked) = (false, false, Instant::now());
        loop {
            if !told && let Some(started) = self.directory.started() {
                told = true;
                reporter.report(RunState::Running { started }).await;
            }
            if let Some(end) = self.directory.end() {
                return end;
            }
            if !signalled && stopped.borrow_and_update().is_some() {
                // Before the container init is there nobody can be told; it is tried again.
                signalled = self.node.containers.signal(self.directory.path()).is_ok();
            }
            if checked.elapsed() >= LOOK_INTERVAL {
                checked = Instant::now();
                if self.is_gone() {
                    break;
                }
            }
            tokio::select! {
                _ = look.tick() => {}
                () = heard(changes.as_ref()) => {}
                Ok(()) = stopped.changed() => {}
            }
        }
        // It may have written its end as its last deed.
        self.directory.end().unwrap_or_else(|| {
            let why = "the container's init is gone and left no record of its end".to_owned();
            end(self.directory, self.directory.started(), Outcome::Lost { why, rebooted: false })
        })
    }

    fn is_gone(&self) -> bool {
        !self.directory.is_held() && !self.node.containers.is_alive(self.directory.path())
    }
}

async fn heard(changes: Option<&Watched>) {
    match changes {
        Some(changes) => changes.changed().await,
        None => std::future::pending().await,
    }
}
