//! Sessions of browsers: a cookie that no script can read stands for the token that
//! it was got with.
//!
//! ```text
//! POST /v1/session with a bearer token ──► begun ──► used, again and again
//!     ended by: DELETE /v1/session · DELETE /v1/users/NAME/sessions · its token revoked or expired · its user deleted ·
//!               unused for [`SessionLimits::idle`] · older than [`SessionLimits::life`] ·
//!               as many newer ones as the user's quota `sessions` allows
//! ```
//! Only the hash of a cookie is kept. A browser sends a cookie by itself, whatever page
//! makes it do so; therefore [`same_origin`] is demanded where a request changes something
//! or opens a WebSocket.

use std::time::Duration;

use api::{access::Session, ids::Timestamp};
use axum::http::{HeaderMap, HeaderValue, header};
use database::outbox;

use crate::{
    Access, AccessError, Principal, clock,
    logins::{BadCredential, Unidentified},
    store::sessions::{NewSession, StoredSession},
    tickets::after,
    token::{self, TokenHash},
    tokens::{TokenInUse, in_use},
};

/// Name of the cookie. Browsers take one of this prefix only over TLS, without `Domain`, and with
/// `Path=/`: no other host, and no plain HTTP, can put one in its place.
const COOKIE: &str = "__Host-bedplate";

/// When a session is written down as used again, so that reading does not write each time. An idle
/// session may end by so much earlier.
const TOUCH_AFTER: Duration = Duration::from_secs(60);

/// How long sessions are good. `bedplate server` sets it from its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Without a request for so long, a session ends. At least twice a minute, its resolution.
    pub idle: Duration,
    /// Since its beginning; then one logs in again.
    pub life: Duration,
}

impl Default for SessionLimits {
    /// 12 hours without use, 7 days in all: a working day, a working week.
    fn default() -> Self {
        Self { idle: Duration::from_hours(12), life: Duration::from_hours(7 * 24) }
    }
}

impl SessionLimits {
    fn is_good(self, session: &StoredSession, now: Timestamp) -> bool {
        now < after(session.used, self.idle) && now < after(session.created, self.life)
    }
}

/// A session just begun: what the client is told, and its cookie.
#[derive(Debug)]
pub(crate) struct NewLogin {
    pub(crate) session: Session,
    pub(crate) cookie: HeaderValue,
}

impl Access {
    /// Begins a session for the owner of a token.
    pub(crate) async fn begin_session(
        &self,
        user: &str,
        token: TokenHash,
    ) -> Result<NewLogin, AccessError> {
        let secret = token::generate(token::SESSION_PREFIX).map_err(AccessError::Randomness)?;
        let hash = token::hash(token::SESSION_PREFIX, &secret)
            .ok_or(AccessError::Randomness(token::NoRandomness))?;
        let (now, limits) = (clock::now(), self.session_limits);
        let store = &self.inner.store;
        let before = |limit: Duration| Timestamp(now.0 - after(Timestamp(0), limit).0);
        // Not what the request is about: its row goes with the new session.
        outbox::alone(store.end_old_sessions(before(limits.life), before(limits.idle))).await?;
        let new = NewSession { hash, token, user, created: now };
        store.add_session(&new, self.session_places(user).await?).await?;
        let cookie = set_cookie(&secret, limits.life);
        let idle_seconds = limits.idle.as_secs();
        Ok(NewLogin {
            session: Session { created: now, ends: after(now, limits.life), idle_seconds },
            cookie,
        })
    }

    /// Who asks with a session: it does what its token may do, and is over with it. A failing
    /// database is logged.
    pub(crate) async fn show_session(
        &self,
        hash: TokenHash,
    ) -> Result<(Principal, TokenInUse), Unidentified> {
        let over = Unidentified::Bad(BadCredential::Session);
        let found = match self.inner.store.session(hash).await {
            Ok(found) => found.ok_or(over.clone())?,
            Err(error) => {
                tracing::error!("a session could not be looked up: {error}");
                return Err(Unidentified::Nothing);
            }
        };
        let now = clock::now();
        if !self.session_limits.is_good(&found.session, now) {
            return Err(over);
        }
        let shown = in_use(found.token, found.token_hash, now)?;
        if now >= after(found.session.used, TOUCH_AFTER) {
            let access = self.clone();
            // Who asks does not wait for the disk.
            tokio::spawn(async move {
                if let Err(error) = access.inner.store.touch_session(hash, now).await {
                    tracing::warn!("a session could not be noted as used: {error}");
                }
            });
        }
        Ok(shown)
    }

    /// Ends one session of a user and forgets the user's tickets, which it may have asked for.
    /// `false` if it was over.
    pub(crate) async fn end_session(
        &self,
        user: &str,
        hash: TokenHash,
    ) -> Result<bool, AccessError> {
        self.tickets().forget(user);
        Ok(self.inner.store.end_session(hash).await?)
    }

    /// Ends all sessions of a user and forgets the user's tickets. Returns how many
    /// sessions there were.
    ///
    /// # Errors
    /// [`AccessError::UnknownUser`], [`AccessError::Store`].
    pub async fn end_sessions(&self, user: &str) -> Result<u64, AccessError> {
        self.user(user).await?;
        self.tickets().forget(user);
        Ok(self.inner.store.end_sessions(user).await?)
    }
}

/// The hash of the session cookie of a request.
pub(crate) fn cookie_hash(headers: &HeaderMap) -> Option<TokenHash> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, secret) = pairs.find(|(name, _)| *name == COOKIE)?;
    token::hash(token::SESSION_PREFIX, secret)
}

fn set_cookie(secret: &str, life: Duration) -> HeaderValue {
    let text = format!(
        "{COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={}",
        life.as_secs()
    );
    // Base64url and digits are a header.
    HeaderValue::try_from(text).unwrap_or_else(|_| clear_cookie())
}

/// The header that makes a browser forget the cookie.
pub(crate) fn clear_cookie() -> HeaderValue {
    HeaderValue::from_static(
        "__Host-bedplate=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0",
    )
}

/// Why a request with a cookie is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OriginError {
    #[error(
        "it comes with a session cookie but without `Origin`, which browsers send: use a token (`Authorization: \
         Bearer`) where there is no browser"
    )]
    Missing,
    #[error(
        "it was made by a page of {origin}, and only pages of https://{host} may do that with a session"
    )]
    Other { origin: String, host: String },
}

/// Was the request made by a page of this server? `Origin` (RFC 6454) cannot be set by a page,
/// `Host` is where the browser sent the request to.
pub(crate) fn same_origin(headers: &HeaderMap, host: Option<&str>) -> Result<(), OriginError> {
    let text = |value: Option<&HeaderValue>| {
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let origin = text(headers.get(header::ORIGIN)).ok_or(OriginError::Missing)?;
    let host = text(headers.get(header::HOST)).or(host.map(str::to_owned)).unwrap_or_default();
    let default_port = |authority: &str| authority.trim_end_matches(":443").to_ascii_lowercase();
    let is_ours = origin.strip_prefix("https://").is_some_and(|authority| {
        !host.is_empty() && default_port(authority) == default_port(&host)
    });
    if is_ours {
        Ok(())
    } else {
        Err(OriginError::Other { origin: cut(&origin), host: cut(&host) })
    }
}

/// What a stranger sent, short enough to be said again.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_pages_of_the_server_itself() {
        let check = |origin: Option<&str>, host: &str| {
            let mut pairs = vec![("host", host)];
            pairs.extend(origin.map(|origin| ("origin", origin)));
            same_origin(&headers(&pairs), None)
        };
        for (origin, host) in [
            ("https://bedplate.example", "bedplate.example"),
            ("https://bedplate.example:9470", "bedplate.example:9470"),
            ("https://Bedplate.example:443", "bedplate.example"),
            ("https://[fd00::1]:9470", "[fd00::1]:9470"),
        ] {
            assert_eq!(check(Some(origin), host), Ok(()), "{origin} {host}");
        }
        for (origin, host) in [
            ("https://evil.example", "bedplate.example"),
            ("http://bedplate.example", "bedplate.example"),
            ("https://bedplate.example.evil.example", "bedplate.example"),
            ("https://bedplate.example:9471", "bedplate.example:9470"),
            ("https://jupyter.bedplate.example", "bedplate.example"),
            ("null", "bedplate.example"),
            ("https://", ""),
        ] {
            assert!(
                matches!(check(Some(origin), host), Err(OriginError::Other { .. })),
                "{origin} {host}"
            );
        }
        assert_eq!(check(None, "bedplate.example"), Err(OriginError::Missing));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let secret = token::generate(token::SESSION_PREFIX).unwrap();
        let hash = token::hash(token::SESSION_PREFIX, &secret);
        let found = |text: &str| cookie_hash(&headers(&[("cookie", text)]));
        assert_eq!(found(&format!("{COOKIE}={secret}")), hash);
        assert_eq!(found(&format!("theme=dark; {COOKIE}={secret}; a=b")), hash);
        assert_eq!(found(&format!("bedplate={secret}")), None);
        assert_eq!(found(&format!("{COOKIE}=bp_AAAA")), None, "a token is no session");
        assert_eq!(cookie_hash(&HeaderMap::new()), None);
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let limits =
            SessionLimits { idle: Duration::from_secs(100), life: Duration::from_secs(1000) };
        let second = |seconds: i64| Timestamp(seconds * 1_000_000);
        let is_good = |used: i64, now: i64| {
            limits.is_good(&StoredSession { created: second(0), used: second(used) }, second(now))
        };
        assert!(is_good(0, 99) && !is_good(0, 100));
        assert!(is_good(950, 999) && !is_good(950, 1000));
    }
}
