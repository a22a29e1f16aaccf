//! Tokens: made, listed, revoked, shown by requests.
//!
//! ```text
//! POST /v1/tokens ──► good ──► used, again and again
//!     ended by: DELETE /v1/tokens/NAME · its user deleted · its end, by the server's clock ([`TokenLimits`])
//! ```
//! Sessions and tickets that were got with a token do what it may do, and end with it.

use std::{
    net::IpAddr,
    sync::{MutexGuard, PoisonError},
};

use api::{
    access::{CreateToken, CreatedToken, Token},
    ids::Timestamp,
    rights::Action,
};

use crate::{
    Access, AccessError, NoRandomness, Principal, TokenLimits, clock,
    logins::{LoginFailures, Shown, Unidentified},
    object_told,
    store::tokens::OwnedToken,
    token::{self, TokenHash},
    token_rules, users,
    uses::{LastUse, Uses},
};

/// A token that was shown is told to end soon from so long before on, seconds: two weeks.
pub(crate) const NOTICE_SECONDS: i64 = 14 * 86_400;

/// Tokens that are told at once to be without an end, or to end soon: people read no more.
const MAX_TOLD: u32 = 1_000;

/// The token that a request is made with, itself or by a session or ticket of it. In the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenInUse {
    pub(crate) name: String,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) hash: TokenHash,
}

impl TokenInUse {
    /// When it ends, if that is soon.
    pub(crate) fn ends_soon(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires.filter(|ends| *ends <= now.plus_seconds(NOTICE_SECONDS))
    }
}

/// Splits a token that was found into who asks and what they ask with, if it has not ended.
pub(crate) fn in_use(
    found: OwnedToken,
    hash: TokenHash,
    now: Timestamp,
) -> Result<(Principal, TokenInUse), Unidentified> {
    if found.has_ended(now) {
        let at = found.expires.unwrap_or(now);
        return Err(Unidentified::Ended { user: found.owner.name, name: found.name, at });
    }
    let token = TokenInUse { name: found.name.clone(), expires: found.expires, hash };
    Ok((found.principal(), token))
}

impl Access {
    /// The same with other limits of tokens that are made from now on; the default is 90 days where nobody says how
    /// long.
    #[must_use]
    pub fn with_token_limits(self, token_limits: TokenLimits) -> Self {
        Self { token_limits, ..self }
    }

    /// Makes a token for a user, as `maker` wants it: its scope is not wider than that of the token that `maker` asks
    /// with. Whether `maker` may make tokens for that user is the caller's to decide.
    ///
    /// # Errors
    /// [`AccessError::TokenName`], [`AccessError::TokenRule`], [`AccessError::TokenExists`],
    /// [`AccessError::UnknownUser`], [`AccessError::Quota`], [`AccessError::Store`], [`AccessError::Randomness`].
    pub async fn create_token(
        &self,
        user: &str,
        wanted: &CreateToken,
        maker: &Principal,
    ) -> Result<CreatedToken, AccessError> {
        let scope = token_rules::scope(wanted, maker.scope.as_deref())?;
        let expires = token_rules::ends(self.token_limits, wanted.expires, clock::now())?;
        self.user(user).await?;
        let _turn = self.room_for_token(user).await?;
        self.add_token(user, &wanted.name, expires, scope).await
    }

    /// Makes a token without an end and without a scope, in the place of one of that name if there is one: for the
    /// server's own file on this machine.
    ///
    /// # Errors
    /// [`AccessError::TokenName`], [`AccessError::UnknownUser`], [`AccessError::Store`], [`AccessError::Randomness`].
    pub async fn replace_token(&self, user: &str, name: &str) -> Result<CreatedToken, AccessError> {
        self.tickets().forget(user);
        self.inner.store.remove_token(user, name).await?;
        self.add_token(user, name, None, None).await
    }

    async fn add_token(
        &self,
        user: &str,
        name: &str,
        expires: Option<Timestamp>,
        scope: Option<Vec<Action>>,
    ) -> Result<CreatedToken, AccessError> {
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
        let kept = Token {
            name: name.to_owned(),
            user: user.to_owned(),
            created: clock::now(),
            expires,
            scope,
            last_used: None,
            last_source: None,
        };
        object_told(&format!("token {name} of {user}"));
        if !self.inner.store.add_token(&kept, hash).await? {
            return Err(AccessError::TokenExists { user: user.to_owned(), name: name.to_owned() });
        }
        Ok(CreatedToken { name: kept.name, token: secret, expires })
    }

    /// A user's tokens, without their secrets, and with the last use of each as far as this server knows it.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn tokens(&self, user: &str) -> Result<Vec<Token>, AccessError> {
        let rows = self.inner.store.tokens(user).await?;
        let uses = self.uses();
        let with_use = |(hash, token): (TokenHash, Token)| match uses.last(&hash) {
            Some(LastUse { at, source }) => {
                Token { last_used: Some(at), last_source: source.map(|source| source.to_string()), ..token }
            }
            None => token,
        };
        Ok(rows.into_iter().map(with_use).collect())
    }

    /// Tokens that have no end, or end within two weeks, by user and name: at most 1,000.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn tokens_to_mend(&self) -> Result<Vec<Token>, AccessError> {
        let now = clock::now();
        let soon = now.plus_seconds(NOTICE_SECONDS);
        Ok(self.inner.store.tokens_to_mend(now, soon, MAX_TOLD).await?)
    }

    /// Revokes a token. `false` if there was none of that name.
    ///
    /// # Errors
    /// [`AccessError::LastAdminToken`] if no admin could ask afterwards; [`AccessError::Store`].
    pub async fn revoke_token(&self, user: &str, name: &str) -> Result<bool, AccessError> {
        let _turn = self.inner.users_turn.lock().await;
        let good = self.inner.store.tokens_of_admins(clock::now()).await?;
        let is_it = |(owner, token): &(String, String)| owner == user && token == name;
        if good.iter().any(is_it) && good.iter().all(is_it) {
            return Err(AccessError::LastAdminToken { name: name.to_owned() });
        }
        self.tickets().forget(user);
        let rows = self.inner.store.tokens(user).await?;
        if let Some((hash, _)) = rows.iter().find(|(_, token)| token.name == name) {
            self.uses().forget(hash);
        }
        object_told(&format!("token {name} of {user}"));
        Ok(self.inner.store.remove_token(user, name).await?)
    }

    /// Whose token this is; `None` if nobody's, or if it has ended. A failing database is logged and answered with
    /// `None`.
    pub async fn authenticate(&self, bearer: &str) -> Option<Principal> {
        let hash = token::hash(token::PREFIX, bearer)?;
        self.show_token(hash, Shown::Token).await.ok().map(|(principal, _)| principal)
    }

    /// Who asks with the token of a hash.
    pub(crate) async fn show_token(
        &self,
        hash: TokenHash,
        shown: Shown,
    ) -> Result<(Principal, TokenInUse), Unidentified> {
        match self.inner.store.owned_token(hash).await {
            Ok(Some(found)) => in_use(found, hash, clock::now()),
            Ok(None) => Err(Unidentified::Bad(shown)),
            Err(error) => {
                tracing::error!("a token could not be looked up: {error}");
                Err(Unidentified::Nothing)
            }
        }
    }

    /// Notes, to the minute, that a token was used from an address; who asks does not wait for the disk.
    pub(crate) fn note_use(&self, token: TokenHash, source: Option<IpAddr>) {
        let minute = |at: Timestamp| Timestamp(at.0 - at.0.rem_euclid(60_000_000));
        let last = LastUse { at: minute(clock::now()), source };
        if !self.uses().note(token, last) {
            return;
        }
        let access = self.clone();
        tokio::spawn(async move {
            let source = source.map(|source| source.to_string());
            if let Err(error) = access.inner.store.note_token_use(token, last.at, source).await {
                tracing::warn!("a token could not be noted as used: {error}");
            }
        });
    }

    /// Requests whose credentials were not good, since the server started.
    #[must_use]
    pub fn login_failures(&self) -> LoginFailures {
        self.inner.logins.failures()
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.inner.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
