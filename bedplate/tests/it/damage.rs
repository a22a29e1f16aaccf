//! One bad thing does not stop all: what cannot be read is that object's error, shown with its
//! reason, and holds the nodes that use it. All others work, now and after a restart.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{nodes::query, server::Server, upgrade::unpack};

/// How often something is looked for that comes by itself, and the pause between: a busy machine
/// needs seconds.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(100);

/// What a command prints as soon as it is as wanted.
#[track_caller]
fn until(server: &Server, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let mut last = String::new();
    for _ in 0..LOOKS {
        last = server.run(arguments).ok();
        if wanted(&last) {
            return last;
        }
        thread::sleep(PAUSE);
    }
    panic!("{arguments:?}: {last}");
}

/// The line of a table that begins with a word.
fn line<'a>(table: &'a str, word: &str) -> &'a str {
    let found = table.lines().find(|line| line.split_whitespace().next() == Some(word));
    found.unwrap_or_else(|| panic!("{word} is not in {table}"))
}

/// `server check` of this server's configuration.
fn check(server: &Server) -> crate::server::Done {
    let config = server.path("server.yaml").display().to_string();
    server.run(&["server", "check", "--config", &config])
}

/// Lines of a node's history that say what holds it.
fn held_lines(server: &Server, node: &str) -> Vec<String> {
    let history = server.run(&["node", "history", node]).ok();
    let about = |line: &&str| line.contains("held");
    history.lines().filter(about).map(str::to_owned).collect()
}

/// The status line of the answer to a request of a booting machine.
fn boot_request(server: &Server, path: &str) -> String {
    let config = fs::read_to_string(server.path("server.yaml")).unwrap();
    let address = config.split("server-addresses: [").nth(1).unwrap().split(']').next().unwrap();
    let mut stream = TcpStream::connect((address, 9480)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_file_that_is_too_large_holds_the_nodes_of_its_overlay() {
    let mut server = Server::start();
    server.run(&["node", "add", "n[1-2]", "--address", "10.1.0.11/24"]).ok();
    let large = server.path("site/big/rootfs/large");
    fs::create_dir_all(large.parent().unwrap()).unwrap();
    fs::File::create(&large).unwrap().set_len((16 << 20) + 1).unwrap();
    let listed = until(&server, &["overlay", "list"], |text| text.contains("PROBLEM"));
    assert!(line(&listed, "big").contains("it is larger than 16 MiB"), "{listed}");
    assert!(!line(&listed, "hosts").contains("PROBLEM"), "{listed}");
    let shown = server.run(&["overlay", "show", "big"]).ok();
    assert!(shown.contains("problem: ") && shown.contains("rootfs/large"), "{shown}");
    let shown = server.run(&["overlay", "show", "big", "-o", "json"]).ok();
    assert!(shown.contains("\"problems\""), "{shown}");

    // All others follow, now and after a restart.
    for text in ["one\n", "two\n"] {
        let set = ["overlay", "set-file", "motd", "/etc/motd", "-"];
        server.run_with(&set, text, &[]).ok();
        assert_eq!(server.run(&["overlay", "render", "motd", "n1", "/etc/motd"]).ok(), text);
        let checked = check(&server);
        assert!(
            checked.stderr.contains("problem: overlay big: ") && checked.stderr.contains("16 MiB")
        );
        assert!(checked.ok().starts_with("starts, with 1 problem: "));
        server.kill_and_restart();
    }
    let listed = server.run(&["node", "list"]).ok();
    assert!(!listed.contains("held"), "nobody uses it: {listed}");

    // Only who uses it is held, and says why.
    server.run(&["node", "set", "n2", "--runtime-overlay", "big"]).ok();
    let listed = until(&server, &["node", "list"], |text| text.contains("held"));
    assert!(
        line(&listed, "n2").contains("held: overlay big: ") && listed.contains("16 MiB"),
        "{listed}"
    );
    assert!(!line(&listed, "n1").contains("held"), "{listed}");
    assert!(server.run(&["node", "show", "n2"]).ok().contains("held: overlay big"));
    let refused = server.run(&["overlay", "render", "big", "n2"]).failed();
    assert!(refused.contains("16 MiB"), "{refused}");
    fs::remove_file(&large).unwrap();
    until(&server, &["node", "list"], |text| !text.contains("held"));
    let lines = held_lines(&server, "n2");
    assert!(lines.len() == 2 && lines[0].contains("no longer held"), "{lines:?}");
    assert!(!server.run(&["overlay", "list"]).ok().contains("PROBLEM"));
    assert!(check(&server).ok().starts_with("good: "));
}

#[test]
fn what_the_reader_would_refuse_is_refused_and_writes_nothing() {
    let server = Server::start();
    let large = server.path("large");
    fs::File::create(&large).unwrap().set_len((16 << 20) + 1).unwrap();
    let set = ["overlay", "set-file", "x", "/etc/x", large.to_str().unwrap()];
    let refused = server.run(&set).failed();
    assert!(refused.contains("16777216 bytes"), "{refused}");
    // As a program would, past the command line.
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let client = client::Client::new(&context).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = "x".parse().unwrap();
    let put = client.put_overlay_file(&name, "/etc/x", 0o644, false, vec![0; (16 << 20) + 1]);
    let refused = runtime.block_on(put).unwrap_err();
    assert!(format!("{refused:?}").contains("16777216"), "{refused:?}");
    assert!(!server.path("site/x").exists());
}

#[test]
fn a_node_or_profile_that_cannot_be_read_is_shown_and_can_be_mended() {
    let mut server = Server::start();
    server.run(&["profile", "set", "base", "--kernel-arg", "quiet"]).ok();
    server.run(&["node", "add", "n1", "--profile", "base"]).ok();
    server.run(&["node", "add", "n[2-3]"]).ok();
    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE provisioner_nodes SET spec = '{\"image\": 7}' WHERE name = 'n2'");
        query(directory, "UPDATE provisioner_profiles SET spec = '{' WHERE name = 'base'");
    });
    let listed = until(&server, &["node", "list"], |text| text.matches("held").count() == 2);
    assert!(line(&listed, "n1").contains("profile \"base\" cannot be read"), "{listed}");
    assert!(line(&listed, "n2").contains("its row in the database cannot be read"), "{listed}");
    assert!(!line(&listed, "n3").contains("held"), "{listed}");
    assert!(held_lines(&server, "n2")[0].contains("its row in the database cannot be read"));
    let profiles = server.run(&["profile", "list"]).ok();
    assert!(line(&profiles, "base").contains("PROBLEM"), "{profiles}");
    let checked = check(&server);
    assert!(checked.stderr.contains("problem: node n2 cannot be read"), "{checked:?}");
    assert!(checked.stderr.contains("problem: profile base cannot be read"), "{checked:?}");
    assert!(checked.ok().starts_with("starts, with 2 problems"));

    // The others are changed as ever; of what is not known nothing is lost.
    server.run(&["node", "set", "n3", "--tag", "a=b"]).ok();
    server.run(&["node", "add", "n4"]).ok();
    let refused = server.run(&["node", "set", "n2", "--tag", "a=b"]).failed();
    assert!(refused.contains("cannot be read") && refused.contains("bedplate apply"), "{refused}");
    let exported = server.run(&["export"]).ok();
    assert!(exported.contains("# node n2 is left out") && !exported.contains("n2:"), "{exported}");
    assert_eq!(
        query(server.directory.path(), "SELECT spec FROM provisioner_nodes WHERE name = 'n2'")
            .len(),
        1
    );

    let document = "profiles: {base: {}}\nnodes: {n2: {comment: mended}}\n";
    server.run_with(&["apply", "-f", "-"], document, &[]).ok();
    until(&server, &["node", "list"], |text| !text.contains("held"));
    assert!(check(&server).ok().starts_with("good: "));
    server.kill_and_restart();
    assert!(server.run(&["node", "show", "n2"]).ok().contains("mended"));
}

#[test]
fn an_image_that_is_missing_or_cannot_be_read_holds_its_nodes() {
    let mut server = Server::start_on(unpack);
    server.run(&["node", "add", "other"]).ok();
    // That state has the rows of an image and none of its files.
    let images = server.run(&["image", "list"]).ok();
    assert!(
        images.contains("problem of tiny@1: ") && images.contains("is missing on the"),
        "{images}"
    );
    let held = |text: &str| text.matches("held: the ").count() == 3;
    let listed = until(&server, &["node", "list"], held);
    assert!(line(&listed, "n00001").contains("of image tiny@1 is missing"), "{listed}");
    assert!(!line(&listed, "other").contains("held"), "{listed}");

    // Firmware asks again and again; the history says it once.
    let nodes = server.run(&["node", "list", "n00001", "-o", "json"]).ok();
    let mac =
        nodes.split("\"mac\": \"").nth(1).unwrap().split('"').next().unwrap().replace(':', "-");
    for _ in 0..50 {
        let answer = boot_request(&server, &format!("/boot/{mac}/script"));
        assert!(
            answer.starts_with("HTTP/1.1 500 ") && answer.contains("is missing on the"),
            "{answer}"
        );
    }
    assert_eq!(held_lines(&server, "n00001").len(), 1);

    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE provisioner_image_versions SET body = '{'");
    });
    let listed = until(&server, &["node", "list"], |text| text.matches("held").count() == 3);
    assert!(
        line(&listed, "n00002").contains("image tiny@1 cannot be read from the database"),
        "{listed}"
    );
    let images = server.run(&["image", "list"]).ok();
    assert!(
        images.contains("problem of tiny@1: its row in the database cannot be read"),
        "{images}"
    );
    let refused = server.run(&["image", "delete", "tiny"]).failed();
    assert!(refused.contains("boots it"), "{refused}");

    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE provisioner_image_versions SET version = -1");
    });
    let said = check(&server).stderr;
    assert!(said.contains("problem: name or version of an image cannot be read"), "{said}");
}

/// `server check` beside a server that does not run: what it says, and its verdict.
fn check_in(directory: &std::path::Path, further: &[&str]) -> (String, String) {
    let config = directory.join("server.yaml").display().to_string();
    let mut words = vec!["server", "check", "--config", config.as_str()];
    words.extend(further);
    let done = crate::server::done(crate::server::bedplate(&words), "");
    (done.stderr.clone(), done.ok())
}

#[test]
fn a_check_reads_the_rows_of_all_roles_and_changes_nothing() {
    let mut server = Server::start_on(unpack);
    server.kill_and_restart_after(|directory| {
        for damage in [
            "UPDATE fleet_nodes SET life = '[]' WHERE name = 'n00001'",
            "UPDATE fleet_inventories SET document = '{'
              WHERE node = (SELECT id FROM fleet_nodes WHERE name = 'n00002')",
            "UPDATE controller_workflows SET homes = '{'",
            "UPDATE controller_runs SET used = '{' WHERE run = (SELECT MIN(run) FROM controller_runs)",
            "UPDATE provisioner_operations SET body = '{'",
        ] {
            query(directory, damage);
        }
        let (said, verdict) = check_in(directory, &[]);
        for wanted in [
            "problem: the state of node n00001 cannot be read from the database: ",
            "problem: the inventory of node n00002 cannot be read from the database: ",
            " will be blocked: it cannot be read from the database (homes: ",
            "problem: the row of run ",
            ": its row in the database cannot be read: ",
        ] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        assert!(!said.contains("node n00003"), "{said}");
        assert!(verdict.starts_with("starts, with "), "{verdict}");
        assert_eq!(check_in(directory, &[]), (said, verdict), "it changes nothing");
    });
}

#[test]
fn a_check_looks_at_the_files_of_images_and_reads_them_if_it_shall() {
    let mut server = Server::start_on(unpack);
    server.kill_and_restart_after(|directory| {
        let missing = "problem: the squashfs of image tiny@1 is missing on the server's disk (";
        let (said, _) = check_in(directory, &[]);
        assert!(said.contains(missing), "{said}");
        let body = query(directory, "SELECT body FROM provisioner_image_versions").remove(0);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let hex =
            body["root"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let path = directory.join("state/images/blobs/sha256").join(&hex[..2]).join(&hex);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(&path).unwrap();
        file.set_len(1).unwrap();
        let (said, _) = check_in(directory, &[]);
        assert!(
            said.contains("problem: the squashfs of image tiny@1 has 1 bytes on the server's disk"),
            "{said}"
        );
        file.set_len(body["root"]["size"].as_u64().unwrap()).unwrap();
        let (said, _) = check_in(directory, &[]);
        assert!(!said.contains("squashfs of image"), "{said}");
        let (said, _) = check_in(directory, &["--deep"]);
        assert!(said.contains("problem: the squashfs of image tiny@1 has other bytes"), "{said}");
    });
}

#[test]
fn a_check_of_a_state_that_is_whole_finds_nothing_however_deep() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    let (said, verdict) = check_in(server.directory.path(), &["--deep"]);
    assert!(verdict.starts_with("good: ") && !said.contains("problem"), "{said}{verdict}");
}

/// A certificate authority, in the shape of its file, that begins and ends in these years.
fn authority(years: (i32, i32)) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    parameters.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    format!("{}{}", parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_server_in_the_wrong_time_gives_no_node_its_initrd_and_is_named() {
    let write = |directory: &std::path::Path, years| {
        fs::create_dir_all(directory.join("state/ca")).unwrap();
        fs::write(directory.join("state/ca/authority.pem"), authority(years)).unwrap();
    };
    let mut server = Server::start_on(|directory| {
        unpack(directory);
        write(directory, (2090, 2100));
    });
    let nodes = server.run(&["node", "list", "n00001", "-o", "json"]).ok();
    let mac =
        nodes.split("\"mac\": \"").nth(1).unwrap().split('"').next().unwrap().replace(':', "-");
    let why = "the server's clock is before 2090-01-01T00:00:00Z";
    for _ in 0..20 {
        let answer = boot_request(&server, &format!("/boot/{mac}/node.img"));
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(why), "{answer}");
    }
    assert!(server.run(&["node", "show", "n00001"]).ok().contains(why));
    let lines = held_lines(&server, "n00001");
    assert_eq!(lines.iter().filter(|line| line.contains(why)).count(), 1, "{lines:?}");
    assert!(check(&server).stderr.contains(why));
    assert!(fs::read_to_string(server.path("log")).unwrap().contains(why));

    // One that has expired is named, and holds nobody: nodes pin it by its fingerprint.
    server.kill_and_restart_after(|directory| write(directory, (2000, 2001)));
    let answer = boot_request(&server, &format!("/boot/{mac}/node.img"));
    assert!(!answer.contains("HTTP/1.1 503 "), "{answer}");
    assert!(check(&server).stderr.contains("has expired on 2001-01-01T00:00:00Z"));
}

#[test]
fn a_machine_without_an_image_says_so_until_it_has_other_values() {
    let server = Server::start();
    server.run(&["node", "add", "n1", "--mac", "52:54:00:12:34:56"]).ok();
    assert!(!server.run(&["node", "list"]).ok().contains("held"), "nobody asked for it yet");
    for _ in 0..20 {
        assert!(
            boot_request(&server, "/boot/52-54-00-12-34-56/script").starts_with("HTTP/1.1 404 ")
        );
    }
    let listed = server.run(&["node", "list"]).ok();
    assert!(line(&listed, "n1").contains("held: it has no image"), "{listed}");
    assert_eq!(held_lines(&server, "n1").len(), 1);
    server.run(&["node", "set", "n1", "--tag", "a=b"]).ok();
    until(&server, &["node", "list"], |text| !text.contains("held"));
}

#[test]
fn a_node_whose_state_cannot_be_read_begins_again_and_waits_for_a_person() {
    let mut server = Server::start();
    server.run(&["node", "add", "n[1-3]"]).ok();
    server.run(&["node", "arm", "n[1-3]"]).ok();
    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE fleet_nodes SET life = '[]' WHERE name = 'n1'");
        query(directory, "UPDATE fleet_nodes SET arming = 'x' WHERE name = 'n2'");
        query(directory, "UPDATE fleet_history SET severity = 'loud'");
    });
    let listed = server.run(&["node", "list"]).ok();
    for name in ["n1", "n2"] {
        assert!(line(&listed, name).contains("drained by bedplate: its state"), "{listed}");
        let history = server.run(&["node", "history", name]).ok();
        assert!(history.contains("cannot be read, and begins again"), "{history}");
        assert!(history.contains("this line cannot be read from the database"), "{history}");
    }
    assert!(!line(&listed, "n3").contains("drained"), "{listed}");
    for (name, armed) in [("n2", "no"), ("n3", "yes:")] {
        let shown = server.run(&["node", "show", name]).ok();
        assert_eq!(line(&shown, "armed").split_whitespace().nth(1), Some(armed), "{shown}");
    }
    server.run(&["node", "undrain", "n[1-2]"]).ok();
    server.kill_and_restart();
    assert!(!server.run(&["node", "list"]).ok().contains("drained"));
}

/// What the fleet port answers to a report with a certificate of this enrolment of a node, signed
/// by the server's own authority.
fn report_as(server: &Server, id: &str, epoch: u64) -> (u16, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secret = fs::read_to_string(server.path("state/ca/authority.pem")).unwrap();
    let (authority, key) = secret.split_at(secret.find("-----BEGIN PRIVATE KEY").unwrap());
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority, key).unwrap();
    let own = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, id);
    let urn = format!("urn:bedplate:epoch:{epoch}");
    parameters.subject_alt_names = vec![rcgen::SanType::URI(urn.try_into().unwrap())];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = parameters.signed_by(&own, &issuer).unwrap();
    let pem = format!("{}{}", certificate.pem(), own.serialize_pem());
    let config = fs::read_to_string(server.path("server.yaml")).unwrap();
    let address = config.split("server-addresses: [").nth(1).unwrap().split(']').next().unwrap();
    let http = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes()).unwrap()])
        .no_proxy()
        .identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let report = serde_json::json!({"phase": "stage1", "message": "here"});
        let request = http.post(format!("https://{address}:9443/node/v1/report")).json(&report);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

#[test]
fn a_node_whose_enrolments_cannot_be_read_is_in_conflict_until_a_person_decides() {
    let mut server = Server::start();
    server.run(&["node", "add", "n[1-2]"]).ok();
    let mut ids = Vec::new();
    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE fleet_nodes SET enrolments = '[' WHERE name = 'n1'");
        ids = query(directory, "SELECT id FROM fleet_nodes ORDER BY name");
    });
    let listed = server.run(&["node", "list"]).ok();
    assert!(
        line(&listed, "n1").contains("in conflict: it cannot be read which of its"),
        "{listed}"
    );
    assert!(!line(&listed, "n2").contains("conflict"), "{listed}");
    server.run(&["node", "revoke", "n1"]).ok();
    // Whatever there was is dead, though nothing is known of it. The same certificate is good for a
    // node of which it is known that nothing was revoked.
    let is_dead = |server: &Server| {
        let (status, said) = report_as(server, &ids[0], 3);
        assert!(status == 403 && said.contains("its enrolment 3 were revoked"), "{status} {said}");
    };
    is_dead(&server);
    assert_eq!(report_as(&server, &ids[1], 3), (204, String::new()));
    server.kill_and_restart();
    is_dead(&server);
    let listed = server.run(&["node", "list"]).ok();
    assert!(!listed.contains("conflict"), "{listed}");
}

#[test]
fn an_inventory_that_cannot_be_read_is_that_nodes_alone() {
    let mut server = Server::start_on(unpack);
    server.kill_and_restart_after(|directory| {
        query(
            directory,
            "UPDATE fleet_inventories SET document = '{', digest = 'x'
              WHERE node = (SELECT id FROM fleet_nodes WHERE name = 'n00001')",
        );
    });
    let refused = server.run(&["node", "inventory", "n00001"]).failed();
    assert!(refused.contains("cannot be read from the database"), "{refused}");
    server.run(&["node", "inventory", "n00002"]).ok();
    assert!(server.run(&["node", "show", "n00001"]).ok().contains("phase"));
    let asked = server.run(&["inventory", "query", "true", "--columns", "name"]);
    assert!(asked.stdout.contains("n00002") && asked.stdout.contains("n00003"), "{asked:?}");
    assert!(format!("{asked:?}").contains("n00001"), "what is not clear is told: {asked:?}");
}

#[test]
fn an_operation_or_workflow_that_cannot_be_read_stops_no_server() {
    let mut server = Server::start_on(unpack);
    server.kill_and_restart_after(|directory| {
        query(directory, "UPDATE provisioner_operations SET body = '{'");
        query(directory, "UPDATE controller_workflows SET homes = '{'");
        query(
            directory,
            "UPDATE controller_runs SET used = '{' WHERE run = (SELECT MIN(run) FROM controller_runs)",
        );
    });
    let operations = server.run(&["operation", "list"]).ok();
    assert!(operations.contains("cannot be read"), "{operations}");
    let workflows = server.run(&["workflow", "list", "-o", "json"]).ok();
    assert!(workflows.contains("cannot be read from the database (homes: "), "{workflows}");
    let name = workflows.split("\"name\": \"").nth(1).unwrap().split('"').next().unwrap();
    server.run(&["workflow", "stop", name]).ok();
}
