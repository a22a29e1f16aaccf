//! Messages between programs: frames of the channel and of streams, headers of requests for blobs.

use api::{
    channel::{Frame, FromAgent, FromServer, MAX_KIND_CHARS, kind_of_message},
    enroll::Enroll,
    ids::{Digest, MacAddr, NodeId, NodeName},
    stream::{Control, StreamRequest, data, parse_data},
};
use axum::{
    body::to_bytes,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
use bytes::Bytes;
use futures_util::FutureExt as _;

/// What is asked for, bytes.
const BLOB: &[u8] = b"0123456789abcdef";

/// What is read and written again is the same.
pub(crate) fn frames(input: &[u8]) -> bool {
    let is_data = match parse_data(input) {
        Ok((channel, bytes)) => {
            assert_eq!(data(channel, bytes), input);
            true
        }
        Err(_) => false,
    };
    let Ok(text) = std::str::from_utf8(input) else { return is_data };
    assert!(kind_of_message(text).chars().count() <= MAX_KIND_CHARS);
    let mut is_read = is_data;
    is_read |= again::<Frame<FromAgent>>(text);
    is_read |= again::<Frame<FromServer>>(text);
    is_read |= again::<Control>(text);
    if let Ok(request) = StreamRequest::parse(text) {
        let written = serde_json::to_string(&request).unwrap_or_default();
        assert_eq!(StreamRequest::parse(&written).as_ref(), Ok(&request), "{written}");
        is_read = true;
    }
    is_read
}

/// Whether it could be read.
fn again<T>(text: &str) -> bool
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let Ok(read) = serde_json::from_str::<T>(text) else { return false };
    // What is only known not to be known is never sent.
    let Ok(written) = serde_json::to_string(&read) else { return true };
    match serde_json::from_str::<T>(&written) {
        Ok(twice) => assert_eq!(twice, read, "{written}"),
        Err(error) => panic!("{written} cannot be read: {error}"),
    }
    true
}

/// A certificate signing request, or the body that one comes in: what is read is for one key.
pub(crate) fn enroll(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let of_body = serde_json::from_str::<Enroll>(text).map(|body| body.csr);
    let pem = of_body.unwrap_or_else(|_| text.to_owned());
    let Some(key) = fleet::fuzzing::key_of_request(&pem) else { return false };
    assert_eq!(fleet::fuzzing::key_of_request(&pem), Some(key));
    true
}

/// A path, and lines of headers: what comes of a range lies in the blob, and names in a path are
/// read as they are written.
pub(crate) fn http(input: &[u8]) -> bool {
    let mut lines = input.split(|byte| *byte == b'\n');
    let path = String::from_utf8_lossy(lines.next().unwrap_or_default());
    for part in path.split('/') {
        same::<MacAddr>(part);
        same::<Digest>(part);
        same::<NodeId>(part);
        same::<NodeName>(part);
    }
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.trim_ascii()), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    let digest = Digest([7; 32]);
    let response = fleet::blob::answer(&Method::GET, &headers, &digest, Bytes::from_static(BLOB));
    let status = response.status();
    let length =
        text(response.headers(), &header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let range = text(response.headers(), &header::CONTENT_RANGE);
    let body = to_bytes(response.into_body(), 1024).now_or_never();
    let Some(Ok(body)) = body else { panic!("the body is not there at once") };
    match status {
        StatusCode::OK => assert_eq!(body, BLOB),
        StatusCode::NOT_MODIFIED => assert!(body.is_empty()),
        StatusCode::RANGE_NOT_SATISFIABLE => assert_eq!(range.as_deref(), Some("bytes */16")),
        StatusCode::PARTIAL_CONTENT => {
            let told = range.as_deref().and_then(|range| {
                let (first, last) =
                    range.strip_prefix("bytes ")?.strip_suffix("/16")?.split_once('-')?;
                Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
            });
            let Some((first, last)) = told else { panic!("a part without its place: {range:?}") };
            assert_eq!(BLOB.get(first..=last), Some(&body[..]), "{range:?}");
            assert_eq!(length, Some(body.len()));
        }
        other => panic!("{other} is no answer for a blob"),
    }
    status != StatusCode::OK
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// What is read as a `T` is read as the same one when it is written again.
fn same<T>(text: &str)
where
    T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug,
{
    let Ok(read) = text.parse::<T>() else { return };
    let written = read.to_string();
    assert_eq!(written.parse::<T>().ok(), Some(read), "{text:?} becomes {written:?}");
}
