//! The fleet port over real TLS: who is let in, and what those hear who are not.

#![allow(clippy::unwrap_used)]

mod agent;
mod enrolments;
mod hardware;
mod releases;
mod resuming;
mod strangers;

use std::{
    error::Error as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};

use api::{
    enroll::{BootPhase, Enroll, Enrolled, Report},
    ids::NodeId,
    status::{NodeEvent, Phase, Severity},
};
use database::Database;
use fleet::{Fleet, FleetConfig, NodeChange, Observation};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use reqwest::{Certificate, Client, Identity};
use rest::shell::{Limits, Shell};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const NODE: NodeId = NodeId(uuid::Uuid::from_u128(1));
const IMAGE: &str = "debian-node@2";
const OTHER: NodeId = NodeId(uuid::Uuid::from_u128(2));

/// A fleet with one node, on the loopback interface.
struct Port {
    directory: TempDir,
    database: Database,
    fleet: Fleet,
    reports: Arc<hardware::Reports>,
    shell: Shell,
    url: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Declares nodes, as the provisioner does.
async fn declare(fleet: &Fleet, database: &Database, nodes: &[(NodeId, &str)], gone: &[NodeId]) {
    let mut edit = fleet.edit_nodes().await;
    let mut transaction = database.begin().await.unwrap();
    let named = nodes.iter().map(|(id, name)| (*id, name.parse().unwrap()));
    edit.write(&mut transaction, named, gone).await.unwrap();
    transaction.commit("declare nodes").await.unwrap();
    edit.committed();
}

impl Port {
    async fn open() -> Self {
        Self::open_at(&[]).await
    }

    /// A fleet whose port has these limits.
    async fn open_within(limits: Limits) -> Self {
        Self::open_with(&[], limits).await
    }

    /// A fleet that tells its agents these fleet ports.
    async fn open_at(fleet_servers: &[SocketAddr]) -> Self {
        Self::open_with(fleet_servers, Limits::of_descriptors(1_024, None)).await
    }

    async fn open_with(fleet_servers: &[SocketAddr], limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.db");
        let database = Database::open(&path, &[&fleet::SCHEMA]).await.unwrap();
        let mut config =
            FleetConfig::new(directory.path().to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
        config.fleet_servers = fleet_servers.to_vec();
        let reports = Arc::new(hardware::Reports::default());
        let fleet = Fleet::open(database.clone(), config, reports.clone()).await.unwrap();
        declare(&fleet, &database, &[(NODE, "n1"), (OTHER, "n2")], &[]).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (served, ends, shell) = (fleet.clone(), stop.clone(), Shell::new(limits));
        let within = shell.clone();
        let serving = tokio::spawn(async move {
            served.serve(&within, listener, enrolments::extra(), ends).await.unwrap();
        });
        Self { directory, database, fleet, reports, shell, url, stop, serving }
    }

    async fn close(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.fleet.close().await;
    }

    fn client(&self, identity: Option<String>) -> Client {
        let ca = Certificate::from_pem(self.fleet.ca_pem().as_bytes()).unwrap();
        let builder = Client::builder().tls_certs_only([ca]).no_proxy();
        let identity = identity.map(|pem| Identity::from_pem(pem.as_bytes()).unwrap());
        match identity {
            Some(identity) => builder.identity(identity).build().unwrap(),
            None => builder.build().unwrap(),
        }
    }

    /// What Prometheus would be told now.
    fn metrics(&self) -> String {
        let mut out = metrics::Exposition::new();
        self.fleet.expose(&mut out);
        self.shell.expose(&mut out);
        out.finish()
    }

    /// The newest events of the first node, newest first.
    async fn history(&self) -> Vec<NodeEvent> {
        let events = self.fleet.history(NODE, None, 100).await.unwrap();
        events.into_iter().map(|(_, event)| event).collect()
    }

    /// Reports with this certificate: the status, or the error of TLS.
    async fn report(&self, identity: Option<String>) -> Result<(u16, String), String> {
        let report = Report { phase: BootPhase::Stage1, percent: None, message: "here".to_owned() };
        let url = format!("{}/node/v1/report", self.url);
        match self.client(identity).post(url).json(&report).send().await {
            Ok(answer) => Ok((answer.status().as_u16(), answer.text().await.unwrap())),
            Err(error) => {
                let mut text = error.to_string();
                let mut next = error.source();
                while let Some(cause) = next {
                    text = format!("{text}: {cause}");
                    next = cause.source();
                }
                Err(text)
            }
        }
    }

    /// A client certificate as the fleet's own authority would sign it, with these dates.
    fn signed_by_the_authority(&self, name: &str, years: (i32, i32)) -> String {
        let secret =
            std::fs::read_to_string(self.directory.path().join("ca/authority.pem")).unwrap();
        let (certificate, key) = secret.split_at(secret.find("-----BEGIN PRIVATE KEY").unwrap());
        let issuer =
            Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key).unwrap()).unwrap();
        leaf(&issuer, name, years)
    }
}

fn leaf(issuer: &Issuer<'_, KeyPair>, name: &str, years: (i32, i32)) -> String {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).unwrap();
    format!("{}{}", certificate.pem(), key.serialize_pem())
}

fn key_and_request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
    (key, request.pem().unwrap())
}

#[tokio::test]
async fn only_a_good_certificate_of_a_registered_node_is_let_in() {
    let port = Port::open().await;
    let before = port.history().await;

    let (status, told) = port.report(None).await.unwrap();
    assert_eq!(status, 401);
    assert!(told.contains("no client certificate; enrol first"), "{told}");

    let expired = port.signed_by_the_authority(&NODE.to_string(), (2020, 2021));
    let told = port.report(Some(expired)).await.unwrap_err();
    assert!(told.contains("CertificateExpired"), "{told}");

    let early = port.signed_by_the_authority(&NODE.to_string(), (2990, 2999));
    assert!(port.report(Some(early)).await.is_err());

    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let foreign = Issuer::new(params, KeyPair::generate().unwrap());
    let told =
        port.report(Some(leaf(&foreign, &NODE.to_string(), (2020, 2999)))).await.unwrap_err();
    assert!(told.contains("alert"), "{told}");

    let stranger = NodeId(uuid::Uuid::from_u128(9));
    let stranger = port.signed_by_the_authority(&stranger.to_string(), (2020, 2999));
    let (status, told) = port.report(Some(stranger)).await.unwrap();
    assert_eq!(status, 403);
    assert!(told.contains("was deleted"), "{told}");

    let nameless = port.signed_by_the_authority("n1", (2020, 2999));
    assert_eq!(port.report(Some(nameless)).await.unwrap().0, 403);

    // Three were not let in: of the foreign authority, and with dates that are over or to come. The
    // clients may know it a moment before the server has counted it.
    let failures = || {
        let metrics = port.metrics();
        let name = "bedplate_fleet_handshake_failures_total ";
        metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<u32>().ok()).unwrap()
    };
    for _ in 0..100 {
        if failures() >= 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(failures(), 3);
    // None of it is told of the node, whose name anybody can claim.
    assert_eq!(port.history().await, before);
    port.close().await;
}

/// Lets a node enrol: its certificate and key, PEM.
async fn enrolled(port: &Port, node: NodeId) -> String {
    let here = Ipv4Addr::LOCALHOST.into();
    port.fleet.observe(node, Observation::Offered { address: here }).unwrap();
    let token = port.fleet.issue_token(node, here, Some(here), IMAGE.into()).unwrap();
    let (key, csr) = key_and_request();
    let request = port.client(None).post(format!("{}/node/v1/enroll", port.url));
    let enrolled: Enrolled =
        request.json(&Enroll { id: node, token, csr }).send().await.unwrap().json().await.unwrap();
    format!("{}{}", enrolled.certificate, key.serialize_pem())
}

#[tokio::test]
async fn a_token_becomes_a_certificate_that_opens_the_port_until_the_node_is_deleted() {
    let port = Port::open().await;
    let here = Ipv4Addr::LOCALHOST.into();
    port.fleet.observe(NODE, Observation::Offered { address: here }).unwrap();
    let token = port.fleet.issue_token(NODE, here, Some(here), IMAGE.into()).unwrap();
    let (key, csr) = key_and_request();
    let url = format!("{}/node/v1/enroll", port.url);
    let ask = |id| Enroll { id, token: token.clone(), csr: csr.clone() };

    let enrolled: Enrolled =
        port.client(None).post(&url).json(&ask(NODE)).send().await.unwrap().json().await.unwrap();
    assert_eq!((enrolled.node.as_str(), &enrolled.ca), ("n1", &port.fleet.ca_pem()));
    let identity = format!("{}{}", enrolled.certificate, key.serialize_pem());
    assert_eq!(port.report(Some(identity.clone())).await, Ok((204, String::new())));
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Stage1);

    // In another node's name it disarms the node that it was issued to.
    let refused = port.client(None).post(&url).json(&ask(OTHER)).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let history = port.history().await;
    assert!(history.iter().any(|event| event.severity == Severity::Security), "{history:?}");
    assert!(!port.fleet.status(NODE).unwrap().armed);
    assert!(port.fleet.status(OTHER).unwrap().armed);
    let metrics = port.metrics();
    for (outcome, count) in [("granted", 1), ("refused", 1), ("throttled", 0)] {
        let sample = format!("bedplate_fleet_enrolments_total{{outcome=\"{outcome}\"}} {count}\n");
        assert!(metrics.contains(&sample), "{metrics}");
    }
    let [(_, authority), (_, server)] = port.fleet.certificate_ends();
    let years = (authority.seconds() - enrolled.server_time.seconds()) / (365 * 86_400);
    assert!((9..=10).contains(&years), "ten years");
    assert!(
        (89 * 86_400..=90 * 86_400).contains(&(server.seconds() - enrolled.server_time.seconds()))
    );

    let mut changes = port.fleet.watch();
    declare(&port.fleet, &port.database, &[(OTHER, "n2")], &[NODE]).await;
    assert_eq!(changes.recv().await.unwrap(), NodeChange::Removed { id: NODE });
    let (status, told) = port.report(Some(identity)).await.unwrap();
    assert_eq!(status, 403);
    assert!(told.contains("was deleted"), "{told}");
    port.close().await;
}

/// Trades a token for a certificate: the status of the answer.
async fn traded(port: &Port, token: &str) -> u16 {
    let (_, csr) = key_and_request();
    let request = port.client(None).post(format!("{}/node/v1/enroll", port.url));
    let asked = Enroll { id: NODE, token: token.to_owned(), csr };
    request.json(&asked).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn strangers_who_fetch_a_nodes_files_leave_its_tokens_its_image_and_its_history_alone() {
    let port = Port::open().await;
    let (here, there) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(10, 9, 9, 9).into());
    let issue = |source| port.fleet.issue_token(NODE, source, Some(here), IMAGE.into());
    let before = port.fleet.status(NODE).unwrap();
    let honest = issue(here).unwrap();
    let others: Vec<String> = (0..1_000).map(|_| issue(here).unwrap()).collect();
    for _ in 0..1_000 {
        issue(there).unwrap_err();
        let script = Observation::Script { address: there, image: "evil@1".into() };
        port.fleet.observe(NODE, script).unwrap();
    }
    let after = port.fleet.status(NODE).unwrap();
    assert_eq!(
        (after.image, after.armed, after.boot_ms),
        (before.image, before.armed, before.boot_ms)
    );
    assert_eq!((after.phase, after.last_seen), (Phase::Firmware, before.last_seen));
    assert!(after.unproven.is_some());
    // The first that is used wins; all others are void, and disarm nobody.
    assert_eq!(traded(&port, &honest).await, 200);
    let status = port.fleet.status(NODE).unwrap();
    assert_eq!((status.phase, status.image.as_deref()), (Phase::Stage1, Some(IMAGE)));
    let history = port.history().await;
    let thefts = history.iter().filter(|event| event.severity == Severity::Security);
    assert_eq!(thefts.count(), 1, "one line for a thousand requests: {history:?}");
    assert!(history.len() < 10, "{history:?}");
    assert_eq!(traded(&port, &others[0]).await, 403);
    assert_eq!(traded(&port, &others[999]).await, 403);
    let thefts = async || {
        let history = port.history().await;
        history.iter().filter(|event| event.severity == Severity::Security).count()
    };
    for _ in 0..100 {
        if thefts().await >= 2 {
            break;
        }
        // It is on disk soon, and nobody waits for it.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(thefts().await, 2, "two had tokens");
    assert_eq!(port.fleet.status(NODE).unwrap().phase, Phase::Stage1);
    port.close().await;
}
