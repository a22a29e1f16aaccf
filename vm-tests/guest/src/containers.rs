//! Containers as the agent has them: asked of the spawner, their ends awaited in the
//! directories of their runs.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use api::run::{Outcome, RunEnd};
use linux::clock::monotonic;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use substrate::{
    container::{
        spawner::Spawner,
        spec::{self, ContainerSpec},
    },
    run_directory::{END, LAUNCHING, LOG},
};

/// The root file system of every container.
pub(crate) const ROOTFS: &str = "/rootfs";

const RUNS: &str = "/run/bedplate/runs";

/// An ordinary small job.
pub(crate) fn spec(command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        lower: ROOTFS.into(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        program_words: Vec::new(),
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".to_owned(),
        makes_cwd: false,
        home: None,
        makes_home: false,
        hostname: "job".to_owned(),
        uid: 1000,
        gid: 1000,
        groups: Vec::new(),
        user_name: "ada".to_owned(),
        binds: Vec::new(),
        files: Vec::new(),
        cpus: vec![0, 1],
        mems: vec![0],
        memory_bytes: 64 << 20,
        pids: 100,
        devices: Vec::new(),
        device_mounts: Vec::new(),
        device_links: Vec::new(),
        isolated_network: false,
        forbidden: Vec::new(),
        upper_bytes: 64 << 20,
        timeout_seconds: 600,
        grace_seconds: 10,
        log_limit_bytes: 1 << 20,
        log_has_tail: false,
        log_has_times: false,
        #[cfg(feature = "switches")]
        without: std::collections::BTreeSet::new(),
    }
}

/// The spawner, asked as the agent asks it, and ends awaited as the agent awaits them.
#[derive(Debug)]
pub(crate) struct Ours {
    spawner: Spawner,
    changes: Inotify,
}

impl Ours {
    /// With `substrate`, or the test build of it.
    pub(crate) fn start(substrate: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(RUNS)?;
        let spawner = Spawner::start(substrate).context("cannot start the spawner")?;
        Ok(Self { spawner, changes: Inotify::init(InitFlags::IN_CLOEXEC)? })
    }

    /// Has a container started; its run's directory.
    pub(crate) fn begin(&self, number: u32, spec: &ContainerSpec) -> anyhow::Result<PathBuf> {
        let directory = self.prepare(number, spec)?;
        self.launch(&directory)?;
        Ok(directory)
    }

    /// Makes a run's directory.
    pub(crate) fn prepare(&self, number: u32, spec: &ContainerSpec) -> anyhow::Result<PathBuf> {
        let directory = Path::new(RUNS).join(format!("run-{number}"));
        fs::create_dir(&directory)?;
        fs::write(directory.join(spec::FILE.name()), spec::FILE.encode(spec)?)?;
        self.changes.add_watch(&directory, AddWatchFlags::IN_MOVED_TO)?;
        Ok(directory)
    }

    /// Has the container of a run's directory started.
    pub(crate) fn launch(&self, directory: &Path) -> anyhow::Result<()> {
        let lock = File::create(directory.join(LAUNCHING))?;
        Ok(self.spawner.spawn(directory, lock.as_fd())?)
    }

    /// Waits for its good end and removes what it left.
    pub(crate) fn wait(&self, directory: &Path) -> anyhow::Result<()> {
        self.wait_for(directory, END.name())?;
        let end = read_end(directory)?;
        ensure!(
            end.outcome == Outcome::Exited { code: 0 },
            "{}: {end:?}; {}",
            directory.display(),
            log(directory)
        );
        Ok(fs::remove_dir_all(directory)?)
    }

    /// Waits until a file is in a run's directory.
    pub(crate) fn wait_for(&self, directory: &Path, name: &str) -> anyhow::Result<()> {
        while !directory.join(name).exists() {
            self.changes.read_events()?;
        }
        Ok(())
    }

    /// How a container ended, if it does so in time.
    pub(crate) fn end_within(&self, directory: &Path, limit: Duration) -> anyhow::Result<RunEnd> {
        let deadline = monotonic() + limit;
        while !directory.join(END.name()).exists() {
            ensure!(
                monotonic() < deadline,
                "no end within {} s: {}",
                limit.as_secs(),
                log(directory)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        read_end(directory)
    }

    /// How long a container takes from the request to its end.
    pub(crate) fn run(&self, number: u32, spec: &ContainerSpec) -> anyhow::Result<Duration> {
        let start = monotonic();
        let directory = self.begin(number, spec)?;
        self.wait_for(&directory, END.name())?;
        let took = monotonic() - start;
        self.wait(&directory)?;
        Ok(took)
    }
}

fn read_end(directory: &Path) -> anyhow::Result<RunEnd> {
    Ok(END.decode(&fs::read(directory.join(END.name()))?)?)
}

/// What a container wrote.
pub(crate) fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join(LOG)).unwrap_or_default()
}
