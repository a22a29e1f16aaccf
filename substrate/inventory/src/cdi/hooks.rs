//! Hooks of CDI specs: programs that a runtime shall run, as root, while it makes a container. None
//! is run. Those of `nvidia-ctk`, which every spec for NVIDIA GPUs has, are known by what they do,
//! and that is done by us.
//!
//! | hook of `nvidia-cdi-hook` or `nvidia-ctk hook` | here |
//! |---|---|
//! | `create-symlinks` | the links are made |
//! | `update-ldcache` | the directories go to the end of `LD_LIBRARY_PATH`; links by the names that libraries give themselves |
//! | `chmod` of a directory of `/dev` to 755 | directories there have that mode |
//! | `disable-device-node-modification` | jobs cannot make or change device nodes |
//! | `enable-cuda-compat`, `update-application-profile` | left out: newer CUDA than the driver's, choice of GPU by EGL |
//!
//! What needs any other hook cannot be granted.

use super::{MADE_AGAIN, is_below, is_plain, shape::RawHook};
use crate::edits::{Edits, Link};

/// What a hook asks for, done by us.
enum KnownHook<'a> {
    Links(Vec<&'a str>),
    LibraryDirectories(Vec<&'a str>),
    Nothing,
}

/// Adds what a hook asks for.
pub(super) fn add(hook: &RawHook, edits: &mut Edits) {
    let words: Vec<&str> = hook.args.iter().skip(1).map(String::as_str).collect();
    let told = || {
        let words: String = words.iter().take(2).map(|word| format!(" {word}")).collect();
        format!("the hook {}{words} ({}), which is not run here", hook.path, hook.hook_name)
    };
    let program = hook.path.rsplit('/').next().unwrap_or_default();
    let known = match (program, words.as_slice()) {
        _ if hook.hook_name != "createContainer" => None,
        ("nvidia-cdi-hook", [name, flags @ ..]) | ("nvidia-ctk", ["hook", name, flags @ ..]) => {
            known(name, flags)
        }
        _ => None,
    };
    match known {
        None => edits.refused.push(told()),
        Some(KnownHook::Nothing) => {}
        Some(KnownHook::LibraryDirectories(directories)) => {
            edits.library_directories.extend(directories.into_iter().map(str::to_owned))
        }
        Some(KnownHook::Links(links)) => {
            for link in links {
                match link.split_once("::").filter(|(target, path)| is_link(target, path)) {
                    Some((target, path)) => {
                        edits.links.push(Link { path: path.to_owned(), target: target.to_owned() });
                    }
                    None => edits.refused.push(format!("{}: the link {link:?}", told())),
                }
            }
        }
    }
}

fn known<'a>(name: &str, words: &[&'a str]) -> Option<KnownHook<'a>> {
    let flags = flags(words)?;
    let values = |known: &[&str]| -> Option<Vec<&'a str>> {
        flags.iter().all(|(flag, _)| known.contains(flag)).then(|| {
            flags.iter().filter(|(flag, _)| *flag == known[0]).map(|(_, value)| *value).collect()
        })
    };
    match name {
        "create-symlinks" => values(&["link"]).map(KnownHook::Links),
        "update-ldcache" => {
            let directories = values(&["folder", "ldconfig-path"])?;
            // `:` separates directories in LD_LIBRARY_PATH.
            directories
                .iter()
                .all(|directory| is_plain(directory) && !directory.contains(':'))
                .then_some(KnownHook::LibraryDirectories(directories))
        }
        "chmod" => {
            let (paths, modes) = (values(&["path", "mode"])?, values(&["mode", "path"])?);
            let holds = modes.iter().all(|mode| matches!(*mode, "755" | "0755"))
                && paths.iter().all(|path| is_plain(path) && is_below(path, "/dev"));
            holds.then_some(KnownHook::Nothing)
        }
        "disable-device-node-modification"
        | "enable-cuda-compat"
        | "update-application-profile" => Some(KnownHook::Nothing),
        _ => None,
    }
}

fn is_link(target: &str, path: &str) -> bool {
    let is_place = is_plain(path)
        && !path.ends_with('/')
        && !MADE_AGAIN.iter().any(|directory| is_below(path, directory));
    is_place && !target.is_empty() && !target.contains('\0')
}

/// `--flag value` and `--flag=value`; `None` for anything else.
fn flags<'a>(words: &[&'a str]) -> Option<Vec<(&'a str, &'a str)>> {
    let mut flags = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let flag = word.strip_prefix("--")?;
        flags.push(match flag.split_once('=') {
            Some(pair) => pair,
            None => (flag, *words.next()?),
        });
    }
    Some(flags)
}
