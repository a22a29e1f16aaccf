//! JSON bodies of requests.

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use crate::{Refusal, causes, shell::found_no_room};

/// Largest body that is read on the thread that answers, bytes: less than a millisecond.
const MAX_INLINE_BYTES: usize = 64 << 10;

/// The refusal of a request whose body cannot be read. `status` and `why` are what the extractor
/// says; where the server had no room for the body it is 503, which the client may try again.
#[must_use]
pub fn unread(
    status: StatusCode,
    title: String,
    why: String,
    error: &(dyn std::error::Error + 'static),
) -> Refusal {
    if found_no_room(error) {
        let title = "the server receives too many bodies of requests at once";
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, "try again later");
    }
    Refusal::new(status, title, why)
}

/// A JSON body, refused with a problem document that names what is wrong in it.
///
/// For routes to what is named in the path [`BodyOf`] is right: what is not there has no wrong
/// body.
#[derive(Debug)]
pub struct Body<T>(pub T);

/// A JSON body for an object that the path names. A body that cannot be read, or is no JSON, is
/// refused at once; that it is not what is asked for (422) is said by [`BodyOf::checked`], after
/// the object was found.
#[derive(Debug)]
pub struct BodyOf<T>(Result<T, Refusal>);

impl<T> BodyOf<T> {
    /// The value.
    ///
    /// # Errors
    /// 422, with what is wrong in it.
    pub fn checked(self) -> Result<T, Refusal> {
        self.0
    }
}

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for BodyOf<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Body::from_request(request, state).await {
            Ok(Body(value)) => Ok(Self(Ok(value))),
            Err(refusal) if refusal.0.status == StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Self(Err(refusal)))
            }
            Err(refusal) => Err(refusal),
        }
    }
}

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let path = request.uri().path().to_owned();
        let title = format!("cannot read the body of a request for {path}");
        // Raw first: the types ignore unknown fields where releases meet, and people's mistakes
        // must not be ignored.
        let raw: Result<Json<Box<RawValue>>, JsonRejection> =
            Json::from_request(request, state).await;
        let Json(raw) =
            raw.map_err(|error| unread(error.status(), title.clone(), causes(&error), &error))?;
        let read = match raw.get().len() {
            0..=MAX_INLINE_BYTES => api::strict::from_str(raw.get()),
            _ => spawn_blocking(move || api::strict::from_str(raw.get()))
                .await
                .map_err(|error| Refusal::internal(title.clone(), &error))?,
        };
        read.map(Self).map_err(|error| {
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, error.to_string())
        })
    }
}
