//! Routes that name their actions. The server's router is made of these alone, so none
//! is without one.

use api::rights::Action;
use axum::{
    extract::{DefaultBodyLimit, FromRequestParts, Request, State},
    http::request::Parts,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use rest::Refusal;
use utoipa::openapi::{OpenApi, PathItem, extensions::ExtensionsBuilder, path::Operation};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::{
    layer::{self, Origin},
    rights::{self, Denied, Principal, Resource, Rows},
};

/// The key of an operation in the OpenAPI document that holds its action.
pub const ACTION_KEY: &str = "x-action";

/// Routes of a role, each with its action: the word in the OpenAPI document is the one
/// that is enforced.
#[derive(Clone)]
pub struct Routes<S = ()>(OpenApiRouter<S>);

impl<S> std::fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Routes").finish_non_exhaustive()
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self(OpenApiRouter::new())
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds handlers that all do `action`, as `routes!` puts them together.
    ///
    /// Who may not do it at all is refused before anything of the request is read. The handlers are
    /// given a [`Caller`]; where things have owners they ask it once they know whose the thing is.
    #[must_use]
    pub fn route(self, action: Action, handlers: UtoipaMethodRouter<S>) -> Self {
        let (schemas, mut paths, methods) = handlers;
        for operation in paths.paths.values_mut().flat_map(operations) {
            let named = ExtensionsBuilder::new().add(ACTION_KEY, action.as_str()).build();
            match &mut operation.extensions {
                Some(extensions) => extensions.merge(named),
                none => *none = Some(named),
            }
        }
        let methods = methods.route_layer(middleware::from_fn_with_state(action, guard));
        Self(self.0.routes((schemas, paths, methods)))
    }

    /// Lets requests to the routes that are here so far have bodies of at most so many bytes;
    /// axum's own limit is 2 MB.
    #[must_use]
    pub fn with_body_limit(self, bytes: usize) -> Self {
        Self(self.0.layer(DefaultBodyLimit::max(bytes)))
    }

    /// These and others.
    #[must_use]
    pub fn merge(self, others: Self) -> Self {
        Self(self.0.merge(others.0))
    }

    /// Gives the handlers what they work on.
    #[must_use]
    pub fn with_state<T>(self, state: S) -> Routes<T> {
        Routes(self.0.with_state(state))
    }

    /// The router and the document that describes it, on top of `head`. Put
    /// [`layer()`](crate::layer()) in front.
    pub fn into_parts(self, head: OpenApi) -> (axum::Router<S>, OpenApi) {
        OpenApiRouter::with_openapi(head).merge(self.0).split_for_parts()
    }
}

pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// Refuses who may not do the route's action on anything.
async fn guard(State(action): State<Action>, mut request: Request, next: Next) -> Response {
    let Some(principal) = request.extensions().get::<Principal>() else {
        return layer::not_authenticated().into_response();
    };
    let denied = rights::visible(principal, action).err();
    let origin = request.extensions().get::<Origin>().cloned().unwrap_or_default();
    let caller = Caller { principal: principal.clone(), action, origin };
    let mut response = match denied {
        Some(denied) => denied.into_response(),
        None => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    };
    response.extensions_mut().insert(RouteAction(action));
    response
}

/// The action of the route that answered: in the extensions of its answer, for the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteAction(pub(crate) Action);

/// Who makes a request, and the action that its route names.
#[derive(Debug, Clone)]
pub struct Caller {
    /// User and token that the request was authenticated as.
    pub principal: Principal,
    /// Action that the route names.
    pub action: Action,
    /// Where the request came from, for the audit log.
    pub(crate) origin: Origin,
}

impl Caller {
    /// May the caller do the route's action to this?
    ///
    /// # Errors
    /// [`Denied`] if not.
    pub fn authorize(&self, resource: Resource<'_>) -> Result<(), Denied> {
        rights::authorize(&self.principal, self.action, resource)
    }

    /// The rows of the route's list that the caller sees.
    ///
    /// # Errors
    /// [`Denied`] if there can be none.
    pub fn visible(&self) -> Result<Rows<'_>, Denied> {
        rights::visible(&self.principal, self.action)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        // `guard` puts it there; without one nothing is permitted.
        parts.extensions.get::<Self>().cloned().ok_or_else(layer::not_authenticated)
    }
}
