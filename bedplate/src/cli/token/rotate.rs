//! `token rotate`: a new token in the place of that of the context. At no moment is there none that works: the new one
//! is in the file, on disk, before the old one is revoked.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use api::access::{CreateToken, TokenLife};
use client::{Client, Context};
use nix::{
    errno::Errno,
    unistd::{Gid, Uid, geteuid, setegid, seteuid, setgroups},
};

use crate::cli::{
    context::{self, Session},
    output::Done,
};

/// Longest name of a token, bytes (RFC 1123).
const MAX_NAME_BYTES: usize = 63;

/// Links that are followed one after the other, as Linux does (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;

pub(super) async fn run(session: &Session, expires: Option<TokenLife>) -> anyhow::Result<()> {
    let mut path = session.path();
    if geteuid().is_root() {
        path = act_as_owner(&path).with_context(|| {
            format!("cannot act as the owner of context {} and of its directory", path.display())
        })?;
    }
    // The one in use may be a link to its file.
    let path = fs::canonicalize(&path).with_context(|| format!("cannot read context {}", path.display()))?;
    let context = context::read(&path)?;
    let client = Client::new(&context)?;
    let Some(old) = client.whoami().await?.token else {
        bail!("the server is too old to tell which token the context holds; make one with `token create`");
    };
    let taken = client.tokens().await?.into_iter().map(|token| token.name).collect();
    let name = free_name(&old, &taken);
    let wanted = CreateToken { name: name.clone(), expires, ..CreateToken::default() };
    let created = client.create_token(&wanted).await?;
    let renewed = Context { token: created.token.clone(), ..context };
    if let Err(error) = write(&path, &renewed) {
        // Nobody has it; the old one is good still.
        let _ = client.delete_token(&name).await;
        return Err(error).with_context(|| format!("cannot write {}; nothing has changed", path.display()));
    }
    // Or a cut of the power leaves the file of before, with a token that is good no more.
    sync_directory(&path).with_context(|| {
        format!("{} holds the new token and may not be on disk; token {old:?} is still good", path.display())
    })?;
    Client::new(&renewed)?.delete_token(&old).await.with_context(|| {
        format!("{} holds the new token, and token {old:?} is still good", path.display())
    })?;
    let ends =
        created.expires.map_or_else(|| "never expires".to_owned(), |ends| format!("expires on {ends}"));
    session.out.show(&Done::new("replaced", [&old]), |_| {
        format!("replaced {old} by {name} in {}; it {ends}\n", path.display())
    })
}

/// The name of a token with a number behind it that no token has: `ci-2`.
fn free_name(old: &str, taken: &BTreeSet<String>) -> String {
    let base = match old.rsplit_once('-') {
        Some((base, number)) if !base.is_empty() && number.parse::<u32>().is_ok() => base,
        _ => old,
    };
    let mut number = 2_u32;
    loop {
        let end = format!("-{number}");
        // Names are ASCII; a hyphen before the number would be one too many.
        let cut = base.get(..MAX_NAME_BYTES - end.len()).unwrap_or(base).trim_end_matches('-');
        let name = format!("{cut}{end}");
        if name != old && !taken.contains(&name) {
            return name;
        }
        number += 1;
    }
}

/// Root goes on as the other user who may change the file, a directory or a link on the way to it, if there is one: a
/// link of that user leads to what that user may write, and to nothing else. Returns from where that user goes on.
fn act_as_owner(path: &Path) -> io::Result<PathBuf> {
    let (path, other) = other_owner(path, geteuid())?;
    if let Some((owner, group)) = other {
        setgroups(&[group]).and_then(|()| setegid(group)).and_then(|()| seteuid(owner))?;
    }
    Ok(path)
}

/// Who owns the file, a link on the way to it, or a directory that one of them is in, and is not `me`: the first, and
/// what was reached there without the links before it.
fn other_owner(path: &Path, me: Uid) -> io::Result<(PathBuf, Option<(Uid, Gid)>)> {
    let mut path: PathBuf = path.to_owned();
    for _ in 0..MAX_LINKS {
        let directory = fs::canonicalize(directory_of(&path))?;
        path = directory.join(path.file_name().unwrap_or_default());
        let (file, of_directory) = (fs::symlink_metadata(&path)?, fs::metadata(&directory)?);
        let other = [&file, &of_directory].into_iter().find(|facts| facts.uid() != me.as_raw());
        if let Some(other) = other {
            return Ok((path, Some((Uid::from_raw(other.uid()), Gid::from_raw(other.gid())))));
        }
        if !file.is_symlink() {
            return Ok((path, None));
        }
        path = directory.join(fs::read_link(&path)?);
    }
    Err(Errno::ELOOP.into())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(directory_of(path))?.sync_all()
}

/// Replaces the file in one step; owner, group and mode stay.
fn write(path: &Path, context: &Context) -> io::Result<()> {
    let old = fs::metadata(path)?;
    let draft = path.with_extension("new");
    let text = serde_json::to_vec_pretty(context)?;
    let _ = fs::remove_file(&draft);
    let mode = old.mode() & 0o777;
    let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(&draft)?;
    let written = fchown(&file, Some(old.uid()), Some(old.gid()))
        .and_then(|()| file.write_all(&text))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_name_is_free() {
        let taken: BTreeSet<String> = ["ci", "ci-2", "ci-4"].map(str::to_owned).into();
        for (old, name) in [("ci", "ci-3"), ("ci-2", "ci-3"), ("first-start", "first-start-2"), ("7", "7-2")]
        {
            assert_eq!(free_name(old, &taken), name);
        }
        let long = "x".repeat(MAX_NAME_BYTES);
        assert_eq!(free_name(&long, &taken).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn the_file_keeps_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("admin.yaml");
        let context = |token: &str| Context {
            server: "https://h:1".parse().unwrap(),
            ca: None,
            token: token.to_owned(),
        };
        let file =
            fs::File::options().write(true).create(true).truncate(true).mode(0o640).open(&path).unwrap();
        drop(file);
        write(&path, &context("bp_new")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(Context::read(&path).unwrap(), context("bp_new"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no draft stays");
        sync_directory(&path).unwrap();
    }

    #[test]
    fn who_else_may_aim_the_path_is_found() {
        let place = tempfile::tempdir().unwrap();
        let (file, link) = (place.path().join("admin.yaml"), place.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("admin.yaml", &link).unwrap();
        let owner =
            |path: &Path, me: Uid| other_owner(path, me).map(|(_, other)| other.map(|(owner, _)| owner));
        let (me, other) = (geteuid(), Uid::from_raw(geteuid().as_raw() + 1));
        for path in [&file, &link] {
            assert_eq!(owner(path, me).unwrap(), None, "my own");
            assert_eq!(owner(path, other).unwrap(), Some(me));
        }
        let reached = fs::canonicalize(&file).unwrap();
        assert_eq!(other_owner(&link, me).unwrap(), (reached, None), "behind the link");
        // A link of mine to what is root's.
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/proc/version", &link).unwrap();
        let root = Uid::from_raw(0);
        assert_eq!(owner(&link, me).unwrap().is_some(), me != root);

        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("link", &file).unwrap();
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("admin.yaml", &link).unwrap();
        assert_eq!(owner(&link, me).unwrap_err().raw_os_error(), Some(Errno::ELOOP as i32), "a circle");
    }
}
