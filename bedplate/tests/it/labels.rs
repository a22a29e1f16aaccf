//! Labels from a flag to a question, and what users are told of nodes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::server::Server;

/// A context file of a user who is no admin; the path of the file.
fn user(server: &Server, name: &str) -> String {
    server.run(&["user", "add", name, "--uid", "1001", "--gid", "1001"]).ok();
    let token = server.run(&["token", "create", "laptop", "--user", name]).ok();
    let admin = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let context = client::Context { token: token.trim().to_owned(), ..admin };
    let file = server.path(&format!("{name}.yaml"));
    fs::write(&file, serde_json::to_string(&context).unwrap()).unwrap();
    file.display().to_string()
}

#[test]
fn labels_go_from_profiles_to_nodes_and_can_be_asked_for() {
    let server = Server::start();
    server.run(&["profile", "set", "base", "--label", "zone=north", "--label", "tier=prod"]).ok();
    server.run(&["node", "add", "n[1-3]", "--profile", "base", "--label", "rack=a1"]).ok();
    server.run(&["node", "set", "n2", "--label", "rack=a2", "--label", "~tier"]).ok();
    server.run(&["node", "set", "n3", "--unset-label", "rack"]).ok();
    let shown = server.run(&["node", "list", "--show-labels"]).ok();
    let labels = ["rack=a1,tier=prod,zone=north", "rack=a2,zone=north", "tier=prod,zone=north"];
    for (line, labels) in shown.lines().skip(1).zip(labels) {
        assert!(line.split_whitespace().any(|word| word == labels), "{shown}");
    }
    assert_eq!(shown.lines().count(), 4, "{shown}");
    let names = |selector: &str| {
        let listed = server.run(&["node", "list", "-l", selector, "-o", "json"]).ok();
        let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        listed.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("rack"), ["n1", "n2"]);
    assert_eq!(names("rack!=a1,zone=north"), ["n2", "n3"]);
    assert_eq!(names("!tier"), ["n2"]);
    assert!(names("rack=nothing").is_empty());
    let none = server.run(&["node", "list", "-l", "rack=nothing"]).ok();
    assert!(none.starts_with("no node matches rack=nothing: "), "{none}");
    // Of what is so already nothing is told to have changed.
    let again = server.run(&["node", "set", "n[2-3]", "--unset-label", "nothing"]).ok();
    assert_eq!(again, "nothing to change on n[2-3]\n");
    let again = server.run(&["node", "set", "n[1-2]", "--label", "rack=a2"]).ok();
    assert_eq!(again, "changed n1\nnothing to change on n2\n");
    server.run(&["node", "set", "n1", "--label", "rack=a1"]).ok();
    let again = server.run(&["profile", "set", "base", "--label", "zone=north"]).ok();
    assert_eq!(again, "nothing to change in profile base\n");
    let used = server.run(&["profile", "delete", "base"]).failed();
    assert!(used.contains("profile base is used by n[1-3]; take it from them first"), "{used}");
    // A label is given back when its removal is cleared.
    server.run(&["node", "set", "n2", "--unset-label", "~tier"]).ok();
    assert_eq!(names("tier=prod"), ["n1", "n2", "n3"]);
    // What is exported is applied without a change.
    let export = server.run(&["export"]).ok();
    let applied = server.run_with(&["apply", "--file", "-", "-o", "json"], &export, &[]).ok();
    let applied: serde_json::Value = serde_json::from_str(&applied).unwrap();
    assert_eq!(applied["changes"], serde_json::json!([]), "{export}");
    let refused = server.run(&["node", "set", "n1", "--label", "a=b", "--unset-label", "a"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

#[test]
fn users_read_no_tags_and_no_ways_to_the_machine() {
    const PRIVATE: [&str; 3] = ["TAG-OF-ADMINS", "10.99.99.99", "52:54:00:99:99:01"];
    let server = Server::start();
    let private = ["--tag", "password=TAG-OF-ADMINS", "--bmc", "10.99.99.99"];
    server.run(&[&["profile", "set", "base"], &private[..]].concat()).ok();
    let node = [
        "node",
        "add",
        "n1",
        "--profile",
        "base",
        "--mac",
        "52:54:00:99:99:01",
        "--label",
        "rack=a1",
    ];
    server.run(&[&node[..], &private[..]].concat()).ok();
    let ann = user(&server, "ann");
    for words in [
        &["node", "list", "-o", "json"][..],
        &["node", "show", "n1", "-o", "json"],
        &["node", "explain", "n1", "-o", "json"],
        &["profile", "list", "-o", "json"],
        &["profile", "show", "base", "-o", "json"],
        &["export"],
    ] {
        let told = server.run(words).ok();
        assert!(
            PRIVATE.iter().any(|private| told.contains(private)),
            "an admin reads {words:?}: {told}"
        );
        let told = server.run(&[&["--context", ann.as_str()], words].concat()).ok();
        let found = PRIVATE.iter().find(|private| told.contains(**private));
        assert!(found.is_none(), "a user reads {found:?} by {words:?}: {told}");
        assert!(words[0] == "profile" || told.contains("a1"), "labels are public: {told}");
    }
}

#[test]
fn a_password_in_a_source_is_kept_and_told_nowhere() {
    let server = Server::start();
    let told = server.run(&["image", "import", "docker://me:PASSWORD@127.0.0.1:1/x:1"]).failed();
    assert!(told.contains("docker://…@127.0.0.1:1/x:1"), "{told}");
    let operations = server.run(&["operation", "list", "-o", "json"]).ok();
    let audit = server.run(&["audit", "-o", "json"]).ok();
    let log = fs::read_to_string(server.path("log")).unwrap();
    for (what, text) in
        [("answer", told), ("operations", operations), ("audit", audit), ("log", log)]
    {
        assert!(!text.contains("PASSWORD"), "{what}: {text}");
    }
    for file in ["bedplate.db", "bedplate.db-wal"] {
        let bytes = fs::read(server.path("state").join(file)).unwrap_or_default();
        assert!(!bytes.windows(8).any(|window| window == b"PASSWORD"), "{file}");
    }
}

/// Every file and directory at or below a path that others could use.
fn open_to_others(path: &Path) -> Vec<String> {
    // The database's own files come and go.
    let Ok(metadata) = fs::symlink_metadata(path) else { return Vec::new() };
    let is_open = !metadata.is_symlink() && metadata.permissions().mode() & 0o077 != 0;
    let mut open: Vec<String> = is_open.then(|| path.display().to_string()).into_iter().collect();
    if metadata.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        open.extend(entries.flat_map(|entry| open_to_others(&entry.unwrap().path())));
    }
    open
}

#[test]
fn the_state_directory_is_the_servers_alone() {
    let server = Server::start_on(|directory| {
        let state = directory.join("state");
        fs::create_dir_all(state.join("images/left")).unwrap();
        fs::write(state.join("images/left/by-a-release-of-before"), "x").unwrap();
        for (path, mode) in [
            ("", 0o755),
            ("images", 0o755),
            ("images/left", 0o775),
            ("images/left/by-a-release-of-before", 0o644),
        ] {
            fs::set_permissions(state.join(path), fs::Permissions::from_mode(mode)).unwrap();
        }
    });
    // What is made while it runs.
    server.run(&["node", "add", "n1", "--label", "rack=a1"]).ok();
    server.run(&["image", "import", "oci:/nonexistent:1", "--name", "none"]).failed();
    assert_eq!(open_to_others(&server.path("state")), [""; 0]);
    // Nodes get the modes of overlays, which others may read.
    let text = ["overlay", "set-file", "motd", "/etc/new/motd", "-"];
    server.run_with(&text, "hello\n", &[]).ok();
    let made = fs::metadata(server.path("site/motd/rootfs/etc/new")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o755);
}
