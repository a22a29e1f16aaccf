//! Blobs over HTTP: immutable, by digest, from memory, with ranges (RFC 9110, section 14). Used by
//! every role that serves files to nodes.

use std::ops::Range;

use api::ids::Digest;
use axum::{
    body::Body,
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;

/// Answers a GET or HEAD for the blob `digest`, whose content is `bytes`: whole, in part, or not at
/// all if the client has it.
#[must_use]
pub fn answer(method: &Method, headers: &HeaderMap, digest: &Digest, bytes: Bytes) -> Response {
    let etag = format!("\"{digest}\"");
    let total = bytes.len();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, etag.clone()),
    ];
    if text(header::IF_NONE_MATCH)
        .is_some_and(|wanted| wanted.split(',').any(|one| one.trim() == etag))
    {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    // A range of another content than the client has begun with is of no use to it.
    let same = text(header::IF_RANGE).is_none_or(|wanted| wanted == etag);
    let range = match text(header::RANGE).filter(|_| same) {
        Some(range) => parse_range(range, total),
        None => Wanted::All,
    };
    let (status, part, content_range) = match range {
        Wanted::All => (StatusCode::OK, 0..total, None),
        Wanted::Part(part) => {
            let shown = format!("bytes {}-{}/{total}", part.start, part.end - 1);
            (StatusCode::PARTIAL_CONTENT, part, Some(shown))
        }
        Wanted::Unsatisfiable => {
            let shown = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, shown, common, "no such range\n")
                .into_response();
        }
    };
    let length = [(header::CONTENT_LENGTH, part.len().to_string())];
    let content_range = content_range.map(|shown| [(header::CONTENT_RANGE, shown)]);
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from(bytes.slice(part)) };
    match content_range {
        Some(content_range) => (status, common, length, content_range, body).into_response(),
        None => (status, common, length, body).into_response(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Part(Range<usize>),
    Unsatisfiable,
}

/// Reads a `Range` header. Several ranges at once are answered with the whole, as RFC 9110 allows.
fn parse_range(text: &str, total: usize) -> Wanted {
    let Some(range) = text.trim().strip_prefix("bytes=") else { return Wanted::All };
    let Some((first, last)) = range.split_once('-') else { return Wanted::All };
    let part = match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(total),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..total,
        (Err(_), Ok(suffix)) if first.trim().is_empty() => total.saturating_sub(suffix)..total,
        _ => return Wanted::All,
    };
    if part.start < part.end { Wanted::Part(part) } else { Wanted::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let of = |text| parse_range(text, 10);
        assert_eq!(of("bytes=0-3"), Wanted::Part(0..4));
        assert_eq!(of("bytes=4-"), Wanted::Part(4..10));
        assert_eq!(of("bytes=-3"), Wanted::Part(7..10));
        assert_eq!(of("bytes=-30"), Wanted::Part(0..10));
        assert_eq!(of("bytes=8-99"), Wanted::Part(8..10));
        assert_eq!(of("bytes=10-"), Wanted::Unsatisfiable);
        assert_eq!(of("bytes=-0"), Wanted::Unsatisfiable);
        assert_eq!(of("bytes=5-4"), Wanted::All);
        assert_eq!(of("bytes=0-1,3-4"), Wanted::All);
        assert_eq!(of("lines=1-2"), Wanted::All);
        assert_eq!(of("bytes=99999999999999999999-"), Wanted::All);
    }

    #[tokio::test]
    async fn answers_carry_what_a_client_needs_to_go_on() {
        let digest = Digest([1; 32]);
        let ask = |method: Method, pairs: &[(header::HeaderName, &str)]| {
            let headers: HeaderMap =
                pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            answer(&method, &headers, &digest, Bytes::from_static(b"0123456789"))
        };
        let body = |response: Response| async {
            axum::body::to_bytes(response.into_body(), 100).await.unwrap()
        };
        let whole = ask(Method::GET, &[]);
        assert_eq!(
            (whole.status(), &whole.headers()[header::CONTENT_LENGTH]),
            (StatusCode::OK, &"10".parse().unwrap())
        );
        assert_eq!(body(whole).await, "0123456789");
        let part = ask(Method::GET, &[(header::RANGE, "bytes=7-")]);
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(part.headers()[header::CONTENT_RANGE], "bytes 7-9/10");
        assert_eq!(body(part).await, "789");
        let head = ask(Method::HEAD, &[]);
        assert_eq!(head.headers()[header::CONTENT_LENGTH], "10");
        assert!(body(head).await.is_empty());
        let past = ask(Method::GET, &[(header::RANGE, "bytes=10-")]);
        assert_eq!(
            (past.status().as_u16(), &past.headers()[header::CONTENT_RANGE]),
            (416, &"bytes */10".parse().unwrap())
        );
        let etag = format!("\"{digest}\"");
        assert_eq!(
            ask(Method::GET, &[(header::IF_NONE_MATCH, &etag)]).status(),
            StatusCode::NOT_MODIFIED
        );
        let other =
            ask(Method::GET, &[(header::RANGE, "bytes=7-"), (header::IF_RANGE, "\"other\"")]);
        assert_eq!(other.status(), StatusCode::OK);
    }
}
