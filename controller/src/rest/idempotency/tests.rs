//! Headers in, keys or refusals out. What keys do is checked against the whole server, in the
//! `sim` lane.

use axum::http::Request;

use super::*;

async fn key(values: &[&'static [u8]]) -> Result<IdempotencyKey, Refusal> {
    let mut request = Request::new(());
    for value in values {
        request.headers_mut().append(HEADER, HeaderValue::from_bytes(value).unwrap());
    }
    IdempotencyKey::from_request_parts(&mut request.into_parts().0, &()).await
}

#[tokio::test]
async fn a_key_is_one_header_of_visible_characters() {
    assert_eq!(key(&[]).await.unwrap(), IdempotencyKey(None));
    let uuid = "6f1c0f0e-9f5b-4b0e-8f0a-2f3f3f9d1c11";
    assert_eq!(key(&[uuid.as_bytes()]).await.unwrap(), IdempotencyKey(Some(uuid.to_owned())));
    let longest: &'static [u8] = Box::leak(vec![b'k'; MAX_KEY].into());
    assert!(key(&[longest]).await.is_ok());

    let too_long: &'static [u8] = Box::leak(vec![b'k'; MAX_KEY + 1].into());
    for bad in
        [&[b"".as_slice()][..], &[b"a b"], &[b"\xc3\xa4"], &[b"\ttab"], &[too_long], &[b"a", b"a"]]
    {
        let refusal = key(bad).await.unwrap_err().0;
        assert_eq!(refusal.status, 400, "{bad:?}");
        assert!(refusal.detail.contains("Idempotency-Key"), "{}", refusal.detail);
    }
}
