//! Requests whose credentials are not good: counted by what they showed and by where they came
//! from, and held off.
//!
//! A source that fails too often is answered 429 instead of 401, over a connection that ends with
//! it. A credential that is good is let in from anywhere, also from there: behind one address are
//! many, and nobody locks out others.

use std::{
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use api::{access::TOKEN_EXPIRED, ids::Timestamp};
use axum::{
    extract::{ConnectInfo, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use rest::{FailureLimit, Failures, Refusal, shell::Peer};

use crate::layer::not_authenticated;

/// What one source may fail. A page of a browser whose session has ended asks a few times; a
/// program with a wrong token that tries each second is held off.
const LIMIT: FailureLimit = FailureLimit { failures: 30, window_seconds: 60 };

/// What a request showed that was not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadCredential {
    /// A bearer token that is nobody's.
    Token,
    /// A ticket that is used up, too late, or nobody's.
    Ticket,
    /// The cookie of a session that is over, or is nobody's.
    Session,
}

/// Why nobody is known to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unidentified {
    /// The request shows nothing, or what it shows could not be looked up.
    Nothing,
    /// What it shows is not good.
    Bad(BadCredential),
    /// The token has ended.
    Ended { user: String, name: String, at: Timestamp },
}

/// Credentials that were not good since the server started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginFailures {
    /// By what was shown: `token`, `ticket`, `session`, `expired-token`.
    pub by_kind: [(&'static str, u64); 4],
    /// How many of them were answered 429.
    pub held_off: u64,
    /// Sources that failed lately: IPv4 addresses, and IPv6 networks of 64 bits.
    pub sources: usize,
}

/// What has failed.
#[derive(Debug)]
pub(crate) struct Logins {
    failures: Mutex<Failures>,
    counts: [AtomicU64; 4],
    held_off: AtomicU64,
}

impl Default for Logins {
    fn default() -> Self {
        let failures = Mutex::new(Failures::new(LIMIT));
        Self { failures, counts: Default::default(), held_off: AtomicU64::new(0) }
    }
}

impl Logins {
    /// The answer to a request of whom nobody knows who asks. It is counted; no line
    /// is logged for it.
    pub(crate) fn refuse(
        &self,
        source: Option<IpAddr>,
        why: &Unidentified,
        now: Timestamp,
    ) -> Response {
        match why {
            Unidentified::Nothing => not_authenticated().into_response(),
            Unidentified::Ended { user, name, at } => {
                // It was good once: that is no guess, and nobody is held off for it.
                self.counts[3].fetch_add(1, Relaxed);
                ended(user, name, *at).into_response()
            }
            Unidentified::Bad(shown) => {
                self.counts[*shown as usize].fetch_add(1, Relaxed);
                match source.and_then(|source| self.wait_seconds(source, now)) {
                    Some(seconds) => self.hold_off(seconds),
                    None => not_authenticated().into_response(),
                }
            }
        }
    }

    pub(crate) fn failures(&self) -> LoginFailures {
        let count = |index: usize| self.counts[index].load(Relaxed);
        LoginFailures {
            by_kind: [
                ("token", count(0)),
                ("ticket", count(1)),
                ("session", count(2)),
                ("expired-token", count(3)),
            ],
            held_off: self.held_off.load(Relaxed),
            sources: self.failures.lock().unwrap_or_else(PoisonError::into_inner).sources(),
        }
    }

    /// How long the source has to wait, if it has failed too often. Otherwise this is
    /// one more failure.
    fn wait_seconds(&self, source: IpAddr, now: Timestamp) -> Option<u64> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = failures.wait_seconds(source, now);
        if wait.is_none() {
            failures.failed(source, now);
        }
        wait
    }

    fn hold_off(&self, seconds: u64) -> Response {
        self.held_off.fetch_add(1, Relaxed);
        let (most, window) = (LIMIT.failures, LIMIT.window_seconds);
        let why = format!(
            "{most} requests of your address had no good token, session or ticket within {window} s; ask again \
             in {seconds} s, or with a good token at once"
        );
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "not authenticated", why);
        let mut response = refusal.into_response();
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        // Time alone does not help: clients that would wait and send the same again are told by
        // this (RFC 9110, section 11.6.1).
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        // Whoever goes on has to make a connection for each request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}

fn ended(user: &str, name: &str, at: Timestamp) -> Refusal {
    let why = format!(
        "token {name:?} of {user} has expired on {at}, by the server's clock; make another one (`bedplate token create \
         NAME`) with a token that is good, or ask an admin for one; on the server, as root, `bedplate server \
         recover-admin` makes one"
    );
    Refusal::new(StatusCode::UNAUTHORIZED, TOKEN_EXPIRED, why)
}

/// Where a request comes from. In tests of routes there may be no connection.
pub(crate) fn source(request: &Request) -> Option<IpAddr> {
    let peer = request.extensions().get::<ConnectInfo<Peer>>()?;
    Some(peer.0.remote.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_too_often_is_told_to_wait() {
        let (logins, now) = (Logins::default(), Timestamp(0));
        let one = Some(IpAddr::from([10, 0, 0, 1]));
        let bad = Unidentified::Bad(BadCredential::Ticket);
        for _ in 0..LIMIT.failures {
            assert_eq!(logins.refuse(one, &bad, now).status(), StatusCode::UNAUTHORIZED);
        }
        let held = logins.refuse(one, &bad, Timestamp(10_000_000));
        assert_eq!(held.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            (&held.headers()["retry-after"], &held.headers()["connection"]),
            (&HeaderValue::from_static("50"), &HeaderValue::from_static("close"))
        );
        assert_eq!(held.headers()["www-authenticate"], "Bearer", "time alone does not help");
        let other = Some(IpAddr::from([10, 0, 0, 2]));
        assert_eq!(logins.refuse(other, &bad, now).status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            logins.refuse(one, &bad, Timestamp(60_000_000)).status(),
            StatusCode::UNAUTHORIZED
        );
        let counted = logins.failures();
        assert_eq!(counted.by_kind[1], ("ticket", u64::from(LIMIT.failures) + 3));
        assert_eq!((counted.held_off, counted.sources), (1, 2));
    }

    #[test]
    fn who_shows_nothing_or_an_old_token_is_not_held_off() {
        let (logins, now) = (Logins::default(), Timestamp(0));
        let source = Some(IpAddr::from([10, 0, 0, 1]));
        let ended =
            Unidentified::Ended { user: "ann".into(), name: "old".into(), at: Timestamp(0) };
        for _ in 0..100 {
            for why in [&Unidentified::Nothing, &ended] {
                assert_eq!(logins.refuse(source, why, now).status(), StatusCode::UNAUTHORIZED);
            }
        }
        assert_eq!(logins.failures().by_kind[3], ("expired-token", 100));
        assert_eq!((logins.failures().held_off, logins.failures().sources), (0, 0));
    }
}
