//! `overlay edit`: a file of an overlay in the person's editor. The home of the one child that this
//! program starts.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context as _, bail};
use api::{ids::OverlayName, overlay::OverlayFile};
use clap::Args;
use clap_complete::ArgValueCompleter;
use client::Client;

use super::{
    super::{complete, context::Session, output::print_note},
    FileChange, limited, octal, written,
};

/// The editor where the person has set none; POSIX has it.
const EDITOR: &str = "vi";

/// Mode of a file that is not there yet.
const NEW_MODE: u32 = 0o644;

/// Edit a file of an overlay in $VISUAL or $EDITOR, and put it back.
#[derive(Debug, Args)]
pub(in super::super) struct Edit {
    /// Name of the overlay.
    #[arg(add = ArgValueCompleter::new(complete::overlays))]
    name: OverlayName,
    /// Path on the node.
    path: String,
    /// Permission bits [default: as they are; 0644 for a new file].
    #[arg(long, value_name = "OCTAL", value_parser = octal)]
    mode: Option<u32>,
    /// Make a new file a template; one that is there stays what it is.
    #[arg(long)]
    template: bool,
}

pub(super) async fn run(session: &Session, edit: &Edit) -> anyhow::Result<()> {
    let client = session.client()?;
    let present = find(&client, edit).await?;
    let content = match &present {
        Some(file) => client.overlay_file(&edit.name, &file.path).await?,
        None => Vec::new(),
    };
    let file = temporary(&edit.path, &content)?;
    let edited = edit_in(file.path())?;
    if edited == content && present.is_some() && edit.mode.is_none() {
        if session.out.is_for_programs() {
            let change = FileChange { overlay: &edit.name, action: "unchanged", path: &edit.path };
            return session.out.show(&change, |_| String::new());
        }
        print_note("not changed");
        return Ok(());
    }
    let mode = edit.mode.or(present.as_ref().map(|file| file.mode)).unwrap_or(NEW_MODE);
    let template = present.map_or(edit.template, |file| file.template);
    let put = client.put_overlay_file(&edit.name, &edit.path, mode, template, edited).await;
    if let Err(error) = put {
        let kept = keep(file)?;
        return Err(
            anyhow::Error::from(error).context(format!("your text is kept in {}", kept.display()))
        );
    }
    written(session, &edit.name, &edit.path)
}

/// The file as the overlay has it now.
async fn find(client: &Client, edit: &Edit) -> anyhow::Result<Option<OverlayFile>> {
    match client.overlay(&edit.name).await {
        Ok(overlay) => Ok(overlay.files.into_iter().find(|file| file.path == edit.path)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A file for the editor, readable by its owner alone. Its name ends like the real one, so that
/// editors know its kind.
fn temporary(path: &str, content: &[u8]) -> anyhow::Result<tempfile::NamedTempFile> {
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let mut file = tempfile::Builder::new()
        .prefix("bedplate-")
        .suffix(&format!("-{name}"))
        .tempfile()
        .context("cannot make a temporary file")?;
    file.write_all(content).with_context(|| format!("cannot write {}", file.path().display()))?;
    Ok(file)
}

fn keep(file: tempfile::NamedTempFile) -> anyhow::Result<PathBuf> {
    let (_, path) = file.keep().context("cannot keep the temporary file")?;
    Ok(path)
}

/// What the person made of the file.
fn edit_in(path: &Path) -> anyhow::Result<Vec<u8>> {
    let set = |name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| EDITOR.to_owned());
    let status = start(&editor, path).with_context(|| format!("cannot start editor {editor:?}"))?;
    if !status.success() {
        bail!("editor {editor:?} failed ({status}): nothing was changed");
    }
    fs::File::open(path)
        .map_err(anyhow::Error::from)
        .and_then(limited)
        .with_context(|| format!("cannot read {} back", path.display()))
}

/// Runs the editor by the shell, since `$EDITOR` may have arguments.
#[expect(clippy::disallowed_methods, reason = "the home of the editor")]
fn start(editor: &str, path: &Path) -> std::io::Result<ExitStatus> {
    std::process::Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("sh")
        .arg(path)
        .status()
}
