//! Which directory is a user's `HOME`: the image's where they may write there, else one where they
//! may. Nearly every program keeps something in it, and images are made for users of their own.
//!
//! | | taken if |
//! |---|---|
//! | 1 | the document sets `HOME`: whatever it says |
//! | 2 | `HOME` of the image, the home directory of its `/etc/passwd`: the user may write there |
//! | 3 | the working directory: it lies in a volume, which outlasts the run, and the user may write there |
//! | 4 | `/home/NAME`: the user may write there, or it can be made in the run's own layer |
//! | 5 | `/tmp` |
//!
//! It is chosen by the agent when it describes the container, so that the line in `/etc/passwd`,
//! the program and whoever enters later have the same one.

use std::path::{Component, Path};

use api::run::JobSpec;
use linux::root::{Entry, Identity, Root};

use super::{files::short_file, identity_files, spec::Bind};

/// Where homes are made.
const HOMES: &str = "/home";

/// Where everybody may write.
const LAST: &str = "/tmp";

/// The user of a container, as the container's files name it.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    /// Name of the user in `/etc/passwd`.
    pub name: &'a str,
    /// UID, not 0.
    pub uid: u32,
    /// GID of the primary group, not 0.
    pub gid: u32,
    /// GIDs of the supplementary groups.
    pub groups: &'a [u32],
}

/// A home directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeDirectory {
    /// In the container.
    pub path: String,
    /// Nothing has it: it is made in the run's own layer.
    pub is_made: bool,
}

/// Chooses it. `image` is the mounted root, `env` the whole environment.
#[must_use]
pub fn choose(
    image: &Path,
    binds: &[Bind],
    user: &User<'_>,
    env: &[String],
    job: &JobSpec,
) -> HomeDirectory {
    let set = env
        .iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("HOME="))
        .filter(|home| !home.is_empty());
    if let Some(path) = set.filter(|_| job.sets_home) {
        return HomeDirectory { path: path.to_owned(), is_made: false };
    }
    let found = |path: &str| HomeDirectory { path: path.to_owned(), is_made: false };
    let Ok(root) = Root::open(image) else { return found(LAST) };
    let (uid, gid, groups) = (user.uid, user.gid, user.groups);
    let seen = UserView { image: &root, binds, who: Identity { uid, gid, groups } };
    let own = Path::new(HOMES).join(last_part(user)).display().to_string();
    let listed =
        short_file(&root, "/etc/passwd").and_then(|text| identity_files::home_of(&text, uid));
    let of_image = [set, listed.as_deref()].into_iter().flatten();
    let in_volume =
        [job.cwd.as_str()].into_iter().filter(|cwd| seen.volume_of(Path::new(cwd)).is_some());
    let directories: Vec<&str> = of_image.chain(in_volume).chain([own.as_str()]).collect();
    let is_home = |path: &&str| is_good(path) && seen.may_write(Path::new(path));
    if let Some(path) = directories.into_iter().find(is_home) {
        return found(path);
    }
    if seen.can_make(Path::new(&own)) {
        HomeDirectory { path: own, is_made: true }
    } else {
        found(LAST)
    }
}

/// The user's name where it can name a directory.
fn last_part(user: &User<'_>) -> String {
    let mut parts = Path::new(user.name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == user.name => user.name.to_owned(),
        _ => user.uid.to_string(),
    }
}

/// It can stand in `/etc/passwd` and in a path.
fn is_good(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains(|c: char| c == ':' || c.is_control())
        && Path::new(path).components().all(|part| part != Component::ParentDir)
}

/// What the user will see: the image, with volumes over it.
struct UserView<'a> {
    image: &'a Root,
    binds: &'a [Bind],
    who: Identity<'a>,
}

impl UserView<'_> {
    /// The volume that a path lies in, and the rest of the path. Of several the last
    /// that is mounted.
    fn volume_of<'p>(&self, path: &'p Path) -> Option<(&Bind, &'p Path)> {
        let inside = |bind: &'_ Bind| path.strip_prefix(&bind.target).ok();
        self.binds.iter().rev().find_map(|bind| Some((bind, inside(bind)?)))
    }

    fn may_write(&self, path: &Path) -> bool {
        match self.volume_of(path) {
            None => self.image.may_write(path, self.who),
            Some((bind, _)) if bind.read_only => false,
            Some((bind, rest)) => {
                Root::open(&bind.source).is_ok_and(|root| root.may_write(rest, self.who))
            }
        }
    }

    /// Nothing is there, neither in the image nor of a volume, and the user can come there.
    fn can_make(&self, path: &Path) -> bool {
        let homes = Path::new(HOMES);
        let above = match self.image.look(homes) {
            Ok(None) => true,
            Ok(Some(Entry::Directory(_))) => self.image.may_search(homes, self.who),
            _ => false,
        };
        above && self.volume_of(path).is_none() && matches!(self.image.look(path), Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::PathBuf,
    };

    use super::*;
    use crate::samples;

    /// An image of whoever runs the test, and a volume beside it.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new(directories: &[(&str, u32)]) -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            for (path, mode) in [("image", 0o755), ("volume", 0o700)].iter().chain(directories) {
                fs::create_dir_all(place.path(path)).unwrap();
                fs::set_permissions(place.path(path), fs::Permissions::from_mode(*mode)).unwrap();
            }
            place
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        /// Of a stranger to the image, unless it is told who made it.
        fn chosen(
            &self,
            is_owner: bool,
            env: &[&str],
            job: &JobSpec,
            volume: Option<&str>,
        ) -> String {
            let (uid, gid) = linux::root::own_ids();
            let (uid, gid) = if is_owner { (uid, gid) } else { (uid + 1, gid + 1) };
            let user = User { name: "ada", uid, gid, groups: &[] };
            let (source, env) = (self.path("volume"), env.iter().map(|&pair| pair.to_owned()));
            let binds: Vec<Bind> = volume
                .map(|target| Bind { source, target: target.to_owned(), read_only: false })
                .into_iter()
                .collect();
            let home = choose(&self.path("image"), &binds, &user, &env.collect::<Vec<_>>(), job);
            home.path + if home.is_made { " (made)" } else { "" }
        }
    }

    #[test]
    fn the_image_s_home_stays_where_the_user_may_write_there() {
        let place =
            Place::new(&[("image/root", 0o700), ("image/shared", 0o777), ("image/home", 0o755)]);
        let job = samples::job();
        let stranger = |env: &[&str]| place.chosen(false, env, &job, None);
        assert_eq!(stranger(&["HOME=/shared"]), "/shared");
        assert_eq!(stranger(&["HOME=/root"]), "/home/ada (made)");
        assert_eq!(place.chosen(true, &["HOME=/root"], &job, None), "/root");
        for none in
            ["HOME=", "HOME=shared", "HOME=/shared/..", "HOME=/shared:x", "HOME=/none", "A=/shared"]
        {
            assert_eq!(stranger(&[none]), "/home/ada (made)", "{none}");
        }
        let set = JobSpec { sets_home: true, ..job.clone() };
        assert_eq!(place.chosen(false, &["HOME=/root"], &set, None), "/root");
        // By the image's own list of users.
        fs::create_dir(place.path("image/etc")).unwrap();
        let uid = linux::root::own_ids().0 + 1;
        fs::write(place.path("image/etc/passwd"), format!("x:x:{uid}:1::/shared:/bin/sh\n"))
            .unwrap();
        assert_eq!(stranger(&["HOME=/root"]), "/shared");
    }

    #[test]
    fn a_volume_is_seen_before_the_image() {
        let place =
            Place::new(&[("image/root", 0o700), ("image/home", 0o755), ("volume/work", 0o755)]);
        let at = |cwd: &str| JobSpec { cwd: cwd.to_owned(), ..samples::job() };
        let owner =
            |home: &str, cwd: &str, volume| place.chosen(true, &[home], &at(cwd), Some(volume));
        assert_eq!(owner("HOME=/home/jo", "/", "/home//jo/"), "/home/jo");
        assert_eq!(owner("HOME=/data/work", "/", "/data"), "/data/work");
        assert_eq!(owner("HOME=/none", "/data", "/data"), "/data");
        assert_eq!(owner("HOME=/none", "/data/none", "/data"), "/home/ada (made)");
        assert_eq!(owner("HOME=/none", "/", "/home/ada"), "/home/ada");
        assert_eq!(owner("HOME=/none", "/", "/home"), "/tmp");
        // The image's own working directory is no home.
        assert_eq!(owner("HOME=/none", "/root", "/data"), "/home/ada (made)");
    }

    #[test]
    fn nothing_is_made_where_an_image_has_something_strange() {
        let place = Place::new(&[]);
        let job = samples::job();
        assert_eq!(place.chosen(false, &[], &job, None), "/home/ada (made)");
        symlink("/etc", place.path("image/home")).unwrap();
        assert_eq!(place.chosen(false, &[], &job, None), "/tmp");
        let place = Place::new(&[("image/home", 0o755), ("image/home/ada", 0o700)]);
        assert_eq!(place.chosen(true, &[], &job, None), "/home/ada");
        assert_eq!(place.chosen(false, &[], &job, None), "/tmp");
        let place = Place::new(&[("image/home", 0o700)]);
        assert_eq!(place.chosen(false, &[], &job, None), "/tmp");
        let user = |name| last_part(&User { name, uid: 7, gid: 7, groups: &[] });
        assert_eq!(["ada", "../x", "a/b", "..", ""].map(user), ["ada", "7", "7", "7", "7"]);
    }
}
