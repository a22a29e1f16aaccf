//! How fast each user may change things, and open streams into jobs: a token bucket per user who is
//! no admin. Changes that cancel each other, and streams, leave nothing behind that a quota counts,
//! and a line of the audit log each. Pure but for [`Access`].

use std::{collections::HashMap, sync::PoisonError};

use api::{ids::Timestamp, rights::Role};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use rest::Refusal;

use crate::{Access, Principal, clock};

/// Requests that a full bucket lets through at once: a script that starts or deletes
/// thousands of workflows.
const BURST: i64 = 6_000;

/// Requests that come back to a bucket each second. A user who never rests writes 1.7
/// million lines a day.
const REFILL_PER_SECOND: i64 = 20;

/// Time in which one request comes back, microseconds.
const EACH_MICROS: i64 = 1_000_000 / REFILL_PER_SECOND;

/// Time in which an empty bucket becomes full, microseconds: five minutes.
const FULL_MICROS: i64 = BURST * EACH_MICROS;

/// After how many seconds to ask again: one is back in 50 ms, and the header counts seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Buckets that are remembered, some 150 B each: more users do not change things
/// within five minutes.
const MAX_BUCKETS: usize = 10_000;

/// The user has sent too many requests that change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{user} may send {} requests that change something or open a stream at once, and {} a second from then on; \
     nothing was done: ask again in {} s, and more slowly",
    BURST,
    REFILL_PER_SECOND,
    RETRY_AFTER_SECONDS
)]
pub(crate) struct TooManyChanges {
    user: String,
}

impl IntoResponse for TooManyChanges {
    fn into_response(self) -> Response {
        let refusal =
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too many changes", self.to_string());
        let mut response = refusal.into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        response
    }
}

/// The buckets that are not full: when each will be.
#[derive(Debug, Default)]
pub(crate) struct ChangeRates {
    full_at: HashMap<String, i64>,
}

impl ChangeRates {
    /// Takes one request out of a user's bucket.
    pub(crate) fn take(&mut self, user: &str, now: Timestamp) -> Result<(), TooManyChanges> {
        let empty = now.0.saturating_add(FULL_MICROS);
        let known = self.full_at.get(user).copied();
        if known.is_none() {
            self.make_room(now);
        }
        // A clock that was set back leaves a bucket empty at worst.
        let full_at = known.unwrap_or(now.0).clamp(now.0, empty);
        let taken = full_at.saturating_add(EACH_MICROS);
        let is_there = taken <= empty;
        self.full_at.insert(user.to_owned(), if is_there { taken } else { full_at });
        if is_there { Ok(()) } else { Err(TooManyChanges { user: user.to_owned() }) }
    }

    /// Forgets full buckets where there are many, and where none is full the fullest.
    fn make_room(&mut self, now: Timestamp) {
        if self.full_at.len() < MAX_BUCKETS {
            return;
        }
        self.full_at.retain(|_, full_at| *full_at > now.0);
        if self.full_at.len() >= MAX_BUCKETS {
            let fullest = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
            if let Some(user) = fullest.map(|(user, _)| user.clone()) {
                self.full_at.remove(&user);
            }
        }
    }
}

impl Access {
    /// May this one send one more request that changes something or opens a stream? Admins may
    /// always: they are whom others ask for help.
    pub(crate) fn take_change(&self, principal: &Principal) -> Result<(), TooManyChanges> {
        if principal.roles.contains(&Role::Admin) {
            return Ok(());
        }
        let mut rates = self.inner.change_rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(&principal.name, clock::now())
    }
}

#[cfg(test)]
mod tests {
    use api::access::User;
    use axum::{
        body::Body,
        http::{Method, Request},
    };
    use database::Database;
    use tower::ServiceExt as _;
    use utoipa::openapi::OpenApi;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn after_micros(micros: i64) -> Timestamp {
        Timestamp(NOW.0 + micros)
    }

    /// Takes as many as there are, and says how many there were.
    fn drain(rates: &mut ChangeRates, user: &str, now: Timestamp) -> i64 {
        let mut taken = 0;
        while rates.take(user, now).is_ok() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_bucket_is_emptied_and_fills_again() {
        let mut rates = ChangeRates::default();
        assert_eq!(drain(&mut rates, "ann", NOW), BURST);
        assert_eq!(drain(&mut rates, "ann", after_micros(EACH_MICROS - 1)), 0, "not yet");
        assert_eq!(drain(&mut rates, "ann", after_micros(1_000_000)), REFILL_PER_SECOND);
        assert_eq!(drain(&mut rates, "ben", NOW), BURST, "each has one");
        assert_eq!(drain(&mut rates, "ann", after_micros(10 * FULL_MICROS)), BURST, "and no more");
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let mut rates = ChangeRates::default();
        rates.take("ann", after_micros(1_000 * FULL_MICROS)).unwrap();
        assert_eq!(drain(&mut rates, "ann", NOW), 0, "the bucket is empty at worst");
        assert_eq!(drain(&mut rates, "ann", after_micros(1_000_000)), REFILL_PER_SECOND);
    }

    #[test]
    fn full_buckets_are_forgotten_and_then_the_fullest() {
        let mut rates = ChangeRates::default();
        for number in 0..MAX_BUCKETS {
            rates.take(&format!("user-{number}"), NOW).unwrap();
        }
        drain(&mut rates, "user-7", NOW);
        rates.take("ann", NOW).unwrap();
        assert_eq!(rates.full_at.len(), MAX_BUCKETS);
        assert!(rates.take("user-7", NOW).is_err(), "the empty one is remembered");
        rates.take("ben", after_micros(EACH_MICROS)).unwrap();
        let mut left: Vec<&str> = rates.full_at.keys().map(String::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["ben", "user-7"]);
    }

    #[tokio::test]
    async fn who_changes_too_much_is_refused_before_anything_runs() {
        let directory = tempfile::tempdir().unwrap();
        let database =
            Database::open(&directory.path().join("test.db"), &[&crate::SCHEMA]).await.unwrap();
        let access = Access::open(database).await.unwrap();
        let admin = access.create_admin_if_none().await.unwrap().unwrap();
        let ann = User { name: "ann".to_owned(), admin: false, account: None, comment: None };
        access.add_user(&ann).await.unwrap();
        let ann = access.replace_token("ann", "laptop").await.unwrap().token;
        let (router, _) = access.rest().into_parts(OpenApi::default());
        let router =
            router.layer(axum::middleware::from_fn_with_state(access.clone(), crate::layer));
        let ask_with = async |method: Method, path: &str, token: &str, header: (&str, &str)| {
            let request = Request::builder().method(method).uri(path).header(header.0, header.1);
            let request = request.header("authorization", format!("Bearer {token}"));
            router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
        };
        let ask = async |method: Method, path: &str, token: &str| {
            ask_with(method, path, token, ("accept", "*/*")).await
        };
        let upgrade = ("upgrade", "WebSocket");
        assert_eq!(ask_with(Method::GET, "/v1/tokens", &ann, upgrade).await, StatusCode::OK);
        let one_taken = clock::now().0 + EACH_MICROS;
        let full_at = access.inner.change_rates.lock().unwrap().full_at["ann"];
        assert!(
            full_at > one_taken - 60_000_000 && full_at <= one_taken,
            "a stream takes one, too: {full_at}"
        );
        assert_eq!(ask(Method::DELETE, "/v1/tokens/none", &ann).await, StatusCode::NOT_FOUND);
        // Drained at a later time, it gets nothing back while the test runs.
        let later = clock::now().plus_seconds(3_600);
        assert!(drain(&mut access.inner.change_rates.lock().unwrap(), "ann", later) > 0);
        assert_eq!(
            ask(Method::DELETE, "/v1/tokens/laptop", &ann).await,
            StatusCode::TOO_MANY_REQUESTS
        );
        assert_eq!(
            ask_with(Method::GET, "/v1/tokens", &ann, upgrade).await,
            StatusCode::TOO_MANY_REQUESTS,
            "a stream into a job"
        );
        assert_eq!(
            ask(Method::GET, "/v1/tokens", &ann).await,
            StatusCode::OK,
            "it is there still, and read"
        );
        assert_eq!(
            ask(Method::DELETE, "/v1/tokens/none", &admin).await,
            StatusCode::NOT_FOUND,
            "an admin"
        );
    }

    #[test]
    fn a_refusal_says_the_limit() {
        let refused = TooManyChanges { user: "ann".to_owned() }.into_response();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        let text = TooManyChanges { user: "ann".to_owned() }.to_string();
        assert!(text.starts_with(
            "ann may send 6000 requests that change something or open a stream at once, and 20 a second"
        ));
    }
}
