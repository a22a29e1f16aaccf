//! Deleting overlays of the site: each in one step, and only where nobody uses it.
//!
//! ```text
//! SITE/NAME                        the overlay
//!      .NAME.bedplate-deleted      it has been deleted, and goes away file by file
//! ```
//! A name with a dot in front is no overlay, so that half of one is never read. What a crash leaves
//! of it goes at the next start.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use api::{hostlist, ids::OverlayName, machine::MachineSpec};

use super::site::SiteError;
use crate::cluster::Cluster;

/// Ends of the names of what is made or deleted here: see [`super::site::put`] for the first.
const LEFT_OVER: [&str; 2] = [".bedplate-new", DELETED];

/// End of the name of what is deleted.
const DELETED: &str = ".bedplate-deleted";

/// Longest list of users in a refusal, bytes; of a longer one only the first names are told.
const MAX_LIST_BYTES: usize = 200;

/// Names that are told of a list that is too long.
const MAX_NAMED: usize = 10;

/// Deletes the site's overlay of a name, also one that cannot be read. The caller sees to it that
/// no other change happens meanwhile.
///
/// # Errors
/// See [`SiteError`]; nothing was changed.
pub(crate) fn delete(
    cluster: &Cluster,
    shipped: &Path,
    site: &Path,
    overlay: &OverlayName,
) -> Result<(), SiteError> {
    let directory = site.join(overlay.as_str());
    let is_shipped = shipped.join(overlay.as_str()).is_dir();
    match fs::symlink_metadata(&directory) {
        // A link may lead nowhere: it is the site's overlay all the same.
        Ok(facts) if facts.is_dir() || facts.is_symlink() => {}
        Err(source) if source.kind() != ErrorKind::NotFound => {
            return Err(failed("look at", &directory, source));
        }
        _ if is_shipped => return Err(SiteError::Shipped { overlay: overlay.clone() }),
        _ => return Err(SiteError::NoOverlay { overlay: overlay.clone() }),
    }
    if !is_shipped {
        Users::of(cluster, overlay).refuse(overlay)?;
    }
    let away = site.join(format!(".{overlay}{DELETED}"));
    remove_all(&away).map_err(|source| failed("remove", &away, source))?;
    fs::rename(&directory, &away).map_err(|source| failed("delete", &directory, source))?;
    if let Err(source) = fs::File::open(site).and_then(|site| site.sync_all()) {
        // After a crash it might be there again, so it is now.
        let _ = fs::rename(&away, &directory);
        return Err(failed("keep the deletion of", &directory, source));
    }
    if let Err(error) = remove_all(&away) {
        tracing::warn!("{} is left of a deleted overlay: {error}", away.display());
    }
    Ok(())
}

/// Removes what a crash left of overlays that were made or deleted.
pub(crate) fn sweep(site: &Path) {
    // A directory that is not there has nothing; one that cannot be read is told of by the library.
    for entry in fs::read_dir(site).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_prefix('.')) else { continue };
        let overlay = LEFT_OVER.iter().find_map(|end| name.strip_suffix(end));
        if overlay.is_none_or(|overlay| overlay.parse::<OverlayName>().is_err()) {
            continue;
        }
        if let Err(error) = remove_all(&entry.path()) {
            tracing::warn!("{} is left of an overlay: {error}", entry.path().display());
        }
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> SiteError {
    SiteError::Io { operation, path: path.to_owned(), source }
}

/// Who uses an overlay.
#[derive(Debug, Default, PartialEq, Eq)]
struct Users {
    /// Profiles that name it.
    profiles: Vec<String>,
    /// Nodes that name it, or get it by a profile or because all nodes do.
    nodes: Vec<String>,
    /// Profiles that cannot be read, which may use it.
    unread_profiles: Vec<String>,
    /// Nodes whose values cannot be told, which may use it.
    unread_nodes: Vec<String>,
}

impl Users {
    fn of(cluster: &Cluster, overlay: &OverlayName) -> Self {
        let uses = |spec: &MachineSpec| {
            spec.boot_overlays
                .iter()
                .chain(&spec.runtime_overlays)
                .any(|name| name == overlay.as_str())
        };
        let mut users = Self::default();
        for (name, record) in &cluster.profiles {
            if record.unreadable.is_some() {
                users.unread_profiles.push(name.to_string());
            } else if uses(&record.spec) {
                users.profiles.push(name.to_string());
            }
        }
        for (name, record) in &cluster.nodes {
            let resolved = cluster.checked.resolved.get(name);
            // What it names itself counts also where it is taken away again: that may change.
            if uses(&record.spec) || resolved.is_some_and(|spec| uses(spec)) {
                users.nodes.push(name.to_string());
            } else if resolved.is_none() {
                users.unread_nodes.push(name.to_string());
            }
        }
        users
    }

    fn refuse(&self, overlay: &OverlayName) -> Result<(), SiteError> {
        let overlay = overlay.clone();
        let users = describe_users(&self.profiles, &self.nodes);
        if !users.is_empty() {
            return Err(SiteError::InUse { overlay, users });
        }
        let users = describe_users(&self.unread_profiles, &self.unread_nodes);
        if !users.is_empty() {
            return Err(SiteError::UseUnknown { overlay, users });
        }
        Ok(())
    }
}

/// `profile compute and nodes n[1-8]`; empty if there is none.
fn describe_users(profiles: &[String], nodes: &[String]) -> String {
    let of = |kind: &str, names: &[String]| match names.len() {
        0 => None,
        1 => Some(format!("{kind} {}", names[0])),
        _ => Some(format!("{kind}s {}", list(names))),
    };
    let parts: Vec<String> = of("profile", profiles).into_iter().chain(of("node", nodes)).collect();
    parts.join(" and ")
}

fn list(names: &[String]) -> String {
    let compressed = |names: &[String]| hostlist::compress(names.iter().map(String::as_str));
    let all = compressed(names);
    if all.len() <= MAX_LIST_BYTES || names.len() <= MAX_NAMED {
        return all;
    }
    format!("{} and {} more", compressed(&names[..MAX_NAMED]), names.len() - MAX_NAMED)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use api::ids::NodeId;

    use super::*;
    use crate::{check::Known, overlay::library::Library};

    fn name(text: &str) -> OverlayName {
        text.parse().unwrap()
    }

    /// A cluster whose profiles and nodes are written as YAML.
    fn cluster(profiles: &[(&str, &str)], nodes: &[(String, &str)]) -> Cluster {
        let empty = Cluster::default();
        let mut draft = empty.draft();
        let spec = |yaml| serde_saphyr::from_str(yaml).unwrap();
        for (name, yaml) in profiles {
            draft.add_profile(&name.parse().unwrap(), spec(yaml)).unwrap();
        }
        for (number, (name, yaml)) in nodes.iter().enumerate() {
            let id = NodeId(uuid::Uuid::from_u128(number as u128));
            draft.add_node(&name.parse().unwrap(), id, spec(yaml)).unwrap();
        }
        let known = Known { overlays: ["motd", "other"].map(name).into(), ..Known::default() };
        empty.finish(draft, &known).unwrap().cluster
    }

    fn directories() -> (tempfile::TempDir, tempfile::TempDir) {
        let (shipped, site) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(shipped.path().join("hosts/rootfs/etc")).unwrap();
        for overlay in ["hosts", "motd"] {
            fs::create_dir_all(site.path().join(overlay).join("rootfs/etc")).unwrap();
            fs::write(site.path().join(overlay).join("rootfs/etc/file"), "x").unwrap();
        }
        (shipped, site)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_sites_goes_and_the_shipped_stays() {
        let (shipped, site) = directories();
        let cluster = Cluster::default();
        let delete =
            |overlay: &str| super::delete(&cluster, shipped.path(), site.path(), &name(overlay));
        delete("motd").unwrap();
        assert_eq!(names(site.path()), ["hosts"], "nothing is left of it");
        delete("hosts").unwrap();
        assert_eq!(names(site.path()), [""; 0]);
        assert!(shipped.path().join("hosts/rootfs/etc").is_dir());
        let message = ["motd", "hosts"].map(|overlay| delete(overlay).unwrap_err().to_string());
        assert!(message[0].contains("overlay motd does not exist"), "{message:?}");
        assert!(
            message[1].contains("came with Bedplate") && message[1].contains("~hosts"),
            "{message:?}"
        );
        fs::write(site.path().join("file"), "").unwrap();
        delete("file").unwrap_err();
        assert!(site.path().join("file").exists(), "a file is no overlay");
    }

    #[test]
    fn one_that_cannot_be_read_goes_too() {
        let (shipped, site) = directories();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        fs::File::create(site.path().join("motd/rootfs/large")).unwrap().set_len(17 << 20).unwrap();
        symlink(outside.path(), site.path().join("motd/rootfs/link")).unwrap();
        symlink("/nonexistent", site.path().join("nowhere")).unwrap();
        symlink(outside.path(), site.path().join("elsewhere")).unwrap();
        let library = Library::load(shipped.path(), site.path());
        assert!(library.broken("motd").is_some() && library.broken("nowhere").is_some());
        for overlay in ["motd", "nowhere", "elsewhere"] {
            delete(&Cluster::default(), shipped.path(), site.path(), &name(overlay)).unwrap();
        }
        assert_eq!(names(site.path()), ["hosts"]);
        assert_eq!(names(outside.path()), ["kept"], "nothing goes through a link");
    }

    #[test]
    fn who_uses_it_keeps_it_and_is_named() {
        let (shipped, site) = directories();
        let refused = |profiles: &[(&str, &str)], nodes: &[(String, &str)]| {
            let cluster = cluster(profiles, nodes);
            let deleted = delete(&cluster, shipped.path(), site.path(), &name("motd"));
            assert!(site.path().join("motd/rootfs/etc/file").exists());
            deleted.unwrap_err().to_string()
        };
        let node = |number: u32, yaml| (format!("n{number}"), yaml);
        let boot = "{boot-overlays: [motd]}";
        let message = refused(&[], &[node(1, "{}"), node(2, "{runtime-overlays: [other, motd]}")]);
        assert!(message.contains("is used by node n2; take it"), "{message}");
        let message = refused(&[("idle", boot)], &[]);
        assert!(message.contains("is used by profile idle; take it"), "{message}");
        let by_profile: Vec<(String, &str)> =
            (1..=8).map(|n| node(n, "{profiles: [base]}")).collect();
        let message = refused(&[("base", boot), ("more", boot)], &by_profile);
        assert!(
            message.contains("is used by profiles base,more and nodes n[1-8]; take it"),
            "{message}"
        );
        // Names without numbers, which do not make one short list.
        let letters = |n: u32| -> String {
            n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
        };
        let odd: Vec<(String, &str)> =
            (0..500).map(|n| (format!("{}{}", "z".repeat(40), letters(n)), boot)).collect();
        let message = refused(&[], &odd);
        assert!(message.len() < 1000 && message.contains(" and 490 more;"), "{message}");
        // What only takes it away does not use it.
        let cluster =
            cluster(&[("no", "{boot-overlays: [~motd]}")], &[node(1, "{profiles: [no]}")]);
        delete(&cluster, shipped.path(), site.path(), &name("motd")).unwrap();
    }

    #[test]
    fn an_edit_of_a_shipped_one_goes_though_it_is_used() {
        let (shipped, site) = directories();
        // All nodes have `hosts`.
        let cluster = cluster(&[], &[("n1".to_owned(), "{}")]);
        delete(&cluster, shipped.path(), site.path(), &name("hosts")).unwrap();
        assert_eq!(names(site.path()), ["motd"]);
    }

    #[test]
    fn what_cannot_be_told_may_use_it() {
        let (shipped, site) = directories();
        let mut cluster = cluster(&[("base", "{}")], &[("n1".to_owned(), "{}")]);
        cluster.checked.resolved = Default::default();
        let deleted = delete(&cluster, shipped.path(), site.path(), &name("motd"));
        let message = deleted.unwrap_err().to_string();
        assert!(message.contains("n1") && message.contains("cannot be told"), "{message}");
        assert_eq!(names(site.path()), ["hosts", "motd"]);
    }

    #[test]
    fn what_a_crash_left_is_no_overlay_and_goes_at_the_next_start() {
        let (shipped, site) = directories();
        fs::rename(site.path().join("motd"), site.path().join(".motd.bedplate-deleted")).unwrap();
        fs::create_dir_all(site.path().join(".hosts.bedplate-new/rootfs")).unwrap();
        let kept = [".git", ".bedplate-deleted", ".Not.bedplate-deleted"];
        kept.iter().for_each(|kept| fs::create_dir(site.path().join(kept)).unwrap());
        let library = Library::load(shipped.path(), site.path());
        assert_eq!(library.overlays.keys().map(OverlayName::as_str).collect::<Vec<_>>(), ["hosts"]);
        sweep(site.path());
        assert_eq!(
            names(site.path()),
            [".Not.bedplate-deleted", ".bedplate-deleted", ".git", "hosts"]
        );
        sweep(&site.path().join("none"));
        // And what it could not remove is in the way of nobody.
        fs::create_dir_all(site.path().join(".hosts.bedplate-deleted/rootfs")).unwrap();
        delete(&Cluster::default(), shipped.path(), site.path(), &name("hosts")).unwrap();
        assert!(!site.path().join(".hosts.bedplate-deleted").exists());
    }
}
