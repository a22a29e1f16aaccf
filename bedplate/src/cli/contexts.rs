//! `context`: several servers, or several tokens, each in a file of its own; one of them is in use.
//!
//! ```text
//! ~/.config/bedplate/contexts/NAME.yaml
//!                   context.yaml          a link to the one in use
//! ```

mod create;

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use client::{Context, Fingerprint};
use serde::Serialize;

use super::{
    columns,
    context::{self, Session},
    error::Usage,
    input,
    output::{Done, Rows},
    table::{Style, cells, table},
};

/// Manage contexts: several servers, one of them in use.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List contexts; the one in use has a star.
    List,
    /// Show which file and which server are in use.
    Show,
    /// Make a context from a server's address and a token.
    Create(create::Create),
    /// Keep a context file under a name.
    #[command(after_help = "Examples:
  ssh root@head cat /var/lib/bedplate/admin.yaml | bedplate context add head -
  bedplate context use head")]
    Add {
        /// Name: letters, digits, hyphens, dots and underscores.
        name: String,
        /// The file; - reads standard input.
        file: PathBuf,
    },
    /// Use a context from now on.
    Use {
        /// Its name.
        name: String,
    },
    /// Forget a context.
    Remove {
        /// Its name.
        name: String,
    },
}

/// A context, without its token.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ListedContext {
    /// `None` if the file lies outside of the directory of contexts.
    name: Option<String>,
    /// `None` if the file cannot be read.
    server: Option<String>,
    in_use: bool,
    /// Path of the file.
    file: String,
    /// Of the CA certificate; `None` if the CAs of the system are trusted.
    ca_fingerprint: Option<String>,
    /// Why the file cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Rows for ListedContext {
    const COLUMNS: &'static [&'static str] = columns::CONTEXT;
}

impl ListedContext {
    fn new(directory: &Path, path: &Path, in_use: bool, context: &Context) -> Self {
        let fingerprint = context.ca.as_deref().and_then(Fingerprint::of_pem);
        Self {
            server: Some(context.server.to_string()),
            ca_fingerprint: fingerprint.map(|one| one.to_string()),
            ..Self::empty(directory, path, in_use)
        }
    }

    fn empty(directory: &Path, path: &Path, in_use: bool) -> Self {
        let name = path.file_stem().filter(|_| path.parent() == Some(directory));
        Self {
            name: name.map(|name| name.to_string_lossy().into_owned()),
            server: None,
            in_use,
            file: path.display().to_string(),
            ca_fingerprint: None,
            problem: None,
        }
    }
}

pub(super) async fn run(session: &Session, verb: &Verb) -> anyhow::Result<()> {
    let own = context::own_path().context("cannot tell where contexts are: set HOME")?;
    let directory = own.with_file_name("contexts");
    match verb {
        Verb::Show => {
            let path = session.path();
            let context = context::read(&path)?;
            // The one in use is a link to its file.
            let file = fs::read_link(&path).unwrap_or_else(|_| path.clone());
            let shown = ListedContext::new(&directory, &file, true, &context);
            let trust = shown.ca_fingerprint.as_ref().map_or_else(
                || "trusted by the CAs of this system".to_owned(),
                |fingerprint| format!("SHA-256 fingerprint of its CA: {fingerprint}"),
            );
            session
                .out
                .show(&shown, |_| format!("{}: {}\n{trust}\n", path.display(), context.server))
        }
        Verb::List => {
            let kept = list(&directory, &own)?;
            session.out.show(&kept, |look| context_table(*look, &kept))
        }
        Verb::Create(create) => create.run(session, &directory, &own).await,
        Verb::Add { name, file } => {
            let (shown, text) = input::read(file)?;
            let context = context::parse(&text)
                .with_context(|| format!("cannot understand context {shown}"))?;
            let path = path_of(&directory, name)?;
            write_private(&directory, &path, &text)?;
            let kept = ListedContext::new(&directory, &path, is_used(&own, &path), &context);
            session.out.show(&kept, |_| format!("added {name}: {}\n", context.server))
        }
        Verb::Use { name } => {
            let path = path_of(&directory, name)?;
            let context = context::read(&path)?;
            link(&own, &path)?;
            let kept = ListedContext::new(&directory, &path, true, &context);
            session.out.show(&kept, |_| format!("using {name}: {}\n", context.server))
        }
        Verb::Remove { name } => {
            let path = path_of(&directory, name)?;
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            if is_used(&own, &path) {
                fs::remove_file(&own)
                    .with_context(|| format!("cannot remove {}", own.display()))?;
            }
            session.out.show(&Done::new("removed", [name]), |_| format!("removed {name}\n"))
        }
    }
}

/// The person's own context is a link to this file.
fn is_used(own: &Path, path: &Path) -> bool {
    fs::read_link(own).is_ok_and(|used| used == path)
}

fn path_of(directory: &Path, name: &str) -> Result<PathBuf, Usage> {
    let is_good = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_good) {
        let why = format!(
            "{name:?} cannot name a context: use letters, digits, hyphens, dots and underscores"
        );
        return Err(Usage(why));
    }
    Ok(directory.join(format!("{name}.yaml")))
}

fn list(directory: &Path, own: &Path) -> anyhow::Result<Vec<ListedContext>> {
    let mut kept = Vec::new();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(kept),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", directory.display()));
        }
    };
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let in_use = is_used(own, &path);
        kept.push(match context::read(&path) {
            Ok(context) => ListedContext::new(directory, &path, in_use, &context),
            Err(error) => ListedContext {
                problem: Some(format!("{error:#}")),
                ..ListedContext::empty(directory, &path, in_use)
            },
        });
    }
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(kept)
}

fn context_table(look: Style, kept: &[ListedContext]) -> String {
    if kept.is_empty() {
        return "no contexts are kept: `bedplate context create --help`\n".to_owned();
    }
    let row = |one: &ListedContext| {
        let mark = if one.in_use { "*" } else { "" };
        let server = one.problem.as_ref().or(one.server.as_ref());
        cells([
            mark.to_owned(),
            one.name.clone().unwrap_or_default(),
            server.cloned().unwrap_or_default(),
        ])
    };
    table(look, &["", "NAME", "SERVER"], kept.iter().map(row))
}

/// Writes for its owner alone: it holds a token.
fn write_private(directory: &Path, path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(failed)?;
    let draft = path.with_extension("new");
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .with_context(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&draft, path).with_context(failed)
}

/// Makes the person's own context a link to `path`. A file that is no link is not replaced: it may
/// be the only copy.
fn link(own: &Path, path: &Path) -> anyhow::Result<()> {
    if own.symlink_metadata().is_ok_and(|facts| !facts.is_symlink()) {
        bail!(
            "{} is a file of its own: keep it with `bedplate context add NAME {}`, and remove it",
            own.display(),
            own.display()
        );
    }
    let failed = || format!("cannot write {}", own.display());
    let draft = own.with_extension("new");
    let _ = fs::remove_file(&draft);
    symlink(path, &draft).with_context(failed)?;
    fs::rename(&draft, own).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "server: https://10.1.0.1:9470\nca: PEM\ntoken: bp_x\n";

    #[test]
    fn one_of_several_is_in_use() {
        let place = tempfile::tempdir().unwrap();
        let (directory, own) = (place.path().join("contexts"), place.path().join("context.yaml"));
        assert!(list(&directory, &own).unwrap().is_empty());
        for name in ["b", "a"] {
            write_private(&directory, &path_of(&directory, name).unwrap(), TEXT).unwrap();
        }
        link(&own, &path_of(&directory, "a").unwrap()).unwrap();
        link(&own, &path_of(&directory, "b").unwrap()).unwrap();
        let kept = list(&directory, &own).unwrap();
        let shown = context_table(Style::PLAIN, &kept);
        assert_eq!(
            shown,
            "   NAME  SERVER\n   a     https://10.1.0.1:9470/\n*  b     https://10.1.0.1:9470/\n"
        );
        fs::remove_file(&own).unwrap();
        fs::write(&own, TEXT).unwrap();
        assert!(link(&own, &path_of(&directory, "a").unwrap()).is_err());
        assert_eq!(fs::read_to_string(&own).unwrap(), TEXT);
    }

    #[test]
    fn names_stay_in_the_directory() {
        for wrong in ["", "..", "a/b", ".x", "a b"] {
            assert!(path_of(Path::new("/f"), wrong).is_err(), "{wrong}");
        }
    }
}
