//! Tokens and the audit log.

use expect_test::expect;

use crate::server::Server;

#[test]
fn a_token_is_good_until_it_is_deleted() {
    let server = Server::start();
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n");
    let token = server.run(&["token", "create", "ci"]).ok();
    let admin = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let file = server.path("ci.yaml");
    let context = client::Context { token: token.trim().to_owned(), ..admin };
    std::fs::write(&file, serde_json::to_string(&context).unwrap()).unwrap();
    let file = file.display().to_string();
    assert_eq!(server.run(&["--context", &file, "whoami"]).ok(), "admin (admin)\n");
    let listed = server.run(&["token", "list"]).ok();
    assert!(listed.contains("ci ") && !listed.contains(token.trim()), "{listed}");
    assert_eq!(server.run(&["token", "delete", "ci"]).ok(), "revoked ci\n");
    expect![[r#"
        error: not authenticated: send `Authorization: Bearer TOKEN` with a token that was not revoked; `bedplate` reads it from its context file (on the server: admin.yaml)
        hint: the token of the context was revoked or is of another server; an admin makes one with `bedplate token create`
    "#]].assert_eq(&server.run(&["--context", &file, "whoami"]).failed());
    let audit = server.run(&["audit", "--limit", "1", "-o", "json"]).ok();
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    assert_eq!(audit[0]["subject"], "/v1/tokens/ci");
}
