//! `context create` against a real server: who trusts it by what.

use std::fs;

use crate::server::{Done, Server, bedplate, done};

/// A user's own directory, and what the admin's context has.
struct User<'a> {
    server: &'a Server,
    admin: client::Context,
    home: tempfile::TempDir,
}

impl<'a> User<'a> {
    fn of(server: &'a Server) -> Self {
        let admin = client::Context::read(&server.path("state/admin.yaml")).unwrap();
        Self { server, admin, home: tempfile::tempdir().unwrap() }
    }

    /// Runs the command line as somebody who has nothing but a home directory.
    fn run(&self, arguments: &[&str], input: &str) -> Done {
        let mut command = bedplate(arguments);
        command.env_remove("BEDPLATE_CONTEXT").env("XDG_CONFIG_HOME", self.home.path());
        done(command, input)
    }

    /// `HOST:PORT`.
    fn address(&self) -> String {
        let server = &self.admin.server;
        format!("{}:{}", server.host_str().unwrap(), server.port().unwrap())
    }

    fn fingerprint(&self) -> String {
        let shown = self.server.run(&["context", "show", "-o", "json"]).ok();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown["ca-fingerprint"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_context_is_made_of_an_address_a_fingerprint_and_a_token() {
    let server = Server::start();
    let user = User::of(&server);
    let (address, fingerprint, token) = (user.address(), user.fingerprint(), &user.admin.token);
    let create =
        ["context", "create", "cloud", &address, "--fingerprint", &fingerprint, "--token-stdin"];
    let created = user.run(&create, &format!("{token}\n")).ok();
    assert!(created.contains("as admin") && created.contains("it is in use"), "{created}");
    assert!(user.run(&["whoami"], "").ok().contains("admin"));
    let path = user.home.path().join("bedplate/contexts/cloud.yaml");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds a token");
    assert!(!created.contains(token.as_str()));

    let again = user.run(&create, token).failed();
    assert!(again.contains("there is a context cloud"), "{again}");
    // By a file, and as a second one.
    let ca = user.home.path().join("ca.pem");
    fs::write(&ca, user.admin.ca.as_deref().unwrap()).unwrap();
    let by_file =
        ["context", "create", "demo", &address, "--token-stdin", "--ca", &ca.display().to_string()];
    let created = user.run(&by_file, token).ok();
    assert!(created.contains("`bedplate context use demo` uses it"), "{created}");
    user.run(&["context", "use", "demo"], "").ok();
    let list = user.run(&["context", "list"], "").ok();
    assert!(list.contains("*  demo") && list.contains("cloud"), "{list}");
}

#[test]
fn nobody_is_trusted_without_a_reason() {
    let (server, other) = (Server::start(), Server::start());
    let user = User::of(&server);
    let address = user.address();
    let create = ["context", "create", "cloud", address.as_str(), "--token-stdin"];
    let with = |more: &[&str]| user.run(&[&create[..], more].concat(), &user.admin.token);

    // Without a terminal nobody can be asked: the fingerprint is shown.
    let refused = with(&[]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains(&user.fingerprint()), "{refused:?}");
    assert!(refused.stderr.contains("--fingerprint"), "{refused:?}");
    let of_other = User::of(&other).fingerprint();
    let refused = with(&["--fingerprint", &of_other]).failed();
    assert!(refused.contains("no certificate with this fingerprint"), "{refused}");
    assert!(refused.contains(&user.fingerprint()), "{refused}");
    for wrong in [&["--fingerprint", "12:34"][..], &["--fingerprint", &of_other, "--ca", "ca.pem"]]
    {
        assert_eq!(with(wrong).code, Some(2), "{wrong:?}");
    }
    let no_token = user.run(&[&create[..], &["--fingerprint", &user.fingerprint()]].concat(), "\n");
    assert_eq!(no_token.code, Some(2), "{no_token:?}");
    let bad_token =
        user.run(&[&create[..], &["--fingerprint", &user.fingerprint()]].concat(), "bp_wrong");
    assert!(bad_token.failed().contains("token"));
    for wrong in ["http://10.1.0.1", "a b", ""] {
        let refused = user.run(&["context", "create", "cloud", wrong, "--token-stdin"], "");
        assert_eq!(refused.code, Some(2), "{wrong:?}");
    }
    let nobody =
        user.run(&["context", "create", "cloud", "127.0.0.1:9", "--token-stdin"], "x").failed();
    assert!(nobody.contains("cannot reach the server"), "{nobody}");
    assert!(!user.home.path().join("bedplate").exists(), "nothing was written");
}
