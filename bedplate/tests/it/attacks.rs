//! What strangers and users send with bad intent to the real server, and what that makes it
//! hold: bytes, threads, descriptors. docs/testing.md says which test stands for which script
//! of the campaign.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use client::{Client, ClientError, Context};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::runtime::{Builder, Runtime};

use crate::{
    server::Server,
    strangers::{boot_port_answers, metrics, port},
};

/// Strangers of all ports together in these tests.
const STRANGERS: usize = 40;

/// Those of one address at the ports of nodes and users.
const PLACES: usize = 8;

/// Connections of each kind of attack: more than there are places.
const FLOOD: usize = 30;

/// Descriptors that a server opens and closes by itself: its database, its templates, its logs.
const OWN_DESCRIPTORS: usize = 12;

/// Threads that work on blocking calls come and go.
const OWN_THREADS: usize = 24;

/// What an attack may make the server hold, bytes: far below what each of them took.
const MOST_BYTES: u64 = 96 << 20;

/// Steps of 100 ms in which something must have come to its end.
const MAX_STEPS: u32 = 300;
const STEP: Duration = Duration::from_millis(100);

/// How long an answer may take that the server does not owe.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server holds.
#[derive(Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
    /// Resident, bytes: now, and the most since [`before`].
    bytes: u64,
    peak_bytes: u64,
}

impl Held {
    fn by(server: &Server) -> Self {
        let of = |part: &str| format!("/proc/{}/{part}", server.pid());
        let status = fs::read_to_string(of("status")).unwrap();
        let kibibytes = |key: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            threads: fs::read_dir(of("task")).unwrap().count(),
            descriptors: fs::read_dir(of("fd")).unwrap().count(),
            bytes: kibibytes("VmRSS:") << 10,
            peak_bytes: kibibytes("VmHWM:") << 10,
        }
    }
}

/// What the server holds now. The peak is counted again from here (proc(5), `clear_refs`), where
/// the kernel can do that.
fn before(server: &Server) -> Held {
    let _ = fs::write(format!("/proc/{}/clear_refs", server.pid()), "5");
    Held::by(server)
}

/// The server never held more than this beside what it held before.
#[track_caller]
fn took_at_most(bytes: u64, before: &Held, server: &Server, attack: &str) {
    let held = Held::by(server);
    let most = before.peak_bytes.max(before.bytes + bytes);
    assert!(held.peak_bytes <= most, "{attack}: {held:?}, before {before:?}");
    assert!(held.threads <= before.threads + OWN_THREADS, "{attack}: {held:?}, before {before:?}");
}

/// A server with few places for strangers.
fn tight() -> Server {
    let mut server = Server::start();
    server.kill_and_restart_after(|directory: &Path| {
        let path = directory.join("server.yaml");
        let limits = format!(
            "limits: {{unproven-connections: {STRANGERS}, unproven-per-address: {PLACES}}}\n"
        );
        fs::write(&path, fs::read_to_string(&path).unwrap() + &limits).unwrap();
    });
    server
}

fn context(server: &Server) -> Context {
    Context::read(&server.path("state/admin.yaml")).unwrap()
}

fn client(server: &Server) -> Client {
    Client::new(&context(server)).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connections that trust the server and prove nothing.
struct Dialer(Arc<ClientConfig>, ServerName<'static>);

impl Dialer {
    /// `protocols`: what it would speak (ALPN); nothing is said of it without.
    fn of(server: &Server, protocols: &[&str]) -> Self {
        let context = context(server);
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(context.ca.unwrap().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = context.server.host_str().unwrap().to_owned();
        Self(Arc::new(config), ServerName::try_from(name).unwrap())
    }

    /// `None`: the server would have none of it.
    fn dial(&self, server: &Server, number: u16, sent: &[u8]) -> Option<Tls> {
        let tcp = TcpStream::connect(port(server, number)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let connection = ClientConnection::new(self.0.clone(), self.1.clone()).unwrap();
        let mut tls = StreamOwned::new(connection, tcp);
        tls.write_all(sent).ok()?;
        Some(tls)
    }
}

const HALF_HEAD: &[u8] = b"GET /boot/52-54-00-77-00-11/script HTTP/1.1\r\nHost: x\r\nX-a: ";
const HALF_BODY: &[u8] =
    b"POST /node/v1/enroll HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\n\
    content-length: 1000\r\n\r\n{";
const HTTP2: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82";

#[test]
fn slow_and_foreign_connections_hold_places_and_nothing_else() {
    let server = tight();
    boot_port_answers(&server);
    let before = before(&server);
    let dialer = Dialer::of(&server, &[]);
    let (mut plain, mut encrypted) = (Vec::new(), Vec::new());
    for sent in [HALF_HEAD, HALF_BODY, HTTP2] {
        for _ in 0..FLOOD {
            let mut tcp = TcpStream::connect(port(&server, 9480)).unwrap();
            // It may be ended already for a newer one.
            let _ = tcp.write_all(sent);
            plain.push(tcp);
        }
        for number in [9443, 9470] {
            encrypted.extend((0..FLOOD).filter_map(|_| dialer.dial(&server, number, sent)));
        }
    }
    boot_port_answers(&server);
    let told = metrics(&server);
    let held = Held::by(&server);
    let of_good_clients = 4;
    let most = before.descriptors + STRANGERS + of_good_clients + OWN_DESCRIPTORS;
    assert!(held.descriptors <= most, "{held:?}, before {before:?}");
    took_at_most(MOST_BYTES, &before, &server, "slow connections");
    let of_port = ["refused", "ended"]
        .map(|what| format!(r#"bedplate_connections_{what}_total{{listener="api","#));
    let counted = told.lines().filter(|line| of_port.iter().any(|start| line.starts_with(start)));
    let gone: u64 =
        counted.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert!(gone >= (FLOOD - PLACES) as u64, "the attack had more than its places: {told}");

    // With the attack all of it is gone.
    drop((plain, encrypted));
    for _ in 0..MAX_STEPS {
        if Held::by(&server).descriptors <= before.descriptors + OWN_DESCRIPTORS {
            return;
        }
        thread::sleep(STEP);
    }
    panic!("{:?}, before {before:?}", Held::by(&server));
}

#[test]
fn no_port_speaks_http2() {
    let server = Server::start();
    let (plain, only_http2) = (Dialer::of(&server, &[]), Dialer::of(&server, &["h2"]));
    for number in [9443, 9470] {
        assert!(only_http2.dial(&server, number, HTTP2).is_none(), "{number}: HTTP/2 is agreed");
        let Some(mut tls) = plain.dial(&server, number, HTTP2) else { continue };
        let mut answer = Vec::new();
        // The end may come without TLS's own word for it.
        let _ = tls.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{number}: {answer:?}");
    }
}

#[test]
fn bombs_in_templates_are_refused_before_they_are_made() {
    let server = Server::start();
    server.run(&["node", "add", "n1"]).ok();
    let (runtime, client) = (runtime(), client(&server));
    let (overlay, node) = ("bomb".parse().unwrap(), "n1".parse().unwrap());
    for source in [
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ ('a' * 1000000) * 1000 }}",
        "{{ '%099999999d' | format(1) }}",
        "{{ '%.400000000f' | format(1.5) }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    ] {
        let before = before(&server);
        let put = client.put_overlay_file(&overlay, "/etc/x", 0o644, true, source.into());
        let rendered = runtime.block_on(async {
            put.await?;
            client.render(&overlay, &node, None).await
        });
        let refused = rendered.map(|files| files.len()).unwrap_err();
        assert_eq!(refused.status(), Some(422), "{source}: {refused}");
        took_at_most(MOST_BYTES, &before, &server, source);
    }
}

#[test]
fn bombs_in_documents_are_diagnostics() {
    let server = Server::start();
    let (runtime, client) = (runtime(), client(&server));
    let aliases = (1..12).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let (below, ten) = (level - 1, 10);
        text + &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); ten].join(", "))
    });
    for (name, document) in [
        ("aliases", aliases),
        ("depth", format!("version: v1\njobs: {}", "[".repeat(200_000))),
        ("depth of mappings", format!("version: v1\njobs: {}", "{a: ".repeat(200_000))),
        ("keys", format!("version: v1\n{}", "? ".repeat(200_000))),
        ("one long word", format!("version: v1\njobs: {{\"{}\": 1}}", "x".repeat(3 << 20))),
    ] {
        let before = before(&server);
        let checked = runtime.block_on(client.validate_workflow(document)).unwrap();
        assert!(!checked.diagnostics.is_empty(), "{name}");
        let told = serde_json::to_string(&checked).unwrap();
        assert!(told.len() < 512 << 10, "{name}: {} bytes are told", told.len());
        took_at_most(2 * MOST_BYTES, &before, &server, name);
    }
}

#[test]
fn bombs_in_questions_are_refused() {
    let server = Server::start();
    server.run(&["node", "add", "n1"]).ok();
    let (runtime, client) = (runtime(), client(&server));
    let before = before(&server);
    for filter in [
        format!("{}true{}", "(".repeat(2_000), ")".repeat(2_000)),
        "!".repeat(2_000) + "true",
        format!("[{}].all(x, x)", "true,".repeat(2_000)),
        format!("name.matches('{}')", "(a{1000}){1000}"),
    ] {
        let answered: Result<_, ClientError> =
            runtime.block_on(client.query_inventory(Some(&filter), None, None, None));
        // A node that told nothing is asked nothing: what can be read is answered.
        if let Err(error) = answered {
            let status = error.status().unwrap_or_else(|| panic!("{filter:.40}: {error}"));
            assert!((400..500).contains(&status), "{filter:.40}: {error}");
        }
    }
    took_at_most(MOST_BYTES, &before, &server, "questions");
}
