//! `If-Match` (RFC 9110, section 13.1.1) with the version of a thing as its entity tag.

use axum::http::{HeaderMap, StatusCode, header};

use crate::Refusal;

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
    use axum::http::HeaderValue;

    use super::*;

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
