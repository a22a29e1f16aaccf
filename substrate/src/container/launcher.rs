//! `substrate run-container FOLDER`: what the agent starts for each job. It makes the control groups and copies itself into
//! the container's namespaces as their init; then it ends, and the init lives on its own.

use std::path::Path;

use linux::{
    LinuxError,
    process::{self, Namespaces, Side},
};

use super::{
    groups::{self, Groups},
    init::{self, Init},
    record::Record,
    spec::ContainerSpec,
};

/// Why no container was started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No folder to work in; nobody is told but the journal.
    #[error(transparent)]
    Folder(LinuxError),
    /// It is told in the run's `end.json`.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `container.json`.
    #[error("cannot read container.json of the run")]
    Spec(#[source] std::io::Error),
    /// Control groups, limits and egress filter.
    #[error("cannot make the job's control group")]
    Groups(#[source] LinuxError),
    /// The copy.
    #[error("cannot make the container's process")]
    Clone(#[source] LinuxError),
    /// Signals.
    #[error("cannot block signals")]
    Signals(#[source] nix::Error),
}

/// Starts the container of the run in `folder`. The init leaves this function by ending the process.
///
/// # Errors
/// [`LaunchError`]; a run that was not started has its end on disk.
pub fn launch(folder: &Path) -> Result<(), LaunchError> {
    let record = Record::open(folder).map_err(LaunchError::Folder)?;
    let started = start(folder, &record);
    if let Err(error) = &started {
        let why = reason(error);
        if let Err(error) = record.write_json("end.json", &init::failed(why, true)) {
            tracing::error!(%error, folder = %folder.display(), "cannot record that a container did not start");
        }
    }
    Ok(started?)
}

fn reason(error: &StartError) -> String {
    use std::error::Error as _;

    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn start(folder: &Path, record: &Record) -> Result<(), StartError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let read = record.read_json::<ContainerSpec>("container.json").and_then(|spec| spec.ok_or_else(missing));
    let spec = read.map_err(StartError::Spec)?;
    let groups = Groups::at(&Path::new(groups::ROOT).join(&spec.cgroup));
    let made = groups.make(&spec).map_err(StartError::Groups).and_then(|()| {
        init::signals().thread_block().map_err(StartError::Signals)?;
        let leaf = groups.init.open().map_err(StartError::Groups)?;
        let network = if spec.isolated_network { Namespaces::CLONE_NEWNET } else { Namespaces::empty() };
        let kinds = Namespaces::CLONE_NEWPID
            | Namespaces::CLONE_NEWNS
            | Namespaces::CLONE_NEWIPC
            | Namespaces::CLONE_NEWUTS
            | network;
        process::clone_into(std::os::fd::AsFd::as_fd(&leaf), kinds).map_err(StartError::Clone)
    });
    match made {
        Ok(Side::Parent { .. }) => Ok(()),
        Ok(Side::Child) => {
            let init = || -> Result<Init, LinuxError> {
                Ok(Init { spec, folder: folder.to_owned(), record: Record::open(folder)?, groups })
            };
            std::process::exit(init().map_or(1, Init::run))
        }
        Err(error) => {
            groups.remove();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use api::run::{Outcome, RunEnd};

    use super::*;

    #[test]
    fn a_run_that_cannot_start_has_an_end_that_says_why() {
        assert!(matches!(launch(Path::new("/no/such/folder")), Err(LaunchError::Folder(_))));
        let folder = tempfile::tempdir().unwrap();
        launch(folder.path()).unwrap_err();
        let end: RunEnd =
            serde_json::from_slice(&std::fs::read(folder.path().join("end.json")).unwrap()).unwrap();
        let Outcome::Failed { why, transient: true } = end.outcome else { panic!("{end:?}") };
        assert_eq!(why, "cannot read container.json of the run: entity not found");
    }
}
