//! Asking again where the server has no time for a request now: it answers 503, and says after how many
//! seconds (`Retry-After`, RFC 9110, section 10.2.3). Something may have come of the request all the
//! same, so only those are sent again that do the same once, however often they are sent.
//!
//! A request under a key is sent again also where its connection broke: nobody else can find out what
//! came of it.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, header};
use tokio::time::Instant;

use crate::{Client, ClientError, error};

/// How often a request is sent again.
const MAX_RETRIES: u32 = 3;

/// Pause after a connection broke, before it is scattered: a server that starts again takes some.
const BROKEN_PAUSE: Duration = Duration::from_secs(2);

/// How long whoever waits at a terminal hears nothing of what goes wrong.
const QUIET: Duration = Duration::from_secs(2);

/// Longest time that all pauses before that take together: whoever waits hears of the first failure at
/// most, and what is wrong for longer they should know.
const MAX_PAUSES: Duration = Duration::from_secs(15);

/// Header of a request that does the same once, however often it is sent.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Client {
    /// The server's answer; sent again a few times where nothing can come of it twice and the server is
    /// busy, or, under a key, the connection broke.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { server: self.server.to_string(), source };
        let mut request = request.build().map_err(unreachable)?;
        let (mut retries, mut left) = (0, MAX_PAUSES);
        let mut broke = false;
        let begun = Instant::now();
        loop {
            let may_retry = retries < MAX_RETRIES && may_repeat(&request);
            let again = if may_retry { request.try_clone() } else { None };
            let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
            let answered = self.http.execute(request).await;
            if let Ok(response) = &answered {
                self.tell_expiry(response.headers());
            }
            let pause = match &answered {
                Ok(response) if response.status().is_success() => return answered.map_err(unreachable),
                Ok(response) => pause(response.status(), response.headers()),
                // One that was never made broke nothing: who is not there at first is told at once.
                Err(error) => {
                    broke |= !(error.is_connect() || error.is_timeout() || error.is_builder());
                    (has_key && broke).then_some(BROKEN_PAUSE)
                }
            };
            let pause = pause.map(|pause| scattered(pause, random()));
            let rest = pause.and_then(|pause| left.checked_sub(pause));
            let (Some(again), Some(pause), Some(rest)) = (again, pause, rest) else {
                return Err(error::refused(answered.map_err(unreachable)?).await);
            };
            if begun.elapsed().saturating_add(pause) >= QUIET {
                self.tell_retry(answered.map_err(unreachable)).await;
            }
            tokio::time::sleep(pause).await;
            request = again;
            left = rest;
            retries += 1;
        }
    }
}

impl Client {
    /// Tells that the token ends soon, if the answer says so and nobody was told yet.
    fn tell_expiry(&self, headers: &header::HeaderMap) {
        let Some(notice) = &self.notice else { return };
        let ends = headers.get(api::http::TOKEN_EXPIRES).and_then(|ends| ends.to_str().ok());
        if let Some(ends) = ends.filter(|_| !notice.told.swap(true, Relaxed)) {
            (notice.tell)(ends);
        }
    }

    /// Tells why a request is sent again, if nobody was told of one yet.
    async fn tell_retry(&self, failed: Result<Response, ClientError>) {
        let Some(notice) = &self.retry_notice else { return };
        if notice.told.swap(true, Relaxed) {
            return;
        }
        let why = match failed {
            Ok(response) => error::refused(response).await,
            Err(why) => why,
        };
        (notice.tell)(&why);
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
    after.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Between half of a pause and one and a half, by a random number: clients that were refused in the
/// same second must not come back in the same second.
fn scattered(pause: Duration, random: u16) -> Duration {
    let part = pause.saturating_mul(u32::from(random)) / 65_536;
    (pause / 2).saturating_add(part)
}

/// The standard library's own source of randomness is enough for a pause.
fn random() -> u16 {
    let [first, second, ..] = RandomState::new().hash_one(()).to_ne_bytes();
    u16::from_ne_bytes([first, second])
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// A server that is busy for so many requests, and counts all.
    async fn server(busy: u32) -> (Client, Arc<AtomicU32>) {
        server_that_says(busy, 0).await
    }

    /// One that wants to be asked again after so many seconds.
    async fn server_that_says(busy: u32, after: u64) -> (Client, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let is_busy = counted.fetch_add(1, Ordering::SeqCst) < busy;
                answer(stream, is_busy.then_some(after)).await;
            }
        });
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        (Client { http, server, token: "t".to_owned(), notice: None, retry_notice: None }, requests)
    }

    async fn answer(mut stream: TcpStream, busy: Option<u64>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = match busy {
            Some(after) => format!("HTTP/1.1 503 Busy\r\nretry-after: {after}\r\n"),
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
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

    /// A server that hangs up on so many requests after it has read them, and counts all.
    async fn server_that_hangs_up(on: u32) -> (Client, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if counted.fetch_add(1, Ordering::SeqCst) >= on {
                    answer(stream, None).await;
                    continue;
                }
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
            }
        });
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        (Client { http, server, token: "t".to_owned(), notice: None, retry_notice: None }, requests)
    }

    #[tokio::test]
    async fn what_has_a_key_is_sent_again_over_a_new_connection() {
        let post = |client: &Client, key: Option<&str>| {
            let request = client.request(Method::POST, "/v1/workflows").unwrap();
            key.into_iter().fold(request, |request, key| request.header(IDEMPOTENCY_KEY, key))
        };
        let (client, requests) = server_that_hangs_up(1).await;
        client.answer(post(&client, Some("k"))).await.unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), 2);
        let (client, requests) = server_that_hangs_up(1).await;
        let error = client.answer(post(&client, None)).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
        assert_eq!(requests.load(Ordering::SeqCst), 1, "something may have come of it");
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_all_pauses_may_take() {
        // Half of it at least is the pause.
        let (client, requests) = server_that_says(u32::MAX, 2 * MAX_PAUSES.as_secs() + 1).await;
        assert_eq!(client.version().await.unwrap_err().status(), Some(503));
        assert_eq!(requests.load(Ordering::SeqCst), 1, "it is told at once");
    }

    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[tokio::test]
    async fn whoever_waits_is_told_why_and_once() {
        let told = || TOLD.lock().unwrap().clone();
        let tell = |why: &ClientError| TOLD.lock().unwrap().push(why.to_string());
        let (client, _) = server(MAX_RETRIES).await;
        client.with_retry_notice(tell).version().await.unwrap();
        assert_eq!(told(), [] as [String; 0], "it took no time");
        // Half of it at least is the pause.
        let (client, requests) = server_that_says(u32::MAX, 2 * QUIET.as_secs()).await;
        let client = client.with_retry_notice(tell);
        for _ in 0..2 {
            let waiting = tokio::time::timeout(Duration::from_secs(1), client.version()).await;
            assert!(waiting.is_err(), "it waits before it asks again");
        }
        assert_eq!(requests.load(Ordering::SeqCst), 2);
        let told = told();
        assert!(told.len() == 1 && told[0].contains("503"), "{told:?}");
    }

    #[test]
    fn those_who_were_refused_together_come_back_one_by_one() {
        let pause = Duration::from_secs(5);
        assert_eq!(scattered(pause, 0), Duration::from_millis(2_500));
        assert_eq!(scattered(pause, 1 << 15), pause);
        let latest = scattered(pause, u16::MAX);
        assert!(latest > Duration::from_millis(7_499) && latest < Duration::from_millis(7_500), "{latest:?}");
        assert!(scattered(Duration::MAX, u16::MAX) > MAX_PAUSES, "nothing overflows");
        let numbers: std::collections::BTreeSet<u16> = (0..100).map(|_| random()).collect();
        assert!(numbers.len() > 50, "{numbers:?}");
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
    fn the_server_says_when() {
        let of = |status: StatusCode, after: Option<&'static str>| {
            let mut headers = header::HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(after));
            }
            pause(status, &headers)
        };
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(of(busy, Some("5")), Some(Duration::from_secs(5)));
        assert_eq!(of(busy, Some("86400")), Some(Duration::from_secs(86_400)));
        assert_eq!(of(busy, Some("-1")), None);
        assert_eq!(of(busy, None), None);
        assert_eq!(of(busy, Some("Fri, 31 Dec 1999 23:59:59 GMT")), None);
        assert_eq!(of(StatusCode::TOO_MANY_REQUESTS, Some("5")), None);
    }
}
