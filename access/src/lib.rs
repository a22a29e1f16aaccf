//! Users, API tokens, rights and the audit log: who may do what, and who did.
//!
//! `bedplate server` opens one [`Access`] on the shared database, makes its REST API of [`Routes`]
//! alone, [`Access::rest`] among them, and puts [`layer()`] in front.
//!
//! Invariants: no secret is kept, only hashes; a change and its row in the audit log are one
//! transaction; no route is without an action, and what [`authorize`] does not grant is denied.

mod answers;
mod audit;
mod changes;
mod clock;
mod identify;
mod layer;
mod logins;
mod public;
mod quota;
mod rest;
mod rights;
mod routes;
mod sessions;
mod store;
mod tickets;
mod token;
mod token_rules;
mod tokens;
mod users;
mod uses;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{
    access::{Ticket, User},
    quota::UnknownQuota,
};
use axum::http::Method;
use database::{Database, MigrateError, outbox};

pub use answers::document_answers;
pub use audit::{
    AcceptCutError, AuditAlarms, AuditChain, AuditHeads, AuditKeep, AuditQuery, BrokenChain,
    HeadError, KeyError, audit_key, audit_problems, is_told, record_change, record_object,
    verify_cut, verify_head,
};
pub use layer::{layer, reads};
pub use logins::LoginFailures;
pub use public::{Public, Visibility, public_line};
pub use quota::{
    Holdings, QuotaExceeded, QuotaLimits, RunningRequest, StillHeld, running_requests,
};
pub use rights::{Denied, Principal, Resource, Rows, authorize, permitted, visible};
pub use routes::{ACTION_KEY, Caller, Routes};
pub use sessions::SessionLimits;
pub use store::{StoreError, sql::SCHEMA};
pub use tickets::TicketError;
pub use token::NoRandomness;
pub use token_rules::{TokenLimits, TokenRuleError};
pub use tokens::{TokenCounts, TokensToMend};

use audit::Chainer;
use changes::ChangeRates;
use logins::{BadCredential, Logins, Unidentified};
use quota::Quotas;
use store::{Store, audit::AuditStore as _, sql::SqlStore};
use tickets::Tickets;
use token::TokenHash;
use tokens::TokenInUse;
use uses::Uses;

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
    #[error(
        "{name:?} cannot name a token: use 1 to 63 lower-case letters, digits and inner hyphens"
    )]
    TokenName {
        /// As given, cut to 80 characters.
        name: String,
    },
    /// Its end or its scope breaks a rule.
    #[error(transparent)]
    TokenRule(#[from] TokenRuleError),
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
    #[error(
        "{user} is the last admin with a token that is good; make another one first (`bedplate user add NAME --admin`, \
         `bedplate token create TOKEN --user NAME`)"
    )]
    LastAdmin {
        /// The name.
        user: String,
    },
    /// The same, when all that other roles held of it was freed already.
    #[error(
        "{user} became the last admin with a token that is good while it was being removed: it stays, and its \
         workflows are gone; make another one (`bedplate user add NAME --admin`, `bedplate token create TOKEN --user \
         NAME`), then remove it again"
    )]
    LastAdminEmptied {
        /// The name.
        user: String,
    },
    /// The last token of an admin cannot go.
    #[error(
        "{name:?} is the last token with which an admin can ask (those with a scope, and those that have expired, do \
         not count); make another one first (`bedplate token create NAME`), or replace this one (`bedplate token \
         rotate`)"
    )]
    LastAdminToken {
        /// The name of the token.
        name: String,
    },
    /// The user would have more than the user may have.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// There is no quota of that name.
    #[error(transparent)]
    UnknownQuota(UnknownQuota),
    /// A limit is larger than limits are.
    #[error("the limit of {name} is more than {}; write null for no limit", api::quota::MAX_LIMIT)]
    QuotaLimit {
        /// The quota.
        name: String,
    },
    /// A user without requests could do nothing, and an admin not undo it.
    #[error("the limit of {name} is 1 at least: with none nothing can be done, nor undone")]
    QuotaNone {
        /// The quota.
        name: String,
    },
    /// Something of the user is under way.
    #[error(transparent)]
    StillHeld(StillHeld),
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
    audit_keep: AuditKeep,
    token_limits: TokenLimits,
    quota_limits: QuotaLimits,
}

#[derive(Debug)]
struct Inner {
    store: Box<dyn Store>,
    audit: Chainer,
    /// Held while a user changes or a token is revoked: there is always an admin.
    users_lock: tokio::sync::Mutex<()>,
    tickets: Mutex<Tickets>,
    uses: Mutex<Uses>,
    logins: Logins,
    quotas: Quotas,
    change_rates: Mutex<ChangeRates>,
}

impl Access {
    /// Opens the tables of this crate in a database.
    ///
    /// # Errors
    /// [`MigrateError`] if they cannot be brought up to date, or read.
    pub async fn open(database: Database) -> Result<Self, MigrateError> {
        let store = Box::new(SqlStore::open(database).await?);
        let unread = |source| MigrateError::Database { owner: SCHEMA.owner, source };
        let newest = store.newest_pending().await.map_err(unread)?;
        let cuts = store.audit_cuts().await.map_err(unread)?;
        let inner = Arc::new(Inner {
            store,
            audit: Chainer::after(newest, std::process::id(), cuts),
            users_lock: tokio::sync::Mutex::default(),
            tickets: Mutex::default(),
            uses: Mutex::default(),
            logins: Logins::default(),
            quotas: Quotas::default(),
            change_rates: Mutex::default(),
        });
        let (session_limits, token_limits) = (SessionLimits::default(), TokenLimits::default());
        let (quota_limits, audit_keep) = (QuotaLimits::default(), AuditKeep::default());
        Ok(Self {
            inner,
            session_limits,
            audit_heads: None,
            audit_keep,
            token_limits,
            quota_limits,
        })
    }

    /// The same with other limits of sessions; the default is 12 hours without use, 7 days in all.
    #[must_use]
    pub fn with_session_limits(self, session_limits: SessionLimits) -> Self {
        Self { session_limits, ..self }
    }

    /// The same that signs heads of the audit log. From now on only cuts that this
    /// key signed count.
    #[must_use]
    pub fn with_audit_heads(self, heads: AuditHeads) -> Self {
        self.judge_cuts(&heads);
        Self { audit_heads: Some(heads), ..self }
    }

    /// Makes the user `admin` and a token for it, without an end, if there is no admin yet. The
    /// token is returned this once.
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
        Ok(Some(self.replace_token(ADMIN, FIRST_TOKEN).await?.token))
    }

    /// A ticket for one request of who asks with a token.
    pub(crate) fn issue_ticket(
        &self,
        user: &str,
        token: TokenHash,
        method: &str,
        path: &str,
    ) -> Result<Ticket, AccessError> {
        let ticket = token::generate(token::TICKET_PREFIX).map_err(AccessError::Randomness)?;
        let expires = self.tickets().issue(&ticket, (user, token), method, path, clock::now());
        Ok(Ticket { ticket, expires: expires.map_err(AccessError::Ticket)? })
    }

    /// Whose ticket this is, if it is good for this request; it is used up. Its token and the
    /// user's record are read again: rights that were taken away meanwhile are gone.
    pub(crate) async fn redeem(
        &self,
        secret: &str,
        method: &Method,
        path: &str,
    ) -> Result<(Principal, TokenInUse), Unidentified> {
        let token = self.tickets().take(secret, path, clock::now());
        match token.filter(|_| *method == Method::GET) {
            Some(token) => self.show_token(token, BadCredential::Ticket).await,
            None => Err(Unidentified::Bad(BadCredential::Ticket)),
        }
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
