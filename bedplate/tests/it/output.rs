//! `-o json`, `yaml` and `csv` of every command, against a server with something of everything.
//!
//! A command of `docs/reference/cli.md` that has no call here fails the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::Value;

use crate::{
    server::{Done, Server},
    upgrade::unpack,
};

/// What a call comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It prints something and succeeds.
    Works,
    /// It prints something; its exit status says what that is like.
    Tells,
    /// It fails and prints nothing.
    Fails,
}

use Outcome::{Fails, Tells, Works};

/// Commands that change nothing: what they print is the same in every format.
const READS: &[(&str, &[&str], Outcome)] = &[
    ("node list", &[], Works),
    ("node list", &["n00002"], Works),
    ("node show", &["n00001"], Works),
    ("node show", &["n00001,n00002"], Works),
    ("node show", &["n00001", "n00002", "--history"], Works),
    ("node show", &["n00001", "--devices"], Works),
    ("node show", &["n00001", "--topology"], Works),
    ("node explain", &["n00001"], Works),
    ("node inventory", &["n00001"], Works),
    ("node inventory", &["n00001", "n00002"], Works),
    ("node compare", &["n00001", "n00002"], Tells),
    ("node history", &["n00001"], Works),
    ("inventory query", &["true", "--columns", "name,os.name"], Works),
    ("profile list", &[], Works),
    ("profile show", &["base"], Works),
    ("export", &[], Works),
    ("image list", &[], Works),
    ("image show", &["tiny"], Works),
    ("operation list", &[], Works),
    ("operation show", &["1"], Works),
    ("overlay list", &[], Works),
    ("overlay show", &["hosts"], Works),
    ("overlay render", &["hosts", "n00001"], Works),
    ("whoami", &[], Works),
    ("user list", &[], Works),
    ("user show", &["ann"], Works),
    ("user quota", &["ann"], Works),
    ("token list", &[], Works),
    ("audit", &["--limit", "3"], Works),
    ("audit list", &["--limit", "3", "--wide"], Works),
    ("audit head", &[], Works),
    ("audit key", &[], Works),
    ("audit verify", &[], Works),
    ("context list", &[], Works),
    ("context show", &[], Works),
    ("version", &[], Works),
    ("server check", &["--config", "{folder}/server.yaml"], Works),
    ("server check", &["--config", "{folder}/wrong.yaml"], Tells),
    ("server ca status", &[], Works),
    ("server ca status", &["--state-dir", "{folder}/state"], Works),
    ("server alarms", &[], Works),
    ("workflow list", &[], Works),
    ("workflow status", &["sim-00000"], Works),
    ("workflow describe", &["sim-00000"], Works),
    ("workflow why", &["sim-00000"], Works),
    ("workflow top", &["sim-00000", "--once", "--interval", "1s"], Works),
    ("workflow files", &["sim-00000", "--list"], Works),
    ("workflow validate", &["{folder}/workflow.yaml"], Tells),
    ("workflow validate", &["{folder}/wrong.yaml"], Tells),
];

/// Commands that change something, in this order, each in one of the formats.
const WRITES: &[(&str, &[&str], Outcome)] = &[
    ("node add", &["x[1-2]"], Works),
    ("node set", &["x1", "--comment", "=1+1, \"quoted\""], Works),
    ("node list", &["x1"], Works),
    ("node drain", &["x[1-2]", "--reason", "new memory"], Works),
    ("node undrain", &["x1"], Works),
    ("node arm", &["x1"], Works),
    ("node trust", &["x1", "--epoch", "1"], Fails),
    ("node revoke", &["x1"], Works),
    ("node reboot", &["x1"], Fails),
    ("node upgrade", &["x1"], Fails),
    ("node delete", &["x[1-2]"], Works),
    ("profile set", &["p1", "--comment", "x"], Works),
    ("profile delete", &["p1"], Works),
    ("apply", &["-f", "-"], Works),
    ("overlay set-file", &["motd", "/etc/motd", "{folder}/workflow.yaml"], Works),
    ("overlay edit", &["motd", "/etc/motd"], Works),
    ("overlay remove-file", &["motd", "/etc/motd"], Works),
    ("overlay delete", &["motd"], Works),
    ("user add", &["bob"], Works),
    ("user set", &["bob", "--comment", "x"], Works),
    ("user set", &["bob", "--quota", "logs=20GiB,tokens=none"], Works),
    ("user logout", &["bob"], Works),
    ("user delete", &["bob"], Works),
    ("token create", &["t"], Works),
    ("token delete", &["t"], Works),
    ("context create", &["c", "{address}", "--ca", "{folder}/ca.pem", "--token-stdin"], Works),
    ("context add", &["d", "{folder}/state/admin.yaml"], Works),
    ("context use", &["d"], Works),
    ("context list", &[], Works),
    ("context remove", &["d"], Works),
    ("image import", &["oci:/nonexistent:1", "--name", "none", "--detach"], Works),
    ("operation watch", &["2"], Tells),
    ("operation watch", &["1"], Works),
    ("image import", &["oci:/nonexistent:1", "--name", "none"], Fails),
    ("image delete", &["tiny@1"], Fails),
    ("workflow start", &["{folder}/workflow.yaml", "--as", "ann"], Works),
    ("workflow pause", &["workflow"], Works),
    ("workflow resume", &["workflow"], Works),
    ("workflow stop", &["workflow", "sim-00000"], Works),
    ("workflow watch", &["workflow"], Tells),
    ("workflow files", &["workflow"], Works),
    ("workflow delete", &["workflow"], Works),
    ("node watch", &["n0000[1-3]", "--until", "offered", "--timeout", "1s"], Tells),
    ("operation cancel", &["1"], Fails),
    // The last, because what is above knows the token of before.
    ("token rotate", &["--expires", "20d"], Works),
    ("server recover-admin", &["--state-dir", "{folder}/state"], Works),
    // The server runs.
    ("server accept-audit-cut", &["7", "--state-dir", "{folder}/state"], Fails),
];

/// Commands that have one form of output alone: with `-o` they are used wrongly.
const OTHERS: &[(&str, &[&str])] = &[
    ("completion", &["bash", "-o", "json"]),
    ("server", &["--config", "{folder}/server.yaml", "-o", "json"]),
    ("server adopt", &["--config", "{folder}/server.yaml", "-o", "json"]),
    ("workflow log", &["sim-00000", "-o", "json"]),
    ("workflow attach", &["sim-00000", "-o", "json"]),
    ("workflow exec", &["-o", "json", "sim-00000", "true"]),
    ("workflow port-forward", &["sim-00000", "80", "-o", "json"]),
    ("workflow document", &["sim-00000", "-o", "json"]),
    ("workflow render", &["{folder}/workflow.yaml", "-o", "csv"]),
    ("node show", &["n00001", "--topology", "--xml", "-o", "json"]),
];

/// What no server without a running job can be asked.
const NOT_REACHED: &[&str] = &["workflow cp"];

const DOCUMENT: &str = "version: v1\njobs:\n  work: {image: 'docker://127.0.0.1:1/none:1', command: [work], \
    resource: {cpu: {cores: 1}, memory: {size: 16MiB}}}\n";

/// A server with nodes, their hardware, an image, an operation, users, and a workflow.
struct Site {
    server: Server,
    address: String,
    token: String,
    columns: BTreeMap<String, Vec<String>>,
}

impl Site {
    fn new() -> Self {
        let server = Server::start_on(unpack);
        let admin = client::Context::read(&server.path("state/admin.yaml")).unwrap();
        fs::write(server.path("ca.pem"), admin.ca.unwrap()).unwrap();
        fs::write(server.path("workflow.yaml"), DOCUMENT).unwrap();
        fs::write(server.path("wrong.yaml"), "statedir: 1\nlog: {level: loud}\n").unwrap();
        let host = admin.server.host_str().unwrap();
        let address = format!("{host}:{}", admin.server.port().unwrap());
        Self { server, address, token: admin.token, columns: columns() }
    }

    fn run(&self, command: &str, arguments: &[&str], format: &str) -> Done {
        let directory = self.server.directory.path().display().to_string();
        let fill =
            |word: &&str| word.replace("{folder}", &directory).replace("{address}", &self.address);
        let mut words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        words.extend(arguments.iter().map(fill));
        if !format.is_empty() {
            words.extend(["-o".to_owned(), format.to_owned()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let input = match command {
            "apply" => "profiles: {p2: {comment: x}}\n",
            _ => self.token.as_str(),
        };
        let home = self.server.path("home").display().to_string();
        let variables = [("EDITOR", "true"), ("VISUAL", ""), ("XDG_CONFIG_HOME", home.as_str())];
        self.server.run_with(&words, input, &variables)
    }

    /// What a call prints in a format, as a tree where the format has one.
    #[track_caller]
    fn print(
        &self,
        command: &str,
        arguments: &[&str],
        format: &str,
        outcome: Outcome,
    ) -> Option<Value> {
        let done = self.run(command, arguments, format);
        let what = format!("{command} {arguments:?} -o {format}: {done:?}");
        let codes: &[i32] = match outcome {
            Works => &[0],
            Fails => &[1],
            Tells => &[0, 1],
        };
        assert!(codes.contains(&done.code.unwrap()), "{what}");
        if outcome == Fails {
            assert_eq!(done.stdout, "", "{what}");
            return None;
        }
        assert_ne!(done.stdout, "", "{what}");
        let goes_on = command.ends_with(" watch");
        match format {
            "json" if goes_on => {
                let parsed = serde_json::from_str::<Value>;
                let lines = done.stdout.lines().map(|line| parsed(line).expect(&what));
                Some(lines.collect())
            }
            "json" => Some(serde_json::from_str(&done.stdout).expect(&what)),
            "yaml" if goes_on => {
                let documents = done.stdout.strip_prefix("---\n").expect(&what).split("\n---\n");
                Some(
                    documents
                        .map(|text| serde_saphyr::from_str::<Value>(text).expect(&what))
                        .collect(),
                )
            }
            "yaml" => Some(serde_saphyr::from_str(&done.stdout).expect(&what)),
            _ => {
                let wanted = self.columns_of(command, arguments).join(",");
                assert_eq!(done.stdout.split("\r\n").next(), Some(wanted.as_str()), "{what}");
                assert!(done.stdout.ends_with("\r\n"), "{what}");
                None
            }
        }
    }

    fn columns_of(&self, command: &str, arguments: &[&str]) -> Vec<String> {
        if command == "inventory query" {
            return arguments[2].split(',').map(str::to_owned).collect();
        }
        let with = arguments.iter().find_map(|word| self.columns.get(&format!("{command} {word}")));
        let columns = with.or_else(|| self.columns.get(command));
        columns
            .unwrap_or_else(|| panic!("docs/reference/output.md has no columns of {command}"))
            .clone()
    }
}

/// The columns of each command, as `docs/reference/output.md` has them.
fn columns() -> BTreeMap<String, Vec<String>> {
    let page = include_str!("../../../docs/reference/output.md");
    let quoted =
        |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut columns = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        if let [_, commands, fields] = cells.as_slice() {
            columns.extend(quoted(commands).into_iter().map(|command| (command, quoted(fields))));
        }
    }
    columns
}

/// Commands that have no further words, or do something without them, from the page of commands.
fn all_commands() -> BTreeSet<&'static str> {
    let page = include_str!("../../../docs/reference/cli.md");
    let named = || page.lines().filter_map(|line| line.strip_prefix("## bedplate "));
    let is_leaf = |command: &&str| {
        matches!(*command, "server" | "audit")
            || !named().any(|other| other.starts_with(&format!("{command} ")))
    };
    named().filter(is_leaf).collect()
}

#[test]
fn every_command_is_called_here() {
    let called = READS.iter().chain(WRITES).map(|(command, ..)| *command);
    let called: BTreeSet<&str> = called
        .chain(OTHERS.iter().map(|(command, _)| *command))
        .chain(NOT_REACHED.iter().copied())
        .collect();
    assert_eq!(called, all_commands());
}

#[test]
fn what_is_read_is_one_tree_in_every_format() {
    let site = Site::new();
    for (command, arguments, outcome) in READS {
        let in_format = |format| site.print(command, arguments, format, *outcome).unwrap();
        // What the server does meanwhile may come between.
        let is_same = (0..5).any(|_| in_format("json") == in_format("yaml"));
        assert!(is_same, "{command} {arguments:?}: {} {}", in_format("json"), in_format("yaml"));
        site.print(command, arguments, "csv", *outcome);
    }
    let json =
        |command: &str, arguments: &[&str]| site.print(command, arguments, "json", Works).unwrap();
    for (kind, name) in [
        ("node", "n00001"),
        ("profile", "base"),
        ("image", "tiny"),
        ("operation", "1"),
        ("overlay", "hosts"),
        ("user", "ann"),
    ] {
        let (list, show) = (format!("{kind} list"), format!("{kind} show"));
        let is_same = (0..5).any(|_| {
            let shown = json(&show, &[name]);
            json(&list, &[]).as_array().unwrap().contains(&shown)
        });
        assert!(is_same, "{kind}: {} is not in {}", json(&show, &[name]), json(&list, &[]));
    }
    let both = json("node show", &["n00001", "n00002"]);
    assert_eq!(both.as_array().unwrap().len(), 2);
    for (command, arguments) in OTHERS {
        let done = site.run(command, arguments, "");
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{command}: {done:?}");
        assert!(done.stderr.contains("-o"), "{done:?}");
    }
}

#[test]
fn what_is_done_is_told_in_every_format() {
    let site = Site::new();
    for (number, (command, arguments, outcome)) in WRITES.iter().enumerate() {
        site.print(command, arguments, ["json", "csv", "yaml"][number % 3], *outcome);
    }
    // A list of nothing.
    assert_eq!(site.run("node list", &[], "json").code, Some(0));
    site.server.run(&["node", "delete", "n0000[1-3]"]).ok();
    assert_eq!(site.run("node list", &[], "json").ok(), "[]\n");
    assert_eq!(site.run("node list", &[], "yaml").ok(), "[]\n");
    assert_eq!(
        site.run("node list", &[], "csv").ok(),
        site.columns["node list"].join(",") + "\r\n"
    );
    // Values stay as they are, quoted where that is needed.
    site.server.run(&["node", "add", "y1", "--comment", "=1+1, \"quoted\""]).ok();
    let csv = site.run("node list", &[], "csv").ok();
    assert!(csv.contains(",\"=1+1, \"\"quoted\"\"\","), "{csv}");
}
