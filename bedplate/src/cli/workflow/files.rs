//! Files that a workflow brings to its user: fetched into a directory, never over
//! something by accident.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use api::workflow::{ClientFile, State, Workflow};
use clap::Args;
use client::{Client, StreamEnd};
use copy_tree::Target;
use tokio::sync::mpsc;

use super::super::{
    output::print_note,
    table::{Style, cells, table},
    words::size,
};

/// Pieces of a directory that wait for the disk.
const MAX_PIECES: usize = 8;

/// Where files go.
#[derive(Debug, Args)]
pub(in super::super) struct Destination {
    /// Directory for the workflow's files.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dest: PathBuf,
    /// Overwrite existing files.
    #[arg(long)]
    force: bool,
}

/// The files, in a table.
pub(super) fn list(look: Style, files: &[ClientFile]) -> String {
    if files.is_empty() {
        return "it brings no files to its user\n".to_owned();
    }
    let row = |file: &ClientFile| {
        let directory = if file.directory && !file.destination.ends_with('/') { "/" } else { "" };
        cells([
            format!("{}{directory}", file.destination),
            file.size.map_or_else(|| "not here yet".to_owned(), size),
        ])
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
            bail!(
                "{} exists: --force writes over it, --dest names another directory",
                place.display()
            );
        }
        places.push((file, place));
    }
    let id = workflow.summary.id.to_string();
    let mut written = Vec::new();
    for (file, place) in places {
        let writing = if file.directory {
            write_directory(client, &id, file, &place).await
        } else {
            write(client, &id, file, &place).await
        };
        writing.with_context(|| format!("cannot write {}", place.display()))?;
        written.push(place.display().to_string());
    }
    let missing = missing.into_iter().map(|file| file.destination.clone()).collect();
    Ok(Fetched { written, missing })
}

/// A path below the directory for files, whatever the document says.
fn inside(destination: &str) -> anyhow::Result<PathBuf> {
    let mut inside = PathBuf::new();
    for part in Path::new(destination).components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!(
                    "the workflow wants to write {destination:?}, which leaves the directory: not done"
                );
            }
        }
    }
    if inside.as_os_str().is_empty() {
        bail!("the workflow wants to write {destination:?}, which names no file");
    }
    Ok(inside)
}

/// Writes beside the place and puts it there at the end: half a file is never taken
/// for a whole one.
async fn write(client: &Client, id: &str, file: &ClientFile, place: &Path) -> anyhow::Result<()> {
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
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

/// Makes a directory beside the place and puts it there when it is whole; into one that is there
/// its files go one by one.
async fn write_directory(
    client: &Client,
    id: &str,
    file: &ClientFile,
    place: &Path,
) -> anyhow::Result<()> {
    let (parent, name) = match (place.parent(), place.file_name().and_then(|name| name.to_str())) {
        (Some(parent), Some(name)) => (parent, name),
        _ => bail!("it has no name"),
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    fs::create_dir_all(parent)?;
    let is_new = place.symlink_metadata().is_err();
    let draft = tempfile::Builder::new().prefix(".bedplate-").tempdir_in(parent)?;
    let target = Target::of(if is_new { draft.path() } else { parent }, name)?;
    let mut content = client.workflow_file(id, file.stage).await?;
    let wanted = content.length();
    let (pieces, taker) = mpsc::channel(MAX_PIECES);
    let made = target.path();
    let unpacking = tokio::task::spawn_blocking(move || {
        copy_tree::unpack(Pieces { pieces: taker, piece: Vec::new(), read: 0 }, &target)
    });
    let mut taken = 0;
    let end = loop {
        match content.next().await {
            Ok(bytes) => {
                taken += bytes.len() as u64;
                if pieces.send(bytes).await.is_err() {
                    // The disk takes no more; why, the thread tells.
                    break StreamEnd::Closed;
                }
            }
            Err(end) => break end,
        }
    };
    let was_taken = !pieces.is_closed();
    drop(pieces);
    let unpacked = unpacking.await?;
    if was_taken && (end == StreamEnd::Broken || wanted.is_some_and(|wanted| wanted != taken)) {
        let again = if is_new { "" } else { "; what was whole is there" };
        bail!(
            "the connection broke after {}: fetch it again with `bedplate workflow files {id}`{again}",
            size(taken)
        );
    }
    let copied = unpacked?;
    for line in &copied.left_out {
        print_note(&format!("left out {line}"));
    }
    let more = copied.left_out_count.saturating_sub(copied.left_out.len() as u64);
    if more > 0 {
        print_note(&format!("left out {more} more"));
    }
    if is_new {
        fs::rename(made, place)?;
    }
    Ok(())
}

/// Pieces of a stream as something to read.
struct Pieces {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    /// Bytes of `piece` that were read.
    read: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let length = (self.piece.len() - self.read).min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_document_writes_outside_of_the_directory() {
        assert_eq!(inside("a/b.txt").unwrap(), Path::new("a/b.txt"));
        assert_eq!(inside("/etc/passwd").unwrap(), Path::new("etc/passwd"));
        for wrong in ["../x", "a/../../x", "", "/", "."] {
            assert!(inside(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_with_their_sizes() {
        let file = |destination: &str, size| {
            let destination = destination.to_owned();
            ClientFile { stage: 1, destination, size, directory: false }
        };
        let directory = ClientFile { directory: true, ..file("run", Some(1024)) };
        let text = list(Style::PLAIN, &[file("out.txt", Some(2048)), file("b", None), directory]);
        assert_eq!(text, "FILE     SIZE\nout.txt  2 KiB\nb        not here yet\nrun/     1 KiB\n");
    }
}
