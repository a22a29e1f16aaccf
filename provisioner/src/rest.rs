//! The REST routes of nodes, profiles, images, operations and overlays. `bedplate server` merges them and puts
//! `access::layer` in front, which tells who asks and writes the audit log.

use access::{Principal, Refusal};
use api::problem::{Mistake, Problem};
use axum::{
    Extension,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    cluster::ChangeError,
    images::causes,
    provisioner::{EditError, Provisioner},
};

mod apply;
mod hardware;
mod images;
mod nodes;
mod overlays;
mod patch;
mod profiles;
mod query;
mod watch;

impl Provisioner {
    /// The routes. Their requests carry a [`Principal`]; one that is no admin may only read.
    #[must_use]
    pub fn rest(&self) -> OpenApiRouter {
        OpenApiRouter::new()
            .merge(nodes::router())
            .merge(query::router())
            .merge(profiles::router())
            .merge(apply::router())
            .merge(images::router())
            .merge(overlays::router())
            .layer(middleware::from_fn(demand_admin))
            .with_state(self.clone())
    }
}

/// Refuses mutations by users who are no admins.
async fn demand_admin(Extension(principal): Extension<Principal>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !reads && !principal.admin {
        return not_admin(&principal, "cannot change the cluster").into_response();
    }
    next.run(request).await
}

fn not_admin(principal: &Principal, title: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, title, format!("{} is not an admin", principal.name))
}

/// A JSON body, refused with a [`Problem`] that names what is wrong in it.
#[derive(Debug)]
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let path = request.uri().path().to_owned();
        let title = format!("cannot read the body of a request for {path}");
        // Raw first: the types ignore unknown fields where releases meet, and people's mistakes must not be ignored.
        let raw: Result<axum::Json<Box<RawValue>>, JsonRejection> =
            axum::Json::from_request(request, state).await;
        let axum::Json(raw) =
            raw.map_err(|error| Refusal::new(error.status(), title.clone(), causes(&error)))?;
        api::strict::from_str(raw.get())
            .map(Self)
            .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, error.to_string()))
    }
}

/// `If-Match: "3"` as the version that a change was made on.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok());
    version.map(Some).ok_or_else(|| {
        let why = "If-Match must be the version of the object as it was read, such as \"3\"";
        Refusal::new(StatusCode::BAD_REQUEST, "cannot read a header of the request", why)
    })
}

/// A change that did not happen.
fn refuse_edit(title: impl Into<String>, error: &EditError) -> Refusal {
    let status = match error {
        EditError::Change(error) => match error {
            ChangeError::NotFound { .. } => StatusCode::NOT_FOUND,
            ChangeError::Exists { .. } => StatusCode::CONFLICT,
            ChangeError::VersionMismatch { .. } => StatusCode::PRECONDITION_FAILED,
            ChangeError::Spec { .. } | ChangeError::TooMany | ChangeError::Mistakes { .. } => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
        },
        EditError::Store(_) | EditError::Broken { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, title, causes(error))
}

/// A document with mistakes.
fn refuse_document(title: impl Into<String>, mistakes: Vec<Mistake>) -> Refusal {
    let detail = match mistakes.len() {
        1 => "the document has a mistake; nothing was changed".to_owned(),
        count => format!("the document has {count} mistakes; nothing was changed"),
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
    Refusal(Problem { status, title: title.into(), detail, mistakes })
}
