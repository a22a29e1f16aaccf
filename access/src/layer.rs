//! The layer in front of the REST API: who asks, and the line in the audit log. What one may do is
//! decided behind it, by the action of the route.
//!
//! | credential | for | beside it |
//! |---|---|---|
//! | `Authorization: Bearer` | programs | nothing; it goes before the others |
//! | `ticket=…` in the query | what cannot send headers | GET of the one path that it was issued for, once |
//! | the cookie of a session | pages of a browser | `Origin`, where something changes or a WebSocket is opened |

use std::net::IpAddr;

use api::{http::TOKEN_EXPIRES, rights::Action};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use database::outbox;
use rest::{Refusal, shell::Client};

use crate::{
    Access, Principal,
    audit::{self, REQUEST, Requester, STRANGER},
    clock,
    identify::{Credential, Identity, identify},
    logins::{self, Unidentified},
    routes::RouteAction,
    sessions,
};

/// What is sent to be looked at and changes nothing: it leaves nothing behind that the limit of
/// changes is for.
const CHECKS: [&str; 2] = ["/v1/workflows/validate", "/v1/workflows/render"];

/// Where a request came from. In its extensions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The address, if there is a connection.
    pub(crate) source: Option<IpAddr>,
    /// The name of the token that it came with, or that its session or ticket was got with.
    pub(crate) token: String,
}

/// Axum middleware: demands a credential, puts [`Principal`] into the request's extensions, tells
/// by a header if the token ends soon, and gives each mutation (every method but GET, HEAD and
/// OPTIONS) a row of the audit log, which is written by the transaction that makes the change. What
/// changed nothing is recorded too, within limits: see `audit/unchanged.rs`.
///
/// Use: `router.layer(axum::middleware::from_fn_with_state(access, access::layer))`.
///
/// Who is no admin and sends too many mutations, or opens too many streams, is refused before any
/// of them runs: see `changes.rs`.
///
/// A mutation runs to its end and is recorded even if the client goes away in the middle; work of
/// it that only looks may end then ([`rest::detached`]).
pub async fn layer(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let (source, now) = (logins::source(&request), clock::now());
    let Identity { principal, credential, token } = match identify(&access, &mut request).await {
        Ok(identity) => identity,
        Err(why) => {
            let response = access.inner.logins.refuse(source, &why, now);
            // Who shows nothing and wants to read gets nothing, and has tried nothing.
            if why != Unidentified::Nothing || !reads(request.method()) {
                // A token that has ended was good once: whose it was is known.
                let token = match &why {
                    Unidentified::Ended { user, name, .. } => format!("{user}/{name}"),
                    Unidentified::Nothing | Unidentified::Bad(_) => String::new(),
                };
                let origin = Origin { source, token };
                let refused = Refused::new(&access, Requester::Stranger(source), &request, origin);
                refused.record(None, response.status()).await;
            }
            return response;
        }
    };
    // In tests of routes there is no connection.
    if let Some(client) = request.extensions().get::<Client>() {
        client.prove();
    }
    access.note_use(token.hash, source);
    let ends_soon =
        token.ends_soon(now).and_then(|ends| HeaderValue::try_from(ends.to_string()).ok());
    request.extensions_mut().insert(Origin { source, token: token.name.clone() });
    request.extensions_mut().insert(token);
    let mut response = answer(access, principal, credential, request, next).await;
    if let Some(ends) = ends_soon {
        response.headers_mut().insert(TOKEN_EXPIRES, ends);
    }
    response
}

async fn answer(
    access: Access,
    principal: Principal,
    credential: Credential,
    mut request: Request,
    next: Next,
) -> Response {
    let changes = !reads(request.method());
    let is_websocket = is_websocket(request.headers());
    let by_cookie = matches!(credential, Credential::Session(_));
    let foreign = (by_cookie && (changes || is_websocket))
        .then(|| {
            sessions::same_origin(
                request.headers(),
                request.uri().authority().map(|host| host.as_str()),
            )
        })
        .and_then(Result::err)
        .map(|error| {
            Refusal::new(StatusCode::FORBIDDEN, "cannot take the request", error.to_string())
        });
    request.extensions_mut().insert(principal.clone());
    request.extensions_mut().insert(credential);
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    // What opens a stream into a job has a line of the audit log each, too.
    let is_counted = is_websocket || changes && !CHECKS.contains(&request.uri().path());
    if foreign.is_none()
        && is_counted
        && let Err(too_many) = access.take_change(&principal)
    {
        let refused = Refused::new(&access, Requester::User(&principal.name), &request, origin);
        refused.record(None, StatusCode::TOO_MANY_REQUESTS).await;
        return too_many.into_response();
    }
    if !changes {
        let refused = Refused::new(&access, Requester::User(&principal.name), &request, origin);
        let response = match foreign {
            Some(refusal) => refusal.into_response(),
            None => next.run(request).await,
        };
        // What somebody was not permitted to read is told, too.
        if response.status() == StatusCode::FORBIDDEN {
            refused.record(action_of(&response), StatusCode::FORBIDDEN).await;
        }
        return response;
    }
    let mutation = rest::detached(audited(access, principal, origin, request, next, foreign));
    mutation
        .await
        .unwrap_or_else(|error| Refusal::internal("the request failed", &error).into_response())
}

/// The action of the route that answered, if one did.
fn action_of(response: &Response) -> Option<Action> {
    response.extensions().get::<RouteAction>().map(|RouteAction(action)| *action)
}

/// A request that may be refused, as the audit log tells it.
struct Refused<'a> {
    access: Access,
    who: Requester<'a>,
    method: Method,
    path: String,
    origin: Origin,
}

impl<'a> Refused<'a> {
    fn new(access: &Access, who: Requester<'a>, request: &Request, origin: Origin) -> Self {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        Self { access: access.clone(), who, method, path, origin }
    }

    /// `action`: the route's, if one answered.
    async fn record(self, action: Option<Action>, status: StatusCode) {
        let kind = action.map_or(self.method.as_str(), |action| action.as_str());
        let request = audit::Request {
            principal: match self.who {
                Requester::User(name) => name,
                Requester::Stranger(_) => STRANGER,
            },
            action: self.method.as_str(),
            subject: &self.path,
            source: self.origin.source.map(|source| source.to_string()).unwrap_or_default(),
            token: self.origin.token,
        };
        self.access.record_unchanged(self.who, kind, request, status.as_str()).await;
    }
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

fn is_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}

/// Runs a mutation and sees to its row.
async fn audited(
    access: Access,
    principal: Principal,
    origin: Origin,
    request: Request,
    next: Next,
    foreign: Option<Refusal>,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let token = origin.token;
    let source = origin.source.map(|source| source.to_string()).unwrap_or_default();
    let asked = || audit::Request {
        principal: &principal.name,
        action: method.as_str(),
        subject: &path,
        source: source.clone(),
        token: token.clone(),
    };
    let running = access.begin_request(asked());
    let response = match foreign {
        Some(refusal) => refusal.into_response(),
        None => {
            let work = REQUEST.scope(running.row.clone(), next.run(request));
            outbox::scope(vec![running.outbox.clone()], work).await
        }
    };
    let status = response.status();
    let outcome = status.as_str();
    let kind = action_of(&response).map_or(method.as_str(), |action| action.as_str());
    if running.finish(kind, outcome) {
        return response;
    }
    // What wrote nothing has changed nothing: it was refused, or it was so already.
    access.record_unchanged(Requester::User(&principal.name), kind, asked(), outcome).await;
    response
}
