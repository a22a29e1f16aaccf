//! Asking again where the server has no time for a request now: it answers 503, says after how many
//! seconds (`Retry-After`, RFC 9110, section 10.2.3), and has done nothing of it.

use std::time::Duration;

use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, header};

use crate::{Client, ClientError, error};

/// How often a request is sent again.
const MAX_RETRIES: u32 = 3;

/// Longest pause before that, whatever the server says.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Header of a request that does the same once, however often it is sent.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Client {
    /// The server's answer; sent again a few times where the server is busy and nothing can come of it twice.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { server: self.server.to_string(), source };
        let mut request = request.build().map_err(unreachable)?;
        let mut retries = 0;
        loop {
            let may_retry = retries < MAX_RETRIES && may_repeat(&request);
            let again = if may_retry { request.try_clone() } else { None };
            let response = self.http.execute(request).await.map_err(unreachable)?;
            if response.status().is_success() {
                return Ok(response);
            }
            let (Some(again), Some(pause)) = (again, pause(response.status(), response.headers())) else {
                return Err(error::refused(response).await);
            };
            tokio::time::sleep(pause).await;
            request = again;
            retries += 1;
        }
    }
}

/// Whether a request that is sent twice does no more than once.
fn may_repeat(request: &Request) -> bool {
    let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
    *request.method() == Method::GET || *request.method() == Method::POST && has_key
}

/// After what time the server wants to be asked again, if it is busy.
fn pause(status: StatusCode, headers: &header::HeaderMap) -> Option<Duration> {
    let after = headers.get(header::RETRY_AFTER).filter(|_| status == StatusCode::SERVICE_UNAVAILABLE)?;
    let seconds = after.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A server that is busy for so many requests, and counts all.
    async fn server(busy: u32) -> (Client, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let is_busy = counted.fetch_add(1, Ordering::SeqCst) < busy;
                answer(stream, is_busy).await;
            }
        });
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        (Client { http, server, token: "t".to_owned() }, requests)
    }

    async fn answer(mut stream: TcpStream, is_busy: bool) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = match is_busy {
            true => "HTTP/1.1 503 Busy\r\nretry-after: 0\r\n",
            false => "HTTP/1.1 200 OK\r\n",
        };
        let answer = format!("{answer}content-length: 2\r\nconnection: close\r\n\r\n{{}}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_busy_server_is_asked_again_a_few_times() {
        let (client, requests) = server(MAX_RETRIES).await;
        client.version().await.unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), MAX_RETRIES + 1);
        let (client, requests) = server(u32::MAX).await;
        assert_eq!(client.version().await.unwrap_err().status(), Some(503));
        assert_eq!(requests.load(Ordering::SeqCst), MAX_RETRIES + 1);
    }

    #[tokio::test]
    async fn what_could_be_done_twice_is_sent_once() {
        let (client, requests) = server(u32::MAX).await;
        assert_eq!(client.stop_workflow("hello").await.unwrap_err().status(), Some(503));
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        let may = |method: Method, key: Option<&str>| {
            let request = client.request(method, "/v1/workflows").unwrap();
            let request = key.into_iter().fold(request, |request, key| request.header(IDEMPOTENCY_KEY, key));
            may_repeat(&request.build().unwrap())
        };
        assert!(may(Method::GET, None) && may(Method::POST, Some("k")));
        assert!(!may(Method::POST, None) && !may(Method::DELETE, None) && !may(Method::PUT, Some("k")));
    }

    #[test]
    fn the_server_says_when_within_bounds() {
        let of = |status: StatusCode, after: Option<&'static str>| {
            let mut headers = header::HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(after));
            }
            pause(status, &headers)
        };
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(of(busy, Some("5")), Some(Duration::from_secs(5)));
        assert_eq!(of(busy, Some("86400")), Some(MAX_PAUSE));
        assert_eq!(of(busy, None), None);
        assert_eq!(of(busy, Some("Fri, 31 Dec 1999 23:59:59 GMT")), None);
        assert_eq!(of(StatusCode::TOO_MANY_REQUESTS, Some("5")), None);
    }
}
