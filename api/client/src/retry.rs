//! Sending a request again where the server has no time for it now, or not for so many of this
//! user, and says after how many seconds (`Retry-After`, RFC 9110, section 10.2.3).
//!
//! | what came | may something have come of the request? | sent again |
//! |---|---|---|
//! | 503 | yes | what does the same once, however often it is sent: `GET`, and `POST` with a key; [`MAX_RETRIES`] times |
//! | 429 | no: a server that answers 429 with `Retry-After` has done nothing (`docs/reference/api.md`) | every request, for [`MAX_WAIT`] in all |
//! | 429 with `WWW-Authenticate` | no | nothing: another token is needed, and not more time |
//! | a broken connection | yes | what has a key: nobody else can find out what came of it |

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use api::backoff::Jitter;
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, header};
use tokio::time::Instant;

use crate::{Client, ClientError, error};

/// How often a request is sent again that the server had no time for, or whose connection broke.
const MAX_RETRIES: u32 = 3;

/// Pause after a connection broke, before chance changes it: a server that starts again takes some.
const BROKEN_PAUSE: Duration = Duration::from_secs(2);

/// How long whoever waits at a terminal hears nothing of what goes wrong.
const QUIET: Duration = Duration::from_secs(2);

/// Longest time that all pauses before that take together: whoever waits hears of the first failure
/// at most, and what is wrong for longer they should know.
const MAX_PAUSES: Duration = Duration::from_secs(15);

/// Longest time that all pauses of one request take together where only too many were sent: it will
/// be answered in the end, so this may be longer. A user who has emptied the bucket of changes
/// waits a second.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Least pause after a 429, before chance changes it: a server that says 0 is not asked in a loop.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// Header of a request that does the same once, however often it is sent.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Why a request is sent again, and after what time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// The server has no time, or the connection broke: something may have come of the request.
    Unsure(Duration),
    /// Too many requests were sent, and this one was not looked at.
    NothingDone(Duration),
}

/// What one request has waited so far.
#[derive(Debug, Default)]
struct Patience {
    retries: u32,
    waited: Duration,
}

impl Patience {
    /// The pause before the request is sent again, if it may be.
    fn pause(&mut self, again: Again, may_repeat: bool, random: u64) -> Option<Duration> {
        let (pause, longest) = match again {
            Again::Unsure(_) if !may_repeat || self.retries >= MAX_RETRIES => return None,
            Again::Unsure(pause) => (pause, MAX_PAUSES),
            Again::NothingDone(pause) => (pause.max(MIN_WAIT), MAX_WAIT),
        };
        // Clients that were refused in the same second must not come back in the same second.
        let pause = Jitter::Around { random }.of(pause);
        self.waited = self.waited.checked_add(pause).filter(|waited| *waited <= longest)?;
        self.retries += u32::from(matches!(again, Again::Unsure(_)));
        Some(pause)
    }
}

impl Client {
    /// The server's answer, of a status of success or 101; sent again where nothing can come of it
    /// twice, as the table of this module says.
    pub(crate) async fn answer(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable =
            |source| ClientError::Unreachable { server: self.server.to_string(), source };
        let mut request = request.build().map_err(unreachable)?;
        let mut patience = Patience::default();
        let mut broke = false;
        let begun = Instant::now();
        loop {
            let may_repeat = may_repeat(&request);
            let next = request.try_clone();
            let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
            let answered = self.http.execute(request).await;
            if let Ok(response) = &answered {
                self.warn_of_expiry(response.headers());
            }
            let again = match &answered {
                Ok(response) if is_taken(response.status()) => {
                    return answered.map_err(unreachable);
                }
                Ok(response) => asks_again(response.status(), response.headers()),
                // One that was never made broke nothing: who is not there at first is told at once.
                Err(error) => {
                    broke |= !(error.is_connect() || error.is_timeout() || error.is_builder());
                    (has_key && broke).then_some(Again::Unsure(BROKEN_PAUSE))
                }
            };
            let pause = again.and_then(|again| patience.pause(again, may_repeat, random()));
            let (Some(next), Some(pause)) = (next, pause) else {
                return Err(error::refused(answered.map_err(unreachable)?).await);
            };
            // Who sends many requests waits a little for each of them, and should know why.
            let is_slow = begun.elapsed().saturating_add(pause) >= QUIET;
            if is_slow || matches!(again, Some(Again::NothingDone(_))) {
                self.report_retry(answered.map_err(unreachable)).await;
            }
            tokio::time::sleep(pause).await;
            request = next;
        }
    }
}

impl Client {
    /// Tells that the token ends soon, if the answer says so and nobody was told yet.
    fn warn_of_expiry(&self, headers: &header::HeaderMap) {
        let Some(notice) = &self.notice else { return };
        let ends = headers.get(api::http::TOKEN_EXPIRES).and_then(|ends| ends.to_str().ok());
        if let Some(ends) = ends.filter(|_| !notice.told.swap(true, Relaxed)) {
            (notice.tell)(ends);
        }
    }

    /// Tells why a request is sent again, if nobody was told of one yet.
    async fn report_retry(&self, failed: Result<Response, ClientError>) {
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

/// Has the server done what was asked, or opened a WebSocket?
fn is_taken(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether a request that is sent twice does no more than once. A WebSocket is asked for with
/// `GET`, and may start a program.
fn may_repeat(request: &Request) -> bool {
    let has = |name: &str| request.headers().contains_key(name);
    match *request.method() {
        Method::GET => !has(header::UPGRADE.as_str()),
        Method::POST => has(IDEMPOTENCY_KEY),
        _ => false,
    }
}

/// Whether the server wants to be asked again, and after what time.
fn asks_again(status: StatusCode, headers: &header::HeaderMap) -> Option<Again> {
    let after = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok();
    let after = Duration::from_secs(after?);
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Some(Again::Unsure(after)),
        StatusCode::TOO_MANY_REQUESTS if !headers.contains_key(header::WWW_AUTHENTICATE) => {
            Some(Again::NothingDone(after))
        }
        _ => None,
    }
}

/// The standard library's own source of randomness is enough for a pause.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    };

    use api::stream::StreamRequest;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::StreamOf;

    /// A server that is busy for so many requests, and counts all.
    async fn server(busy: u32) -> (Client, Arc<AtomicU32>) {
        server_that_says(busy, "503 Busy\r\nretry-after: 0").await
    }

    /// One that answers so many requests with a status and headers of its own, and then as it
    /// should.
    async fn server_that_says(times: u32, head: &'static str) -> (Client, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let counted = requests.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let is_refused = counted.fetch_add(1, Ordering::SeqCst) < times;
                answer(stream, if is_refused { head } else { "200 OK" }).await;
            }
        });
        (client_of(server), requests)
    }

    fn client_of(server: url::Url) -> Client {
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        Client { http, server, token: "t".to_owned(), notice: None, retry_notice: None }
    }

    async fn read_head(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    }

    async fn answer(mut stream: TcpStream, head: &str) {
        read_head(&mut stream).await;
        let answer =
            format!("HTTP/1.1 {head}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
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
                match counted.fetch_add(1, Ordering::SeqCst) < on {
                    true => read_head(&mut stream).await,
                    false => answer(stream, "200 OK").await,
                }
            }
        });
        (client_of(server), requests)
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
        let (client, requests) = server_that_says(u32::MAX, "503 Busy\r\nretry-after: 31").await;
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
        let (client, requests) = server_that_says(u32::MAX, "503 Busy\r\nretry-after: 4").await;
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
        let pauses: std::collections::BTreeSet<Duration> =
            (0..100).map(|_| Jitter::Around { random: random() }.of(pause)).collect();
        assert!(pauses.len() > 50, "{pauses:?}");
        assert!(
            pauses.first() >= Some(&(pause / 2)) && pauses.last() < Some(&(pause * 3 / 2)),
            "{pauses:?}"
        );
    }

    #[tokio::test]
    async fn one_request_too_many_is_sent_again_whatever_it_is() {
        let (client, requests) = server_that_says(1, "429 Slow\r\nretry-after: 0").await;
        let began = Instant::now();
        let answered = client.stop_workflow("hello").await.unwrap_err();
        assert!(
            matches!(answered, ClientError::Answer(_)),
            "it answers 200 and is no workflow: {answered}"
        );
        assert_eq!(requests.load(Ordering::SeqCst), 2);
        assert!(began.elapsed() >= MIN_WAIT / 2, "not in a loop");
        for head in [
            "429 Slow",
            "429 Slow\r\nretry-after: 1\r\nwww-authenticate: Bearer",
            "429 Slow\r\nretry-after: 121",
            "409 Full\r\nretry-after: 0",
        ] {
            let (client, requests) = server_that_says(u32::MAX, head).await;
            client.version().await.unwrap_err();
            assert_eq!(requests.load(Ordering::SeqCst), 1, "{head}");
        }
    }

    static TOLD_OF_TOO_MANY: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[tokio::test]
    async fn whoever_sends_too_many_is_told_at_once_and_once() {
        let (client, requests) = server_that_says(2, "429 Slow\r\nretry-after: 0").await;
        let tell = |why: &ClientError| TOLD_OF_TOO_MANY.lock().unwrap().push(why.to_string());
        client.with_retry_notice(tell).version().await.unwrap();
        assert_eq!(requests.load(Ordering::SeqCst), 3);
        let told = TOLD_OF_TOO_MANY.lock().unwrap().clone();
        assert!(told.len() == 1 && told[0].contains("429"), "{told:?}");
    }

    #[tokio::test]
    async fn a_stream_that_was_one_too_many_is_opened_again_and_no_other() {
        let attach = StreamRequest::Attach { all: false };
        let of = StreamOf { workflow: "hello".to_owned(), ..StreamOf::default() };
        let (client, requests) = server_that_says(1, "429 Slow\r\nretry-after: 0").await;
        let answered = client.open_stream(&of, &attach).await.unwrap_err();
        assert!(matches!(answered, ClientError::Upgrade), "it was answered with 200: {answered}");
        assert_eq!(requests.load(Ordering::SeqCst), 2);
        let (client, requests) = server(u32::MAX).await;
        let refused = client.open_stream(&of, &attach).await.unwrap_err();
        assert_eq!((refused.status(), requests.load(Ordering::SeqCst)), (Some(503), 1));
    }

    #[test]
    fn what_is_waited_for_has_an_end() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::default();
        let middle = 1 << 63;
        let mut pause = |again, may_repeat| patience.pause(again, may_repeat, middle);
        assert_eq!(pause(Again::Unsure(seconds(5)), false), None);
        assert_eq!(pause(Again::Unsure(seconds(5)), true), Some(seconds(5)));
        assert_eq!(pause(Again::Unsure(seconds(11)), true), None, "16 s in all");
        assert_eq!(pause(Again::NothingDone(seconds(0)), false), Some(MIN_WAIT));
        assert_eq!(pause(Again::NothingDone(seconds(54)), false), Some(seconds(54)));
        assert_eq!(pause(Again::NothingDone(seconds(1)), false), None, "61 s in all");
        let mut patience = Patience::default();
        let times =
            std::iter::from_fn(|| patience.pause(Again::NothingDone(seconds(1)), false, middle));
        assert_eq!(times.count(), 60);
        let mut patience = Patience::default();
        let times =
            std::iter::from_fn(|| patience.pause(Again::Unsure(Duration::ZERO), true, middle));
        assert_eq!(times.count(), 3);
    }

    #[tokio::test]
    async fn what_could_be_done_twice_is_sent_once() {
        let (client, requests) = server(u32::MAX).await;
        assert_eq!(client.stop_workflow("hello").await.unwrap_err().status(), Some(503));
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        let may = |method: Method, key: Option<&str>| {
            let request = client.request(method, "/v1/workflows").unwrap();
            let request =
                key.into_iter().fold(request, |request, key| request.header(IDEMPOTENCY_KEY, key));
            may_repeat(&request.build().unwrap())
        };
        assert!(may(Method::GET, None) && may(Method::POST, Some("k")));
        assert!(
            !may(Method::POST, None) && !may(Method::DELETE, None) && !may(Method::PUT, Some("k"))
        );
    }

    #[test]
    fn the_server_says_when() {
        let of = |status: StatusCode, after: Option<&'static str>| {
            let mut headers = header::HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static(after));
            }
            asks_again(status, &headers)
        };
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        let unsure = |seconds| Some(Again::Unsure(Duration::from_secs(seconds)));
        assert_eq!(of(busy, Some("5")), unsure(5));
        assert_eq!(of(busy, Some("86400")), unsure(86_400));
        assert_eq!(of(busy, Some("-1")), None);
        assert_eq!(of(busy, None), None);
        assert_eq!(of(busy, Some("Fri, 31 Dec 1999 23:59:59 GMT")), None);
        let too_many = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(of(too_many, Some("5")), Some(Again::NothingDone(Duration::from_secs(5))));
        assert_eq!(of(too_many, None), None);
        assert_eq!(of(StatusCode::BAD_GATEWAY, Some("5")), None);
    }
}
