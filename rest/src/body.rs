//! JSON bodies of requests.

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::JsonRejection},
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{Refusal, causes};

/// A JSON body, refused with a problem document that names what is wrong in it.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let path = request.uri().path().to_owned();
        let title = format!("cannot read the body of a request for {path}");
        // Raw first: the types ignore unknown fields where releases meet, and people's mistakes must not be ignored.
        let raw: Result<Json<Box<RawValue>>, JsonRejection> = Json::from_request(request, state).await;
        let Json(raw) = raw.map_err(|error| Refusal::new(error.status(), title.clone(), causes(&error)))?;
        api::strict::from_str(raw.get())
            .map(Self)
            .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, error.to_string()))
    }
}
