//! Who may do what: one pure function over principal, action and resource. What is not
//! granted is denied.
//!
//! [`granted`] is the whole table; the scope of a token takes away from it and never adds. Every
//! route asks it by [`crate::Routes`], every handler that finds whose a thing is by [`authorize`],
//! every list by [`visible`], and `GET /v1/whoami` by [`permitted`].

use std::sync::Arc;

use api::{
    access::{Account, User},
    rights::{Action, Extent, Permitted, Role},
};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rest::Refusal;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name of the user.
    pub name: String,
    /// What it is; each role permits actions.
    pub roles: Vec<Role>,
    /// Names of the groups that it is in; empty until groups are built.
    pub groups: Vec<String>,
    /// The numbers that its jobs run with.
    pub account: Option<Account>,
    /// The actions that its token is for; it may do no others, whatever its roles
    /// permit. `None`: all.
    pub scope: Option<Arc<[Action]>>,
}

impl From<User> for Principal {
    fn from(user: User) -> Self {
        let role = if user.admin { Role::Admin } else { Role::User };
        let User { name, account, .. } = user;
        Self { name, roles: vec![role], groups: Vec::new(), account, scope: None }
    }
}

impl Principal {
    /// Is the action among those that its token is for?
    fn is_in_scope(&self, action: Action) -> bool {
        self.scope.as_ref().is_none_or(|scope| scope.contains(&action))
    }
}

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A part of the site: a node, an image, the audit log. It has no owner.
    Site,
    /// Something of a user.
    Owned {
        /// Name of the user.
        owner: &'a str,
    },
}

/// An action that is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Denied {
    /// What was asked for.
    pub action: Action,
    /// Name of the user who asked.
    pub principal: String,
    /// Why it is not permitted, and to whom it is.
    why: String,
}

impl Denied {
    fn new(principal: &Principal, action: Action, owner: Option<&str>) -> Self {
        let why = if principal.is_in_scope(action) {
            by_role(principal, action, owner)
        } else {
            out_of_scope(principal, action)
        };
        Self { action, principal: principal.name.clone(), why }
    }
}

fn by_role(principal: &Principal, action: Action, owner: Option<&str>) -> String {
    let roles: Vec<&str> = principal.roles.iter().map(|role| role.as_str()).collect();
    let roles = if roles.is_empty() { "no role".to_owned() } else { roles.join(", ") };
    let on = owner.map(|owner| format!(" on what is {owner}'s")).unwrap_or_default();
    let who = match (granted(Role::User, action), owner) {
        (None, _) => "an admin",
        (Some(_), Some(_)) => "that user or an admin",
        (Some(_), None) => "a user",
    };
    let (action, name) = (action.as_str(), &principal.name);
    format!("`{action}` is refused to {name} ({roles}){on}; {who} may do it")
}

fn out_of_scope(principal: &Principal, action: Action) -> String {
    let (word, name) = (action.as_str(), &principal.name);
    let mend = if action.fits_a_scope() {
        format!(
            "use another token of {name}, or make one with `bedplate token create NAME --allow {word}`"
        )
    } else {
        format!("use a token of {name} without a scope")
    };
    format!("`{word}` is not in the scope of the token that {name} asks with; {mend}")
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let title = format!("cannot {}", denied.action.phrase());
        Self::new(StatusCode::FORBIDDEN, title, denied.to_string())
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}

/// Which rows of a list somebody sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows<'a> {
    /// All of them.
    All,
    /// Those of this user.
    OwnedBy(&'a str),
}

impl<'a> Rows<'a> {
    /// Whose rows, if not all: what a query of the database is narrowed by.
    #[must_use]
    pub fn owner(self) -> Option<&'a str> {
        match self {
            Self::All => None,
            Self::OwnedBy(owner) => Some(owner),
        }
    }

    /// Is a row of this owner among them?
    #[must_use]
    pub fn include(self, owner: &str) -> bool {
        self.owner().is_none_or(|only| only == owner)
    }
}

/// The table: on which things a role may do an action. There is no other rule.
fn granted(role: Role, action: Action) -> Option<Extent> {
    match role {
        Role::Admin => Some(Extent::All),
        Role::User => granted_to_users(action),
        Role::Unknown => None,
    }
}

fn granted_to_users(action: Action) -> Option<Extent> {
    match action {
        Action::WhoAmI
        | Action::VersionRead
        | Action::MetricsRead
        | Action::CertificateList
        | Action::NodeList
        | Action::NodeRead
        | Action::InventoryQuery
        | Action::ProfileList
        | Action::ProfileRead
        | Action::ClusterExport
        | Action::ImageList
        | Action::ImageRead
        | Action::OperationList
        | Action::OperationRead
        | Action::OverlayList
        | Action::OverlayRead
        | Action::WorkflowCheck => Some(Extent::All),
        Action::TokenList
        | Action::TokenCreate
        | Action::TokenRevoke
        | Action::SessionCreate
        | Action::SessionEnd
        | Action::TicketCreate
        | Action::UserRead
        | Action::WorkflowList
        | Action::WorkflowRead
        | Action::WorkflowDocument
        | Action::WorkflowLog
        | Action::WorkflowFile
        | Action::WorkflowStart
        | Action::WorkflowStop
        | Action::WorkflowDelete
        | Action::WorkflowPause
        | Action::WorkflowEnter => Some(Extent::Own),
        Action::AuditRead
        | Action::AlarmList
        | Action::UserList
        | Action::UserAdd
        | Action::UserEdit
        | Action::UserDelete
        | Action::NodeAdd
        | Action::NodeEdit
        | Action::NodeDelete
        | Action::NodeReboot
        | Action::NodeUpgrade
        | Action::NodeArm
        | Action::NodeTrust
        | Action::NodeRevoke
        | Action::NodeDrain
        | Action::ProfileEdit
        | Action::ProfileDelete
        | Action::ClusterApply
        | Action::ImageImport
        | Action::ImageDelete
        | Action::OperationCancel
        | Action::OverlayRender
        | Action::OverlayFileRead
        | Action::OverlayEdit
        | Action::OverlayDelete
        | Action::Unlisted => None,
    }
}

/// The widest extent that one of the principal's roles grants, within the scope of its token.
fn extent(principal: &Principal, action: Action) -> Option<Extent> {
    if !principal.is_in_scope(action) {
        return None;
    }
    let granted = || principal.roles.iter().filter_map(|role| granted(*role, action));
    granted().find(|extent| *extent == Extent::All).or_else(|| granted().next())
}

/// May the principal do this to that?
///
/// # Errors
/// [`Denied`] if no role of the principal grants it, or its token is not for it.
pub fn authorize(
    principal: &Principal,
    action: Action,
    resource: Resource<'_>,
) -> Result<(), Denied> {
    let owner = match resource {
        Resource::Site => None,
        Resource::Owned { owner } => Some(owner),
    };
    match extent(principal, action) {
        Some(Extent::All) => Ok(()),
        Some(Extent::Own) if owner == Some(principal.name.as_str()) => Ok(()),
        Some(Extent::Own | Extent::Unknown) | None => Err(Denied::new(principal, action, owner)),
    }
}

/// Which rows a list of things with owners has for the principal: those that
/// [`authorize`] permits it.
///
/// # Errors
/// [`Denied`] if there can be none.
pub fn visible(principal: &Principal, action: Action) -> Result<Rows<'_>, Denied> {
    match extent(principal, action) {
        Some(Extent::All) => Ok(Rows::All),
        Some(Extent::Own) => Ok(Rows::OwnedBy(&principal.name)),
        Some(Extent::Unknown) | None => Err(Denied::new(principal, action, None)),
    }
}

/// All that the principal may do.
#[must_use]
pub fn permitted(principal: &Principal) -> Vec<Permitted> {
    let one = |action: &Action| {
        let on = extent(principal, *action)?;
        Some(Permitted { action: *action, on })
    };
    Action::ALL.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests;
