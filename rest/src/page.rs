//! Pages of lists: `limit` and `cursor` of a request, `Link: <…>; rel="next"` (RFC
//! 8288) of an answer.
//!
//! A cursor is the key of the last row of a page, so that a page goes on behind that row whatever
//! was added or removed meanwhile. It is base64url of `["LIST", KEY]` in JSON: not secret, and
//! checked when it comes back. It permits nothing: rows are filtered by who asks, on every page.

use axum::{
    Json,
    extract::{FromRequestParts, Query},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Refusal;

/// Most rows of a page; more are cut to it.
pub const MAX_PAGE_ROWS: u32 = 10_000;

/// Longest cursor that is read, bytes: keys are names and numbers.
const MAX_CURSOR_BYTES: usize = 512;

/// What a request says of the page that it wants. An extractor: `?limit=100&cursor=…`.
#[derive(Debug, Clone, Default)]
pub struct Paging {
    limit: Option<u32>,
    cursor: Option<String>,
    /// The query without `cursor`, as it was sent, for the link to the next page.
    others: String,
}

/// The query of a list, for the OpenAPI document: `params(PageParams)`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Rows at most, up to 10000; the `Link` header leads to the next page. Default: all.
    limit: Option<u32>,
    /// Where the page begins: from the `Link` header of the page before.
    cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let wanted: Query<PageParams> = Query::try_from_uri(&parts.uri).map_err(|error| {
            let title = format!("cannot read the query of a request for {}", parts.uri.path());
            Refusal::new(StatusCode::BAD_REQUEST, title, error.body_text())
        })?;
        let query = parts.uri.query().unwrap_or_default();
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let others = kept.collect::<Vec<_>>().join("&");
        let Query(PageParams { limit, cursor }) = wanted;
        Ok(Self { limit, cursor, others })
    }
}

impl Paging {
    /// Rows that are wanted at most; `None` if the request names no number.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit.min(MAX_PAGE_ROWS))
    }

    /// Is a part of the list wanted, rather than all of it?
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.limit.is_some() || self.cursor.is_some()
    }

    /// The key behind which the page begins. `list` is the name of the list, the same at each call.
    ///
    /// # Errors
    /// A 400 if the cursor is none that this list gave.
    pub fn after<K: DeserializeOwned>(&self, list: &str) -> Result<Option<K>, Refusal> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let read = || {
            let bytes =
                (cursor.len() <= MAX_CURSOR_BYTES).then(|| URL_SAFE_NO_PAD.decode(cursor))?.ok()?;
            let (of, key): (String, K) = serde_json::from_slice(&bytes).ok()?;
            (of == list).then_some(key)
        };
        read().map(Some).ok_or_else(|| {
            let why = "the cursor is none that this list gave: take it from the `Link` header of the page \
                       before, or leave it out to begin with the first page";
            Refusal::new(StatusCode::BAD_REQUEST, "cannot read the page", why)
        })
    }

    /// The page of rows that are all there, in their order. `is_behind` says whether a row
    /// comes after a key.
    ///
    /// # Errors
    /// A 400 if the cursor is none that this list gave.
    pub fn cut<T, K: Serialize + DeserializeOwned>(
        &self,
        list: &str,
        rows: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
        is_behind: impl Fn(&K, &K) -> bool,
    ) -> Result<Page<T>, Refusal> {
        let after: Option<K> = self.after(list)?;
        let behind = |row: &T| after.as_ref().is_none_or(|after| is_behind(&key(row), after));
        let mut rows = rows.into_iter().filter(behind);
        let Some(limit) = self.limit() else {
            return Ok(Page { rows: rows.collect(), next: None });
        };
        let page: Vec<T> = rows.by_ref().take(limit as usize).collect();
        // The rows behind are looked at only to say whether there is another page.
        let next =
            page.last().filter(|_| rows.next().is_some()).map(|last| self.link(list, &key(last)));
        Ok(Page { rows: page, next })
    }

    /// The page of rows that a store was asked for: one more than `limit`, where there are so many.
    #[must_use]
    pub fn fetched<T, K: Serialize>(
        &self,
        list: &str,
        mut rows: Vec<T>,
        limit: u32,
        key: impl Fn(&T) -> K,
    ) -> Page<T> {
        let has_more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| has_more).map(|last| self.link(list, &key(last)));
        Page { rows, next }
    }

    /// Value of the `Link` header that leads to what is behind the row of a key.
    #[must_use]
    pub fn link(&self, list: &str, key: &impl Serialize) -> String {
        // Names and numbers always become JSON.
        let cursor = serde_json::to_vec(&(list, key)).unwrap_or_default();
        let cursor = URL_SAFE_NO_PAD.encode(cursor);
        let others = &self.others;
        let and = if others.is_empty() { "" } else { "&" };
        format!("<?{others}{and}cursor={cursor}>; rel=\"next\"")
    }
}

/// A page: a JSON array, and the link to the next one if there is more.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// Rows of this page.
    pub rows: Vec<T>,
    /// Value of the `Link` header.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The same page with other rows.
    pub fn map<U>(self, row: impl FnMut(T) -> U) -> Page<U> {
        Page { rows: self.rows.into_iter().map(row).collect(), next: self.next }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        Linked { body: self.rows, next: self.next }.into_response()
    }
}

/// A page that is more than an array of rows, and the link to the next one if there is more.
#[derive(Debug, Clone)]
pub struct Linked<T> {
    /// What is answered, as JSON.
    pub body: T,
    /// Value of the `Link` header, from [`Paging::link`].
    pub next: Option<String>,
}

impl<T: Serialize> IntoResponse for Linked<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        if let Some(next) = self.next.and_then(|next| HeaderValue::try_from(next).ok()) {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

#[cfg(test)]
mod tests;
