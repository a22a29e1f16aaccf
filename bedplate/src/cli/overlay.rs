//! `overlay`: files and templates that are laid over the nodes' root.

mod edit;

use std::{
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use api::{
    ids::{NodeName, OverlayName},
    overlay::{MAX_FILE_BYTES, Overlay, OverlayFile, RenderedFile},
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use client::ClientError;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};

use super::{
    columns, complete,
    context::Session,
    each::each,
    output::{Rows, print_note},
    table::{Style, cells, table},
};

/// Manage overlays: files and templates for the root file system of nodes.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List overlays.
    List,
    /// Show an overlay with its files.
    Show {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(complete::overlays))]
        name: OverlayName,
    },
    /// Print an overlay's files as a node gets them.
    #[command(after_help = "Examples:
  bedplate overlay render hosts n1
  bedplate overlay render systemd-networkd n1 /etc/systemd/network/10-lan0.network")]
    Render {
        /// Its name.
        #[arg(add = ArgValueCompleter::new(complete::overlays))]
        name: OverlayName,
        /// Name of the node.
        #[arg(add = ArgValueCompleter::new(complete::nodes))]
        node: NodeName,
        /// Only this file, by its path on the node.
        path: Option<String>,
    },
    /// Edit a file of an overlay in $VISUAL or $EDITOR, and put it back.
    #[command(
        after_help = "A shipped overlay is copied to the site's directory first. A file that does not exist yet starts empty.

Example:
  EDITOR=nano bedplate overlay edit hosts /etc/hosts"
    )]
    Edit(edit::Edit),
    /// Put a file into an overlay; the overlay is made if there is none.
    #[command(after_help = "Examples:
  bedplate overlay set-file motd /etc/motd motd.j2 --template
  echo 'vm.swappiness = 1' | bedplate overlay set-file sysctl /etc/sysctl.d/10-site.conf -")]
    SetFile(SetFile),
    /// Remove a file from an overlay of the site.
    RemoveFile {
        /// Name of the overlay.
        #[arg(add = ArgValueCompleter::new(complete::overlays))]
        name: OverlayName,
        /// Path on the node.
        path: String,
    },
    /// Delete overlays of the site that nothing uses; of shipped ones, what the site made of them.
    #[command(
        after_help = "A shipped overlay itself stays: where the site has edited it, the edit goes and the
shipped one counts again, also on nodes that use it. An overlay that is damaged can be deleted too.
Nodes and profiles that use an overlay of the site keep it from being deleted and are named; `node
set` and `profile set` take it from them.

Examples:
  bedplate overlay delete motd
  bedplate overlay delete hosts    # back to the one that came with Bedplate"
    )]
    Delete {
        /// Their names.
        #[arg(required = true, value_name = "NAME", add = ArgValueCompleter::new(complete::overlays))]
        names: Vec<OverlayName>,
    },
}

/// Put a file into an overlay; the overlay is made if there is none.
#[derive(Debug, Args)]
pub(super) struct SetFile {
    /// Name of the overlay.
    #[arg(add = ArgValueCompleter::new(complete::overlays))]
    name: OverlayName,
    /// Path on the node.
    path: String,
    /// Local file to copy from; - reads standard input.
    file: PathBuf,
    /// Permission bits [default: 0755 if FILE may be executed, else 0644].
    #[arg(long, value_name = "OCTAL", value_parser = octal)]
    mode: Option<u32>,
    /// Render it for each node.
    #[arg(long)]
    template: bool,
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List => {
            let overlays = session.client()?.overlays().await?;
            session.out.show(&overlays, |style| list(*style, &overlays))
        }
        Verb::Show { name } => {
            let overlay = session.client()?.overlay(&name).await?;
            session.out.show(&overlay, |style| show(*style, &overlay))
        }
        Verb::Render { name, node, path } => {
            let files = session.client()?.render(&name, &node, path.as_deref()).await?;
            session.out.show(&files, |_| rendered(&files, path.is_some()))
        }
        Verb::Edit(edit) => edit::run(session, &edit).await,
        Verb::SetFile(set) => set_file(session, &set).await,
        Verb::RemoveFile { name, path } => {
            session.client()?.delete_overlay_file(&name, &path).await?;
            let change = FileChange { overlay: &name, action: "removed", path: &path };
            session.out.show(&change, |_| format!("removed {path} from overlay {name}\n"))
        }
        Verb::Delete { names } => delete(session, &names).await,
    }
}

/// What was done to a file of an overlay: `{"overlay": "motd", "written": "/etc/motd"}`.
#[derive(Debug)]
struct FileChange<'a> {
    overlay: &'a OverlayName,
    /// `written`, `removed` or `unchanged`.
    action: &'static str,
    /// On the node.
    path: &'a str,
}

impl Serialize for FileChange<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("overlay", self.overlay)?;
        map.serialize_entry(self.action, self.path)?;
        map.end()
    }
}

impl Rows for FileChange<'_> {
    const COLUMNS: &'static [&'static str] = columns::OVERLAY_FILE;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        Ok(vec![json!({"overlay": self.overlay, "action": self.action, "path": self.path})])
    }
}

async fn delete(session: &Session, names: &[OverlayName]) -> anyhow::Result<()> {
    let client = session.client()?;
    let delete = async |name: &OverlayName| -> Result<&'static str, ClientError> {
        let shipped = client.delete_overlay(name).await?;
        if let Some(shipped) = shipped {
            print_note(&format!("overlay {name} is the shipped one again"));
            for problem in shipped.problems {
                print_note(&format!("problem: {problem}"));
            }
            return Ok("reverted");
        }
        Ok("deleted")
    };
    each(session, names, "deleted", delete).await
}

async fn set_file(session: &Session, set: &SetFile) -> anyhow::Result<()> {
    let (content, usual) = read(&set.file)?;
    let mode = set.mode.unwrap_or(usual);
    session.client()?.put_overlay_file(&set.name, &set.path, mode, set.template, content).await?;
    written(session, &set.name, &set.path)
}

/// Says that a file was written.
fn written(session: &Session, name: &OverlayName, path: &str) -> anyhow::Result<()> {
    let change = FileChange { overlay: name, action: "written", path };
    session.out.show(&change, |_| format!("wrote {path} to overlay {name}\n"))
}

/// Content and usual mode of a file here.
fn read(path: &Path) -> anyhow::Result<(Vec<u8>, u32)> {
    if path == Path::new("-") {
        let content = limited(std::io::stdin()).context("cannot read standard input")?;
        return Ok((content, 0o644));
    }
    let failed = || format!("cannot read {}", path.display());
    let content = limited(std::fs::File::open(path).with_context(failed)?).with_context(failed)?;
    let mode = std::fs::metadata(path).with_context(failed)?.permissions().mode();
    Ok((content, if mode & 0o100 == 0 { 0o644 } else { 0o755 }))
}

/// All of a file that an overlay may have: what is larger is not sent, since the server would hang
/// up in the middle.
fn limited(file: impl std::io::Read) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_FILE_BYTES {
        bail!(
            "it has more than {MAX_FILE_BYTES} bytes, which a file of an overlay may have at most"
        );
    }
    Ok(content)
}

/// A text that is no mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write octal digits such as 0644")]
struct NotOctal;

fn octal(text: &str) -> Result<u32, NotOctal> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(NotOctal),
    }
}

fn list(style: Style, overlays: &[Overlay]) -> String {
    let row = |overlay: &Overlay| {
        cells([
            overlay.name.to_string(),
            overlay.source.clone(),
            overlay.files.len().to_string(),
            match overlay.problems.as_slice() {
                [] => overlay.summary.split_whitespace().collect::<Vec<_>>().join(" "),
                [only] => format!("PROBLEM: {only}"),
                [first, others @ ..] => format!("PROBLEM: {first}; and {} more", others.len()),
            },
        ])
    };
    table(style, &["OVERLAY", "FROM", "FILES", "WHAT FOR"], overlays.iter().map(row))
}

fn show(style: Style, overlay: &Overlay) -> String {
    let row = |file: &OverlayFile| {
        let template = if file.template { "template" } else { "" };
        cells([file.path.clone(), format!("{:04o}", file.mode), template.to_owned()])
    };
    let mut head = format!("{} ({})\n{}\n\n", overlay.name, overlay.source, overlay.summary.trim());
    for problem in &overlay.problems {
        head.push_str(&format!("problem: {problem}\n"));
    }
    if !overlay.problems.is_empty() {
        head.push_str("Nodes that use it stay as they are until that is mended.\n\n");
    }
    head + &table(style, &["FILE", "MODE", ""], overlay.files.iter().map(row))
}

/// One file alone as it is, so that it can be piped; several with a line above each.
fn rendered(files: &[RenderedFile], alone: bool) -> String {
    match files {
        [] => "no files for this node\n".to_owned(),
        [only] if alone => only.content.clone(),
        several => several
            .iter()
            .map(|file| {
                let end =
                    if file.content.is_empty() || file.content.ends_with('\n') { "" } else { "\n" };
                format!("# {} {:04o}\n{}{end}", file.path, file.mode, file.content)
            })
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn overlays_as_people_see_them() {
        let overlay = Overlay {
            name: "hosts".parse().unwrap(),
            source: "site over shipped".to_owned(),
            summary: "`/etc/hosts` with every address\nof every node.".to_owned(),
            files: vec![
                OverlayFile { path: "/etc/hosts".to_owned(), mode: 0o644, template: true },
                OverlayFile { path: "/usr/bin/x".to_owned(), mode: 0o755, template: false },
            ],
            problems: Vec::new(),
        };
        let damaged = Overlay {
            problems: vec![
                "/s/hosts/rootfs/x cannot be part of an overlay".to_owned(),
                "more".to_owned(),
            ],
            ..overlay.clone()
        };
        expect![[r#"
            OVERLAY  FROM               FILES  WHAT FOR
            hosts    site over shipped  2      PROBLEM: /s/hosts/rootfs/x cannot be part of an overlay; and 1 more
        "#]].assert_eq(&list(Style::PLAIN, std::slice::from_ref(&damaged)));
        expect![[r#"
            hosts (site over shipped)
            `/etc/hosts` with every address
            of every node.

            problem: /s/hosts/rootfs/x cannot be part of an overlay
            problem: more
            Nodes that use it stay as they are until that is mended.

            FILE        MODE
            /etc/hosts  0644  template
            /usr/bin/x  0755
        "#]]
        .assert_eq(&show(Style::PLAIN, &damaged));
        expect![[r#"
            OVERLAY  FROM               FILES  WHAT FOR
            hosts    site over shipped  2      `/etc/hosts` with every address of every node.
        "#]]
        .assert_eq(&list(Style::PLAIN, std::slice::from_ref(&overlay)));
        expect![[r#"
            hosts (site over shipped)
            `/etc/hosts` with every address
            of every node.

            FILE        MODE
            /etc/hosts  0644  template
            /usr/bin/x  0755
        "#]]
        .assert_eq(&show(Style::PLAIN, &overlay));
    }

    #[test]
    fn rendered_files() {
        let file = |path: &str, content: &str| RenderedFile {
            path: path.to_owned(),
            mode: 0o600,
            content: content.to_owned(),
        };
        let files = [file("/a", "one\n"), file("/b", "two")];
        expect![[r#"
            # /a 0600
            one

            # /b 0600
            two
        "#]]
        .assert_eq(&rendered(&files, false));
        assert_eq!(rendered(&files[1..], true), "two");
        assert_eq!(rendered(&[], false), "no files for this node\n");
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("0644"), Ok(0o644));
        assert_eq!(octal("755"), Ok(0o755));
        assert!(octal("9").is_err());
        assert!(octal("100000").is_err());
    }
}
