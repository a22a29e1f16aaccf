//! Tokens, users, sessions and the audit log.

use expect_test::expect;

use api::rights::Action;
use reqwest::{Method, header};

use crate::server::Server;

#[test]
fn every_route_names_its_action() {
    let server = Server::start();
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = client::Client::new(&context).unwrap();
    let document = runtime.block_on(client.openapi()).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            // It is for everybody.
            if operation["security"].is_array() {
                continue;
            }
            let word = operation["x-action"]
                .as_str()
                .unwrap_or_else(|| panic!("{method} {path}: no action"));
            let action = Action::ALL.iter().find(|action| action.as_str() == word);
            named.insert(
                action.unwrap_or_else(|| panic!("{method} {path}: {word:?} is no action")).as_str(),
            );
        }
    }
    let unused: Vec<_> =
        Action::ALL.iter().filter(|action| !named.contains(action.as_str())).collect();
    assert!(unused.is_empty(), "no route is for {unused:?}");
}

/// Writes a context file with a token that the command line printed. Returns its path.
fn context_file(server: &Server, name: &str, token: &str) -> String {
    let admin = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let context = client::Context { token: token.trim().to_owned(), ..admin };
    let file = server.path(&format!("{name}.yaml"));
    std::fs::write(&file, serde_json::to_string(&context).unwrap()).unwrap();
    file.display().to_string()
}

#[test]
fn a_token_is_good_until_it_is_deleted() {
    let server = Server::start();
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n");
    let token = server.run(&["token", "create", "ci"]).ok();
    let file = context_file(&server, "ci", &token);
    assert_eq!(server.run(&["--context", &file, "whoami"]).ok(), "admin (admin)\n");
    let listed = server.run(&["token", "list"]).ok();
    assert!(listed.contains("ci ") && !listed.contains(token.trim()), "{listed}");
    assert_eq!(server.run(&["token", "delete", "ci"]).ok(), "revoked ci\n");
    expect![[r#"
        error: not authenticated: send `Authorization: Bearer TOKEN` with a token that was not revoked; `bedplate` reads it from its context file (on the server: admin.yaml)
        hint: the token of the context was revoked or is of another server; an admin makes one with `bedplate token create`; on the server's machine, as root, `bedplate server recover-admin` makes one
    "#]].assert_eq(&server.run(&["--context", &file, "whoami"]).failed());
    // The last line is that of the token that is no good any more.
    let audit =
        server.run(&["audit", "list", "--user", "admin", "--limit", "1", "-o", "json"]).ok();
    let audit: serde_json::Value = serde_json::from_str(&audit).unwrap();
    assert_eq!(audit[0]["subject"], "/v1/tokens/ci");
}

#[test]
fn the_servers_own_token_is_replaced_in_its_file() {
    let server = Server::start();
    let file = server.path("state/admin.yaml");
    let before = client::Context::read(&file).unwrap();
    std::fs::write(server.path("before.yaml"), serde_json::to_string(&before).unwrap()).unwrap();
    let replaced = server.run(&["token", "rotate", "--expires", "30d"]).ok();
    assert!(replaced.starts_with("replaced first-start by first-start-2 in "), "{replaced}");
    assert_ne!(client::Context::read(&file).unwrap().token, before.token);
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n");
    let old = server.path("before.yaml").display().to_string();
    assert!(server.run(&["--context", &old, "whoami"]).failed().contains("not authenticated"));
    // The last token of the last admin stays.
    let refused = server.run(&["token", "delete", "first-start-2"]).failed();
    assert!(refused.contains("is the last token with which an admin can ask"), "{refused}");
}

#[test]
fn guesses_of_an_address_are_held_off_and_its_good_tokens_are_not() {
    let server = Server::start();
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let stranger =
        client::Client::new(&client::Context { token: "bp_wrong".to_owned(), ..context }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let guess = || runtime.block_on(stranger.whoami()).unwrap_err().status();
    let answers: Vec<Option<u16>> = (0..32).map(|_| guess()).collect();
    assert!(answers[..30].iter().all(|status| *status == Some(401)), "{answers:?}");
    assert_eq!(answers[30..], [Some(429), Some(429)]);
    assert_eq!(server.run(&["whoami"]).ok(), "admin (admin)\n");
    let listed = server.run(&["token", "list", "-o", "json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let source = listed[0]["last-source"].as_str().unwrap();
    assert!(source.parse::<std::net::IpAddr>().unwrap().is_loopback(), "{listed}");
}

#[test]
fn users_and_their_tokens() {
    let server = Server::start();
    let added =
        server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "100", "--groups", "7,8"]);
    assert_eq!(added.ok(), "added ann\n");
    assert_eq!(
        server.run(&["user", "set", "ann", "--groups", "9", "--comment", "at the lab"]).ok(),
        "changed ann\n"
    );
    expect![[r#"
        NAME   UID   GID  GROUPS  ROLE   COMMENT
        admin  -     -            admin
        ann    1001  100  9              at the lab
    "#]]
    .assert_eq(&server.run(&["user", "list"]).ok());
    let token = server.run(&["token", "create", "laptop", "--user", "ann"]).ok();
    let file = context_file(&server, "ann", &token);
    let as_ann = |arguments: &[&str]| server.run(&[&["--context", &file], arguments].concat());
    assert_eq!(as_ann(&["whoami"]).ok(), "ann (user)\n");
    assert!(as_ann(&["user", "show", "ann"]).ok().contains("1001"));
    let mut refused = String::new();
    for arguments in [
        &["user", "list"][..],
        &["user", "set", "ann", "--admin"],
        &["token", "create", "x", "--user", "admin"],
        &["node", "add", "n1"],
    ] {
        refused += &as_ann(arguments).failed();
    }
    for arguments in [
        &["user", "add", "ann"][..],
        &["user", "add", "Root"],
        &["user", "show", "nobody"],
        &["user", "delete", "admin"],
    ] {
        refused += &server.run(arguments).failed();
    }
    expect![[r#"
        error: cannot list users: `user-list` is refused to ann (user); an admin may do it
        error: cannot change the user: `user-edit` is refused to ann (user); an admin may do it
        error: cannot create the token: `token-create` is refused to ann (user) on what is admin's; that user or an admin may do it
        error: cannot add nodes: `node-add` is refused to ann (user); an admin may do it
        error: cannot add user "ann": there is a user "ann" already; change it, or choose another name
        error: cannot add user "Root": "Root" cannot name a user: use 1 to 63 lower-case letters, digits and inner hyphens
        error: cannot show user "nobody": there is no user "nobody"
        error: cannot remove user "admin": admin is the last admin with a token that is good; make another one first (`bedplate user add NAME --admin`, `bedplate token create TOKEN --user NAME`)
    "#]]
    .assert_eq(&refused);
    let half = server.run(&["user", "add", "bob", "--uid", "1"]);
    assert_eq!(
        (half.code, half.stderr.as_str()),
        (Some(2), "error: --uid and --gid go together\n")
    );
    assert_eq!(server.run(&["user", "delete", "ann"]).ok(), "deleted ann\n");
    assert!(as_ann(&["whoami"]).failed().contains("not authenticated"));
}

/// A browser of a user: it has a session of the server.
struct Browser {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    server: url::Url,
    cookie: String,
}

impl Browser {
    /// Logs in with the token of a context file.
    fn log_in(file: &str) -> Self {
        let context = client::Context::read(file.as_ref()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca =
            reqwest::Certificate::from_pem(context.ca.as_deref().unwrap_or_default().as_bytes())
                .unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).build().unwrap();
        let url = context.server.join("/v1/session").unwrap();
        let begun = http.request(Method::POST, url).bearer_auth(&context.token).send();
        let begun = runtime.block_on(begun).unwrap();
        assert_eq!(begun.status(), 201);
        let cookie =
            begun.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
        let cookie = cookie.to_owned();
        Self { runtime, http, server: context.server, cookie }
    }

    /// The status of a request with the cookie.
    fn status(&self) -> u16 {
        let url = self.server.join("/v1/whoami").unwrap();
        let request = self.http.get(url).header(header::COOKIE, &self.cookie);
        self.runtime.block_on(request.send()).unwrap().status().as_u16()
    }
}

#[test]
fn a_user_is_logged_out_everywhere() {
    let server = Server::start();
    for user in ["ann", "bob"] {
        server.run(&["user", "add", user]).ok();
    }
    let token = |user: &str| server.run(&["token", "create", "laptop", "--user", user]).ok();
    let (ann, bob) =
        (context_file(&server, "ann", &token("ann")), context_file(&server, "bob", &token("bob")));
    let as_ann = |arguments: &[&str]| server.run(&[&["--context", &ann], arguments].concat());
    let browsers = [Browser::log_in(&ann), Browser::log_in(&ann)];
    let other = Browser::log_in(&bob);
    let statuses = || browsers.each_ref().map(Browser::status);
    assert_eq!(statuses(), [200, 200]);

    // By oneself.
    assert_eq!(as_ann(&["user", "logout"]).ok(), "logged ann out of 2 sessions\n");
    assert_eq!((statuses(), other.status()), ([401, 401], 200));
    assert_eq!(as_ann(&["whoami"]).ok(), "ann (user)\n", "tokens stay good");
    let again = as_ann(&["user", "logout", "ann", "-o", "json"]).ok();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again, serde_json::json!({"name": "ann", "ended": 0}));

    // By somebody else: an admin may.
    let refused = as_ann(&["user", "logout", "bob"]).failed()
        + &server.run(&["user", "logout", "eve"]).failed();
    expect![[r#"
        error: cannot end sessions: `session-end` is refused to ann (user) on what is bob's; that user or an admin may do it
        error: cannot end the sessions of "eve": there is no user "eve"
    "#]].assert_eq(&refused);
    assert_eq!(other.status(), 200);
    assert_eq!(server.run(&["user", "logout", "bob"]).ok(), "logged bob out of 1 session\n");
    assert_eq!(other.status(), 401);
}
