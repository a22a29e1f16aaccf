//! `/v1/profiles`.

use access::{Caller, Routes, Visibility};
use api::{
    ids::ProfileName,
    machine::{MachineSpec, Profile},
    problem::Problem,
    rights::Action,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use rest::{BodyOf, Page, PageParams, Paging, Refusal, Versioned, if_match};
use serde_json::Value;
use utoipa_axum::routes;

use super::{patch, refuse_edit};
use crate::{check::Subject, provisioner::Provisioner, store::ProfileRecord};

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new()
        .route(Action::ProfileList, routes!(list))
        .route(Action::ProfileRead, routes!(show))
        .route(Action::ProfileEdit, routes!(replace, patch_one))
        .route(Action::ProfileDelete, routes!(delete))
}

fn shown(record: &ProfileRecord) -> Profile {
    Profile {
        name: record.name.clone(),
        spec: record.spec.clone(),
        version: record.version,
        problem: record.unreadable.clone(),
    }
}

/// Profiles.
#[utoipa::path(
    get, path = "/v1/profiles", tag = "profiles", params(PageParams),
    responses((status = OK, body = [Profile]), (status = BAD_REQUEST, body = Problem))
)]
async fn list(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    paging: Paging,
) -> Result<Page<Profile>, Refusal> {
    let visibility = Visibility::of(&caller.principal);
    let view = provisioner.view();
    let rows = view.cluster.profiles.values();
    let page = paging.cut("profiles", rows, |row| row.name.clone(), |name, after| name > after)?;
    Ok(page.map(|record| visibility.of_thing(shown(record))))
}

/// One profile.
#[utoipa::path(
    get, path = "/v1/profiles/{name}", tag = "profiles",
    params(("name" = inline(ProfileName), Path, description = "Name of the profile")),
    responses((status = OK, body = Profile), (status = NOT_FOUND, body = Problem))
)]
async fn show(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<ProfileName>,
) -> Result<Versioned<Profile>, Refusal> {
    let Versioned { version, body } = one(&provisioner, &name)?;
    Ok(Versioned { version, body: Visibility::of(&caller.principal).of_thing(body) })
}

fn one(provisioner: &Provisioner, name: &ProfileName) -> Result<Versioned<Profile>, Refusal> {
    let view = provisioner.view();
    let shown = |record: &ProfileRecord| Versioned { version: record.version, body: shown(record) };
    let found = view.cluster.profiles.get(name).map(|record| shown(record));
    found.ok_or_else(|| not_found("cannot show the profile", name))
}

fn present(provisioner: &Provisioner, title: &str, name: &ProfileName) -> Result<(), Refusal> {
    let is_present = provisioner.view().cluster.profiles.contains_key(name);
    if is_present { Ok(()) } else { Err(not_found(title, name)) }
}

fn not_found(title: &str, name: &ProfileName) -> Refusal {
    let why = format!("profile {name} does not exist; `bedplate profile list` shows those that do");
    Refusal::new(StatusCode::NOT_FOUND, title, why)
}

/// Makes a profile, or gives it another specification.
#[utoipa::path(
    put, path = "/v1/profiles/{name}", tag = "profiles", request_body = MachineSpec,
    params(("name" = inline(ProfileName), Path, description = "Name of the profile"),
        ("if-match" = Option<u64>, Header, description = "Refuse if the profile has another version")),
    responses((status = OK, body = Profile), (status = PRECONDITION_FAILED, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn replace(
    State(provisioner): State<Provisioner>,
    Path(name): Path<ProfileName>,
    headers: HeaderMap,
    body: BodyOf<MachineSpec>,
) -> Result<Versioned<Profile>, Refusal> {
    let version = if_match(&headers)?;
    let title = format!("cannot change profile {name}");
    // Without a version that it must have it is made.
    if version.is_some() {
        present(&provisioner, &title, &name)?;
    }
    let (spec, edited) = (body.checked()?, name.clone());
    let changed = provisioner.change(move |draft| {
        if version.is_none() && !draft.profiles().contains_key(&edited) {
            return draft.add_profile(&edited, spec);
        }
        draft.set_profile(&edited, spec, version)
    });
    changed.await.map_err(|error| refuse_edit(title, &error))?;
    one(&provisioner, &name)
}

/// Changes a profile by a JSON merge patch (RFC 7396) on its specification.
#[utoipa::path(
    patch, path = "/v1/profiles/{name}", tag = "profiles", request_body = Object,
    params(("name" = inline(ProfileName), Path, description = "Name of the profile"),
        ("if-match" = Option<u64>, Header, description = "Refuse if the profile has another version")),
    responses((status = OK, body = Profile), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem, description = "Its specification in the database cannot be read"),
        (status = PRECONDITION_FAILED, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn patch_one(
    State(provisioner): State<Provisioner>,
    Path(name): Path<ProfileName>,
    headers: HeaderMap,
    body: BodyOf<Value>,
) -> Result<Versioned<Profile>, Refusal> {
    let version = if_match(&headers)?;
    let title = format!("cannot change profile {name}");
    present(&provisioner, &title, &name)?;
    let (wanted, edited) = (body.checked()?, name.clone());
    let changed = provisioner.change(move |draft| {
        let old = draft.readable_spec(&Subject::Profile(edited.clone()))?;
        let spec = patch::apply("profile", edited.as_str(), &old, &wanted)?;
        draft.set_profile(&edited, spec, version)
    });
    changed.await.map_err(|error| refuse_edit(title, &error))?;
    one(&provisioner, &name)
}

/// Deletes a profile that nothing lists.
#[utoipa::path(
    delete, path = "/v1/profiles/{name}", tag = "profiles",
    params(("name" = inline(ProfileName), Path, description = "Name of the profile"),
        ("if-match" = Option<u64>, Header, description = "Refuse if the profile has another version")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem),
        (status = PRECONDITION_FAILED, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn delete(
    State(provisioner): State<Provisioner>,
    Path(name): Path<ProfileName>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let version = if_match(&headers)?;
    let title = format!("cannot delete profile {name}");
    let deleted =
        provisioner.change(move |draft| draft.remove_unused_profile(&name, version)).await;
    deleted.map_err(|error| refuse_edit(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}
