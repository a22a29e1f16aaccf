//! `/v1/whoami`, `/v1/tokens`, `/v1/audit`. Runs behind [`crate::layer`], which puts the [`Principal`] there.

use api::{
    access::{AuditEntry, CreateToken, CreatedToken, Token, Whoami},
    problem::Problem,
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Access, AccessError, Principal, Refusal};

/// Lines of the audit log in one answer where the request names no limit.
const DEFAULT_AUDIT_LINES: u32 = 100;

/// Most lines of the audit log in one answer: about 2 MB.
const MAX_AUDIT_LINES: u32 = 10_000;

/// The routes of this crate.
pub(crate) fn router(access: Access) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(whoami))
        .routes(routes!(list_tokens, create_token))
        .routes(routes!(revoke_token))
        .routes(routes!(audit))
        .with_state(access)
}

/// Who the token belongs to.
#[utoipa::path(get, path = "/v1/whoami", tag = "access", responses((status = OK, body = Whoami)))]
async fn whoami(Extension(principal): Extension<Principal>) -> Json<Whoami> {
    Json(Whoami { name: principal.name, admin: principal.admin })
}

/// The caller's tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "access", responses((status = OK, body = [Token])))]
async fn list_tokens(
    State(access): State<Access>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Vec<Token>>, Refusal> {
    access
        .tokens(&principal.name)
        .await
        .map(Json)
        .map_err(|error| Refusal::internal("cannot list tokens", &error))
}

/// Makes a token for the caller. The secret is shown this once.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "access", request_body = CreateToken,
    responses((status = CREATED, body = CreatedToken), (status = CONFLICT, body = Problem))
)]
async fn create_token(
    State(access): State<Access>,
    Extension(principal): Extension<Principal>,
    Json(wanted): Json<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    let title = || format!("cannot create token {:?}", wanted.name);
    match access.create_token(&principal.name, &wanted.name).await {
        Ok(created) => Ok((StatusCode::CREATED, Json(created))),
        Err(error @ AccessError::TokenExists { .. }) => {
            Err(Refusal::new(StatusCode::CONFLICT, title(), error.to_string()))
        }
        Err(error @ AccessError::TokenName { .. }) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, title(), error.to_string()))
        }
        Err(error) => Err(Refusal::internal(title(), &error)),
    }
}

/// Revokes one of the caller's tokens. It stops working at once.
#[utoipa::path(
    delete, path = "/v1/tokens/{name}", tag = "access",
    params(("name" = String, Path, description = "Name of the token")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem))
)]
async fn revoke_token(
    State(access): State<Access>,
    Extension(principal): Extension<Principal>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let title = || format!("cannot revoke token {name:?}");
    match access.revoke_token(&principal.name, &name).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            title(),
            format!("{} has no token of that name; GET /v1/tokens lists them", principal.name),
        )),
        Err(error) => Err(Refusal::internal(title(), &error)),
    }
}

/// Query of `GET /v1/audit`.
#[derive(Debug, Deserialize)]
struct AuditQuery {
    limit: Option<u32>,
}

/// The newest lines of the audit log, newest first. For admins.
#[utoipa::path(
    get, path = "/v1/audit", tag = "access",
    params(("limit" = Option<u32>, Query, description = "Lines, at most 10000; default 100")),
    responses((status = OK, body = [AuditEntry]), (status = FORBIDDEN, body = Problem))
)]
async fn audit(
    State(access): State<Access>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Vec<AuditEntry>>, Refusal> {
    if !principal.admin {
        let why = format!("{} is not an admin", principal.name);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "cannot read the audit log", why));
    }
    let limit = query.limit.unwrap_or(DEFAULT_AUDIT_LINES).min(MAX_AUDIT_LINES);
    access
        .audit(limit)
        .await
        .map(Json)
        .map_err(|error| Refusal::internal("cannot read the audit log", &error))
}
