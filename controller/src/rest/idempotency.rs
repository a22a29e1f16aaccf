//! `Idempotency-Key` on a submission: whoever is cut off before the answer sends the same request
//! with the same key again, and gets the workflow that the first one began
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! A key belongs to the user who sends it and counts for a day. It is stored with the workflow, in
//! the same transaction. The same key with another request is refused: one of the two is a mistake.

use access::Caller;
use api::{
    ids::{Digest, Timestamp},
    workflow::{StartWorkflow, WorkflowSummary},
};
use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, request::Parts},
};
use rest::Refusal;
use sha2::Digest as _;

use crate::{Controller, clock, record::SubmissionKey, store::KEY_LIFE_SECONDS};

/// Name of the request header, in lower case as HTTP libraries hold it.
const HEADER: &str = "idempotency-key";

/// Longest key, characters: twice over what a UUID or a hash needs.
const MAX_KEY: usize = 255;

/// Keys of a user within a day at most: a submission every two seconds. Some 10 MB of the database.
const MAX_KEYS_PER_USER: u64 = 43_200;

const TITLE: &str = "cannot start the workflow";

/// The key of a request, if it has one. An extractor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut values = parts.headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let refuse = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, TITLE, why);
        if values.next().is_some() {
            return Err(refuse("the request has more than one header Idempotency-Key: send one"));
        }
        match read(value) {
            Some(key) => Ok(Self(Some(key.to_owned()))),
            None => Err(refuse(
                "the header Idempotency-Key is no key: use 1 to 255 visible ASCII characters, such as a UUID",
            )),
        }
    }
}

fn read(value: &HeaderValue) -> Option<&str> {
    let key = value.to_str().ok()?;
    let is_good =
        (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then_some(key)
}

/// A submission that has a key.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    key: SubmissionKey,
    request: Digest,
}

impl Keyed {
    /// `None`: the request has no key.
    pub(super) fn of(
        IdempotencyKey(key): IdempotencyKey,
        caller: &Caller,
        request: &StartWorkflow,
    ) -> Result<Option<Self>, Refusal> {
        let Some(key) = key else { return Ok(None) };
        let bytes =
            serde_json::to_vec(request).map_err(|error| Refusal::internal(TITLE, &error))?;
        let request = Digest(sha2::Sha256::digest(bytes).into());
        let principal = caller.principal.name.clone();
        Ok(Some(Self { key: SubmissionKey { principal, key }, request }))
    }

    /// What is stored with the workflow.
    pub(super) fn into_row(self) -> (SubmissionKey, Digest) {
        (self.key, self.request)
    }

    /// The workflow that this very request began before; `None` if the key is free.
    ///
    /// # Errors
    /// The key was used for another request, or its workflow is forgotten, or the user has too many
    /// keys.
    pub(super) async fn earlier(
        &self,
        controller: &Controller,
        caller: &Caller,
    ) -> Result<Option<WorkflowSummary>, Refusal> {
        let since = clock::now().plus_seconds(-KEY_LIFE_SECONDS);
        let internal = |error| Refusal::internal(TITLE, &error);
        let store = &controller.0.store;
        let Some(earlier) = store.submission(&self.key, since).await.map_err(internal)? else {
            self.check_number(controller, since).await?;
            return Ok(None);
        };
        if earlier.request != self.request {
            let why = format!(
                "the key {:?} was sent with another request within the last 24 hours, which began \
                 workflow {}: send the same request again, or use a new key",
                self.key.key, earlier.workflow
            );
            return Err(Refusal::new(StatusCode::CONFLICT, TITLE, why));
        }
        match super::find(controller, caller, &earlier.workflow.to_string(), TITLE).await {
            Ok(view) => Ok(Some(view.summary)),
            Err(refusal) if refusal.0.status == StatusCode::NOT_FOUND.as_u16() => {
                let why = format!(
                    "this request began workflow {} before, which is over and no longer kept; to \
                     run it once more use a new key",
                    earlier.workflow
                );
                Err(Refusal::new(StatusCode::GONE, TITLE, why))
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn check_number(&self, controller: &Controller, since: Timestamp) -> Result<(), Refusal> {
        let principal = &self.key.principal;
        let keys = controller.0.store.keys_of(principal, since).await;
        if keys.map_err(|error| Refusal::internal(TITLE, &error))? < MAX_KEYS_PER_USER {
            return Ok(());
        }
        let why = format!(
            "{principal} has used {MAX_KEYS_PER_USER} keys within the last 24 hours: leave the header \
             Idempotency-Key out, or wait; many like jobs are better one workflow with an array"
        );
        Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, TITLE, why))
    }
}

#[cfg(test)]
mod tests;
