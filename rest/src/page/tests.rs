//! Pages of a list that changes.

use axum::http::Request;
use http_body_util::BodyExt as _;

use super::*;

async fn paging(query: &str) -> Result<Paging, Refusal> {
    let (mut parts, ()) = Request::get(format!("/v1/things{query}")).body(()).unwrap().into_parts();
    Paging::from_request_parts(&mut parts, &()).await
}

/// The page of a query, and the query of the next one.
async fn page(query: &str, rows: &[&str]) -> Result<(Vec<String>, Option<String>), Refusal> {
    let rows = rows.iter().map(|row| (*row).to_owned());
    let page = paging(query).await?.cut("things", rows, Clone::clone, |key, after| key > after)?;
    let next = page.next.map(|link| {
        let (target, relation) = link.split_once(';').unwrap();
        assert_eq!(relation, " rel=\"next\"");
        target.trim_matches(['<', '>']).to_owned()
    });
    Ok((page.rows, next))
}

#[tokio::test]
async fn without_a_limit_all_is_told() {
    assert_eq!(page("", &["a", "b"]).await.unwrap(), (vec!["a".to_owned(), "b".to_owned()], None));
    assert_eq!(page("", &[]).await.unwrap(), (Vec::new(), None));
}

#[tokio::test]
async fn pages_are_whole_whatever_comes_and_goes() {
    let (first, next) = page("?names=n%5B1-2%5D&limit=2", &["a", "b", "d", "e"]).await.unwrap();
    assert_eq!(first, ["a", "b"]);
    let next = next.unwrap();
    assert!(next.starts_with("?names=n%5B1-2%5D&limit=2&cursor="), "{next}");
    // The row of the cursor is gone, one came before it and one behind it.
    let (second, next) = page(&next, &["a", "aa", "c", "d", "e"]).await.unwrap();
    assert_eq!(second, ["c", "d"]);
    let next = next.unwrap();
    assert_eq!(next.matches("cursor=").count(), 1, "{next}");
    let (third, next) = page(&next, &["a", "e"]).await.unwrap();
    assert_eq!((third, next), (vec!["e".to_owned()], None));
}

#[tokio::test]
async fn a_full_last_page_has_no_next() {
    let (rows, next) = page("?limit=2", &["a", "b"]).await.unwrap();
    assert_eq!((rows.len(), next), (2, None));
    let fetched = paging("?limit=2").await.unwrap().fetched("things", vec![5, 4], 2, |n| *n);
    assert_eq!((fetched.rows, fetched.next), (vec![5, 4], None));
    let fetched = paging("?limit=2").await.unwrap().fetched("things", vec![5, 4, 3], 2, |n| *n);
    assert_eq!(fetched.rows, [5, 4]);
    assert!(fetched.next.is_some());
}

#[tokio::test]
async fn a_bad_cursor_or_limit_is_refused_with_words() {
    let of = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let too_long = of(&format!("[\"things\", \"{}\"]", "x".repeat(600)));
    let bad = [
        "!!".to_owned(),
        String::new(),
        of("not json"),
        of("[\"things\"]"),
        of("[\"others\", \"a\"]"),
        of("[\"things\", 7]"),
        too_long,
    ];
    for cursor in bad {
        let refused = page(&format!("?limit=2&cursor={cursor}"), &["a"]).await.unwrap_err().0;
        assert_eq!(refused.status, 400, "{cursor}");
        assert!(refused.detail.contains("leave it out"), "{}", refused.detail);
    }
    for query in ["?limit=many", "?limit=-1", "?limit=1&limit=2"] {
        assert_eq!(paging(query).await.unwrap_err().0.status, 400, "{query}");
    }
    assert_eq!(paging("?limit=4000000000").await.unwrap().limit(), Some(MAX_PAGE_ROWS));
    // Nothing is behind nothing.
    assert_eq!(page("?limit=0", &["a"]).await.unwrap(), (Vec::new(), None));
}

#[tokio::test]
async fn the_link_goes_into_a_header_beside_the_body() {
    let link = paging("?limit=2&filter=true").await.unwrap().link("things", &"b");
    let of = |next: Option<String>| Linked { body: serde_json::json!({"rows": ["a", "b"]}), next };
    let response = of(Some(link.clone())).into_response();
    assert_eq!(response.headers()[header::LINK], link);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"rows":["a","b"]}"#);
    assert_eq!(of(None).into_response().headers().get(header::LINK), None);

    let query = link.strip_prefix('<').unwrap().split_once('>').unwrap().0;
    assert!(query.starts_with("?limit=2&filter=true&cursor="), "{query}");
    let after: Option<String> = paging(query).await.unwrap().after("things").unwrap();
    assert_eq!(after.as_deref(), Some("b"));
}
