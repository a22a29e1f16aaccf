//! One-time tickets, for clients that cannot send headers: a browser's `EventSource`
//! and `WebSocket`.
//!
//! ```text
//! POST /v1/tickets {method, path} ──► issued ──GET path?ticket=…, once──► used
//!                                        └── 30 s ──► forgotten
//! ```
//! They live in the memory of the process that issued them. Only their hashes are kept, and the
//! layer takes the parameter out of the request before anything behind it can log it.

use std::{collections::HashMap, time::Duration};

use api::ids::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::token::TokenHash;

/// How long a ticket is good: a browser opens the connection as soon as it has it.
pub(crate) const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Tickets of one user that wait at once: a page opens a few streams, a script gone
/// wild is stopped.
pub(crate) const MAX_TICKETS_PER_USER: usize = 100;

/// Tickets that wait at once, of all users: at some 200 bytes each, 2 MB.
pub(crate) const MAX_TICKETS: usize = 10_000;

/// Longest path that a ticket is issued for, bytes.
pub(crate) const MAX_PATH_BYTES: usize = 1_024;

/// Name of the query parameter that carries one.
pub(crate) const PARAMETER: &str = "ticket";

/// Why no ticket is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is wanted for another method than GET.
    #[error("a ticket is for GET alone: what changes something is sent with a token or a session")]
    Method,
    /// It is wanted for what is no path.
    #[error(
        "the path must begin with / and be one of the API without its query, at most {MAX_PATH_BYTES} bytes"
    )]
    Path,
    /// See [`MAX_TICKETS_PER_USER`].
    #[error("{MAX_TICKETS_PER_USER} tickets of this user wait already; each is good for {} s", TICKET_LIFE.as_secs())]
    TooManyOfUser,
    /// See [`MAX_TICKETS`].
    #[error("{MAX_TICKETS} tickets wait already; each is good for {} s", TICKET_LIFE.as_secs())]
    TooMany,
}

/// The tickets that wait. Pure: secrets and times come from the caller.
#[derive(Debug, Default)]
pub(crate) struct Tickets(HashMap<[u8; 32], Ticket>);

#[derive(Debug)]
struct Ticket {
    user: String,
    /// The token that it was asked for with: it is good for what that is for, and no longer.
    token: TokenHash,
    path: String,
    expires: Timestamp,
}

impl Tickets {
    /// Keeps the hash of `secret`, good once for `user` on GET of `path` until [`TICKET_LIFE`] from
    /// now. `token`: what it was asked for with.
    pub(crate) fn issue(
        &mut self,
        secret: &str,
        (user, token): (&str, TokenHash),
        method: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<Timestamp, TicketError> {
        if method != "GET" {
            return Err(TicketError::Method);
        }
        if !path.starts_with('/') || path.len() > MAX_PATH_BYTES || path.contains(['?', '#']) {
            return Err(TicketError::Path);
        }
        self.0.retain(|_, ticket| ticket.expires > now);
        if self.0.values().filter(|ticket| ticket.user == user).count() >= MAX_TICKETS_PER_USER {
            return Err(TicketError::TooManyOfUser);
        }
        if self.0.len() >= MAX_TICKETS {
            return Err(TicketError::TooMany);
        }
        let expires = after(now, TICKET_LIFE);
        self.0.insert(
            hash(secret),
            Ticket { user: user.to_owned(), token, path: path.to_owned(), expires },
        );
        Ok(expires)
    }

    /// The token that a ticket was asked for with, if it is good for GET of `path`. It is used up
    /// by being shown, for whatever path.
    pub(crate) fn take(&mut self, secret: &str, path: &str, now: Timestamp) -> Option<TokenHash> {
        let ticket = self.0.remove(&hash(secret))?;
        (ticket.expires > now && ticket.path == path).then_some(ticket.token)
    }

    /// Forgets the tickets of a user.
    pub(crate) fn forget(&mut self, user: &str) {
        self.0.retain(|_, ticket| ticket.user != user);
    }
}

/// A time that is so much later.
pub(crate) fn after(now: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_add(micros))
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Takes `ticket=…` out of a query. Returns its value, and the query without it.
pub(crate) fn take_parameter(query: &str) -> Option<(String, String)> {
    let is_it = |pair: &&str| pair.split('=').next() == Some(PARAMETER);
    let found = query.split('&').find(is_it)?;
    let value = found.split_once('=').map(|(_, value)| value.to_owned()).unwrap_or_default();
    let others: Vec<&str> = query.split('&').filter(|pair| !is_it(pair)).collect();
    Some((value, others.join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    const OF_ANN: (&str, TokenHash) = ("ann", [7; 32]);

    fn later(seconds: u64) -> Timestamp {
        after(NOW, Duration::from_secs(seconds))
    }

    #[test]
    fn a_ticket_is_good_once_on_its_path_for_a_while() {
        let mut tickets = Tickets::default();
        let issue = |tickets: &mut Tickets, secret: &str| {
            tickets.issue(secret, OF_ANN, "GET", "/v1/nodes/watch", NOW).unwrap()
        };
        assert_eq!(issue(&mut tickets, "one"), later(30));
        assert_eq!(tickets.take("two", "/v1/nodes/watch", later(1)), None, "never issued");
        assert_eq!(tickets.take("one", "/v1/nodes/watch", later(29)), Some([7; 32]));
        assert_eq!(tickets.take("one", "/v1/nodes/watch", later(29)), None, "used");
        issue(&mut tickets, "three");
        assert_eq!(tickets.take("three", "/v1/nodes", later(1)), None, "another path");
        assert_eq!(tickets.take("three", "/v1/nodes/watch", later(1)), None, "and it is used up");
        issue(&mut tickets, "four");
        assert_eq!(tickets.take("four", "/v1/nodes/watch", later(30)), None, "too late");
        issue(&mut tickets, "five");
        tickets.forget("ann");
        assert_eq!(tickets.take("five", "/v1/nodes/watch", later(1)), None);
    }

    #[test]
    fn so_many_and_for_reading_alone() {
        let mut tickets = Tickets::default();
        let mut issue = |secret: &str, user: &str, method: &str, path: &str, now| {
            tickets.issue(secret, (user, [7; 32]), method, path, now).map(|_| ())
        };
        for method in ["POST", "DELETE", "get", "HEAD"] {
            assert_eq!(issue("x", "ann", method, "/v1/nodes", NOW), Err(TicketError::Method));
        }
        for path in
            ["", "v1/nodes", "/v1/nodes?limit=1", "/v1#x", &format!("/{}", "x".repeat(1024))]
        {
            assert_eq!(issue("x", "ann", "GET", path, NOW), Err(TicketError::Path), "{path}");
        }
        for number in 0..MAX_TICKETS_PER_USER {
            issue(&number.to_string(), "ann", "GET", "/v1/nodes", NOW).unwrap();
        }
        assert_eq!(issue("more", "ann", "GET", "/v1/nodes", NOW), Err(TicketError::TooManyOfUser));
        issue("his", "bob", "GET", "/v1/nodes", NOW).unwrap();
        issue("later", "ann", "GET", "/v1/nodes", later(30)).unwrap();
    }

    #[test]
    fn the_parameter_leaves_the_query() {
        let taken = |query| take_parameter(query);
        let pair = |value: &str, rest: &str| Some((value.to_owned(), rest.to_owned()));
        assert_eq!(taken("ticket=abc"), pair("abc", ""));
        assert_eq!(taken("a=1&ticket=abc&b=2"), pair("abc", "a=1&b=2"));
        assert_eq!(taken("ticket=a&ticket=b"), pair("a", ""), "all of them leave");
        assert_eq!(taken("tickets=1&a=ticket"), None);
        assert_eq!(taken("ticket"), pair("", ""));
    }
}
