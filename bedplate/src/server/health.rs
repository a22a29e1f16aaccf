//! `GET /v1/health`: whether the server can do its work, for load balancers and monitoring. It wants no
//! token, so it tells nothing of the site, and is worked out once a second at most whoever asks.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use database::{Database, Number, statement};
use rustix::fs::statvfs;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Time that the database has to answer: it does within milliseconds.
const DATABASE_PATIENCE: Duration = Duration::from_secs(2);

/// Least room in the state directory, bytes: with less, writes of the database begin to fail.
const LEAST_ROOM: u64 = 64 << 20;

/// What is told.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    /// `ok`, or `failing`.
    status: &'static str,
    /// Why it is not `ok`, a sentence each.
    problems: Vec<String>,
}

/// The parts that are looked at, and the last answer.
#[derive(Debug, Clone)]
pub(super) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Database,
    state_dir: PathBuf,
    last: Mutex<Option<(Instant, Report)>>,
}

impl Health {
    pub(super) fn new(database: Database, state_dir: PathBuf) -> Self {
        Self(Arc::new(Inner { database, state_dir, last: Mutex::default() }))
    }

    /// 200 or 503, with the reasons.
    pub(super) async fn answer(self) -> Response {
        let mut last = self.0.last.lock().await;
        let report = match &*last {
            Some((at, report)) if at.elapsed() < GOOD_FOR => report.clone(),
            _ => {
                let report = self.0.look().await;
                *last = Some((Instant::now(), report.clone()));
                report
            }
        };
        let status = match report.problems.is_empty() {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(report)).into_response()
    }
}

impl Inner {
    async fn look(&self) -> Report {
        let mut problems = Vec::new();
        let asked = statement("look whether the database answers", "SELECT 1");
        match timeout(DATABASE_PATIENCE, asked.fetch_one::<(Number<u64>,)>(&self.database)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::error!("{}", rest::causes(&error));
                problems.push("the database cannot be read; the server's log says why".to_owned());
            }
            Err(_) => {
                let seconds = DATABASE_PATIENCE.as_secs();
                problems.push(format!("the database has not answered within {seconds} s"));
            }
        }
        match statvfs(&self.state_dir) {
            Ok(found) => {
                let room = found.f_bavail.saturating_mul(found.f_frsize);
                if room < LEAST_ROOM {
                    let (room, least) = (room >> 20, LEAST_ROOM >> 20);
                    problems.push(format!("the state directory has room for {room} MiB, less than {least}"));
                }
            }
            Err(error) => problems.push(format!("the state directory cannot be looked at: {error}")),
        }
        Report { status: if problems.is_empty() { "ok" } else { "failing" }, problems }
    }
}
