//! A private PostgreSQL server for one test: in a directory of the caller's, on a Unix socket
//! alone, under a user without rights, ended when it is dropped.
//!
//! ```text
//! DIRECTORY/data/           the cluster
//! DIRECTORY/log             what initdb and the server say
//! DIRECTORY/.s.PGSQL.5432   the socket
//! ```

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::clock;

/// Where Debian's package `postgresql` puts each version's programs.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// Debian's `nobody`, user and group: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65_534;

/// The one user of the cluster, and the one database that the tests use.
pub const USER: &str = "bedplate";

/// How long the server may take until it answers: it replays nothing, but a busy machine is slow.
const START: Duration = Duration::from_secs(60);

/// How often it is asked for.
const POLL: Duration = Duration::from_millis(20);

/// A running server.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    server: Child,
}

impl Cluster {
    /// Makes a cluster in an empty directory and starts its server. The directory becomes the
    /// server's; everybody must be able to pass through those above it.
    ///
    /// # Errors
    /// PostgreSQL is not installed, this is not root, or the server does not come up: its log is in
    /// the error.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        if !geteuid().is_root() {
            bail!("a private PostgreSQL server is started as another user, which takes root");
        }
        let programs = programs()?;
        chown(directory, Some(NOBODY), Some(NOBODY)).context("cannot give the directory away")?;
        let (data, log) = (directory.join("data"), directory.join("log"));
        let sorted_like_sqlite = ["--encoding=UTF8", "--locale=C"];
        let made = command(&programs.join("initdb"), directory)?
            .args(["--auth=trust", "--no-sync", "--username", USER, "--pgdata"])
            .arg(&data)
            .args(sorted_like_sqlite)
            .status()
            .context("cannot run initdb")?;
        if !made.success() {
            bail!("initdb failed: {}", said(&log));
        }
        // What the tests write need not survive a power cut.
        let settings = ["listen_addresses=", "fsync=off", "max_connections=40"];
        let server = command(&programs.join("postgres"), directory)?
            .args(["-D".as_ref(), data.as_os_str(), "-k".as_ref(), directory.as_os_str()])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .spawn()
            .context("cannot run postgres")?;
        let mut cluster = Self { directory: directory.to_owned(), server };
        clock::wait_every(POLL, "the private PostgreSQL server", START, || {
            if let Some(status) = cluster.server.try_wait()? {
                bail!("postgres ended at once ({status}): {}", said(&log));
            }
            Ok(cluster.is_ready().then_some(()))
        })
        .with_context(|| said(&log))?;
        Ok(cluster)
    }

    /// The directory of the server's socket.
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// The last line of the server's own file says how far it is.
    fn is_ready(&self) -> bool {
        let status = fs::read_to_string(self.directory.join("data/postmaster.pid"));
        status.is_ok_and(|status| status.lines().nth(7).map(str::trim) == Some("ready"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT: the server ends its children and itself, and cares for no data.
        if let Some(pid) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}

/// The programs of the newest version that is installed.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir(PROGRAMS).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs.join("postgres").exists().then_some((version, programs))
        })
        .max();
    let (_, programs) = newest.with_context(|| {
        format!("PostgreSQL is not installed (nothing in {PROGRAMS}): run xtask/setup.sh")
    })?;
    Ok(programs)
}

/// A program as nobody, in the directory, whose words go into the log.
#[expect(clippy::disallowed_methods, reason = "the home of the server's process")]
fn command(program: &Path, directory: &Path) -> anyhow::Result<Command> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let mut command = Command::new::<&OsStr>(program.as_ref());
    command
        .current_dir(directory)
        .env_clear()
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_else(|error| format!("no log: {error}"))
}
