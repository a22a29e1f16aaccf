//! Lists, page by page.

use reqwest::{Method, header};
use serde::de::DeserializeOwned;

use crate::{Client, ClientError, DEADLINE};

/// Rows of a page: some 1 MB of nodes.
const PAGE_ROWS: u32 = 1_000;

impl Client {
    /// A whole list. A row that is there all the while is in it once. A server of before 2026-12 knows no pages and
    /// answers with all of it.
    pub(crate) async fn get_pages<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut next = Some(format!("{path}?limit={PAGE_ROWS}"));
        while let Some(page) = next {
            let answer = self.answer(self.request(Method::GET, &page)?.timeout(DEADLINE)).await?;
            next = next_page(answer.headers()).map(|query| format!("{path}{query}"));
            all.extend(answer.json::<Vec<T>>().await.map_err(ClientError::Answer)?);
        }
        Ok(all)
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
}
