//! A refused request as an HTTP answer.

use api::problem::Problem;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

/// After how many seconds a client may ask again that was told that something is not to be had now.
const RETRY_AFTER_SECONDS: u64 = 5;

/// A [`Problem`] that answers a request, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone)]
pub struct Refusal(pub Problem);

impl Refusal {
    /// `title`: what failed. `detail`: why, and how to mend it.
    #[must_use]
    pub fn new(status: StatusCode, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self(Problem {
            status: status.as_u16(),
            title: title.into(),
            detail: detail.into(),
            diagnostics: Vec::new(),
        })
    }

    /// The server failed; `error` is shown with all its causes.
    #[must_use]
    pub fn internal(title: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, title, causes(error))
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}
