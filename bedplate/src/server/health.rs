//! `GET /v1/health`: whether the server can do its work, for load balancers and monitoring.
//! It wants no token, so it tells nothing of the site, and is worked out once a second at
//! most whoever asks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::alarms::Alarms;
use axum::{Json, http::StatusCode};
use database::{Database, Number, statement};
use rustix::fs::statvfs;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use utoipa::ToSchema;

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Time that the database and the file system have to answer: they do within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Least room in the state directory, bytes: with less, writes of the database begin to fail.
const LEAST_ROOM: u64 = 64 << 20;

/// Whether the server can do its work.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Health)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    /// `ok`, or `failing`.
    status: &'static str,
    /// Why it is not `ok`, a sentence each.
    problems: Vec<String>,
    /// What will be a problem, and is none yet: certificates that end. Their dates are shown to
    /// whoever connects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The parts that are looked at, and the last answer.
#[derive(Debug, Clone)]
pub(super) struct Health(Arc<Inner>, Option<Alarms>);

#[derive(Debug)]
struct Inner {
    database: Database,
    state_dir: PathBuf,
    last: Arc<Mutex<Option<(Instant, Report)>>>,
}

impl Health {
    pub(super) fn new(database: Database, state_dir: PathBuf) -> Self {
        Self(Arc::new(Inner { database, state_dir, last: Arc::default() }), None)
    }

    /// The same, which tells of the server's certificates too.
    pub(super) fn with_alarms(self, alarms: Alarms) -> Self {
        Self(self.0, Some(alarms))
    }

    /// 200 or 503, with the reasons.
    pub(super) async fn answer(self) -> (StatusCode, Json<Report>) {
        let report = self.report().await;
        let status = match report.problems.is_empty() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(report))
    }

    /// Why the server cannot do its work, a sentence each.
    pub(super) async fn problems(&self) -> Vec<String> {
        self.report().await.problems
    }

    async fn report(&self) -> Report {
        let mut last = self.0.last.clone().lock_owned().await;
        match &*last {
            Some((at, report)) if at.elapsed() < GOOD_FOR => report.clone(),
            // In a task of its own: clients that go away must not make each of them a new look.
            _ => {
                let (inner, alarms) = (self.0.clone(), self.1.clone());
                let looking = tokio::spawn(async move {
                    let mut report = inner.look().await;
                    report.warnings =
                        alarms.map(|alarms| alarms.of_certificates()).unwrap_or_default();
                    *last = Some((Instant::now(), report.clone()));
                    report
                });
                looking
                    .await
                    .unwrap_or_else(|_| Report::new(vec!["the look ended badly".to_owned()]))
            }
        }
    }
}

impl Report {
    fn new(problems: Vec<String>) -> Self {
        Self {
            status: if problems.is_empty() { "ok" } else { "failing" },
            problems,
            warnings: Vec::new(),
        }
    }
}

impl Inner {
    async fn look(&self) -> Report {
        let mut problems = Vec::new();
        let asked = statement("look whether the database answers", "SELECT 1");
        match timeout(PATIENCE, asked.fetch_one::<(Number<u64>,)>(&self.database)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!("{}", rest::causes(&error));
                problems.push("the database cannot be read; the server's log says why".to_owned());
            }
            Err(_) => {
                let seconds = PATIENCE.as_secs();
                problems.push(format!("the database has not answered within {seconds} s"));
            }
        }
        let state_dir = self.state_dir.clone();
        let looking = tokio::task::spawn_blocking(move || statvfs(&state_dir));
        match timeout(PATIENCE, looking).await {
            Ok(Ok(Ok(found))) => {
                let room = found.f_bavail.saturating_mul(found.f_frsize);
                if room < LEAST_ROOM {
                    let (room, least) = (room >> 20, LEAST_ROOM >> 20);
                    problems.push(format!(
                        "the state directory has room for {room} MiB, less than {least}"
                    ));
                }
            }
            Ok(Ok(Err(error))) => {
                problems.push(format!("the state directory cannot be looked at: {error}"));
            }
            Ok(Err(_)) | Err(_) => problems.push("the state directory does not answer".to_owned()),
        }
        Report::new(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_well_is_told_and_kept_for_a_moment() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("db"), &[]).await.unwrap();
        let state_dir = directory.path().join("state");
        let health = Health::new(database.clone(), state_dir.clone());
        let ask = async || {
            let (_, Json(report)) = health.clone().answer().await;
            serde_json::to_string(&report).unwrap()
        };
        let gone = ask().await;
        assert!(
            gone.starts_with(r#"{"status":"failing","problems":["the state directory cannot"#),
            "{gone}"
        );
        std::fs::create_dir(&state_dir).unwrap();
        assert_eq!(ask().await, gone, "it is looked at once a second");
        assert_eq!(
            Health::new(database.clone(), state_dir.clone()).answer().await.0,
            StatusCode::OK
        );
        database.close().await;
        let failing = Health::new(database, state_dir).answer().await;
        assert_eq!(failing.0, StatusCode::SERVICE_UNAVAILABLE);
    }
}
