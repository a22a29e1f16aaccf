//! The agent becomes another one under running jobs: it fetches the program, tries it, puts it in
//! its own place, and goes on as it in the same process. Containers are children of the spawner's
//! copies, not of the agent, and are taken back like after any start.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use api::{channel::FromAgent, ids::Digest};
use sha2::{Digest as _, Sha256};
use tokio::{process::Command, sync::mpsc, sync::watch, time::timeout};

use super::{
    runs::servers::{Servers, ServersError},
    stop::Stop,
};
use crate::fleet_port::FleetPortError;

/// Largest program, bytes: ours have a fifth of it.
const MAX_PROGRAM_BYTES: u64 = 100 << 20;

/// Time that a program has to say its version.
const TRIAL_DEADLINE: Duration = Duration::from_secs(20);

/// What the server wants the agent to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentTarget {
    /// Digest of the program.
    pub digest: Digest,
    /// Size of the program, bytes.
    pub size: u64,
}

/// Why the agent stays what it is.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Nobody can be asked.
    #[error("cannot ask the servers")]
    Servers(#[from] ServersError),
    /// It cannot be fetched.
    #[error("cannot fetch the program")]
    Fetch(#[from] FleetPortError),
    /// It is too large.
    #[error("a program of {0} bytes is too large; {MAX_PROGRAM_BYTES} are allowed")]
    Size(u64),
    /// Something else came.
    #[error(
        "{wanted} was ordered and {got} came: the program on the server has changed, order the upgrade again"
    )]
    Digest {
        /// What was ordered.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// It cannot be put into place.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not run on this node.
    #[error("the program does not run here")]
    Trial(#[source] TrialError),
}

/// Why a program did not say its version.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It cannot be started.
    #[error(transparent)]
    Start(#[from] io::Error),
    /// It ended badly.
    #[error("{0}")]
    Failed(ExitStatus),
    /// It said nothing.
    #[error("no version within {} s", TRIAL_DEADLINE.as_secs())]
    Late,
}

/// Does what the server wants whenever it says so. `program` is the agent's own file; `stop` ends
/// the agent for its successor.
pub async fn run_upgrades(
    program: PathBuf,
    servers: Servers,
    mut wanted: watch::Receiver<Option<AgentTarget>>,
    stop: watch::Sender<Option<Stop>>,
    outbox: mpsc::Sender<FromAgent>,
) {
    while wanted.changed().await.is_ok() {
        let Some(order) = *wanted.borrow_and_update() else { continue };
        match install(&program, &servers, order).await {
            Ok(()) => {
                tracing::info!("becoming {}", order.digest);
                stop.send_replace(Some(Stop { going_down: None, successor: true }));
                return;
            }
            Err(error) => {
                let why = crate::console::chain(&error);
                tracing::error!("not upgraded: {why}");
                // Nobody listens only while the agent ends.
                let _ = outbox.send(FromAgent::UpgradeFailed { why }).await;
            }
        }
    }
}

async fn install(
    program: &Path,
    servers: &Servers,
    wanted: AgentTarget,
) -> Result<(), UpgradeError> {
    if wanted.size > MAX_PROGRAM_BYTES {
        return Err(UpgradeError::Size(wanted.size));
    }
    let content = servers.port()?.get("/node/v1/agent", wanted.size).await?;
    place(program, &content, wanted.digest).await
}

/// Writes the program beside `program`, tries it, and renames it: there is always
/// one whole program.
async fn place(program: &Path, content: &[u8], wanted: Digest) -> Result<(), UpgradeError> {
    let got = Digest(Sha256::digest(content).into());
    if got != wanted {
        return Err(UpgradeError::Digest { wanted, got });
    }
    let draft = program.with_extension("new");
    let write = |source| UpgradeError::Write { path: draft.clone(), source };
    write_program(&draft, content).map_err(write)?;
    let done = match trial(&draft).await {
        Ok(()) => fs::rename(&draft, program).map_err(write),
        Err(why) => Err(UpgradeError::Trial(why)),
    };
    if done.is_err() {
        // In the way of nobody; the next upgrade writes over it.
        let _ = fs::remove_file(&draft);
    }
    done
}

fn write_program(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(path)?;
    file.write_all(content)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()
}

/// Whether a program says its version.
#[expect(clippy::disallowed_methods, reason = "the home of the program that is tried")]
async fn trial(program: &Path) -> Result<(), TrialError> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output =
        timeout(TRIAL_DEADLINE, command.output()).await.map_err(|_| TrialError::Late)??;
    if output.status.success() { Ok(()) } else { Err(TrialError::Failed(output.status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(content: &[u8]) -> Digest {
        Digest(Sha256::digest(content).into())
    }

    #[tokio::test]
    async fn a_program_that_runs_takes_the_place() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("substrate");
        fs::write(&program, "old").unwrap();
        let new = b"#!/bin/sh\n[ \"$1\" = --version ] && echo 2\n";
        place(&program, new, digest(new)).await.unwrap();
        assert_eq!(fs::read(&program).unwrap(), new);
        assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_does_not_run_or_is_another_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("substrate");
        fs::write(&program, "old").unwrap();
        for (content, ordered, why) in [
            (&b"#!/bin/sh\nexit 3\n"[..], None, "the program does not run here: exit status: 3"),
            (b"no program", None, "the program does not run here: "),
            (b"#!/bin/sh\n", Some(digest(b"x")), "order the upgrade again"),
        ] {
            let error =
                place(&program, content, ordered.unwrap_or(digest(content))).await.unwrap_err();
            let text = crate::console::chain(&error);
            assert!(text.contains(why), "{text}");
            assert_eq!(fs::read(&program).unwrap(), b"old");
            assert_eq!(directory.path().read_dir().unwrap().count(), 1);
        }
    }
}
