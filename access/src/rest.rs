//! `/v1/whoami`, `/v1/tokens`, `/v1/users`, and what [`audit`] and [`sessions`] have.

mod audit;
mod quotas;
mod sessions;

use api::{
    access::{CreateToken, CreatedToken, Token, User, Whoami},
    problem::Problem,
    rights::{Action, Role},
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use rest::{BodyOf, Page, PageParams, Paging, Refusal};
use serde::Deserialize;
use utoipa_axum::routes;

use crate::{
    Access, AccessError, Caller, Resource, Routes, TokenRuleError, rights, tickets::TicketError,
    tokens::TokenInUse,
};

/// The routes of this crate.
pub(crate) fn routes(access: Access) -> Routes {
    Routes::new()
        .route(Action::WhoAmI, routes!(whoami))
        .route(Action::TokenList, routes!(list_tokens))
        .route(Action::TokenCreate, routes!(create_token))
        .route(Action::TokenRevoke, routes!(revoke_token))
        .route(Action::AuditRead, routes!(audit::list))
        .route(Action::AuditRead, routes!(audit::head))
        .route(Action::AuditRead, routes!(audit::cut))
        .route(Action::UserList, routes!(list_users))
        .route(Action::UserAdd, routes!(add_user))
        .route(Action::UserRead, routes!(show_user))
        .route(Action::UserEdit, routes!(change_user))
        .route(Action::UserDelete, routes!(remove_user))
        .route(Action::UserRead, routes!(quotas::show))
        .route(Action::UserEdit, routes!(quotas::set))
        .route(Action::SessionCreate, routes!(sessions::begin))
        .route(Action::SessionEnd, routes!(sessions::end))
        .route(Action::SessionEnd, routes!(sessions::end_all))
        .route(Action::TicketCreate, routes!(sessions::issue_ticket))
        .with_state(access)
}

/// Who the token belongs to, and what that one may do.
#[utoipa::path(get, path = "/v1/whoami", tag = "access", responses((status = OK, body = Whoami)))]
async fn whoami(caller: Caller, Extension(token): Extension<TokenInUse>) -> Json<Whoami> {
    let actions = rights::permitted(&caller.principal);
    let admin = caller.principal.roles.contains(&Role::Admin);
    let rights::Principal { name, roles, groups, .. } = caller.principal;
    let (token, expires) = (Some(token.name), token.expires);
    Json(Whoami { name, admin, roles, groups, actions, token, expires })
}

/// Whose tokens a request is about.
#[derive(Debug, Deserialize)]
struct TokenOwner {
    /// Name of the user; default: the caller.
    user: Option<String>,
}

impl TokenOwner {
    /// The user, if the caller may do the route's action to what is that user's. `title`: what
    /// fails otherwise.
    async fn owner(self, access: &Access, caller: &Caller, title: &str) -> Result<String, Refusal> {
        let own = &caller.principal.name;
        let owner = self.user.unwrap_or_else(|| own.clone());
        caller.authorize(Resource::Owned { owner: &owner })?;
        if owner != *own {
            if caller.principal.scope.is_some() {
                let why = "a token with a scope lists and revokes its own user's tokens alone";
                return Err(Refusal::new(StatusCode::FORBIDDEN, title, why));
            }
            access.user(&owner).await.map_err(|error| refuse(title.to_owned(), &error))?;
        }
        Ok(owner)
    }
}

/// The caller's tokens, or for admins another user's, without their secrets.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "access",
    params(PageParams,
        ("user" = Option<String>, Query, description = "Whose; default: the caller's. Admins only")),
    responses((status = OK, body = [Token]), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem, description = "There is no such user"))
)]
async fn list_tokens(
    State(access): State<Access>,
    caller: Caller,
    Query(whose): Query<TokenOwner>,
    paging: Paging,
) -> Result<Page<Token>, Refusal> {
    let owner = &whose.owner(&access, &caller, "cannot list tokens").await?;
    let rows = access.tokens(owner).await;
    let mut rows = rows.map_err(|error| Refusal::internal("cannot list tokens", &error))?;
    // Cursors compare bytes, and a database may sort by its own rules.
    rows.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    paging.cut("tokens", rows, |token| token.name.clone(), |name, after| name > after)
}

/// Makes a token for the caller, or by an admin for another user. The secret is shown this once.
/// Its scope is not wider than that of the token that asks.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "access", request_body = CreateToken,
    responses((status = CREATED, body = CreatedToken), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem, description = "There is no such user"),
        (status = CONFLICT, body = Problem))
)]
async fn create_token(
    State(access): State<Access>,
    caller: Caller,
    Extension(token): Extension<TokenInUse>,
    Json(wanted): Json<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    let title = || format!("cannot create token {:?}", wanted.name);
    let user = wanted.user.as_ref().unwrap_or(&caller.principal.name);
    caller.authorize(Resource::Owned { owner: user })?;
    let created = access.create_token(user, &wanted, &caller.principal, token.expires).await;
    created
        .map(|created| (StatusCode::CREATED, Json(created)))
        .map_err(|error| refuse(title(), &error))
}

/// Revokes one of the caller's tokens, or for admins of another user's. It stops working at
/// once, with the sessions and tickets that were got with it. The last one with which an
/// admin can ask stays.
#[utoipa::path(
    delete, path = "/v1/tokens/{name}", tag = "access",
    params(("name" = String, Path, description = "Name of the token"),
        ("user" = Option<String>, Query, description = "Whose; default: the caller's. Admins only")),
    responses((status = NO_CONTENT), (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem, description = "There is no such token, or no such user"),
        (status = CONFLICT, body = Problem))
)]
async fn revoke_token(
    State(access): State<Access>,
    caller: Caller,
    Path(name): Path<String>,
    Query(whose): Query<TokenOwner>,
) -> Result<StatusCode, Refusal> {
    let title = || format!("cannot revoke token {name:?}");
    let owner = &whose.owner(&access, &caller, &title()).await?;
    let of =
        if *owner == caller.principal.name { String::new() } else { format!(" --user {owner}") };
    match access.revoke_token(owner, &name).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            title(),
            format!("{owner} has no token of that name; `bedplate token list{of}` lists them"),
        )),
        Err(error) => Err(refuse(title(), &error)),
    }
}

fn refuse(title: String, error: &AccessError) -> Refusal {
    let status = match error {
        AccessError::Quota(exceeded) => return exceeded.refusal(&title),
        AccessError::TokenExists { .. }
        | AccessError::UserExists { .. }
        | AccessError::LastAdmin { .. }
        | AccessError::LastAdminEmptied { .. }
        | AccessError::LastAdminToken { .. }
        | AccessError::StillHeld(_) => StatusCode::CONFLICT,
        AccessError::TokenRule(TokenRuleError::Wider { .. } | TokenRuleError::Outlives { .. }) => {
            StatusCode::FORBIDDEN
        }
        AccessError::TokenName { .. }
        | AccessError::TokenRule(_)
        | AccessError::UserRecord(_)
        | AccessError::UnknownQuota(_)
        | AccessError::QuotaLimit { .. }
        | AccessError::QuotaNone { .. }
        | AccessError::Ticket(TicketError::Method | TicketError::Path) => StatusCode::BAD_REQUEST,
        AccessError::Ticket(TicketError::TooManyOfUser | TicketError::TooMany) => {
            StatusCode::TOO_MANY_REQUESTS
        }
        AccessError::UnknownUser { .. } => StatusCode::NOT_FOUND,
        AccessError::Store(_) | AccessError::Randomness(_) | AccessError::Broken(_) => {
            return Refusal::internal(title, error);
        }
    };
    Refusal::new(status, title, error.to_string())
}

/// All users, by name. For admins.
#[utoipa::path(
    get, path = "/v1/users", tag = "access", params(PageParams),
    responses((status = OK, body = [User]), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem))
)]
async fn list_users(State(access): State<Access>, paging: Paging) -> Result<Page<User>, Refusal> {
    let mut rows =
        access.users().await.map_err(|error| refuse("cannot list users".to_owned(), &error))?;
    rows.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    paging.cut("users", rows, |user| user.name.clone(), |name, after| name > after)
}

/// Adds a user. For admins.
#[utoipa::path(
    post, path = "/v1/users", tag = "access", request_body = User,
    responses((status = CREATED, body = User), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn add_user(
    State(access): State<Access>,
    Json(user): Json<User>,
) -> Result<(StatusCode, Json<User>), Refusal> {
    let title = format!("cannot add user {:?}", user.name);
    let added = access.add_user(&user).await;
    added.map(|()| (StatusCode::CREATED, Json(user))).map_err(|error| refuse(title, &error))
}

/// A user: for admins, and for the user.
#[utoipa::path(
    get, path = "/v1/users/{name}", tag = "access",
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = OK, body = User), (status = FORBIDDEN, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
async fn show_user(
    State(access): State<Access>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<User>, Refusal> {
    let title = format!("cannot show user {name:?}");
    caller.authorize(Resource::Owned { owner: &name })?;
    access.user(&name).await.map(Json).map_err(|error| refuse(title, &error))
}

/// Replaces a user's record; its name stays. For admins.
#[utoipa::path(
    put, path = "/v1/users/{name}", tag = "access", request_body = User,
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = OK, body = User), (status = BAD_REQUEST, body = Problem),
        (status = FORBIDDEN, body = Problem), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem))
)]
async fn change_user(
    State(access): State<Access>,
    Path(name): Path<String>,
    body: BodyOf<User>,
) -> Result<Json<User>, Refusal> {
    let title = format!("cannot change user {name:?}");
    if let Err(error) = access.user(&name).await {
        return Err(refuse(title, &error));
    }
    let user = body.checked()?;
    if user.name != name {
        let why = format!("the record names {:?}; a user keeps its name", user.name);
        return Err(Refusal::new(StatusCode::BAD_REQUEST, title, why));
    }
    access.change_user(&user).await.map(|()| Json(user)).map_err(|error| refuse(title, &error))
}

/// Removes a user with tokens, sessions and the workflows that are over; refused while workflows of
/// that user are not over. For admins.
#[utoipa::path(
    delete, path = "/v1/users/{name}", tag = "access",
    params(("name" = String, Path, description = "Name of the user")),
    responses((status = NO_CONTENT), (status = FORBIDDEN, body = Problem), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem))
)]
async fn remove_user(
    State(access): State<Access>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot remove user {name:?}");
    access
        .remove_user(&name)
        .await
        .map(|()| StatusCode::NO_CONTENT)
        .map_err(|error| refuse(title, &error))
}
