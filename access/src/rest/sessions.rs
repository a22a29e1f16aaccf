//! `/v1/session`, `/v1/users/{name}/sessions`, `/v1/tickets`: what browsers need beside tokens.

use api::{
    access::{CreateTicket, EndedSessions, Session, Ticket},
    problem::Problem,
};
use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use rest::{Body, Refusal};

use super::refuse;
use crate::{Access, Caller, Resource, identify::Credential, sessions, tokens::TokenInUse};

/// Logs a browser in: begins a session for the owner of the bearer token, and sets its cookie.
#[utoipa::path(
    post, path = "/v1/session", tag = "access",
    responses((status = CREATED, body = Session, description = "The secret is in the cookie `__Host-bedplate` alone"),
        (status = BAD_REQUEST, body = Problem, description = "There was no token"))
)]
pub(super) async fn begin(
    State(access): State<Access>,
    caller: Caller,
    Extension(credential): Extension<Credential>,
    Extension(token): Extension<TokenInUse>,
) -> Result<Response, Refusal> {
    let (title, owner) = ("cannot begin a session", &caller.principal.name);
    caller.authorize(Resource::Owned { owner })?;
    if credential != Credential::Token {
        let why = "a session is begun with a token: send `Authorization: Bearer TOKEN`";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, title, why));
    }
    let begun = access.begin_session(owner, token.hash).await;
    let begun = begun.map_err(|error| refuse(title.to_owned(), &error))?;
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, begun.cookie)], Json(begun.session))
        .into_response())
}

/// Logs a browser out: ends the session of the cookie, and clears it.
#[utoipa::path(
    delete, path = "/v1/session", tag = "access",
    responses((status = NO_CONTENT), (status = BAD_REQUEST, body = Problem, description = "There was no session"))
)]
pub(super) async fn end(
    State(access): State<Access>,
    caller: Caller,
    Extension(credential): Extension<Credential>,
) -> Result<Response, Refusal> {
    let title = "cannot end the session";
    caller.authorize(Resource::Owned { owner: &caller.principal.name })?;
    let Credential::Session(session) = credential else {
        let why =
            "the request came with no session; DELETE /v1/users/NAME/sessions ends all of a user";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, title, why));
    };
    access
        .end_session(&caller.principal.name, session)
        .await
        .map_err(|error| Refusal::internal(title, &error))?;
    Ok(logged_out(StatusCode::NO_CONTENT.into_response()))
}

/// Logs a user out everywhere: ends all sessions of that user.
#[utoipa::path(
    delete, path = "/v1/users/{name}/sessions", tag = "access",
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = OK, body = EndedSessions), (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn end_all(
    State(access): State<Access>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    caller.authorize(Resource::Owned { owner: &name })?;
    let title = format!("cannot end the sessions of {name:?}");
    let ended = access.end_sessions(&name).await.map_err(|error| refuse(title, &error))?;
    let response = Json(EndedSessions { ended }).into_response();
    Ok(if name == caller.principal.name { logged_out(response) } else { response })
}

fn logged_out(mut response: Response) -> Response {
    let clear: HeaderValue = sessions::clear_cookie();
    response.headers_mut().insert(header::SET_COOKIE, clear);
    response
}

/// A ticket for one request within 30 s, by a client that cannot send headers: it goes into the
/// query as `ticket`.
#[utoipa::path(
    post, path = "/v1/tickets", tag = "access", request_body = CreateTicket,
    responses((status = CREATED, body = Ticket), (status = BAD_REQUEST, body = Problem),
        (status = TOO_MANY_REQUESTS, body = Problem))
)]
pub(super) async fn issue_ticket(
    State(access): State<Access>,
    caller: Caller,
    Extension(token): Extension<TokenInUse>,
    Body(wanted): Body<CreateTicket>,
) -> Result<(StatusCode, Json<Ticket>), Refusal> {
    let owner = &caller.principal.name;
    caller.authorize(Resource::Owned { owner })?;
    let issued = access.issue_ticket(owner, token.hash, &wanted.method, &wanted.path);
    let title = || {
        format!(
            "cannot create a ticket for {:?}",
            wanted.path.chars().take(100).collect::<String>()
        )
    };
    issued
        .map(|ticket| (StatusCode::CREATED, Json(ticket)))
        .map_err(|error| refuse(title(), &error))
}
