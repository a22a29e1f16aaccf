//! `/v1/users/{name}/quotas`: what a user may have at the server, and has.

use api::{
    problem::Problem,
    quota::{SetQuotas, UserQuotas},
};
use axum::{
    Json,
    extract::{Path, State},
};
use rest::{BodyOf, Refusal};

use super::refuse;
use crate::{Access, Caller, Resource};

/// What a user may have at the server, and has: for admins, and for the user.
#[utoipa::path(
    get, path = "/v1/users/{name}/quotas", tag = "access",
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = OK, body = UserQuotas), (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn show(
    State(access): State<Access>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<UserQuotas>, Refusal> {
    caller.authorize(Resource::Owned { owner: &name })?;
    let title = format!("cannot show the quotas of {name:?}");
    access.quotas(&name).await.map(Json).map_err(|error| refuse(title, &error))
}

/// Replaces a user's own limits; what is not there is as for everybody. For admins.
#[utoipa::path(
    put, path = "/v1/users/{name}/quotas", tag = "access", request_body = SetQuotas,
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = OK, body = UserQuotas), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem), (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn set(
    State(access): State<Access>,
    Path(name): Path<String>,
    body: BodyOf<SetQuotas>,
) -> Result<Json<UserQuotas>, Refusal> {
    let title = || format!("cannot set the quotas of {name:?}");
    access.user(&name).await.map_err(|error| refuse(title(), &error))?;
    let wanted = body.checked()?;
    access.set_quotas(&name, &wanted).await.map_err(|error| refuse(title(), &error))?;
    access.quotas(&name).await.map(Json).map_err(|error| refuse(title(), &error))
}
