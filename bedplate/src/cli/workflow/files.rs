//! Files that a workflow brings to its user: fetched into a folder, never over something by accident.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use api::workflow::{ClientFile, State, Workflow};
use clap::Args;
use client::{Client, StreamEnd};

use super::super::{
    table::{Look, cells, table},
    words::size,
};

/// Where files go.
#[derive(Debug, Args)]
pub(in super::super) struct Destination {
    /// Folder for the workflow's files.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dest: PathBuf,
    /// Write over files that are there.
    #[arg(long)]
    force: bool,
}

/// The files, in a table.
pub(super) fn list(look: Look, files: &[ClientFile]) -> String {
    if files.is_empty() {
        return "it brings no files to its user\n".to_owned();
    }
    let row = |file: &ClientFile| {
        cells([file.destination.clone(), file.size.map_or_else(|| "not here yet".to_owned(), size)])
    };
    table(look, &["FILE", "SIZE"], files.iter().map(row))
}

/// What a fetch did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Paths written.
    pub(super) written: Vec<String>,
    /// Files that the server does not have, by the document's names for them.
    pub(super) missing: Vec<String>,
}

impl Fetched {
    /// An error if not all files of the workflow are there, with their names and why.
    pub(super) fn require_all(&self, workflow: &Workflow) -> anyhow::Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let names = self.missing.join(", ");
        let why = match workflow.summary.state {
            State::Finished => "the server has them no more, though the workflow finished",
            State::Failed | State::Canceled => "the workflow did not get to bring them",
            _ => "the workflow has not brought them yet",
        };
        bail!("not fetched: {names}: {why}")
    }
}

/// Fetches what is there.
pub(super) async fn fetch(
    client: &Client,
    workflow: &Workflow,
    destination: &Destination,
) -> anyhow::Result<Fetched> {
    let (here, missing): (Vec<&ClientFile>, Vec<&ClientFile>) =
        workflow.files.iter().partition(|file| file.size.is_some());
    let mut places = Vec::new();
    for file in here {
        let place = destination.dest.join(inside(&file.destination)?);
        if !destination.force && place.symlink_metadata().is_ok() {
            bail!("{} exists: --force writes over it, --dest names another folder", place.display());
        }
        places.push((file, place));
    }
    let id = workflow.summary.id.to_string();
    let mut written = Vec::new();
    for (file, place) in places {
        write(client, &id, file, &place)
            .await
            .with_context(|| format!("cannot write {}", place.display()))?;
        written.push(place.display().to_string());
    }
    let missing = missing.into_iter().map(|file| file.destination.clone()).collect();
    Ok(Fetched { written, missing })
}

/// A path below the folder for files, whatever the document says.
fn inside(destination: &str) -> anyhow::Result<PathBuf> {
    let mut inside = PathBuf::new();
    for part in Path::new(destination).components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("the workflow wants to write {destination:?}, which leaves the folder: not done");
            }
        }
    }
    if inside.as_os_str().is_empty() {
        bail!("the workflow wants to write {destination:?}, which names no file");
    }
    Ok(inside)
}

/// Writes beside the place and puts it there at the end: half a file is never taken for a whole one.
async fn write(client: &Client, id: &str, file: &ClientFile, place: &Path) -> anyhow::Result<()> {
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut draft = OsString::from(place);
    draft.push(".part");
    let mut content = client.workflow_file(id, file.stage).await?;
    let wanted = content.length();
    let mut taken = 0;
    let mut draft_file = File::create(&draft)?;
    let end = loop {
        match content.next().await {
            Ok(bytes) => {
                draft_file.write_all(&bytes)?;
                taken += bytes.len() as u64;
            }
            Err(end) => break end,
        }
    };
    if end == StreamEnd::Broken || wanted.is_some_and(|wanted| wanted != taken) {
        // It is of no use; that it could not be removed would say less than the error.
        let _ = fs::remove_file(&draft);
        bail!(
            "the connection broke after {}: fetch it again with `bedplate workflow files {id}`",
            size(taken)
        );
    }
    draft_file.sync_all()?;
    Ok(fs::rename(&draft, place)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_document_writes_outside_of_the_folder() {
        assert_eq!(inside("a/b.txt").unwrap(), Path::new("a/b.txt"));
        assert_eq!(inside("/etc/passwd").unwrap(), Path::new("etc/passwd"));
        for wrong in ["../x", "a/../../x", "", "/", "."] {
            assert!(inside(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_with_their_sizes() {
        let file =
            |destination: &str, size| ClientFile { stage: 1, destination: destination.to_owned(), size };
        let text = list(Look::PLAIN, &[file("out.txt", Some(2048)), file("b", None)]);
        assert_eq!(text, "FILE     SIZE\nout.txt  2 KiB\nb        not here yet\n");
    }
}
