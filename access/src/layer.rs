//! The layer in front of the REST API: who asks, and the line in the audit log. What one may do is decided behind
//! it, by the action of the route.
//!
//! | credential | for | beside it |
//! |---|---|---|
//! | `Authorization: Bearer` | programs | nothing; it goes before the others |
//! | `ticket=…` in the query | what cannot send headers | GET of the one path that it was issued for, once |
//! | the cookie of a session | pages of a browser | `Origin`, where something changes or a WebSocket is opened |

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, uri::PathAndQuery},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rest::{Refusal, shell::Client};

use crate::{Access, Principal, sessions, tickets, token::TokenHash};

/// What a request proved who asks with. In its extensions, for the routes that begin and end sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The token of this hash.
    Token(TokenHash),
    /// The session of this hash.
    Session(TokenHash),
    /// A ticket; it is used up.
    Ticket,
}

/// Axum middleware: demands a credential, puts [`Principal`] into the request's extensions, and writes each
/// mutation (every method but GET, HEAD and OPTIONS) into the audit log before it is answered, the refused ones too.
///
/// Use: `router.layer(axum::middleware::from_fn_with_state(access, access::layer))`.
///
/// A mutation runs to its end and is recorded even if the client goes away in the middle.
pub async fn layer(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let Some((principal, credential)) = identify(&access, &mut request).await else {
        return not_authenticated().into_response();
    };
    // In tests of routes there is no connection.
    if let Some(client) = request.extensions().get::<Client>() {
        client.prove();
    }
    let changes = !reads(request.method());
    let by_cookie = matches!(credential, Credential::Session(_));
    let foreign = (by_cookie && (changes || is_websocket(request.headers())))
        .then(|| {
            sessions::same_origin(request.headers(), request.uri().authority().map(|host| host.as_str()))
        })
        .and_then(Result::err)
        .map(|error| Refusal::new(StatusCode::FORBIDDEN, "cannot take the request", error.to_string()));
    request.extensions_mut().insert(principal.clone());
    request.extensions_mut().insert(credential);
    if !changes {
        return match foreign {
            Some(refusal) => refusal.into_response(),
            None => next.run(request).await,
        };
    }
    let mutation = tokio::spawn(audited(access, principal, request, next, foreign));
    mutation.await.unwrap_or_else(|error| Refusal::internal("the request failed", &error).into_response())
}

/// Does this method change nothing?
#[must_use]
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

pub(crate) fn not_authenticated() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "not authenticated",
        "send `Authorization: Bearer TOKEN` with a token that was not revoked; \
         `bedplate` reads it from its context file (on the server: admin.yaml)",
    )
}

/// Who asks, by the first credential that the request has. A ticket is taken out of the request.
async fn identify(access: &Access, request: &mut Request) -> Option<(Principal, Credential)> {
    let ticket = take_ticket(request);
    if request.headers().contains_key(header::AUTHORIZATION) {
        let (principal, hash) = access.token_owner(&bearer(request.headers())?).await?;
        return Some((principal, Credential::Token(hash)));
    }
    if let Some(secret) = ticket {
        let path = request.uri().path();
        let principal = access.redeem(&secret, request.method(), path).await?;
        return Some((principal, Credential::Ticket));
    }
    let hash = sessions::cookie_hash(request.headers())?;
    let user = access.session_user(hash).await?;
    Some((user.into(), Credential::Session(hash)))
}

/// Takes the ticket out of the query, so that nothing behind the layer sees or logs it.
fn take_ticket(request: &mut Request) -> Option<String> {
    let uri = request.uri();
    let (secret, others) = tickets::take_parameter(uri.query()?)?;
    let path = if others.is_empty() { uri.path().to_owned() } else { format!("{}?{others}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    // The parts of a URI that was read make one again.
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(secret)
}

/// The bearer token of RFC 6750, section 2.1.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, bearer) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| bearer.trim().to_owned())
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

async fn audited(
    access: Access,
    principal: Principal,
    request: Request,
    next: Next,
    foreign: Option<Refusal>,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = match foreign {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let outcome = response.status().as_u16().to_string();
    match access.record(&principal.name, method.as_str(), &path, &outcome).await {
        Ok(()) => response,
        Err(error) => {
            tracing::error!(%method, path, principal = principal.name, outcome, "audit log not written: {error}");
            Refusal::internal(
                format!("{method} {path} ended with {outcome}, but could not be written to the audit log"),
                &error,
            )
            .into_response()
        }
    }
}
