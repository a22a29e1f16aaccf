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
    assert_eq!(server.run(&["overlay", "render", "motd", "n1", "/etc/motd"]).ok(), "welcome to n1\n");
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
