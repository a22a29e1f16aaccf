//! Server-sent events that can be taken up again (HTML standard, section 9.2).

use axum::http::HeaderMap;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Longest `Last-Event-ID` that is looked at, bytes: ours have some 30.
const MAX_ID_BYTES: usize = 128;

/// Bytes of the digest that make an id: two states of one thing never share it by chance.
const CONTENT_ID_BYTES: usize = 12;

/// The last event that a client saw before it was cut off; browsers send it by themselves.
#[must_use]
pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    (!id.is_empty() && id.len() <= MAX_ID_BYTES).then_some(id)
}

/// Id of an event that holds a whole thing: the same for the same state, whatever server
/// tells it and when.
#[must_use]
pub fn content_id(thing: &impl Serialize) -> String {
    // The API's own types always become JSON.
    let digest = Sha256::digest(serde_json::to_vec(thing).unwrap_or_default());
    digest.iter().take(CONTENT_ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn an_id_is_that_of_the_state() {
        let id = content_id(&[1, 2]);
        assert_eq!((id.len(), &id), (24, &content_id(&[1, 2])));
        assert_ne!(id, content_id(&[1, 3]));
        let mut headers = HeaderMap::new();
        assert_eq!(last_event_id(&headers), None);
        headers.insert("last-event-id", HeaderValue::from_str(&id).unwrap());
        assert_eq!(last_event_id(&headers), Some(id.as_str()));
        headers.insert("last-event-id", HeaderValue::from_str(&"x".repeat(129)).unwrap());
        assert_eq!(last_event_id(&headers), None);
    }
}
