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
    access::{CreateToken, CreatedToken, TOKEN_NOTICE_SECONDS, Token, token_notice_from},
    ids::Timestamp,
    rights::Action,
};

use crate::{
    Access, AccessError, NoRandomness, Principal, TokenLimits, clock,
    logins::{BadCredential, LoginFailures, Unidentified},
    record_object,
    store::tokens::OwnedToken,
    token::{self, TokenHash},
    token_rules, users,
    uses::{LastUse, Uses},
};

/// Tokens that are told at once to be without an end, or to end soon: people read no more.
const MAX_TOLD: u32 = 1_000;

/// How many tokens want attention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// That have no end.
    pub without_end: u64,
    /// That end soon ([`token_notice_from`]) and have not yet.
    pub end_soon: u64,
}

/// Tokens that want attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokensToMend {
    /// Those that end soon, the first to end first, then those without an end: at most 1,000.
    pub tokens: Vec<Token>,
    /// How many there are, whether among `tokens` or not.
    pub counts: TokenCounts,
}

/// The token that a request is made with, itself or by a session or ticket of it. In the
/// request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenInUse {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) hash: TokenHash,
}

impl TokenInUse {
    /// When it ends, if that is soon.
    pub(crate) fn ends_soon(&self, now: Timestamp) -> Option<Timestamp> {
        self.expires.filter(|ends| now >= token_notice_from(self.created, *ends))
    }
}

/// A token that is about to be kept.
struct NewToken {
    kept: Token,
    hash: TokenHash,
    /// Shown once, and kept nowhere.
    secret: String,
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
    let token = TokenInUse {
        name: found.name.clone(),
        created: found.created,
        expires: found.expires,
        hash,
    };
    Ok((found.principal(), token))
}

impl Access {
    /// The same with other limits of tokens that are made from now on; the default is 90 days where
    /// nobody says how long.
    #[must_use]
    pub fn with_token_limits(self, token_limits: TokenLimits) -> Self {
        Self { token_limits, ..self }
    }

    /// Makes a token for a user, as `maker` wants it: its scope is not wider than that of the token
    /// that `maker` asks with, which ends at `maker_ends` (`None`: never). Whether `maker` may make
    /// tokens for that user is the caller's to decide.
    ///
    /// # Errors
    /// [`AccessError::TokenName`], [`AccessError::TokenRule`], [`AccessError::TokenExists`],
    /// [`AccessError::UnknownUser`], [`AccessError::Quota`], [`AccessError::Store`],
    /// [`AccessError::Randomness`].
    pub async fn create_token(
        &self,
        user: &str,
        wanted: &CreateToken,
        maker: &Principal,
        maker_ends: Option<Timestamp>,
    ) -> Result<CreatedToken, AccessError> {
        let scope = token_rules::scope(wanted, maker.scope.as_deref())?;
        // What may do all that its user may do is replaced by its like: `token rotate`.
        let latest = maker_ends.filter(|_| maker.scope.is_some());
        let expires = token_rules::ends(self.token_limits, wanted.expires, latest, clock::now())?;
        self.user(user).await?;
        let _turn = self.room_for_token(user).await?;
        let NewToken { kept, hash, secret } =
            self.new_token(user, &wanted.name, expires, scope).await?;
        if !self.inner.store.add_token(&kept, hash).await? {
            return Err(AccessError::TokenExists { user: kept.user, name: kept.name });
        }
        Ok(CreatedToken { name: kept.name, token: secret, expires })
    }

    /// Makes a token without an end and without a scope, in the place of one of that name if there
    /// is one: for the server's own file on this machine.
    ///
    /// # Errors
    /// [`AccessError::TokenName`], [`AccessError::UnknownUser`], [`AccessError::Store`],
    /// [`AccessError::Randomness`].
    pub async fn replace_token(&self, user: &str, name: &str) -> Result<CreatedToken, AccessError> {
        let NewToken { kept, hash, secret } = self.new_token(user, name, None, None).await?;
        self.tickets().forget(user);
        self.inner.store.replace_token(&kept, hash).await?;
        Ok(CreatedToken { name: kept.name, token: secret, expires: None })
    }

    /// A token that is not kept yet.
    async fn new_token(
        &self,
        user: &str,
        name: &str,
        expires: Option<Timestamp>,
        scope: Option<Vec<Action>>,
    ) -> Result<NewToken, AccessError> {
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
        record_object(&format!("token {name} of {user}"));
        Ok(NewToken { kept, hash, secret })
    }

    /// A user's tokens, without their secrets, and with the last use of each as far as this
    /// server knows it.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn tokens(&self, user: &str) -> Result<Vec<Token>, AccessError> {
        let rows = self.inner.store.tokens(user).await?;
        let uses = self.uses();
        let with_use = |(hash, token): (TokenHash, Token)| match uses.last(&hash) {
            Some(LastUse { at, source }) => Token {
                last_used: Some(at),
                last_source: source.map(|source| source.to_string()),
                ..token
            },
            None => token,
        };
        Ok(rows.into_iter().map(with_use).collect())
    }

    /// Tokens that have no end, or end soon.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn tokens_to_mend(&self) -> Result<TokensToMend, AccessError> {
        let now = clock::now();
        let soon = now.plus_seconds(TOKEN_NOTICE_SECONDS);
        let tokens = self.inner.store.tokens_to_mend(now, soon, MAX_TOLD).await?;
        let counts = if tokens.len() < MAX_TOLD as usize {
            let end_soon = tokens.iter().filter(|token| token.expires.is_some()).count() as u64;
            TokenCounts { without_end: tokens.len() as u64 - end_soon, end_soon }
        } else {
            self.inner.store.count_tokens_to_mend(now, soon).await?
        };
        Ok(TokensToMend { tokens, counts })
    }

    /// How many tokens have no end, or end soon.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub async fn count_tokens_to_mend(&self) -> Result<TokenCounts, AccessError> {
        let now = clock::now();
        let soon = now.plus_seconds(TOKEN_NOTICE_SECONDS);
        Ok(self.inner.store.count_tokens_to_mend(now, soon).await?)
    }

    /// Revokes a token. `false` if there was none of that name.
    ///
    /// # Errors
    /// [`AccessError::LastAdminToken`] if no admin could ask afterwards; [`AccessError::Store`].
    pub async fn revoke_token(&self, user: &str, name: &str) -> Result<bool, AccessError> {
        let _turn = self.inner.users_lock.lock().await;
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
        record_object(&format!("token {name} of {user}"));
        Ok(self.inner.store.remove_token(user, name).await?)
    }

    /// Whose token this is; `None` if nobody's, or if it has ended. A failing database is logged
    /// and answered with `None`.
    pub async fn authenticate(&self, bearer: &str) -> Option<Principal> {
        let hash = token::hash(token::PREFIX, bearer)?;
        self.show_token(hash, BadCredential::Token).await.ok().map(|(principal, _)| principal)
    }

    /// Who asks with the token of a hash.
    pub(crate) async fn show_token(
        &self,
        hash: TokenHash,
        shown: BadCredential,
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

    /// Notes, to the minute, that a token was used from an address; who asks does not
    /// wait for the disk.
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
