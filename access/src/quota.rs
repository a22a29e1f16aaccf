//! What each user may have at the server: limits, and what is counted here. What other roles hold
//! of users they tell by [`Holdings`].
//!
//! ```text
//! limit of a user: own (access_quotas) ─ else, for an admin: none ─ else: of everybody (configuration)
//! ```
//! Limits are read from the database once and kept until the user's record or limits change;
//! that another process has made the user an admin is seen with the user's next request. Nothing
//! that is used is stored as a number: it is counted where it is, and sums are made again at
//! each start. A limit that is lowered below what is there takes nothing away; nothing is added
//! until there is room.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use api::{
    quota::{Amounts, MAX_LIMIT, QUOTAS, QuotaName, QuotaUnit, QuotaUse, SetQuotas, UserQuotas},
    rights::Role,
    run::DEFAULT_VOLUME_GIB,
};
use async_trait::async_trait;
use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use rest::{Refusal, holding};

use crate::{
    Access, AccessError, Principal, record_change,
    store::quotas::{OwnLimits, StoredLimits},
};

/// After how many seconds a client may ask again that had too many requests under way.
const RETRY_AFTER_SECONDS: u64 = 5;

/// The limits of everybody who has no own one, by [`QuotaName`]; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLimits([Option<u64>; QUOTAS]);

impl Default for QuotaLimits {
    /// What nobody comes near who means well; a site with small disks sets lower ones.
    fn default() -> Self {
        let limit = |name: QuotaName| match name {
            // A program each, and some forgotten ones.
            QuotaName::Tokens => 100,
            // So many browsers nobody has.
            QuotaName::Sessions => 32,
            // An array of some hundred tasks whose logs are followed, each by a request of its own.
            QuotaName::Requests => 1_000,
            QuotaName::Workflows | QuotaName::Volumes => 20_000,
            // As many volumes as that, each of the size that it has by default.
            QuotaName::VolumeBytes => 20_000 * ((DEFAULT_VOLUME_GIB as u64) << 30),
            // Ten arrays of the largest size.
            QuotaName::Tasks => 10_000_000,
            // Together with the files some 4,000 documents of the largest size.
            QuotaName::Documents | QuotaName::Files => 16 << 30,
            QuotaName::Logs => 64 << 30,
            QuotaName::Results | QuotaName::Images => 256 << 30,
        };
        Self(QuotaName::ALL.map(|name| Some(limit(name))))
    }
}

impl QuotaLimits {
    /// The limit of one quota, in its own unit (a count, or bytes); `None`: no limit.
    #[must_use]
    pub fn get(&self, name: QuotaName) -> Option<u64> {
        self.0[name as usize]
    }

    /// Sets the limit of one quota, in its own unit (a count, or bytes); `None`: no limit.
    pub fn set(&mut self, name: QuotaName, limit: Option<u64>) {
        self.0[name as usize] = limit;
    }
}

/// A user would have more than the user may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// Name of the user whose quota it is.
    pub user: String,
    /// The quota that would be exceeded; it tells the unit of the amounts below.
    pub name: QuotaName,
    /// Amount that the user has now.
    pub used: u64,
    /// Amount by which the request would have increased it.
    pub more: u64,
    /// Largest amount that the user may have.
    pub limit: u64,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, name, used, more, limit } = self;
        let unit = name.unit();
        let of = if unit == QuotaUnit::Bytes { " of" } else { "" };
        let (word, things, remedy) = (name.as_str(), name.things(), name.remedy());
        write!(
            f,
            "{user} has {}{of} {things}, {} more would be past the limit of {} (quota `{word}`): {remedy}; \
             an admin can raise the limit with `bedplate user set {user} --quota {word}=…`",
            unit.format_amount(*used),
            unit.format_amount(*more),
            unit.format_amount(*limit),
        )
    }
}

impl std::error::Error for QuotaExceeded {}

impl QuotaExceeded {
    /// Refuses what would be past a limit.
    ///
    /// # Errors
    /// Itself.
    pub fn check(
        user: &str,
        name: QuotaName,
        used: u64,
        more: u64,
        limit: Option<u64>,
    ) -> Result<(), Self> {
        match limit {
            // What adds nothing is never refused, even if a limit was lowered.
            Some(limit) if more > 0 && used.saturating_add(more) > limit => {
                Err(Self { user: user.to_owned(), name, used, more, limit })
            }
            _ => Ok(()),
        }
    }

    /// The answer to a request. `title`: what failed. What is stored can be freed by the
    /// user, hence 409 (RFC 9110, section 15.5.10); what runs ends by itself, hence 429 (RFC
    /// 6585, section 4).
    #[must_use]
    pub fn refusal(&self, title: &str) -> Refusal {
        let status = match self.name {
            QuotaName::Requests => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::CONFLICT,
        };
        Refusal::new(status, title, self.to_string())
    }
}

/// Why a user cannot be removed: something of that user is under way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct StillHeld {
    /// What, and how to end it: "workflows of ann that are not over: 2; stop them first …".
    pub what: String,
}

/// What a role holds of users.
#[async_trait]
pub trait Holdings: Send + Sync + fmt::Debug {
    /// What it holds of one.
    fn used(&self, user: &str) -> Amounts;
    /// Frees all that it holds of a user who is being removed, and takes nothing of that user until
    /// [`Self::let_in`].
    ///
    /// # Errors
    /// Something is under way; then nothing was freed.
    async fn let_go(&self, user: &str) -> Result<(), StillHeld>;
    /// The removal is over, whichever way.
    fn let_in(&self, user: &str);
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    running: Arc<Mutex<HashMap<Arc<str>, u64>>>,
    known: Mutex<CachedLimits>,
    holdings: Mutex<Vec<Arc<dyn Holdings>>>,
    refused: [AtomicU64; QUOTAS],
    /// Held while a token is made.
    tokens_lock: tokio::sync::Mutex<()>,
    /// Held while a user is removed: of two removals the second sees what the first has left, and
    /// of one user no second sees it let in by the first.
    removal_lock: tokio::sync::Mutex<()>,
}

/// Limits that were read, by user.
#[derive(Debug, Default)]
struct CachedLimits {
    /// Grows with each change: what was read before one is not kept after it.
    generation: u64,
    users: HashMap<String, Arc<StoredLimits>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quotas {
    /// Records or limits of users have changed.
    pub(crate) fn forget_limits(&self) {
        let mut known = locked(&self.known);
        known.generation += 1;
        known.users.clear();
    }

    /// A user is an admin, or none, by a record that was read just now. Where what is known says
    /// otherwise, another process has changed the record (`bedplate server recover-admin`).
    fn forget_outdated(&self, user: &str, is_admin: bool) {
        let mut known = locked(&self.known);
        if known.users.get(user).is_some_and(|limits| limits.is_admin != is_admin) {
            known.generation += 1;
            known.users.remove(user);
        }
    }

    /// To be held while a user is removed.
    pub(crate) async fn removal_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.removal_lock.lock().await
    }

    fn holdings(&self) -> Vec<Arc<dyn Holdings>> {
        locked(&self.holdings).clone()
    }

    fn begin_request(
        &self,
        user: &Arc<str>,
        limit: Option<u64>,
    ) -> Result<RunningRequest, QuotaExceeded> {
        let mut running = locked(&self.running);
        let of_user = running.get(user).copied().unwrap_or(0);
        QuotaExceeded::check(user, QuotaName::Requests, of_user, 1, limit)?;
        running.insert(user.clone(), of_user + 1);
        let counted = Counted { user: user.clone(), running: self.running.clone() };
        Ok(RunningRequest(Some(Arc::new(counted))))
    }
}

/// A request that is being answered, or the stream that it became; it is counted until the
/// last clone is dropped. An extractor: a handler whose work outlives its answer (a
/// WebSocket) keeps one.
#[derive(Debug, Clone, Default)]
pub struct RunningRequest(#[allow(dead_code, reason = "it is held")] Option<Arc<Counted>>);

#[derive(Debug)]
struct Counted {
    user: Arc<str>,
    running: Arc<Mutex<HashMap<Arc<str>, u64>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = locked(&self.running);
        if let Some(count) = running.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.user);
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RunningRequest {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Tests of routes have none.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Axum middleware, behind [`crate::layer()`]: counts the requests of each user until their answers
/// have ended, and refuses those past the limit with 429.
pub async fn running_requests(
    State(access): State<Access>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = request.extensions().get::<Principal>();
    let Some(principal) = principal else { return next.run(request).await };
    let user: Arc<str> = principal.name.as_str().into();
    access.inner.quotas.forget_outdated(&user, principal.roles.contains(&Role::Admin));
    let limit = access.quota(&user, QuotaName::Requests).await.unwrap_or_else(|error| {
        tracing::error!("the limits of {user} cannot be read: {}", rest::causes(&error));
        access.quota_limits.get(QuotaName::Requests)
    });
    match access.inner.quotas.begin_request(&user, limit) {
        Ok(running) => {
            request.extensions_mut().insert(running.clone());
            holding(next.run(request).await, running)
        }
        Err(exceeded) => {
            access.count_refusal(QuotaName::Requests);
            let mut response = exceeded.refusal("too many requests").into_response();
            let after = HeaderValue::from(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, after);
            response
        }
    }
}

impl Access {
    /// The same with other limits for everybody; the default is [`QuotaLimits::default`].
    #[must_use]
    pub fn with_quota_limits(self, quota_limits: QuotaLimits) -> Self {
        Self { quota_limits, ..self }
    }

    /// From now on a role is asked what it holds of users.
    pub fn query_holdings(&self, of: Arc<dyn Holdings>) {
        locked(&self.inner.quotas.holdings).push(of);
    }

    /// How much a user may have; `None`: no limit. Of a user who is gone: as everybody.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn quota(&self, user: &str, name: QuotaName) -> Result<Option<u64>, AccessError> {
        let stored = self.stored_limits(user).await?;
        Ok(self.resolve(&stored, name))
    }

    /// All limits of a user, as [`Self::quota`].
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn quotas_of(&self, user: &str) -> Result<QuotaLimits, AccessError> {
        let stored = self.stored_limits(user).await?;
        Ok(QuotaLimits(QuotaName::ALL.map(|name| self.resolve(&stored, name))))
    }

    fn resolve(&self, stored: &StoredLimits, name: QuotaName) -> Option<u64> {
        match stored.own.get(name.as_str()) {
            Some(own) => *own,
            // Sessions past the limit end; they are not refused.
            None if stored.is_admin && name != QuotaName::Sessions => None,
            None => self.quota_limits.get(name),
        }
    }

    async fn stored_limits(&self, user: &str) -> Result<Arc<StoredLimits>, AccessError> {
        let quotas = &self.inner.quotas;
        let generation = {
            let known = locked(&quotas.known);
            if let Some(limits) = known.users.get(user) {
                return Ok(limits.clone());
            }
            known.generation
        };
        let Some(limits) = self.inner.store.limits(user).await? else { return Ok(Arc::default()) };
        let limits = Arc::new(limits);
        let mut known = locked(&quotas.known);
        if known.generation == generation {
            known.users.insert(user.to_owned(), limits.clone());
        }
        Ok(limits)
    }

    /// Counts a request or a thing that was refused for a quota, for the metrics.
    pub fn count_refusal(&self, name: QuotaName) {
        self.inner.quotas.refused[name as usize].fetch_add(1, Relaxed);
    }

    /// How much was refused for each quota since the start.
    pub fn quota_refusals(&self) -> impl Iterator<Item = (QuotaName, u64)> + '_ {
        let refused = self.inner.quotas.refused.iter().map(|count| count.load(Relaxed));
        QuotaName::ALL.into_iter().zip(refused)
    }

    /// Requests of all users that are being answered now.
    #[must_use]
    pub fn requests_under_way(&self) -> u64 {
        locked(&self.inner.quotas.running).values().sum()
    }

    /// Waits for the turn to make a token, if the user may have one more.
    pub(crate) async fn room_for_token(
        &self,
        user: &str,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, AccessError> {
        let turn = self.inner.quotas.tokens_lock.lock().await;
        let limit = self.quota(user, QuotaName::Tokens).await?;
        let used = self.inner.store.tokens(user).await?.len() as u64;
        QuotaExceeded::check(user, QuotaName::Tokens, used, 1, limit).map_err(|exceeded| {
            self.count_refusal(QuotaName::Tokens);
            AccessError::Quota(exceeded)
        })?;
        Ok(turn)
    }

    /// How many sessions a user may have, one at least: a further one ends another.
    pub(crate) async fn session_places(&self, user: &str) -> Result<u32, AccessError> {
        let limit = self.quota(user, QuotaName::Sessions).await?;
        Ok(limit.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX).max(1)))
    }

    /// Every quota of a user: what is used, and the limit.
    ///
    /// # Errors
    /// [`AccessError::UnknownUser`], [`AccessError::Store`].
    pub async fn quotas(&self, user: &str) -> Result<UserQuotas, AccessError> {
        self.user(user).await?;
        let (store, quotas) = (&self.inner.store, &self.inner.quotas);
        let stored = self.stored_limits(user).await?;
        let mut used = Amounts::default()
            .with(QuotaName::Tokens, store.tokens(user).await?.len() as u64)
            .with(QuotaName::Sessions, store.sessions_of(user).await?);
        used.set(QuotaName::Requests, locked(&quotas.running).get(user).copied().unwrap_or(0));
        for holdings in quotas.holdings() {
            used.increase(&holdings.used(user));
        }
        let one = |name: QuotaName| QuotaUse {
            name: name.as_str().to_owned(),
            unit: name.unit(),
            used: used.get(name),
            limit: self.resolve(&stored, name),
            own: stored.own.contains_key(name.as_str()),
        };
        Ok(UserQuotas { user: user.to_owned(), quotas: QuotaName::ALL.map(one).into() })
    }

    /// Replaces a user's own limits.
    ///
    /// # Errors
    /// [`AccessError::UnknownQuota`], [`AccessError::QuotaLimit`], [`AccessError::QuotaNone`],
    /// [`AccessError::UnknownUser`], [`AccessError::Store`].
    pub async fn set_quotas(&self, user: &str, set: &SetQuotas) -> Result<(), AccessError> {
        let limits: OwnLimits = set.limits.clone();
        for (word, limit) in &limits {
            let name = word.parse::<QuotaName>().map_err(AccessError::UnknownQuota)?;
            if (name, *limit) == (QuotaName::Requests, Some(0)) {
                return Err(AccessError::QuotaNone { name: word.clone() });
            }
            if limit.is_some_and(|limit| limit > MAX_LIMIT) {
                return Err(AccessError::QuotaLimit { name: word.clone() });
            }
        }
        let _turn = self.inner.users_lock.lock().await;
        self.user(user).await?;
        let before = self.inner.store.limits(user).await?.unwrap_or_default();
        record_change(user, Some(&document(&before.own)), Some(&document(&limits)));
        self.inner.store.set_limits(user, &limits).await?;
        self.inner.quotas.forget_limits();
        Ok(())
    }

    /// Frees what other roles hold of a user who is being removed, in its turn
    /// ([`Quotas::removal_lock`]), which may take minutes.
    pub(crate) async fn let_go<'a>(
        &self,
        turn: tokio::sync::MutexGuard<'a, ()>,
        user: &str,
    ) -> Result<UserRemoval<'a>, AccessError> {
        let mut leaving = UserRemoval { user: user.to_owned(), of: Vec::new(), _turn: turn };
        for holdings in self.inner.quotas.holdings() {
            holdings.let_go(user).await.map_err(AccessError::StillHeld)?;
            leaving.of.push(holdings);
        }
        Ok(leaving)
    }
}

/// Own limits as the audit log tells them: no limit is another thing than no own one.
fn document(limits: &OwnLimits) -> BTreeMap<&str, serde_json::Value> {
    limits
        .iter()
        .map(|(word, limit)| (word.as_str(), limit.map_or("none".into(), Into::into)))
        .collect()
}

/// A user is being removed, until this is dropped.
#[derive(Debug)]
pub(crate) struct UserRemoval<'a> {
    user: String,
    of: Vec<Arc<dyn Holdings>>,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

impl Drop for UserRemoval<'_> {
    fn drop(&mut self) {
        for holdings in &self.of {
            holdings.let_in(&self.user);
        }
    }
}
