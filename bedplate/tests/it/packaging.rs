//! What the package does on a machine: the unit and the installation of the overlays.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

fn packaging(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packaging").join(name)
}

/// `bedplate image import oci:/tmp/image` is read by the server: its /tmp must be the one that
/// people see, and what it needs room for must go elsewhere.
#[test]
fn the_unit_shows_the_server_the_machines_tmp() {
    let unit = fs::read_to_string(packaging("bedplate.service")).unwrap();
    let set = |key: &'static str| {
        unit.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
    };
    assert_eq!(set("PrivateTmp").filter(|value| *value != "no").count(), 0);
    for hides in ["InaccessiblePaths", "TemporaryFileSystem", "RootDirectory", "BindPaths"] {
        assert_eq!(set(hides).count(), 0, "{hides}");
    }
    assert!(set("Environment").any(|value| value == "TMPDIR=/var/lib/bedplate"), "{unit}");
    assert!(set("StateDirectory").any(|value| value == "bedplate"), "{unit}");
}

/// What a flood of connections can take of the machine is bounded, and a full site fits in.
#[test]
fn the_unit_limits_what_the_server_takes() {
    let unit = fs::read_to_string(packaging("bedplate.service")).unwrap();
    let set = |key: &str| {
        let values: Vec<&str> =
            unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect();
        let [value] = values[..] else { panic!("{key} is set {} times", values.len()) };
        value
    };
    let descriptors: usize = set("LimitNOFILE").parse().unwrap();
    let limits = rest::shell::Limits::of_descriptors(descriptors, None);
    // 10,000 nodes: each has a channel, and one or two connections while it boots.
    assert!(limits.connections - limits.unproven >= 20_000, "{limits:?}");
    assert!(limits.unproven >= 20_000, "{limits:?}");
    assert!(
        set("TasksMax").parse::<u32>().unwrap() >= 1_024,
        "tokio has 512 threads that may block"
    );
    assert_eq!(set("MemoryMax"), "75%");
}

/// The image converter shuts itself in with four system calls that the group of services lacks;
/// more than these the server does not get for it, and no capability, namespace or user.
#[test]
fn the_unit_lets_the_image_converter_shut_itself_in_and_nothing_more() {
    let unit = fs::read_to_string(packaging("bedplate.service")).unwrap();
    let set = |key: &str| -> Vec<String> {
        let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.map(str::to_owned).collect()
    };
    assert_eq!(
        set("SystemCallFilter"),
        [
            "@system-service",
            "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp"
        ]
    );
    assert_eq!(set("CapabilityBoundingSet"), ["CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_NET_ADMIN"]);
    assert_eq!(set("AmbientCapabilities"), set("CapabilityBoundingSet"));
    assert_eq!(set("RestrictNamespaces"), ["yes"]);
    assert_eq!(set("NoNewPrivileges"), ["yes"]);
    // The converter dies of what an image wants, and the server goes on.
    assert_eq!(set("OOMPolicy"), ["continue"]);
}

/// The server is nobody that owns anything else, and only what gives it its files is done as root,
/// before the server looks at them.
#[test]
fn the_unit_runs_the_server_as_a_user_of_its_own() {
    let unit = fs::read_to_string(packaging("bedplate.service")).unwrap();
    let set = |key: &str| -> Vec<String> {
        let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.map(str::to_owned).collect()
    };
    let sysusers = fs::read_to_string(packaging("bedplate.sysusers")).unwrap();
    let users: Vec<&str> = sysusers.lines().filter(|line| !line.starts_with('#')).collect();
    let [user] = users[..] else { panic!("{sysusers}") };
    let words: Vec<&str> = user.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[2]), ("u", bedplate::server::SERVER_USER, "-"), "{user}");
    assert_eq!(words.last(), Some(&"/var/lib/bedplate"));
    assert_eq!((set("User"), set("Group")), (vec![words[1].to_owned()], vec![words[1].to_owned()]));
    assert_eq!(
        set("ExecStartPre"),
        ["+/usr/bin/bedplate server adopt", "/usr/bin/bedplate server check"]
    );
    assert_eq!(set("ExecStart"), ["/usr/bin/bedplate server"]);
    assert_eq!(set("ReadWritePaths"), ["-/etc/bedplate/overlays"]);
    let install = fs::read_to_string(packaging("install.sh")).unwrap();
    assert!(
        install.contains(r#"packaging/bedplate.sysusers "$root/usr/lib/sysusers.d/bedplate.conf""#)
    );
}

/// A machine's directories, and the overlays of a release.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        site.release(&[("hosts", "one"), ("motd", "one"), ("gone", "one")]);
        site
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.path().join(path)).ok()
    }

    fn release(&self, overlays: &[(&str, &str)]) {
        let _ = fs::remove_dir_all(self.0.path().join("release"));
        for (name, text) in overlays {
            self.write(&format!("release/{name}/rootfs/etc/{name}"), text);
        }
    }

    /// Installs the release. Returns what is said.
    #[expect(clippy::disallowed_methods, reason = "the home of the program under test")]
    fn install(&self) -> String {
        let [from, share, site] = ["release", "share", "etc"].map(|name| self.0.path().join(name));
        fs::create_dir_all(&site).unwrap();
        fs::create_dir_all(&share).unwrap();
        let done = Command::new(packaging("install-overlays.sh"))
            .args([from, share, site])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }
}

#[test]
fn an_upgrade_replaces_what_nobody_changed_and_keeps_the_rest() {
    let site = Site::new();
    assert_eq!(site.install(), "");
    assert_eq!(site.install(), "", "again");
    site.write("share/overlays/motd/rootfs/etc/motd", "ours");
    site.write("share/overlays/motd/rootfs/etc/more", "ours");
    site.write("share/overlays/own/rootfs/etc/own", "ours");
    site.release(&[("hosts", "two"), ("motd", "two"), ("new", "two")]);
    let said = site.install();
    assert!(said.contains("overlay motd was edited") && !said.contains("hosts"), "{said}");
    let at = |path: &str| site.read(path);
    assert_eq!(at("share/overlays/hosts/rootfs/etc/hosts").as_deref(), Some("two"));
    assert_eq!(at("share/overlays/new/rootfs/etc/new").as_deref(), Some("two"));
    assert_eq!(at("share/overlays/motd/rootfs/etc/motd").as_deref(), Some("two"));
    assert_eq!(at("share/overlays/motd/rootfs/etc/more"), None);
    assert_eq!(
        at("share/overlays/gone/rootfs/etc/gone"),
        None,
        "it no longer ships, and nobody changed it"
    );
    // What was edited goes on as it was: a site overlay takes the place of the shipped one.
    assert_eq!(at("etc/motd/rootfs/etc/motd").as_deref(), Some("ours"));
    assert_eq!(at("etc/motd/rootfs/etc/more").as_deref(), Some("ours"));
    assert_eq!(
        at("share/overlays/own/rootfs/etc/own").as_deref(),
        Some("ours"),
        "it never was ours"
    );
    assert_eq!(site.install(), "");
}

#[test]
fn what_the_site_has_already_is_not_overwritten() {
    let site = Site::new();
    site.install();
    site.write("etc/motd/rootfs/etc/motd", "of the site");
    for (number, text) in [(1, "first"), (2, "second")] {
        site.write("share/overlays/motd/rootfs/etc/motd", text);
        let said = site.install();
        assert!(said.contains(&format!("overlays.edited/motd.{number}")), "{said}");
        let kept = format!("share/overlays.edited/motd.{number}/rootfs/etc/motd");
        assert_eq!(site.read(&kept).as_deref(), Some(text));
    }
    assert_eq!(site.read("etc/motd/rootfs/etc/motd").as_deref(), Some("of the site"));
}

/// An earlier install.sh kept no list: whether somebody edited what differs is not known.
#[test]
#[expect(clippy::disallowed_methods, reason = "runs what the program says")]
fn what_an_earlier_release_installed_is_kept_aside() {
    let site = Site::new();
    for name in ["hosts", "motd", "gone"] {
        site.write(&format!("share/overlays/{name}/rootfs/etc/{name}"), "one");
    }
    site.write("share/overlays/motd/rootfs/etc/motd", "of before, or edited");
    let said = site.install();
    assert!(said.contains("overlay motd") && !said.contains("hosts"), "{said}");
    assert_eq!(
        site.read("etc/motd/rootfs/etc/motd"),
        None,
        "it may be old, and must not shadow the new one"
    );
    let kept = site.read("share/overlays.edited/motd.1/rootfs/etc/motd");
    assert_eq!(kept.as_deref(), Some("of before, or edited"));
    assert_eq!(site.read("share/overlays/motd/rootfs/etc/motd").as_deref(), Some("one"));
    // What is said is all that it takes to have it back.
    assert!(said.contains("no longer has effect"), "{said}");
    let back = said.lines().find_map(|line| line.split_once("as the site's: ")).unwrap().1;
    assert!(Command::new("sh").args(["-c", back]).status().unwrap().success());
    assert_eq!(site.read("etc/motd/rootfs/etc/motd").as_deref(), Some("of before, or edited"));
}
