//! Users, API tokens, rights and the audit log: who may do what, and who did.
//!
//! `bedplate server` opens one [`Access`] on the shared database, makes its REST API of [`Routes`] alone,
//! [`Access::rest`] among them, and puts [`layer()`] in front.
//!
//! Invariants: no secret is kept, only hashes; a change and its row in the audit log are one transaction; no
//! route is without an action, and what [`authorize`] does not grant is denied.

mod audit;
mod clock;
mod layer;
mod rest;
mod rights;
mod routes;
mod sessions;
mod store;
mod tickets;
mod token;
mod users;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::access::{CreatedToken, Ticket, Token, User};
use axum::http::Method;
use database::{Database, MigrateError, outbox};

pub use audit::{
    AuditChain, AuditHeads, AuditQuery, BrokenChain, HeadError, KeyError, audit_problems, change_told,
    object_told, verify_head,
};
pub use layer::{layer, reads};
pub use rights::{Denied, Principal, Resource, Rows, authorize, permitted, visible};
pub use routes::{ACTION_KEY, Caller, Routes};
pub use sessions::SessionLimits;
pub use store::{StoreError, sql::SCHEMA};
pub use tickets::TicketError;
pub use token::NoRandomness;

use audit::Chainer;
use store::{Store, audit::AuditStore as _, sql::SqlStore};
use tickets::Tickets;
use token::TokenHash;

/// Name of the first user.
const ADMIN: &str = "admin";

/// Name of the first token.
const FIRST_TOKEN: &str = "first-start";

/// A failed action on users, tokens or the audit log.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No token can be made.
    #[error("no token can be made")]
    Randomness(#[source] NoRandomness),
    /// The name of a token breaks the rule.
    #[error("{name:?} cannot name a token: use 1 to 63 lower-case letters, digits and inner hyphens")]
    TokenName {
        /// As given, cut to 80 characters.
        name: String,
    },
    /// The user has a token of that name.
    #[error("{user} has a token {name:?}; choose another name or revoke it")]
    TokenExists {
        /// The user.
        user: String,
        /// The name.
        name: String,
    },
    /// There is no such user.
    #[error("there is no user {user:?}")]
    UnknownUser {
        /// As given.
        user: String,
    },
    /// A user's record breaks a rule.
    #[error("{0}")]
    UserRecord(String),
    /// There is a user of that name.
    #[error("there is a user {user:?} already; change it, or choose another name")]
    UserExists {
        /// The name.
        user: String,
    },
    /// No ticket is issued.
    #[error(transparent)]
    Ticket(TicketError),
    /// The last admin cannot go.
    #[error("{user} is the last admin; make another one first")]
    LastAdmin {
        /// The name.
        user: String,
    },
    /// The audit log was changed behind the server's back.
    #[error(transparent)]
    Broken(#[from] BrokenChain),
}

/// Handle to users, tokens and the audit log. Clones share everything.
#[derive(Debug, Clone)]
pub struct Access {
    inner: Arc<Inner>,
    session_limits: SessionLimits,
    /// `None`: nobody signs heads.
    audit_heads: Option<AuditHeads>,
}

#[derive(Debug)]
struct Inner {
    store: Box<dyn Store>,
    audit: Chainer,
    /// Held while a user changes: there is always an admin.
    users_turn: tokio::sync::Mutex<()>,
    tickets: Mutex<Tickets>,
}

impl Access {
    /// Opens the tables of this crate in a database.
    ///
    /// # Errors
    /// [`MigrateError`] if they cannot be brought up to date, or read.
    pub async fn open(database: Database) -> Result<Self, MigrateError> {
        let store = Box::new(SqlStore::open(database).await?);
        let newest = store.newest_pending().await;
        let newest = newest.map_err(|source| MigrateError::Database { owner: SCHEMA.owner, source })?;
        let inner = Arc::new(Inner {
            store,
            audit: Chainer::after(newest),
            users_turn: tokio::sync::Mutex::default(),
            tickets: Mutex::default(),
        });
        Ok(Self { inner, session_limits: SessionLimits::default(), audit_heads: None })
    }

    /// The same with other limits of sessions; the default is 12 hours without use, 7 days in all.
    #[must_use]
    pub fn with_session_limits(self, session_limits: SessionLimits) -> Self {
        Self { session_limits, ..self }
    }

    /// The same that signs heads of the audit log.
    #[must_use]
    pub fn with_audit_heads(self, heads: AuditHeads) -> Self {
        Self { audit_heads: Some(heads), ..self }
    }

    /// Makes the user `admin` and a token for it if there is no admin yet. The token is returned this once.
    ///
    /// # Errors
    /// [`AccessError::Store`], [`AccessError::Randomness`].
    pub async fn create_admin_if_none(&self) -> Result<Option<String>, AccessError> {
        if self.inner.store.has_admin().await? {
            return Ok(None);
        }
        let admin = User { name: ADMIN.to_owned(), admin: true, account: None, comment: None };
        let row = self.event("server", "create-admin", ADMIN, "done");
        outbox::scope(vec![row], self.inner.store.add_user(&admin)).await?;
        Ok(Some(self.create_token(ADMIN, FIRST_TOKEN).await?.token))
    }

    /// Makes a token for a user.
    ///
    /// # Errors
    /// [`AccessError::TokenName`], [`AccessError::TokenExists`], [`AccessError::UnknownUser`], [`AccessError::Store`],
    /// [`AccessError::Randomness`].
    pub async fn create_token(&self, user: &str, name: &str) -> Result<CreatedToken, AccessError> {
        if !users::is_label(name) {
            return Err(AccessError::TokenName { name: name.chars().take(80).collect() });
        }
        if self.inner.store.user(user).await?.is_none() {
            return Err(AccessError::UnknownUser { user: user.to_owned() });
        }
        let secret = token::generate(token::PREFIX).map_err(AccessError::Randomness)?;
        let Some(hash) = token::hash(token::PREFIX, &secret) else {
            return Err(AccessError::Randomness(NoRandomness));
        };
        let kept = Token { name: name.to_owned(), user: user.to_owned(), created: clock::now() };
        object_told(&format!("token {name} of {user}"));
        if !self.inner.store.add_token(&kept, hash).await? {
            return Err(AccessError::TokenExists { user: user.to_owned(), name: name.to_owned() });
        }
        Ok(CreatedToken { name: kept.name, token: secret })
    }

    /// A user's tokens, without their secrets.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn tokens(&self, user: &str) -> Result<Vec<Token>, AccessError> {
        Ok(self.inner.store.tokens(user).await?)
    }

    /// Revokes a token. `false` if there was none of that name.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn revoke_token(&self, user: &str, name: &str) -> Result<bool, AccessError> {
        self.tickets().forget(user);
        object_told(&format!("token {name} of {user}"));
        Ok(self.inner.store.remove_token(user, name).await?)
    }

    /// Whose token this is; `None` if nobody's. A failing database is logged and answered with `None`.
    pub async fn authenticate(&self, bearer: &str) -> Option<Principal> {
        self.token_owner(bearer).await.map(|(principal, _)| principal)
    }

    /// The same, with the hash that the token is kept by.
    pub(crate) async fn token_owner(&self, bearer: &str) -> Option<(Principal, TokenHash)> {
        let hash = token::hash(token::PREFIX, bearer)?;
        let owner = self.inner.store.token_owner(hash).await.unwrap_or_else(|error| {
            tracing::error!("a token could not be looked up: {error}");
            None
        });
        owner.map(|user| (user.into(), hash))
    }

    /// A ticket for one request of a user.
    pub(crate) fn issue_ticket(&self, user: &str, method: &str, path: &str) -> Result<Ticket, AccessError> {
        let ticket = token::generate(token::TICKET_PREFIX).map_err(AccessError::Randomness)?;
        let expires = self.tickets().issue(&ticket, user, method, path, clock::now());
        Ok(Ticket { ticket, expires: expires.map_err(AccessError::Ticket)? })
    }

    /// Whose ticket this is, if it is good for this request; it is used up. The user's record is read again: rights
    /// that were taken away meanwhile are gone.
    pub(crate) async fn redeem(&self, secret: &str, method: &Method, path: &str) -> Option<Principal> {
        let user = self.tickets().take(secret, path, clock::now())?;
        if method != Method::GET {
            return None;
        }
        let user = self.inner.store.user(&user).await.unwrap_or_else(|error| {
            tracing::error!("the user of a ticket could not be looked up: {error}");
            None
        });
        user.map(Principal::from)
    }

    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.inner.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The REST routes of this crate; put [`layer()`] in front of them.
    #[must_use]
    pub fn rest(&self) -> Routes {
        rest::routes(self.clone())
    }
}
