//! The REST port: the roles' routes behind one layer of authentication, and the OpenAPI document.

use std::{io, net::SocketAddr, sync::Arc};

use access::{Access, Principal, Resource, Routes};
use api::{problem::Problem, rights::Action};
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use rest::{
    Refusal,
    shell::{Listener, Opened, Shell, Tls, Transport},
};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use utoipa::{OpenApi as _, ToSchema, openapi::OpenApi};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

use super::{
    ServerError,
    health::{Health, Report},
    scrape::{Scrape, requests},
};

/// Longest refusal of the HTTP library that is put into a problem document, bytes.
const MAX_REFUSAL_BYTES: usize = 4096;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Bedplate", description = "Bare metal to running workflows. Errors are RFC 9457 problem documents. \
        `x-action` of an operation is the action that the caller must be permitted; `GET /v1/whoami` lists those."),
    modifiers(&BearerToken),
    security(("token" = []))
)]
struct Document;

/// Every route but those of [`open_routes`] wants a bearer token.
struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, document: &mut OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// What runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
struct Version {
    /// Version of the server.
    version: &'static str,
}

/// The server's version.
#[utoipa::path(get, path = "/v1/version", tag = "server", responses((status = OK, body = Version)))]
async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION") })
}

fn described(access: &Access, roles: Routes) -> (Router, OpenApi) {
    let own = Routes::new().route(Action::VersionRead, routes!(version));
    access.rest().merge(roles).merge(own).into_parts(Document::openapi())
}

/// What the routes that want no credential answer with.
#[derive(Debug, Clone)]
struct Open {
    health: Health,
    document: Bytes,
}

/// Whether the server can do its work, for load balancers and monitoring. It wants no token, tells
/// nothing of the site, and is worked out once a second at most.
#[utoipa::path(
    get, path = "/v1/health", tag = "server", security(()),
    responses((status = OK, body = Report),
        (status = SERVICE_UNAVAILABLE, description = "It cannot, and says why; or it has no time to answer",
            content((Report = "application/json"), (Problem = "application/problem+json"))))
)]
async fn health(State(open): State<Open>) -> (StatusCode, Json<Report>) {
    open.health.answer().await
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server", security(()),
    responses((status = OK, body = Object),
        (status = SERVICE_UNAVAILABLE, description = "It has no time to answer", body = Problem,
            content_type = "application/problem+json"))
)]
async fn openapi(State(open): State<Open>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], open.document)
}

/// The routes that are for everybody, and their part of the document.
fn open_routes() -> (Router<Open>, OpenApi) {
    let read_alone = |(schemas, paths, methods): UtoipaMethodRouter<Open>| {
        (schemas, paths, methods.fallback(only_read))
    };
    let router = OpenApiRouter::new().routes(read_alone(routes!(health)));
    router.routes(read_alone(routes!(openapi))).split_for_parts()
}

/// All routes, authenticated and audited, but those that are for everybody.
pub(super) fn router(access: Access, roles: Routes, health: Health, scrape: &Scrape) -> Router {
    let (routes, mut document) = described(&access, roles.merge(scrape.routes()));
    let (open_routes, open_document) = open_routes();
    // By the router's own templates, which OpenAPI has in other words.
    let requests = Arc::new(requests::Requests::new([&document, &open_document]));
    scrape.follow_requests(requests.clone());
    access::document_answers(&mut document);
    document.merge(open_document);
    // It has no key that is no string, so it is JSON.
    let document = Bytes::from(document.to_json().unwrap_or_default());
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn(explain))
        .layer(middleware::from_fn_with_state(access.clone(), access::running_requests))
        .layer(middleware::from_fn_with_state(access, access::layer))
        .merge(open_routes.with_state(Open { health, document }))
        .layer(middleware::from_fn_with_state(requests, requests::count))
}

async fn unknown_path(Extension(principal): Extension<Principal>, request: Request) -> Refusal {
    let title = format!("{} is no path of the API", request.uri().path());
    let unknown =
        Refusal::new(StatusCode::NOT_FOUND, title, "GET /v1/openapi.json describes all of them");
    unlisted(&principal, request.method(), unknown)
}

/// Another method on what everybody may read; nobody is asked who asks.
async fn only_read(request: Request) -> Refusal {
    let title = format!("{} cannot be done on {}", request.method(), request.uri().path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, title, "it can be read with GET")
}

async fn unknown_method(Extension(principal): Extension<Principal>, request: Request) -> Refusal {
    let title = format!("{} cannot be done on {}", request.method(), request.uri().path());
    let unknown = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        title,
        "GET /v1/openapi.json describes what can",
    );
    unlisted(&principal, request.method(), unknown)
}

/// A mutation that no route names is refused as one that is not permitted, but to who
/// may do everything.
fn unlisted(principal: &Principal, method: &Method, unknown: Refusal) -> Refusal {
    if access::reads(method) {
        return unknown;
    }
    access::authorize(principal, Action::Unlisted, Resource::Site)
        .map_or_else(Refusal::from, |()| unknown)
}

/// Makes a problem document of what the HTTP library itself refuses: a path or query that
/// cannot be read.
async fn explain(request: Request, next: Next) -> Response {
    let asked = format!("cannot do {} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    let is_text = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let status = response.status();
    if !is_text || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (_, body): (_, Body) = response.into_parts();
    let text = axum::body::to_bytes(body, MAX_REFUSAL_BYTES).await.unwrap_or_default();
    Refusal::new(status, asked, String::from_utf8_lossy(&text)).into_response()
}

/// TLS whose failed handshakes are counted.
struct ApiTls {
    tls: Tls,
    scrape: Scrape,
}

impl Transport for ApiTls {
    type Io = <Tls as Transport>::Io;

    async fn open(&self, tcp: TcpStream) -> io::Result<Opened<Self::Io>> {
        self.tls.open(tcp).await
    }

    fn failed(&self, remote: SocketAddr, error: &io::Error) {
        self.scrape.handshake_failed();
        tracing::debug!("REST: {remote} was not let in: {error}");
    }
}

/// Serves until `stop`, within the limits of `shell`.
pub(super) async fn serve(
    shell: Shell,
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    routes: Router,
    scrape: Scrape,
    stop: CancellationToken,
) -> Result<(), ServerError> {
    let tcp = TcpListener::from_std(listener).map_err(ServerError::Api)?;
    let tls = ApiTls { tls: Tls::new(&tls), scrape };
    shell.serve(Listener::Api, tcp, tls, routes, stop).await;
    Ok(())
}
