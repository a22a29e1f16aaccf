//! Lists, page by page.

use reqwest::{Method, RequestBuilder, header};
use serde::de::DeserializeOwned;

use crate::{Client, ClientError, DEADLINE};

/// Rows of a page: some 1 MB of nodes.
pub(crate) const PAGE_ROWS: u32 = 1_000;

impl Client {
    /// A whole list. A row that is there all the while is in it once. A server of before 2026-12
    /// knows no pages and answers with all of it.
    pub(crate) async fn get_pages<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Vec<T>, ClientError> {
        self.get_rows(path, format!("?limit={PAGE_ROWS}"), usize::MAX).await
    }

    /// The first rows of a list, `limit` at most, in as many pages as the server makes of them. One
    /// that knows no pages of this list answers with as many as it gives at once.
    pub(crate) async fn get_first<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: u32,
    ) -> Result<Vec<T>, ClientError> {
        self.get_first_of(path, "", limit).await
    }

    /// As [`Self::get_first`], of a list that is narrowed by more of a query: `&stage=3`, encoded.
    pub(crate) async fn get_first_of<T: DeserializeOwned>(
        &self,
        path: &str,
        of: &str,
        limit: u32,
    ) -> Result<Vec<T>, ClientError> {
        self.get_rows(path, format!("?limit={limit}{of}"), limit as usize).await
    }

    async fn get_rows<T: DeserializeOwned>(
        &self,
        path: &str,
        first: String,
        wanted: usize,
    ) -> Result<Vec<T>, ClientError> {
        let mut list = Gathered { rows: Vec::new(), wanted, next: Some(first) };
        while let Some(query) = list.next.take() {
            let (rows, next) =
                self.get_page(self.request(Method::GET, &format!("{path}{query}"))?).await?;
            list.add(rows, next);
        }
        Ok(list.rows)
    }

    /// One page, and the query of the next one.
    pub(crate) async fn get_page<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<(T, Option<String>), ClientError> {
        let answer = self.answer(request.timeout(DEADLINE)).await?;
        let next = next_page(answer.headers());
        Ok((answer.json().await.map_err(ClientError::Answer)?, next))
    }
}

/// A list while its pages are fetched.
struct Gathered<T> {
    rows: Vec<T>,
    /// Rows at most.
    wanted: usize,
    /// The query of the page to fetch; `None`: there is no more, or there are as many
    /// rows as are wanted.
    next: Option<String>,
}

impl<T> Gathered<T> {
    fn add(&mut self, rows: Vec<T>, next: Option<String>) {
        self.rows.extend(rows);
        self.next = next.filter(|_| self.rows.len() < self.wanted);
        // The last page may have more than is missing.
        self.rows.truncate(self.wanted);
    }
}

/// The query of the next page: what the server's `Link: <?…>; rel="next"` has in brackets.
fn next_page(headers: &header::HeaderMap) -> Option<String> {
    let links = headers.get_all(header::LINK).iter().filter_map(|link| link.to_str().ok());
    let mut targets = links.filter_map(|link| {
        let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
        let is_next = target.starts_with('?') && parameters.contains("rel=\"next\"");
        is_next.then(|| target.to_owned())
    });
    targets.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_to_the_next_page() {
        let next = |link: &'static str| {
            let mut headers = header::HeaderMap::new();
            headers.insert(header::LINK, header::HeaderValue::from_static(link));
            next_page(&headers)
        };
        let query = "?limit=2&cursor=abc";
        assert_eq!(next("<?limit=2&cursor=abc>; rel=\"next\"").as_deref(), Some(query));
        assert_eq!(next("<?limit=2>; rel=\"prev\""), None);
        assert_eq!(next("<https://elsewhere.example/?a>; rel=\"next\""), None, "no other server");
        assert_eq!(next("nonsense"), None);
        assert_eq!(next_page(&header::HeaderMap::new()), None);
    }

    /// What is fetched from a server whose pages have three rows, counted down from 7, and from
    /// how many pages.
    fn fetched(wanted: usize) -> (Vec<u32>, usize) {
        let mut list = Gathered { rows: Vec::new(), wanted, next: Some("8".to_owned()) };
        let mut pages = 0;
        while let Some(query) = list.next.take() {
            let above: u32 = query.parse().unwrap();
            let rows: Vec<u32> = (1..above).rev().take(3).collect();
            let next = rows.last().filter(|last| **last > 1).map(u32::to_string);
            list.add(rows, next);
            pages += 1;
        }
        (list.rows, pages)
    }

    #[test]
    fn pages_are_fetched_until_there_is_what_is_wanted() {
        assert_eq!(fetched(usize::MAX), (vec![7, 6, 5, 4, 3, 2, 1], 3));
        assert_eq!(fetched(5), (vec![7, 6, 5, 4, 3], 2));
        assert_eq!(fetched(3), (vec![7, 6, 5], 1), "no page for nothing");
        assert_eq!(fetched(0), (Vec::new(), 1));
    }
}
