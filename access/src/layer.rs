//! The layer in front of the REST API: who asks, and the line in the audit log. What one may do is decided behind
//! it, by the action of the route.

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rest::Refusal;

use crate::{Access, Principal};

/// Axum middleware: demands a bearer token, puts [`Principal`] into the request's extensions, and writes each
/// mutation (every method but GET, HEAD and OPTIONS) into the audit log before it is answered, the refused ones too.
///
/// Use: `router.layer(axum::middleware::from_fn_with_state(access, access::layer))`.
///
/// A mutation runs to its end and is recorded even if the client goes away in the middle.
pub async fn layer(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let principal = match bearer(&request) {
        Some(bearer) => access.authenticate(&bearer).await,
        None => None,
    };
    let Some(principal) = principal else { return not_authenticated().into_response() };
    request.extensions_mut().insert(principal.clone());
    if reads(request.method()) {
        return next.run(request).await;
    }
    let mutation = tokio::spawn(audited(access, principal, request, next));
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

/// The bearer token of RFC 6750, section 2.1.
fn bearer(request: &Request) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, bearer) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| bearer.trim().to_owned())
}

async fn audited(access: Access, principal: Principal, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
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
