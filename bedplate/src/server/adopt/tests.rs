//! What becomes the user's, and what must not. Giving files away takes root, so the names begin
//! with `privileged_`.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use tempfile::TempDir;

use super::*;

/// Debian's `nobody`, user and group.
const NOBODY: u32 = 65_534;

struct Site {
    root_directory: TempDir,
    config: Checked,
}

impl Site {
    fn new() -> Self {
        let root_directory = tempfile::tempdir().unwrap();
        fs::set_permissions(root_directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(root_directory.path().join("state")).unwrap();
        let config = configured(root_directory.path(), &root_directory.path().join("state"));
        Self { root_directory, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root_directory.path().join(name)
    }

    /// Files of root's.
    fn write(&self, files: &[(&str, u32)]) {
        for (name, mode) in files {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, *name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
    }

    fn owner(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().uid()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    fn adopt(&self) -> Result<Adopted, AdoptError> {
        self.look(false)
    }

    fn look(&self, all: bool) -> Result<Adopted, AdoptError> {
        adopt(&self.config, &self.path("server.yaml"), &ServerUser::named("nobody").unwrap(), all)
    }
}

fn configured(root_directory: &Path, state: &Path) -> Checked {
    let (root_directory, state) = (root_directory.display(), state.display());
    let text = format!(
        "interfaces: [eth0]
state-dir: {state}
overlays: {{site: {root_directory}/site}}
api: {{certificate: {root_directory}/api.pem, key: {root_directory}/api.key}}
registries:
  hosts:
    a.example: {{credentials: {root_directory}/login.json}}
    b.example: {{credentials: {root_directory}/elsewhere/login.json}}
"
    );
    let interfaces: crate::config::Interfaces =
        [("eth0".to_owned(), vec!["10.1.0.1/24".parse().unwrap()])].into();
    Checked::parse(&text, &interfaces).unwrap()
}

fn given(count: u64) -> Adopted {
    Adopted { given: count, ..Adopted::default() }
}

#[test]
fn privileged_what_root_left_becomes_the_users_and_its_modes_stay() {
    let site = Site::new();
    let files = [
        ("state/bedplate.db", 0o600),
        ("state/bedplate.db-wal", 0o600),
        ("state/bedplate.db-shm", 0o600),
        ("state/ca/ca.key", 0o600),
        ("state/images/blobs/a", 0o444),
        ("site/motd/rootfs/etc/secret", 0o600),
        ("site/tools/rootfs/bin/su", 0o4755),
    ];
    site.write(&files);
    // Nine in each of the two, with the directories.
    assert_eq!(site.adopt().unwrap(), given(18));
    for (name, mode) in files {
        assert_eq!((site.owner(name), site.mode(name)), (NOBODY, mode), "{name}");
    }
    for name in ["state", "state/ca", "state/images/blobs", "site", "site/motd/rootfs/etc"] {
        assert_eq!(site.owner(name), NOBODY, "{name}");
    }
    assert_eq!(site.look(true).unwrap(), given(0));
    // Whoever edits an overlay as root leaves a file of root's.
    site.write(&[("site/motd/rootfs/etc/new", 0o600)]);
    assert_eq!(site.adopt().unwrap(), given(1));
}

#[test]
fn privileged_one_that_was_cut_off_is_done_to_its_end() {
    let site = Site::new();
    site.write(&[("state/images/a", 0o600), ("state/logs/1/2", 0o600)]);
    // Cut off: a part is given, and the top is root's still.
    chown(site.path("state/images"), Some(NOBODY), None).unwrap();
    site.adopt().unwrap();
    assert_eq!((site.owner("state/images/a"), site.owner("state/logs/1/2")), (NOBODY, NOBODY));
    // What is put back as root shows at the top, and then all is looked at.
    site.write(&[("state/images/b", 0o600), ("state/bedplate.db", 0o600)]);
    assert_eq!(site.adopt().unwrap(), given(2));
    assert_eq!((site.owner("state"), site.owner("state/images/b")), (NOBODY, NOBODY));
    // Deeper down it is not looked for at each start.
    site.write(&[("state/images/c", 0o600)]);
    assert_eq!(site.adopt().unwrap(), given(0));
    assert_eq!(site.look(true).unwrap(), given(1));
    // A file system's own directory is none of the server's.
    fs::create_dir(site.path("state/lost+found")).unwrap();
    assert_eq!(site.look(true).unwrap(), given(0));
    assert_eq!(site.owner("state/lost+found"), 0);
}

#[test]
fn privileged_no_link_is_followed_and_no_second_name_given_away() {
    let site = Site::new();
    site.write(&[("system/shadow", 0o600), ("system/group", 0o644), ("state/own", 0o600)]);
    symlink(site.path("system"), site.path("state/directory")).unwrap();
    symlink(site.path("system/group"), site.path("state/group")).unwrap();
    fs::hard_link(site.path("system/shadow"), site.path("state/second")).unwrap();
    let adopted = site.adopt().unwrap();
    for name in ["system", "system/shadow", "system/group"] {
        assert_eq!(site.owner(name), 0, "{name}");
    }
    assert_eq!(site.owner("state/own"), NOBODY);
    let [note] = &adopted.notes[..] else { panic!("{adopted:?}") };
    assert!(note.contains("state/second has 2 names"), "{note}");
}

#[test]
fn privileged_what_others_may_replace_is_not_given_away() {
    let site = Site::new();
    site.write(&[("state/bedplate.db", 0o600), ("site/motd/rootfs/etc/motd", 0o644)]);
    // Its user could put a link to /etc there while root is at work.
    chown(site.root_directory.path(), Some(NOBODY), None).unwrap();
    let refused = site.adopt().unwrap_err().to_string();
    assert!(
        refused.contains("chown -hR nobody: ") && refused.contains("others than root"),
        "{refused}"
    );
    assert_eq!((site.owner("state"), site.owner("state/bedplate.db")), (0, 0));
    chown(site.root_directory.path(), Some(0), None).unwrap();
    symlink(site.path("state"), site.path("link")).unwrap();
    let config = configured(site.root_directory.path(), &site.path("link"));
    let by_link = Site { config, ..site };
    let refused = by_link.adopt().unwrap_err();
    assert!(matches!(refused, AdoptError::Unsafe { .. }));
    // Of a link `chown -hR` would change the link alone.
    let real = by_link.path("state");
    let by_hand = format!("chown -hR nobody: {}", real.display());
    assert!(refused.to_string().ends_with(&by_hand), "{refused}");
    assert_eq!(by_link.owner("state/bedplate.db"), 0);
    chown(&real, Some(1), None).unwrap();
    let adopted = by_link.adopt().unwrap();
    assert!(adopted.notes[0].ends_with(&by_hand), "{adopted:?}");
}

#[test]
fn privileged_what_of_the_overlays_cannot_be_given_stops_no_server() {
    let site = Site::new();
    site.write(&[("state/bedplate.db", 0o600), ("site/motd/rootfs/etc/motd", 0o600)]);
    let mut deep = site.path("site/deep");
    for _ in 0..140 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let adopted = site.adopt().unwrap();
    let [note] = &adopted.notes[..] else { panic!("{adopted:?}") };
    assert!(note.contains("lies deeper than"), "{note}");
    for name in ["state", "site", "site/motd/rootfs/etc/motd", "site/deep/d/d"] {
        assert_eq!(site.owner(name), NOBODY, "{name}");
    }
}

#[test]
fn privileged_overlays_in_the_state_directory_are_overlays() {
    let site = Site::new();
    site.write(&[
        ("state/bedplate.db", 0o600),
        ("state/site/.git/objects/a", 0o444),
        ("state/site/motd/rootfs/etc/motd", 0o600),
    ]);
    let mut deep = site.path("state/site/deep");
    for _ in 0..140 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let config = configured(&site.path("state"), &site.path("state"));
    let site = Site { config, ..site };
    let adopted = site.adopt().unwrap();
    let [note] = &adopted.notes[..] else { panic!("{adopted:?}") };
    assert!(note.contains("lies deeper than"), "{note}");
    for name in ["state", "state/bedplate.db", "state/site", "state/site/motd/rootfs/etc/motd"] {
        assert_eq!(site.owner(name), NOBODY, "{name}");
    }
    assert_eq!((site.owner("state/site/.git"), site.owner("state/site/.git/objects/a")), (0, 0));
}

#[test]
fn privileged_what_its_mode_closes_to_its_owner_is_told() {
    let site = Site::new();
    site.write(&[("site/a/rootfs/etc/shadow", 0o000), ("site/b/rootfs/var/x", 0o600)]);
    fs::set_permissions(site.path("site/b/rootfs/var"), fs::Permissions::from_mode(0o300)).unwrap();
    let mut notes = site.adopt().unwrap().notes;
    notes.sort_unstable();
    let [shadow, var] = &notes[..] else { panic!("{notes:?}") };
    assert!(
        shadow.contains("mode 0000 of") && shadow.contains("`mode: 0000` in its front"),
        "{shadow}"
    );
    assert!(var.contains("mode 0300 of") && var.contains("chmod u+rx "), "{var}");
    assert_eq!(
        (site.owner("site/a/rootfs/etc/shadow"), site.mode("site/b/rootfs/var")),
        (NOBODY, 0o300)
    );
    assert_eq!(site.adopt().unwrap().notes.len(), 2, "as long as it is so");
}

#[test]
fn privileged_a_checkouts_own_directory_is_left_alone() {
    let site = Site::new();
    site.write(&[
        ("site/.git/objects/a", 0o444),
        ("site/motd/.git/config", 0o644),
        ("site/motd/rootfs/opt/.git/config", 0o600),
    ]);
    assert_eq!(site.adopt().unwrap().notes, [""; 0]);
    for (name, owner) in [
        ("site/.git", 0),
        ("site/.git/objects/a", 0),
        ("site/motd/.git/config", 0),
        ("site/motd/rootfs/opt/.git/config", NOBODY),
    ] {
        assert_eq!(site.owner(name), owner, "{name}");
    }
}

#[test]
fn privileged_the_directory_of_the_configuration_is_opened_to_the_group() {
    let site = Site::new();
    site.write(&[("server.yaml", 0o600)]);
    let directory = |mode, gid| {
        fs::set_permissions(site.root_directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        chown(site.root_directory.path(), None, Some(gid)).unwrap();
    };
    directory(0o700, 0);
    let adopted = site.adopt().unwrap();
    assert_eq!(adopted.readable, [site.root_directory.path().to_owned(), site.path("server.yaml")]);
    let facts = fs::metadata(site.root_directory.path()).unwrap();
    assert_eq!((facts.uid(), facts.gid(), facts.mode() & 0o7777), (0, NOBODY, 0o750));
    assert_eq!(site.adopt().unwrap(), given(0));
    // Another group has it: that is for people to decide.
    directory(0o750, 4);
    let adopted = site.adopt().unwrap();
    let [note] = &adopted.notes[..] else { panic!("{adopted:?}") };
    assert!(
        note.contains("nobody cannot enter") && note.contains("setfacl -m u:nobody:rx"),
        "{note}"
    );
    assert_eq!(site.mode(""), 0o750);
}

#[test]
fn privileged_a_closed_directory_above_the_configuration_is_told_and_stays() {
    let site = Site::new();
    site.write(&[("deep/server.yaml", 0o600)]);
    fs::set_permissions(site.root_directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let user = ServerUser::named("nobody").unwrap();
    let adopted = adopt(&site.config, &site.path("deep/server.yaml"), &user, false).unwrap();
    let [note] = &adopted.notes[..] else { panic!("{adopted:?}") };
    assert!(
        note.ends_with(&format!("setfacl -m u:nobody:x {}", site.root_directory.path().display())),
        "{note}"
    );
    assert_eq!(site.mode(""), 0o700);
    assert_eq!(adopted.readable, [site.path("deep/server.yaml")]);
}

#[test]
fn privileged_the_directory_of_a_running_server_or_of_another_user_stays() {
    let site = Site::new();
    site.write(&[("state/server.lock", 0o600), ("state/bedplate.db", 0o600)]);
    let lock = File::open(site.path("state/server.lock")).unwrap();
    lock.lock().unwrap();
    assert!(matches!(site.adopt().unwrap_err(), AdoptError::Running { .. }));
    assert_eq!(site.owner("state/bedplate.db"), 0);
    drop(lock);
    chown(site.path("state"), Some(1), None).unwrap();
    site.write(&[("site/motd/rootfs/etc/motd", 0o600)]);
    let adopted = site.adopt().unwrap();
    assert!(adopted.notes[0].contains("belongs to uid 1"), "{adopted:?}");
    assert_eq!((adopted.given, site.owner("state/bedplate.db"), site.owner("site")), (0, 0, 0));
}

#[test]
fn privileged_secrets_beside_the_configuration_become_readable_for_the_group() {
    let site = Site::new();
    site.write(&[
        ("server.yaml", 0o600),
        ("api.pem", 0o644),
        ("api.key", 0o640),
        ("login.json", 0o600),
        ("elsewhere/login.json", 0o600),
    ]);
    // Another group has it: who took it from them would break what they do with it.
    chown(site.path("api.key"), None, Some(4)).unwrap();
    let adopted = site.adopt().unwrap();
    assert_eq!(adopted.readable, [site.path("server.yaml"), site.path("login.json")]);
    let group = |name: &str| fs::metadata(site.path(name)).unwrap().gid();
    for (name, gid, mode) in [
        ("server.yaml", NOBODY, 0o640),
        ("api.pem", 0, 0o644),
        ("api.key", 4, 0o640),
        ("login.json", NOBODY, 0o640),
        ("elsewhere/login.json", 0, 0o600),
    ] {
        assert_eq!((site.owner(name), group(name), site.mode(name)), (0, gid, mode), "{name}");
    }
    assert_eq!(site.adopt().unwrap(), given(0));
}

#[test]
fn the_user_must_exist_and_not_be_root() {
    let named = |name| ServerUser::named(name).unwrap_err().to_string();
    assert!(named("no-such-user").contains("systemd-sysusers"));
    assert!(named("root").contains("--user"));
}
