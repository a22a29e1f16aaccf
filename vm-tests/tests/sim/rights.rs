//! Who may do what: every route of the OpenAPI document, asked by everybody about
//! everybody's things.
//!
//! The matrix is `sim/rights.txt`. A route that this test has no request for fails it, so that no
//! route is added without a line there. `UPDATE_EXPECT=1` rewrites the file; read the difference.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use anyhow::{Context as _, ensure};
use api::{
    access::{Account, CreateToken, User},
    machine::Apply,
    rights::{Action, Extent},
    workflow::StartWorkflow,
};
use client::{Client, Context};
use expect_test::expect_file;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use sim_cluster::simulated_node::{Agent, SERIAL};

use crate::{
    cluster::{Cluster, IMAGE, in_namespace},
    workflows::{document, end},
};

/// What a simulated node does not send, so that it is there for nobody.
const NEVER_SENT: &str = "/v1/nodes/{name}/topology.xml";

/// A path that the API does not have.
const UNLISTED: &str = "/v1/nothing-of-that-kind";

/// Eve with a token that is to read with alone.
const READER: &str = "eve, to read";

/// Value of a tag of a node and of a profile.
const TAG: &str = "TAG-THAT-ADMINS-READ";

/// Address of a BMC.
const BMC: &str = "10.99.99.99";

/// What no route tells a user who is no admin: see docs/security.md. The third: how the MAC
/// addresses of the simulated nodes begin.
const PRIVATE: [&str; 4] = [TAG, BMC, "52:54:00:88:", SERIAL];

/// What one request may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// Whose a thing is, beside who asks about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// The route is about no single thing, or about what nobody owns.
    Site,
    /// It belongs to who asks.
    Own,
    /// It belongs to another user.
    Others,
    /// The same, by its name.
    OthersByName,
    /// There is none.
    Missing,
}

impl Thing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Own => "own",
            Self::Others => "other's",
            Self::OthersByName => "other's, by name",
            Self::Missing => "missing",
        }
    }
}

/// A user of the test.
struct Person {
    name: &'static str,
    admin: bool,
    token: String,
    /// A workflow that is over, with a log and a file for the client.
    over: String,
    /// A workflow that runs.
    waits: String,
}

/// A cluster with a booted node, and things of three users: ann, bob, and eve, who is an admin.
struct Site {
    cluster: Cluster,
    _agents: Vec<Agent>,
    ann: Person,
    bob: Person,
    eve: Person,
    /// A token of eve to read with alone; made and made again with what else is missing.
    reads: String,
    /// Number of the stage that takes the file out, the same in all three workflows.
    file: u32,
    http: reqwest::Client,
    context: Context,
    /// Makes names that were never used.
    used: u32,
}

/// A request.
struct Ask {
    path: String,
    body: Value,
}

impl Site {
    async fn new() -> anyhow::Result<Self> {
        let mut cluster = Cluster::with_nodes(2).await?;
        cluster.serve_job_image().await?;
        let agents = cluster.run_all(2).await?;
        let context = cluster.context()?;
        let ca =
            reqwest::Certificate::from_pem(context.ca.as_deref().unwrap_or_default().as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_only([ca]).timeout(DEADLINE).build()?;
        let (mut ann, file) = person(&cluster, "ann", 1001, false).await?;
        let (mut bob, _) = person(&cluster, "bob", 1002, false).await?;
        let (mut eve, _) = person(&cluster, "eve", 1003, true).await?;
        for person in [&mut ann, &mut bob, &mut eve] {
            let client = cluster.client_with(person.token.clone())?;
            let document = document(&[("waits", "command: [/bin/sleep, '3600']")]);
            let start = StartWorkflow { name: Some(waits(person.name)), document, user: None };
            person.waits = client.start_workflow(&start).await?.id.to_string();
        }
        let reads = String::new();
        Ok(Self { cluster, _agents: agents, ann, bob, eve, reads, file, http, context, used: 0 })
    }

    /// Makes what a request may have removed or changed.
    async fn mend(&mut self) -> anyhow::Result<()> {
        let admin = self.cluster.client().clone();
        let private = format!("tags: {{secret: {TAG}}}, bmc: {{address: {BMC}}}");
        let document = format!(
            "profiles:\n  base: {{image: tiny}}\n  spare: {{kernel-args: [quiet], {private}}}\n\
             nodes:\n  n9: {{profiles: [base], {private}}}\n"
        );
        admin.apply(&Apply { document, dry_run: false, prune: false }).await?;
        admin.undrain(&crate::cluster::name(2)).await?;
        let (overlay, text) = ("hosts".parse()?, b"hello\n".to_vec());
        admin.put_overlay_file(&overlay, "/etc/motd", 0o644, false, text).await?;
        for (person, uid) in [(&mut self.ann, 1001), (&mut self.bob, 1002), (&mut self.eve, 1003)] {
            // They are there already unless the last request removed them.
            let _ = admin.add_user(&record(person.name, uid, person.admin)).await;
            let mut mine = self.cluster.client_with(person.token.clone())?;
            if mine.whoami().await.is_err() {
                self.used += 1;
                person.token = token(&admin, person.name, &format!("again{}", self.used)).await?;
                mine = self.cluster.client_with(person.token.clone())?;
            }
            let _ = mine
                .create_token(&CreateToken { name: of(person.name), ..CreateToken::default() })
                .await;
        }
        if self.cluster.client_with(self.reads.clone())?.whoami().await.is_err() {
            self.used += 1;
            let (name, user) = (format!("reads{}", self.used), Some(self.eve.name.to_owned()));
            let create = CreateToken { name, user, read_only: true, ..CreateToken::default() };
            self.reads = admin.create_token(&create).await?.token;
        }
        Ok(())
    }

    /// The person whose things are meant, where `asks` asks.
    fn owner<'a>(&'a self, asks: Option<&'a Person>, thing: Thing) -> &'a Person {
        match thing {
            Thing::Own => asks.unwrap_or(&self.ann),
            _ => &self.bob,
        }
    }

    /// The requests of a route; `None` if the test does not know the route.
    fn ask(&mut self, method: &str, path: &str, asks: Option<&str>, thing: Thing) -> Option<Ask> {
        self.used += 1;
        let fresh = format!("x{}", self.used);
        let asks = [&self.ann, &self.eve].into_iter().find(|person| Some(person.name) == asks);
        let owner = self.owner(asks, thing);
        let missing = thing == Thing::Missing;
        let wanted = |name: &str| if missing { "nope".to_owned() } else { name.to_owned() };
        let user = wanted(owner.name);
        let document = document(&[("job", "command: [/bin/true]")]);
        let body = match (method, path) {
            ("POST", "/v1/tokens") => json!({"name": fresh, "user": user}),
            ("POST", "/v1/tickets") => json!({"method": "GET", "path": "/v1/whoami"}),
            ("POST", "/v1/users") => json!({"name": fresh}),
            ("PUT", "/v1/users/{name}/quotas") => json!({"limits": {}}),
            ("PUT", "/v1/users/{name}") => json!(record(&user, uid_of(owner.name), owner.admin)),
            ("POST", "/v1/nodes") => json!({"names": fresh, "spec": {}}),
            ("PATCH", "/v1/nodes") => json!({"names": wanted("n9"), "patch": {"comment": fresh}}),
            ("PUT", "/v1/nodes/{name}" | "/v1/profiles/{name}") => json!({"comment": fresh}),
            ("PATCH", "/v1/nodes/{name}" | "/v1/profiles/{name}") => json!({"comment": fresh}),
            ("POST", "/v1/nodes/{name}/drain") => json!({"reason": "a test"}),
            // Nothing is decided about an enrolment that never was; of one that is over
            // nothing is lost.
            ("POST", "/v1/nodes/{name}/trust") => json!({"epoch": 999}),
            ("POST", "/v1/nodes/{name}/revoke") => json!({"epoch": 0}),
            ("POST", "/v1/apply") => json!({"document": "nodes: {}", "dry-run": true}),
            ("POST", "/v1/images") => json!({"source": "oci:/nowhere:1", "name": "never"}),
            ("POST", "/v1/workflows") => json!({"document": document, "user": user}),
            ("POST", "/v1/workflows/validate" | "/v1/workflows/render") => {
                json!({"document": document})
            }
            _ => Value::Null,
        };
        let workflow = workflow_of(owner, method, thing);
        let query = match path {
            "/v1/overlays/{name}/render" => "?node=n1",
            "/v1/workflows/{id}/log" => "?stage=job",
            "/v1/workflows/{id}/streams" => {
                "?stage=job&request=%7B%22what%22%3A%22attach%22%2C%22all%22%3Afalse%7D"
            }
            _ => "",
        };
        let file = self.file.to_string();
        let filled = match path {
            _ if path.starts_with("/v1/workflows/") => {
                path.replace("{id}", &workflow).replace("{stage}", &file)
            }
            "/v1/tokens/{name}" => path.replace("{name}", &wanted(&of(owner.name))),
            "/v1/users/{name}" | "/v1/users/{name}/quotas" | "/v1/users/{name}/sessions" => {
                path.replace("{name}", &user)
            }
            "/v1/nodes/{name}" if method != "GET" => path.replace("{name}", &wanted("n9")),
            "/v1/nodes/{name}/reboot" | "/v1/nodes/{name}/upgrade" | "/v1/nodes/{name}/drain" => {
                path.replace("{name}", &wanted("n2"))
            }
            _ if path.starts_with("/v1/nodes/") => path.replace("{name}", &wanted("n1")),
            "/v1/profiles/{name}" if missing && method == "PUT" => path.replace("{name}", &fresh),
            "/v1/profiles/{name}" => path.replace("{name}", &wanted("spare")),
            _ if path.starts_with("/v1/images/") => {
                path.replace("{name}", &wanted("tiny")).replace("{version}", "1")
            }
            _ if path.starts_with("/v1/operations/") => {
                path.replace("{id}", if missing { "999" } else { "1" })
            }
            _ if path.starts_with("/v1/overlays/") => {
                path.replace("{name}", &wanted("hosts")).replace("{path}", "etc/motd")
            }
            _ => path.to_owned(),
        };
        (!filled.contains('{')).then(|| Ask { path: filled + query, body })
    }

    async fn send(
        &self,
        method: &str,
        ask: &Ask,
        token: Option<&str>,
    ) -> anyhow::Result<reqwest::Response> {
        let url = self.context.server.join(&ask.path)?;
        let mut request = self.http.request(Method::from_bytes(method.as_bytes())?, url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !ask.body.is_null() {
            request = request.json(&ask.body);
        }
        if ask.path.contains("/streams?") {
            request = request
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_VERSION, "13")
                .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
        }
        let sent = request.send().await;
        sent.with_context(|| format!("{method} {}", ask.path))
    }

    /// What a person is answered: `allowed`, or the status of the refusal.
    async fn cell(
        &mut self,
        method: &str,
        path: &str,
        asks: Option<&'static str>,
        thing: Thing,
    ) -> anyhow::Result<String> {
        let who = if asks == Some(READER) { Some(self.eve.name) } else { asks };
        let ask = self.ask(method, path, who, thing);
        let ask = ask.with_context(|| {
            format!(
                "no request is known for {method} {path}: add one to vm-tests/tests/sim/rights.rs"
            )
        })?;
        let token = match asks {
            None => None,
            Some("ann") => Some(self.ann.token.clone()),
            Some(READER) => Some(self.reads.clone()),
            Some(_) => Some(self.eve.token.clone()),
        };
        let response = self.send(method, &ask, token.as_deref()).await?;
        let status = response.status();
        let (what, changed) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                (status.as_u16().to_string(), false)
            }
            _ => {
                let is_read = method == "GET" && status.is_success();
                let is_told = is_read || status.is_server_error();
                let words = if is_told { words_of(response).await? } else { String::new() };
                ensure!(
                    !status.is_server_error(),
                    "{method} {} by {asks:?}: {status}: {words}",
                    ask.path
                );
                let private = PRIVATE.iter().find(|private| words.contains(**private));
                match asks {
                    Some("eve") if is_read && path == "/v1/nodes" => {
                        ensure!(private.is_some(), "an admin reads: {words}")
                    }
                    Some("eve") => {}
                    // An admin's: it says what was asked for, by whatever name.
                    Some(READER) if path == "/v1/audit" => {}
                    _ => ensure!(
                        private.is_none(),
                        "{} tells {asks:?} {private:?}: {words}",
                        ask.path
                    ),
                }
                ("allowed".to_owned(), method != "GET")
            }
        };
        if changed {
            self.mend().await?;
        }
        Ok(what)
    }

    /// Whose rows a list has, for who asks.
    async fn rows(&self, list: &str, field: &str, person: &Person) -> anyhow::Result<String> {
        let ask = Ask { path: list.to_owned(), body: Value::Null };
        let response = self.send("GET", &ask, Some(&person.token)).await?;
        if !response.status().is_success() {
            return Ok(response.status().as_u16().to_string());
        }
        let rows: Vec<Value> = response.json().await?;
        let whose = |row: &Value| match row[field].as_str() {
            Some(name) if name == person.name => Some("own"),
            Some("ann" | "bob") => Some("other's"),
            _ => None,
        };
        let whose: BTreeSet<&str> = rows.iter().filter_map(whose).collect();
        Ok(whose.into_iter().collect::<Vec<_>>().join("+"))
    }
}

/// The body; of a stream of events, which may never end, what comes first.
async fn words_of(mut response: reqwest::Response) -> anyhow::Result<String> {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| !kind.as_bytes().starts_with(b"text/event-stream")) {
        return Ok(String::from_utf8_lossy(&response.bytes().await?).into_owned());
    }
    let first = response.chunk().await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&first).into_owned())
}

/// Name of the workflow and of a token of a person.
fn of(name: &str) -> String {
    format!("of-{name}")
}

/// The workflow of a person that a request is about.
fn workflow_of(owner: &Person, method: &str, thing: Thing) -> String {
    // What is over is asked for again and again: one that runs is asked to be deleted.
    let is_deletion = method == "DELETE";
    match thing {
        Thing::Missing => "3f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".to_owned(),
        Thing::OthersByName if is_deletion => waits(owner.name),
        Thing::OthersByName => of(owner.name),
        _ if is_deletion => owner.waits.clone(),
        _ => owner.over.clone(),
    }
}

/// Name of the workflow of a person that runs.
fn waits(name: &str) -> String {
    format!("waits-{name}")
}

/// As which account the jobs of these people run.
fn uid_of(name: &str) -> u32 {
    match name {
        "ann" => 1001,
        "bob" => 1002,
        _ => 1003,
    }
}

fn record(name: &str, uid: u32, admin: bool) -> User {
    let account = Some(Account { uid, gid: uid, groups: Vec::new() });
    User { name: name.to_owned(), admin, account, comment: None }
}

async fn token(admin: &Client, user: &str, name: &str) -> anyhow::Result<String> {
    let create = CreateToken {
        name: name.to_owned(),
        user: Some(user.to_owned()),
        ..CreateToken::default()
    };
    Ok(admin.create_token(&create).await?.token)
}

/// A user with a workflow that is over, and the number of the stage that took its file out.
async fn person(
    cluster: &Cluster,
    name: &'static str,
    uid: u32,
    admin: bool,
) -> anyhow::Result<(Person, u32)> {
    cluster.client().add_user(&record(name, uid, admin)).await?;
    let token = token(cluster.client(), name, "test").await?;
    let client = cluster.client_with(token.clone())?;
    let document = format!(
        "version: v1\nvolumes:\n  data:\n    use: ephemeral\n    egress:\n\
         \x20     - {{source: file://out, destination: local:///out}}\n\
         jobs:\n  job: {{image: {{uri: docker://{IMAGE}}}, mounts: {{/data: data}}, command: [/bin/true],\n\
         \x20       resource: {{cpu: {{cores: 1}}, memory: {{size: 16MiB}}}}}}\n"
    );
    let start = StartWorkflow { name: Some(of(name)), document, user: None };
    let over = client.start_workflow(&start).await?.id.to_string();
    let workflow = end(&client, &over).await?;
    let file = workflow.files.first().context("no file came out of the volume")?;
    ensure!(file.size.is_some(), "the file is not here: {workflow:?}");
    Ok((Person { name, admin, token, over, waits: String::new() }, file.stage))
}

/// Which things a route is asked about.
fn things(path: &str, method: &str) -> &'static [Thing] {
    match (method, path) {
        ("POST", "/v1/workflows" | "/v1/tokens") => &[Thing::Own, Thing::Others, Thing::Missing],
        // Workflows of these names, of which there are none.
        ("GET", "/v1/workflows/validate" | "/v1/workflows/render") => &[Thing::Missing],
        (_, "/v1/workflows/validate" | "/v1/workflows/render") => &[Thing::Site],
        _ if path.starts_with("/v1/workflows/") => {
            &[Thing::Own, Thing::Others, Thing::OthersByName, Thing::Missing]
        }
        (
            _,
            "/v1/users/{name}"
            | "/v1/users/{name}/quotas"
            | "/v1/users/{name}/sessions"
            | "/v1/tokens/{name}",
        ) => &[Thing::Own, Thing::Others, Thing::Missing],
        ("PATCH", "/v1/nodes") => &[Thing::Site, Thing::Missing],
        _ if path.contains('{') => &[Thing::Site, Thing::Missing],
        _ => &[Thing::Site],
    }
}

#[test]
fn who_may_do_what() {
    in_namespace(async {
        let mut site = Site::new().await?;
        site.mend().await?;
        let document = site.cluster.client().openapi().await?;
        let paths = document["paths"].as_object().context("the document has no paths")?.clone();
        let ann = site.cluster.client_with(site.ann.token.clone())?.whoami().await?;
        let mut matrix = format!(
            "{:6} {:44} {:16} {:10} {:8} {:8}\n",
            "method", "path", "thing", "anonymous", "user", "admin"
        );
        for (path, item) in &paths {
            for (method, operation) in item.as_object().context("a path without methods")? {
                let method = method.to_uppercase();
                let action = &operation["x-action"];
                let is_open = operation["security"].is_array();
                ensure!(
                    is_open == action.is_null(),
                    "{method} {path} is for everybody, or has an action"
                );
                let permitted = ann.actions.iter().find(|one| action == one.action.as_str());
                let on = permitted.map(|permitted| permitted.on);
                for &thing in things(path, &method) {
                    let mut cells = Vec::new();
                    for asks in [None, Some("ann"), Some("eve")] {
                        cells.push(site.cell(&method, path, asks, thing).await?);
                    }
                    // A token to read with does what its user may do, of what only reads.
                    let reads =
                        action.as_str().and_then(Action::from_word).is_some_and(Action::only_reads);
                    let reads = reads || is_open;
                    let scoped = site.cell(&method, path, Some(READER), thing).await?;
                    let wanted = if reads { cells[2].as_str() } else { "403" };
                    ensure!(
                        scoped == wanted,
                        "{method} {path} {thing:?} with a token to read: {scoped}"
                    );
                    let is_as_told = match is_open {
                        true => cells.iter().all(|cell| cell == "allowed"),
                        false => is_as_told(on, thing, &cells[1], path),
                    };
                    ensure!(
                        is_as_told,
                        "{method} {path} {thing:?}: {action} is permitted on {on:?}: {cells:?}"
                    );
                    let line = format!(
                        "{method:6} {path:44} {:16} {:10} {:8} {:8}",
                        thing.as_str(),
                        cells[0],
                        cells[1],
                        cells[2]
                    );
                    writeln!(matrix, "{}", line.trim_end())?;
                }
            }
        }
        // What no route names.
        for method in ["GET", "POST"] {
            let mut line = format!("{method:6} {UNLISTED:44} {:16}", Thing::Missing.as_str());
            for asks in [None, Some("ann"), Some("eve")] {
                write!(line, " {:9}", site.cell(method, UNLISTED, asks, Thing::Missing).await?)?;
            }
            writeln!(matrix, "{}", line.trim_end())?;
        }
        matrix += &whose_rows(&site).await?;
        expect_file!["./rights.txt"].assert_eq(&matrix);
        Ok(())
    });
}

/// What a user is told to be permitted is what the user may do. `on`: told; `cell`: what the
/// user is answered.
fn is_as_told(on: Option<Extent>, thing: Thing, cell: &str, path: &str) -> bool {
    match (on, thing) {
        (None, _) => cell == "403",
        (Some(Extent::Own), Thing::Others | Thing::OthersByName) => cell != "allowed",
        (Some(_), Thing::Missing) => cell != "401",
        (Some(_), _) => cell == "allowed" || path == NEVER_SENT,
    }
}

/// The part of the matrix that says whose rows a list has.
async fn whose_rows(site: &Site) -> anyhow::Result<String> {
    let mut matrix = format!("\n{:32} {:16} {:16}\n", "whose rows", "user", "admin");
    for (list, field) in [
        ("/v1/workflows", "user"),
        ("/v1/workflows?limit=0", "user"),
        ("/v1/tokens", "user"),
        ("/v1/users", "name"),
    ] {
        let user = site.rows(list, field, &site.ann).await?;
        let admin = site.rows(list, field, &site.eve).await?;
        writeln!(matrix, "{}", format!("{list:32} {user:16} {admin:16}").trim_end())?;
    }
    Ok(matrix)
}
