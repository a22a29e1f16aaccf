//! `token rotate`: a new token in the place of that of the context. At no moment is there none that
//! works: the new one is in the file, on disk, before the old one is revoked.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, bail};
use api::{
    access::{CreateToken, TokenLife, Whoami},
    rights::Action,
};
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

/// What replacing a token takes.
const NEEDED: [Action; 3] = [Action::TokenList, Action::TokenCreate, Action::TokenRevoke];

/// The token's scope is too narrow for it to be replaced by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "token {token:?} is not for {}, and is replaced by itself only if `token-list`, `token-create` and `token-revoke` \
     are in its scope; nothing has changed: make another one with a token that may, `bedplate token create`",
    missing.join(", ")
)]
struct TooNarrow {
    token: String,
    /// Words of actions, in backquotes.
    missing: Vec<String>,
}

/// User and group that own something.
type Owner = (Uid, Gid);

pub(super) async fn run(session: &Session, expires: Option<TokenLife>) -> anyhow::Result<()> {
    let mut path = session.path();
    if geteuid().is_root() {
        path = act_as_owner(&path).with_context(|| {
            format!("cannot act as the owner of the directory of context {}", path.display())
        })?;
    }
    // The one in use may be a link to its file.
    let path = fs::canonicalize(&path)
        .with_context(|| format!("cannot read context {}", path.display()))?;
    let context = context::read(&path)?;
    let client = Client::new(&context)?;
    let asks = client.whoami().await?;
    let Some(old) = asks.token.clone() else {
        bail!(
            "the server is too old to tell which token the context holds; make one with `token create`"
        );
    };
    may_replace(&old, &asks)?;
    let taken = client.tokens().await?.into_iter().map(|token| token.name).collect();
    let name = free_name(&old, &taken);
    let wanted = CreateToken { name: name.clone(), expires, ..CreateToken::default() };
    let created = client.create_token(&wanted).await?;
    let renewed = Context { token: created.token.clone(), ..context };
    if let Err(error) = write(&path, &renewed) {
        // Nobody has it; the old one is good still.
        let _ = client.delete_token(&name).await;
        return Err(error)
            .with_context(|| format!("cannot write {}; nothing has changed", path.display()));
    }
    // Or a cut of the power leaves the file of before, with a token that is good no more.
    sync_directory(&path).with_context(|| {
        format!(
            "{} holds the new token and may not be on disk; token {old:?} is still good",
            path.display()
        )
    })?;
    Client::new(&renewed)?.delete_token(&old).await.with_context(|| {
        format!("{} holds the new token, and token {old:?} is still good", path.display())
    })?;
    let ends = created
        .expires
        .map_or_else(|| "never expires".to_owned(), |ends| format!("expires on {ends}"));
    session.out.show(&Done::new("replaced", [&old]), |_| {
        format!("replaced {old} by {name} in {}; it {ends}\n", path.display())
    })
}

/// Is all that is needed permitted? Or the new one would be made, and the old one stay.
fn may_replace(token: &str, asks: &Whoami) -> Result<(), TooNarrow> {
    let is_permitted =
        |action: &Action| asks.actions.iter().any(|permitted| permitted.action == *action);
    let missing = NEEDED.iter().filter(|action| !is_permitted(action));
    let missing: Vec<String> = missing.map(|action| format!("`{}`", action.as_str())).collect();
    // A server that tells no actions decides by itself.
    if missing.is_empty() || asks.actions.is_empty() {
        Ok(())
    } else {
        Err(TooNarrow { token: token.to_owned(), missing })
    }
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

/// Root goes on as the first user but root who may aim the path, if there is one: a link of
/// that user leads to what that user may write, and to nothing else. Returns from where
/// that user goes on.
fn act_as_owner(path: &Path) -> io::Result<PathBuf> {
    let (path, other) = who_aims(path, other_owner)?;
    if let Some((owner, group)) = other {
        setgroups(&[group]).and_then(|()| setegid(group)).and_then(|()| seteuid(owner))?;
    }
    Ok(path)
}

/// The owner of a directory or link, unless it is root.
fn other_owner(path: &Path) -> io::Result<Option<Owner>> {
    let facts = fs::symlink_metadata(path)?;
    let owner = (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid()));
    Ok((!owner.0.is_root()).then_some(owner))
}

/// The first user who may aim a path: the owner of a directory or link on the way to it, of which
/// `owner_of` tells those that count. With it, where that user goes on: the links before are
/// followed. Whose the file itself is says nothing of that.
fn who_aims(
    path: &Path,
    owner_of: impl Fn(&Path) -> io::Result<Option<Owner>>,
) -> io::Result<(PathBuf, Option<Owner>)> {
    let (mut at, mut rest, mut links) = (PathBuf::from("/"), std::path::absolute(path)?, 0);
    loop {
        let mut steps = rest.components();
        let Some(step) = steps.next() else { return Ok((at, None)) };
        let behind = steps.as_path().to_owned();
        let Component::Normal(name) = step else {
            match step {
                Component::RootDir => at = PathBuf::from("/"),
                Component::ParentDir => _ = at.pop(),
                _ => {}
            }
            rest = behind;
            continue;
        };
        let next = at.join(name);
        let is_link = fs::symlink_metadata(&next)?.is_symlink();
        let owner = match owner_of(&at)? {
            None if is_link => owner_of(&next)?,
            owner => owner,
        };
        if owner.is_some() {
            let mut goes_on = next;
            goes_on.extend(behind.components());
            return Ok((goes_on, owner));
        }
        if !is_link {
            (at, rest) = (next, behind);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::ELOOP.into());
        }
        rest = fs::read_link(&next)?.join(behind);
    }
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
    use api::rights::{Extent, Permitted};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_next_name_is_free() {
        let taken: BTreeSet<String> = ["ci", "ci-2", "ci-4"].map(str::to_owned).into();
        for (old, name) in
            [("ci", "ci-3"), ("ci-2", "ci-3"), ("first-start", "first-start-2"), ("7", "7-2")]
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
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&path)
            .unwrap();
        drop(file);
        write(&path, &context("bp_new")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(Context::read(&path).unwrap(), context("bp_new"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no draft stays");
        sync_directory(&path).unwrap();
    }

    #[test]
    fn a_token_that_cannot_be_replaced_by_itself_is_told_why() {
        let asks = |actions: &[Action]| Whoami {
            name: "ann".to_owned(),
            admin: false,
            roles: Vec::new(),
            groups: Vec::new(),
            actions: actions
                .iter()
                .map(|action| Permitted { action: *action, on: Extent::Own })
                .collect(),
            token: Some("ci".to_owned()),
            expires: None,
        };
        assert_eq!(may_replace("ci", &asks(&NEEDED)), Ok(()));
        assert_eq!(may_replace("ci", &asks(&[])), Ok(()), "a server of before");
        let narrow = may_replace("ci", &asks(&[Action::WhoAmI, Action::TokenCreate]))
            .unwrap_err()
            .to_string();
        assert!(
            narrow.starts_with("token \"ci\" is not for `token-list`, `token-revoke`, and"),
            "{narrow}"
        );
    }

    #[test]
    fn who_else_may_aim_the_path_is_found() {
        let temporary = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(temporary.path()).unwrap();
        let (directory, links) = (place.join("a/b"), place.join("links"));
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir(&links).unwrap();
        let (file, link) = (directory.join("admin.yaml"), links.join("link"));
        fs::write(&file, "").unwrap();
        symlink("../a/b/admin.yaml", &link).unwrap();
        symlink("links", place.join("folder")).unwrap();
        let by_linked_directory = place.join("folder/link");
        let ann = (Uid::from_raw(7), Gid::from_raw(8));
        // If ann had these, and root all else.
        let aims = |path: &Path, anns: &[&Path]| {
            let owner_of = |path: &Path| Ok(anns.contains(&path).then_some(ann));
            who_aims(path, owner_of).map(|(path, owner)| owner.map(|_| path))
        };
        assert_eq!(who_aims(&by_linked_directory, |_| Ok(None)).unwrap(), (file.clone(), None));
        assert_eq!(aims(&link, &[file.as_path()]).unwrap(), None, "a copy that has kept its owner");
        let (above, linked_directory) = (place.join("a"), place.join("folder"));
        let cases: [(&Path, &Path, &Path); 8] = [
            (&file, &directory, &file),
            (&file, &above, &file),
            (&link, &link, &link),
            (&link, &links, &link),
            (&link, &above, &file),
            (&by_linked_directory, &linked_directory, &by_linked_directory),
            (&by_linked_directory, &links, &link),
            (&by_linked_directory, &place, &by_linked_directory),
        ];
        for (path, of_ann, goes_on) in cases {
            let found = aims(path, &[of_ann]).unwrap();
            let found = found.as_ref().map(|found| found.as_os_str());
            assert_eq!(found, Some(goes_on.as_os_str()), "{path:?} {of_ann:?}");
        }

        fs::remove_file(&file).unwrap();
        symlink(&link, &file).unwrap();
        assert_eq!(
            aims(&link, &[]).unwrap_err().raw_os_error(),
            Some(Errno::ELOOP as i32),
            "a circle"
        );
    }
}
