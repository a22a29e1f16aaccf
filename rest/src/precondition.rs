//! `If-Match` (RFC 9110, section 13.1.1) with the version of a thing as its entity tag.

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::Refusal;

/// A thing that has a version: JSON, with the version as `ETag` for the next `If-Match`.
#[derive(Debug, Clone)]
pub struct Versioned<T> {
    /// Raised by every change of the thing.
    pub version: u64,
    /// The object, written as JSON.
    pub body: T,
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", self.version)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// `If-Match: "3"` as the version that a change was made on; `None` without the header.
///
/// # Errors
/// A 400 if the header is there and is no version.
pub fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let version = value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok());
    version.map(Some).ok_or_else(|| {
        let why = "If-Match must be the version of the object as it was read, such as \"3\"";
        Refusal::new(StatusCode::BAD_REQUEST, "cannot read a header of the request", why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_can_be_asked_for() {
        let response = Versioned { version: 7, body: "x" }.into_response();
        let tag = response.headers()[header::ETAG].clone();
        assert_eq!(tag, "\"7\"");
        let headers = HeaderMap::from_iter([(header::IF_MATCH, tag)]);
        assert_eq!(if_match(&headers).map_err(|refusal| refusal.0.status), Ok(Some(7)));
    }

    #[test]
    fn a_version_in_quotes_or_none() {
        let read = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
            }
            if_match(&headers).map_err(|refusal| refusal.0.status)
        };
        assert_eq!(read(None), Ok(None));
        assert_eq!(read(Some("\"3\"")), Ok(Some(3)));
        assert_eq!(read(Some(" 3 ")), Ok(Some(3)));
        for wrong in ["", "*", "three", "\"3\", \"4\"", "-1", "W/\"3\""] {
            assert_eq!(read(Some(wrong)), Err(400), "{wrong:?}");
        }
    }
}
