//! `GET /metrics` of a real server: read by a strict parser, held against the document that lists
//! it, and looked at before and after things happen.

mod openmetrics;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use tokio::runtime::{Builder, Runtime};

use self::openmetrics::{Families, parse};
use crate::server::Server;

/// Steps in which a counter must have moved: a text is good for a second.
const MAX_STEPS: u32 = 100;

const STEP: Duration = Duration::from_millis(100);

/// Somebody who scrapes.
struct Prometheus {
    runtime: Runtime,
    client: client::Client,
}

impl Prometheus {
    fn of(server: &Server) -> Self {
        let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, client: client::Client::new(&context).unwrap() }
    }

    #[track_caller]
    fn scrape(&self) -> Families {
        let text = self.runtime.block_on(self.client.metrics()).unwrap();
        parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
    }

    /// The value of a sample; 0 if it is not there yet.
    #[track_caller]
    fn value(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.scrape();
        let wanted: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let family = families.get(family).unwrap_or_else(|| panic!("there is no {family}"));
        let sample = family.samples.iter().find(|sample| sample.labels == wanted);
        sample.map_or(0.0, |sample| sample.value)
    }

    /// Waits until a sample has this value at least.
    #[track_caller]
    fn until(&self, family: &str, labels: &[(&str, &str)], least: f64) {
        for _ in 0..MAX_STEPS {
            if self.value(family, labels) >= least {
                return;
            }
            thread::sleep(STEP);
        }
        panic!("{family}{labels:?} is {}, not {least}", self.value(family, labels));
    }
}

/// A row of the document: its type, unit and labels.
type Row = (String, String, BTreeSet<String>);

/// The rows of all tables of the document that begin with the name of a metric.
fn document() -> BTreeMap<String, Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, unit, labels, help] = cells[..] else {
            panic!("no row of five cells: {line}")
        };
        assert!(help.len() > 10, "{line}");
        let row = (kind.to_owned(), unit.to_owned(), words(labels));
        assert!(rows.insert(name.trim_matches('`').to_owned(), row).is_none(), "twice: {line}");
    }
    rows
}

#[test]
fn every_metric_is_in_the_document_and_reads_as_openmetrics() {
    let server = Server::start();
    server.run(&["node", "add", "n[1-3]"]).ok();
    let prometheus = Prometheus::of(&server);
    let (families, documented) = (prometheus.scrape(), document());
    let told: BTreeMap<String, (String, String)> = families
        .iter()
        .map(|(name, family)| {
            let unit = family.unit.clone().unwrap_or_else(|| "–".to_owned());
            (family.shown_name(name), (family.kind.clone(), unit))
        })
        .collect();
    let listed: BTreeMap<String, (String, String)> = documented
        .iter()
        .map(|(name, (kind, unit, _))| (name.clone(), (kind.clone(), unit.clone())))
        .collect();
    let (missing, gone): (Vec<_>, Vec<_>) = (
        told.iter().filter(|(name, shape)| listed.get(*name) != Some(*shape)).collect(),
        listed.iter().filter(|(name, shape)| told.get(*name) != Some(*shape)).collect(),
    );
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not in the document: {missing:#?}\nonly there: {gone:#?}"
    );
    for (name, family) in &families {
        let (.., labels) = &documented[&family.shown_name(name)];
        for sample in &family.samples {
            let mut own: BTreeSet<String> = sample.labels.keys().cloned().collect();
            own.remove("le");
            assert_eq!(own, *labels, "{name}");
        }
    }
}

#[test]
fn what_the_server_does_is_counted() {
    let server = Server::start();
    std::fs::write(server.path("state/logs/of-a-run"), [0; 77]).unwrap();
    let prometheus = Prometheus::of(&server);
    let nodes = [("route", "/v1/nodes"), ("method", "GET"), ("status", "2xx")];
    let committed = [("outcome", "committed")];
    let (lists, commits) = (
        prometheus.value("bedplate_api_requests", &nodes),
        prometheus.value("bedplate_database_transactions", &committed),
    );
    server.run(&["node", "add", "n[1-3]"]).ok();
    server.run(&["node", "list"]).ok();
    prometheus.until("bedplate_api_requests", &nodes, lists + 1.0);
    prometheus.until("bedplate_database_transactions", &committed, commits + 1.0);
    prometheus.until("bedplate_nodes", &[("phase", "unseen")], 3.0);
    // The audit log alone is a write for each.
    assert!(prometheus.value("bedplate_database_last_write_timestamp_seconds", &[]) > 1.7e9);
    assert_eq!(prometheus.value("bedplate_database_writable", &[]), 1.0);
    assert!(prometheus.value("bedplate_database_file_bytes", &[("file", "main")]) >= 4096.0);

    server.run(&["image", "import", "oci:/nonexistent", "--name", "x"]).failed();
    prometheus.until("bedplate_imports", &[("outcome", "failed")], 1.0);
    let imports = [("route", "/v1/images"), ("method", "POST"), ("status", "2xx")];
    prometheus.until("bedplate_api_requests", &imports, 1.0);

    let mut context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    context.token = "bp_wrong".to_owned();
    let stranger = client::Client::new(&context).unwrap();
    let refused = prometheus.runtime.block_on(stranger.metrics()).unwrap_err();
    assert_eq!(refused.status(), Some(401));
    prometheus.until("bedplate_api_refused_requests", &[("reason", "unauthenticated")], 1.0);
    prometheus.until("bedplate_state_folder_bytes", &[("folder", "logs")], 77.0);
}

#[test]
fn process_disk_and_certificates_are_what_they_are() {
    let server = Server::start();
    let prometheus = Prometheus::of(&server);
    #[expect(clippy::disallowed_methods, reason = "what the server says is held against it")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = prometheus.value("process_start_time_seconds", &[]);
    assert!((now - 600.0..now + 60.0).contains(&started), "{started} at {now}");
    for name in ["process_cpu_seconds", "process_resident_memory_bytes", "process_threads"] {
        assert!(prometheus.value(name, &[]) > 0.0, "{name}");
    }
    let open = prometheus.value("process_open_fds", &[]);
    assert!(open > 10.0 && open < prometheus.value("process_max_fds", &[]));
    let size = prometheus.value("bedplate_state_filesystem_size_bytes", &[]);
    let available = prometheus.value("bedplate_state_filesystem_available_bytes", &[]);
    assert!(0.0 < available && available < size);
    let days = |certificate| {
        let labels = [("certificate", certificate)];
        (prometheus.value("bedplate_certificate_expiry_timestamp_seconds", &labels) - now)
            / 86_400.0
    };
    assert!((3649.0..3651.0).contains(&days("authority")), "{}", days("authority"));
    assert!((89.0..91.0).contains(&days("server")), "{}", days("server"));
    assert!(prometheus.value("bedplate_api_connections", &[]) >= 1.0);
    // A text is good for a second: of scrapes in a row hardly one is worked out again.
    let scrape = || prometheus.runtime.block_on(prometheus.client.metrics()).unwrap();
    assert!((0..20).any(|_| scrape() == scrape()), "each scrape is worked out again");
}

#[test]
fn a_site_s_certificate_is_told_with_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["bedplate.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2096, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(directory.path().join("api.pem"), params.self_signed(&key).unwrap().pem())
        .unwrap();
    std::fs::write(directory.path().join("api.key"), key.serialize_pem()).unwrap();
    let place = directory.path().display().to_string();
    let server = Server::start_in(
        directory,
        &format!(", certificate: {place}/api.pem, key: {place}/api.key"),
    );
    let end = Prometheus::of(&server)
        .value("bedplate_certificate_expiry_timestamp_seconds", &[("certificate", "site")]);
    assert_eq!(end, 3_976_214_400.0, "2096-01-01");
}
