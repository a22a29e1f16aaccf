//! `/v1/audit`.

use api::{
    access::{AuditCut, AuditEntry, AuditHead},
    ids::Timestamp,
    problem::Problem,
};
use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use rest::{Page, Paging, Refusal};
use serde::Deserialize;

use crate::{Access, AccessError, AuditQuery};

/// Lines in one answer where the request names no limit.
const DEFAULT_LINES: u32 = 100;

/// The lists, as their cursors call them.
const NEWEST_FIRST: &str = "audit";
const OLDEST_FIRST: &str = "audit-oldest";

/// Which lines are wanted; `limit` and `cursor` are [`Paging`]'s.
#[derive(Debug, Deserialize)]
pub(super) struct AuditParams {
    after: Option<u64>,
    user: Option<String>,
    action: Option<String>,
    since: Option<Timestamp>,
}

/// Lines of the audit log: the newest first, or, with `after`, the oldest first. All pages can be
/// read, whatever comes meanwhile; a page of some lines only may be short, even empty, and have
/// another one behind it. For admins.
#[utoipa::path(
    get, path = "/v1/audit", tag = "access",
    params(("limit" = Option<u32>, Query, description = "Lines, at most 10000; default 100"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before"),
        ("after" = Option<u64>, Query, description = "Only lines with larger numbers, oldest first; no other filter"),
        ("user" = Option<String>, Query, description = "Only lines of this principal"),
        ("action" = Option<String>, Query, description = "Only lines of this action: `DELETE`, `operation-end`"),
        ("since" = Option<i64>, Query, description = "Only lines from this time on, microseconds since 1970")),
    responses((status = OK, body = [AuditEntry]), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem))
)]
pub(super) async fn list(
    State(access): State<Access>,
    Query(wanted): Query<AuditParams>,
    paging: Paging,
) -> Result<Page<AuditEntry>, Refusal> {
    let limit = paging.limit().unwrap_or(DEFAULT_LINES);
    let AuditParams { after, user: principal, action, since } = wanted;
    let failed = |error: AccessError| Refusal::internal("cannot read the audit log", &error);
    let query = AuditQuery { principal, action, since };
    if let Some(after) = after {
        if query != AuditQuery::default() {
            let why = "`after` lists all lines, oldest first: leave it out to list those of a user, an action, a time";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "cannot read the audit log", why));
        }
        let after = paging.after(OLDEST_FIRST)?.unwrap_or(after);
        // One more than is wanted says whether there is another page.
        let rows = access.audit_after(after, limit.saturating_add(1)).await.map_err(failed)?;
        return Ok(paging.fetched(OLDEST_FIRST, rows, limit, |entry| entry.number));
    }
    let before: Option<u64> = paging.after(NEWEST_FIRST)?;
    let (rows, next) = access.audit_page(before, &query, limit).await.map_err(failed)?;
    Ok(Page { rows, next: next.map(|before| paging.link(NEWEST_FIRST, &before)) })
}

/// The last line of the audit log, signed by the server: kept elsewhere, it proves later that the
/// log up to there is still the same. For admins.
#[utoipa::path(
    get, path = "/v1/audit/head", tag = "access",
    responses((status = OK, body = AuditHead), (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem, description = "This server signs none"))
)]
pub(super) async fn head(State(access): State<Access>) -> Result<Json<AuditHead>, Refusal> {
    let title = "cannot sign the head of the audit log";
    let head = access.audit_head().await.map_err(|error| Refusal::internal(title, &error))?;
    head.map(Json).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            title,
            "this server has no key of the audit log, and signs no heads",
        )
    })
}

/// Up to where the server has removed the oldest lines of the audit log, signed by the server. For
/// admins.
#[utoipa::path(
    get, path = "/v1/audit/cut", tag = "access",
    responses((status = OK, body = AuditCut), (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem, description = "No line was ever removed"))
)]
pub(super) async fn cut(State(access): State<Access>) -> Result<Json<AuditCut>, Refusal> {
    access.audit_cut().map(Json).ok_or_else(|| {
        let title = "cannot show the cut of the audit log";
        Refusal::new(
            StatusCode::NOT_FOUND,
            title,
            "no line was ever removed: the log begins with line 1",
        )
    })
}
