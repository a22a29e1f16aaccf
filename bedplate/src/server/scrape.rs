//! `GET /metrics`: what the server and its roles count, as OpenMetrics text. Every family is
//! described in `docs/reference/metrics.md`, and a test holds the two together.
//!
//! One scrape is worked out at a time and is good for a second, whoever asks: at 10,000 nodes it is
//! some megabytes. It blocks a thread of its own, and a client that goes away does not end it.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use access::{Access, Routes};
use api::{alarm::AlarmKind, rights::Action};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use database::Database;
use fleet::Fleet;
use hardware::{Hardware, HardwareMetrics};
use metrics::{Counter, Exposition};
use rest::{
    Refusal,
    shell::{Listener, Shell},
};
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
    time::{Instant, timeout},
};
use utoipa_axum::routes;

use self::{disk::Directories, requests::Requests};
use super::{alarms::Alarms, certificate::SiteCertificate, roles::OwnRoles};

mod disk;
mod process;
pub(super) mod requests;

/// Content type of the text.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long a text is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How long a client waits for it; Prometheus itself waits for 10 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The roles that are asked.
#[derive(Debug, Clone)]
pub(super) struct Roles {
    pub(super) database: Database,
    pub(super) fleet: Fleet,
    pub(super) hardware: Hardware,
    pub(super) own: OwnRoles,
    pub(super) shell: Shell,
    pub(super) access: Access,
    pub(super) alarms: Alarms,
}

/// What is asked, and the last answer. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Scrape(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    roles: Roles,
    state_dir: PathBuf,
    directories: Directories,
    /// The REST port; known once it has its routes.
    requests: OnceLock<Arc<Requests>>,
    handshake_failures: Counter,
    /// Known once the REST port has one.
    site: OnceLock<Arc<SiteCertificate>>,
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Scrape {
    pub(super) fn new(roles: Roles, state_dir: PathBuf) -> Self {
        let directories = Directories::new(&state_dir);
        let inner = Inner {
            roles,
            state_dir,
            directories,
            requests: OnceLock::new(),
            handshake_failures: Counter::default(),
            site: OnceLock::new(),
            last: Arc::default(),
        };
        Self(Arc::new(inner))
    }

    /// The route.
    pub(super) fn routes(&self) -> Routes {
        Routes::new().route(Action::MetricsRead, routes!(metrics)).with_state(self.clone())
    }

    /// From now on these requests are told of. The first call counts.
    pub(super) fn follow_requests(&self, requests: Arc<Requests>) {
        let _ = self.0.requests.set(requests);
    }

    /// From now on the end of this certificate is told. The first call counts.
    pub(super) fn follow_certificate(&self, site: Arc<SiteCertificate>) {
        let _ = self.0.site.set(site);
    }

    /// A connection to the REST port was not let in.
    pub(super) fn handshake_failed(&self) {
        self.0.handshake_failures.inc();
    }

    async fn text(&self) -> Result<Bytes, Refusal> {
        let title = "cannot tell the metrics";
        let mut last = self.0.last.clone().lock_owned().await;
        if let Some((_, text)) = last.as_ref().filter(|(at, _)| at.elapsed() < GOOD_FOR) {
            return Ok(text.clone());
        }
        let inner = self.0.clone();
        let looking = tokio::spawn(async move {
            let hardware = inner.roles.hardware.metrics(&inner.roles.fleet).await;
            let alarms = inner.roles.alarms.counts().await;
            let made = spawn_blocking(move || {
                let mut out = Exposition::new();
                inner.expose(&hardware, &mut out);
                expose_alarms(&alarms, &mut out);
                Bytes::from(out.finish())
            });
            let text = made.await?;
            *last = Some((Instant::now(), text.clone()));
            Ok::<_, JoinError>(text)
        });
        let made = looking.await.map_err(|error| Refusal::internal(title, &error))?;
        made.map_err(|error| Refusal::internal(title, &error))
    }
}

impl Inner {
    /// Blocking: looks at files and file systems.
    fn expose(&self, hardware: &HardwareMetrics, out: &mut Exposition) {
        let version = env!("CARGO_PKG_VERSION");
        out.info("bedplate_build", "The version of the server.", &[("version", version)]);
        process::expose(out);
        disk::expose(&self.state_dir, out);
        self.directories.expose(out);
        self.expose_certificates(out);
        self.expose_port(out);
        self.roles.shell.expose(out);
        self.roles.database.expose(out);
        self.roles.own.provisioner.expose(out);
        self.roles.own.images.expose(out);
        self.roles.own.controller.expose(out);
        self.roles.fleet.expose(out);
        hardware.expose(out);
    }

    fn expose_certificates(&self, out: &mut Exposition) {
        let help = "When a certificate of the server ends, seconds since 1970.";
        let mut ends = out.gauge("bedplate_certificate_expiry_timestamp_seconds", help);
        for (certificate, end) in self.roles.fleet.certificate_ends() {
            ends.sample(&[("certificate", certificate)], end.seconds());
        }
        if let Some(end) = self.site.get().and_then(|site| site.not_after()) {
            ends.sample(&[("certificate", "site")], end);
        }
    }

    fn expose_logins(&self, out: &mut Exposition) {
        let failed = self.roles.access.login_failures();
        let help = "Requests whose credential was not good, by what it was.";
        let mut logins = out.counter("bedplate_api_failed_logins", help);
        for (kind, count) in failed.by_kind {
            logins.sample(&[("credential", kind)], count);
        }
        let help = "Requests without a good credential that were told to wait (429): their source failed too often.";
        out.counter("bedplate_api_held_off_logins", help).value(failed.held_off);
        let help = "Sources whose credentials were not good lately.";
        out.gauge("bedplate_api_failed_login_sources", help).value(failed.sources);
    }

    fn expose_port(&self, out: &mut Exposition) {
        out.gauge("bedplate_api_connections", "Open connections of the REST port.")
            .value(self.roles.shell.open(Listener::Api));
        let help = "Connections to the REST port that were not let in by TLS.";
        out.counter("bedplate_api_handshake_failures", help).count(&self.handshake_failures);
        if let Some(requests) = self.requests.get() {
            requests.expose(out);
        }
        self.expose_logins(out);
    }
}

fn expose_alarms(counts: &[(AlarmKind, u64)], out: &mut Exposition) {
    let help = "Things that want an admin's attention, by what they are about.";
    let mut alarms = out.gauge("bedplate_alarms", help);
    for (kind, count) in counts {
        alarms.sample(&[("alarm", kind.as_str())], *count);
    }
}

/// What the server counts, for Prometheus, in the text format of OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = OK, body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(scrape): State<Scrape>) -> Result<Response, Refusal> {
    let text = timeout(PATIENCE, scrape.text()).await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        let why = format!("they were not there within {seconds} s: disk or database do not answer");
        Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "cannot tell the metrics", why))
    })?;
    Ok(([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response())
}
