//! Files of overlays.

use expect_test::expect;

use crate::server::Server;

#[test]
fn a_file_from_set_to_remove() {
    let server = Server::start();
    server.run(&["node", "add", "n1", "--address", "10.1.0.11/24"]).ok();
    let set = ["overlay", "set-file", "motd", "/etc/motd", "-", "--template"];
    let text = "welcome to {{ node.name }}\n";
    assert_eq!(server.run_with(&set, text, &[]).ok(), "wrote /etc/motd to overlay motd\n");
    assert_eq!(
        server.run(&["overlay", "render", "motd", "n1", "/etc/motd"]).ok(),
        "welcome to n1\n"
    );
    expect![[r#"
        motd (site)


        FILE       MODE
        /etc/motd  0644  template
    "#]]
    .assert_eq(&server.run(&["overlay", "show", "motd"]).ok());
    let refused = server.run_with(&set, "{{ node.name", &[]).failed();
    expect![[r#"
        error: cannot write /etc/motd of overlay motd: the template has a mistake: line 1: syntax error: unexpected end of input, expected end of variable block
    "#]].assert_eq(&refused);
    let remove = ["overlay", "remove-file", "motd", "/etc/motd"];
    assert_eq!(server.run(&remove).ok(), "removed /etc/motd from overlay motd\n");
    expect![[r#"
        error: cannot remove /etc/motd of overlay motd: the site's overlay motd has no file /etc/motd
    "#]]
    .assert_eq(&server.run(&remove).failed());
}

#[test]
fn editing_a_shipped_file_makes_it_the_sites() {
    let server = Server::start();
    server.run(&["node", "add", "n1", "--address", "10.1.0.11/24"]).ok();
    let edit = ["overlay", "edit", "hosts", "/etc/hosts"];
    let editor = |command: &'static str| [("EDITOR", command), ("VISUAL", "")];
    let unchanged = server.run_with(&edit, "", &editor("true"));
    assert_eq!((unchanged.code, unchanged.stderr.as_str()), (Some(0), "not changed\n"));
    let edited = server.run_with(&edit, "", &editor("sed -i '1i # {{ node.name }}'")).ok();
    assert_eq!(edited, "wrote /etc/hosts to overlay hosts\n");
    let listed = server.run(&["overlay", "list"]).ok();
    assert!(listed.contains("site over shipped"), "{listed}");
    let rendered = server.run(&["overlay", "render", "hosts", "n1", "/etc/hosts"]).ok();
    assert!(rendered.starts_with("# n1\n") && rendered.contains("10.1.0.11"), "{rendered}");
    let broken = server.run_with(&edit, "", &editor("sh -c 'printf {{ > \"$0\"'")).failed();
    let kept = broken.split("kept in ").nth(1).unwrap().split(": ").next().unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "{{");
    std::fs::remove_file(kept).unwrap();
    let failed = server.run_with(&edit, "", &editor("false")).failed();
    assert!(failed.contains("nothing was changed"), "{failed}");
}

#[test]
fn an_overlay_that_nothing_uses_can_be_deleted() {
    let mut server = Server::start();
    let set = ["overlay", "set-file", "motd", "/etc/motd", "-"];
    server.run_with(&set, "hello\n", &[]).ok();
    server.run(&["profile", "set", "greeting", "--boot-overlay", "motd"]).ok();
    server.run(&["node", "add", "n[1-3]", "--runtime-overlay", "motd"]).ok();
    let delete = ["overlay", "delete", "motd"];
    expect![[r#"
        error: cannot delete overlay motd: overlay motd is used by profile greeting and nodes n[1-3]; take it from them first, by `bedplate node set` or `profile set`
    "#]]
    .assert_eq(&server.run(&delete).failed());
    server.run(&["node", "set", "n[1-3]", "--unset", "runtime-overlays"]).ok();
    server.run(&["profile", "delete", "greeting"]).ok();
    assert_eq!(server.run(&["overlay", "render", "motd", "n1", "/etc/motd"]).ok(), "hello\n");
    assert_eq!(server.run(&delete).ok(), "deleted motd\n");
    assert!(!server.run(&["overlay", "list"]).ok().contains("motd"));
    assert!(!server.path("site/motd").exists());
    let audit = server.run(&["audit", "--limit", "1"]).ok();
    assert!(audit.contains("DELETE") && audit.contains("/v1/overlays/motd"), "{audit}");
    expect![[r#"
        error: cannot delete overlay motd: overlay motd does not exist; `bedplate overlay list` shows those that do
    "#]]
    .assert_eq(&server.run(&delete).failed());

    // What a crash left in the middle of a deletion is no overlay, and goes.
    server.kill_and_restart_after(|directory| {
        std::fs::create_dir_all(directory.join("site/.motd.bedplate-deleted/rootfs/etc")).unwrap();
    });
    assert!(!server.path("site/.motd.bedplate-deleted").exists());
    assert!(!server.run(&["overlay", "list"]).ok().contains("motd"));
}

#[test]
fn of_a_shipped_overlay_the_sites_edit_can_be_deleted() {
    let server = Server::start();
    // It has `hosts`, as all nodes.
    server.run(&["node", "add", "n1", "--address", "10.1.0.11/24"]).ok();
    let delete = ["overlay", "delete", "hosts"];
    let refused = server.run(&delete).failed();
    assert!(refused.contains("came with Bedplate") && refused.contains("~hosts"), "{refused}");
    server.run_with(&["overlay", "set-file", "hosts", "/etc/hosts", "-"], "mine\n", &[]).ok();
    assert_eq!(server.run(&["overlay", "render", "hosts", "n1", "/etc/hosts"]).ok(), "mine\n");
    // Each outcome is told, also where one is a refusal.
    let done = server.run(&["overlay", "delete", "nope", "hosts", "never"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), "reverted hosts\n"), "{done:?}");
    assert!(done.stderr.contains("overlay hosts is the shipped one again"), "{done:?}");
    assert!(done.stderr.ends_with("error: not deleted: nope, never\n"), "{done:?}");
    let rendered = server.run(&["overlay", "render", "hosts", "n1", "/etc/hosts"]).ok();
    assert!(rendered.contains("10.1.0.11"), "{rendered}");
    let listed = server.run(&["overlay", "list"]).ok();
    assert!(!listed.contains("site"), "{listed}");

    // What cannot be read can be deleted.
    let large = server.path("site/big/rootfs/large");
    std::fs::create_dir_all(large.parent().unwrap()).unwrap();
    std::fs::File::create(&large).unwrap().set_len((16 << 20) + 1).unwrap();
    let done = server.run(&["overlay", "delete", "big", "-o", "json"]).ok();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&done).unwrap(),
        serde_json::json!({"deleted": ["big"]})
    );
    assert!(!server.path("site/big").exists());
}
