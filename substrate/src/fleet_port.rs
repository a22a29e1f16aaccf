//! Requests to the fleet port of whichever server answers: enrolment, renewal, reports,
//! overlay archives.
//!
//! Used by stage 1 and by the agent. Servers are addresses, tried in order; one that cannot be
//! reached or answers with 5xx is passed over, any other refusal is final: another server shares
//! the same database.

use std::{net::SocketAddr, time::Duration};

use api::{
    backoff::Schedule,
    channel::negotiation::{self, Versions},
    problem::Problem,
};
use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderValue};
use serde::{Serialize, de::DeserializeOwned};

/// Time to reach a server. A machine on the same network answers in milliseconds; one that is down
/// should not hold up the next.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without a byte after which an answer is given up.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest JSON answer read, bytes: a certificate and its CA are a hundredth.
pub const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// Pauses between attempts of [`patiently`], and how long all of them take: a server that is
/// restarted or fails over is back within them.
const PAUSES: Schedule =
    Schedule { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
const PATIENCE: Duration = Duration::from_secs(3 * 60);

/// Why no server did what was asked.
#[derive(Debug, thiserror::Error)]
pub enum FleetPortError {
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// There is no server in the list.
    #[error("no fleet server is known")]
    NoServer,
    /// The last server of the list could not be reached, or broke off.
    #[error("cannot reach {server}{route}")]
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// What was asked.
        route: String,
        /// Why: refused, timed out, its certificate is not trusted…
        #[source]
        source: reqwest::Error,
    },
    /// A server said no.
    #[error("{server} refuses {route} (status {}): {}", problem.status, problem_text(problem))]
    Refused {
        /// The server.
        server: SocketAddr,
        /// What was asked.
        route: String,
        /// What it said.
        problem: Box<Problem>,
    },
    /// The answer is not what it should be.
    #[error("cannot read the answer of {server}{route}")]
    Answer {
        /// The server.
        server: SocketAddr,
        /// What was asked.
        route: String,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
    /// The answer is larger than its limit.
    #[error("the answer of {server}{route} is larger than {limit} bytes")]
    TooLarge {
        /// The server.
        server: SocketAddr,
        /// What was asked.
        route: String,
        /// The limit.
        limit: u64,
    },
}

impl FleetPortError {
    /// `true` if asking again cannot help: the server refused what was asked.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused { problem, .. } => {
                (400..500).contains(&problem.status) && problem.status != 429
            }
            _ => false,
        }
    }
}

fn problem_text(problem: &Problem) -> String {
    if problem.detail.is_empty() {
        problem.title.clone()
    } else {
        format!("{}: {}", problem.title, problem.detail)
    }
}

/// An HTTP client over this TLS configuration; no proxy, no redirects. Its requests name the
/// protocol versions that this program speaks.
///
/// # Errors
/// [`FleetPortError::Client`].
pub fn http_client(tls: rustls::ClientConfig) -> Result<reqwest::Client, FleetPortError> {
    client_builder(tls).read_timeout(READ_TIMEOUT).build().map_err(FleetPortError::Client)
}

fn client_builder(tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    let mut headers = HeaderMap::new();
    if let Ok(versions) = HeaderValue::from_str(&Versions::ours().to_string()) {
        headers.insert(negotiation::HEADER, versions);
    }
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .default_headers(headers)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(api::http::REUSE_LIMIT)
        .tcp_nodelay(true)
}

/// Asks again while that can help, with three minutes of pauses. `tell` gets lines for people.
///
/// # Errors
/// The refusal, or the last failure.
pub async fn patiently<T>(
    ask: impl AsyncFn() -> Result<T, FleetPortError>,
    tell: &mut dyn FnMut(&str),
) -> Result<T, FleetPortError> {
    for pause in PAUSES.within(PATIENCE) {
        match ask().await {
            Err(error) if !error.is_final() => {
                let why = crate::console::chain(&error);
                tell(&format!("{why}; trying again in {} s", pause.as_secs()));
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
    ask().await
}

/// The fleet ports of the servers.
#[derive(Debug, Clone)]
pub struct FleetPort {
    servers: Vec<SocketAddr>,
    client: reqwest::Client,
    /// For long bodies: without [`READ_TIMEOUT`], which would run from the beginning of the body.
    uploads: reqwest::Client,
}

impl FleetPort {
    /// Speaks to `servers` with the trust and certificate of `tls` (see [`crate::tls`]).
    ///
    /// # Errors
    /// [`FleetPortError::Client`].
    pub fn new(
        servers: Vec<SocketAddr>,
        tls: rustls::ClientConfig,
    ) -> Result<Self, FleetPortError> {
        let uploads = client_builder(tls.clone()).build().map_err(FleetPortError::Client)?;
        Ok(Self { servers, client: http_client(tls)?, uploads })
    }

    /// Posts `body` to `route` (`/node/v1/enroll`) and reads the JSON answer.
    ///
    /// # Errors
    /// [`FleetPortError`] of the last server asked.
    pub async fn post<B: Serialize + Sync, A: DeserializeOwned>(
        &self,
        route: &str,
        body: &B,
    ) -> Result<A, FleetPortError> {
        let (server, bytes) =
            self.ask(route, MAX_ANSWER_BYTES, |client, url| client.post(url).json(body)).await?;
        serde_json::from_slice(&bytes).map_err(|source| FleetPortError::Answer {
            server,
            route: route.to_owned(),
            source,
        })
    }

    /// Posts plain bytes to `route` and reads the JSON answer.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn post_bytes<A: DeserializeOwned>(
        &self,
        route: &str,
        body: Bytes,
    ) -> Result<A, FleetPortError> {
        let (server, bytes) = self
            .ask(route, MAX_ANSWER_BYTES, |client, url| client.post(url).body(body.clone()))
            .await?;
        serde_json::from_slice(&bytes).map_err(|source| FleetPortError::Answer {
            server,
            route: route.to_owned(),
            source,
        })
    }

    /// The URL of `route` at each server, in the order in which they are asked, and the client that
    /// may ask: for bodies that do not fit into memory.
    pub fn urls(&self, route: &str) -> (Vec<String>, &reqwest::Client) {
        (
            self.servers.iter().map(|server| format!("https://{server}{route}")).collect(),
            &self.client,
        )
    }

    /// The same for bodies of any length. That nothing moves any more is the caller's to notice.
    pub fn upload_urls(&self, route: &str) -> (Vec<String>, &reqwest::Client) {
        (self.urls(route).0, &self.uploads)
    }

    /// Posts `body` to `route` and expects no answer but success.
    ///
    /// # Errors
    /// As [`Self::post`].
    pub async fn tell<B: Serialize + Sync>(
        &self,
        route: &str,
        body: &B,
    ) -> Result<(), FleetPortError> {
        self.ask(route, MAX_ANSWER_BYTES, |client, url| client.post(url).json(body)).await.map(drop)
    }

    /// Gets the body at `route`, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::post`], [`FleetPortError::TooLarge`].
    pub async fn get(&self, route: &str, limit: u64) -> Result<Bytes, FleetPortError> {
        self.ask(route, limit, |client, url| client.get(url)).await.map(|(_, bytes)| bytes)
    }

    async fn ask(
        &self,
        route: &str,
        limit: u64,
        request: impl Fn(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> Result<(SocketAddr, Bytes), FleetPortError> {
        let mut last = FleetPortError::NoServer;
        for server in &self.servers {
            match self.ask_one(*server, route, limit, &request).await {
                Ok(bytes) => return Ok((*server, bytes)),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_one(
        &self,
        server: SocketAddr,
        route: &str,
        limit: u64,
        request: impl Fn(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> Result<Bytes, FleetPortError> {
        let unreachable =
            |source| FleetPortError::Unreachable { server, route: route.to_owned(), source };
        let mut response = request(&self.client, format!("https://{server}{route}"))
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let limit = if status.is_success() { limit } else { MAX_ANSWER_BYTES };
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(FleetPortError::TooLarge { server, route: route.to_owned(), limit });
            }
        }
        if status.is_success() {
            return Ok(body.freeze());
        }
        let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("unknown status").to_owned(),
            detail: String::new(),
            diagnostics: Vec::new(),
        });
        Err(FleetPortError::Refused { server, route: route.to_owned(), problem: Box::new(problem) })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn refused(status: u16) -> FleetPortError {
        let (title, detail, diagnostics) = ("no".to_owned(), String::new(), Vec::new());
        FleetPortError::Refused {
            server: ([127, 0, 0, 1], 1).into(),
            route: "/x".to_owned(),
            problem: Box::new(Problem { status, title, detail, diagnostics }),
        }
    }

    #[tokio::test]
    async fn a_server_that_comes_back_is_asked_again_and_a_refusal_is_final() {
        let asked = Cell::new(0);
        let mut told = Vec::new();
        let ask = async || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 { Err(refused(503)) } else { Ok("answer") }
        };
        assert_eq!(patiently(ask, &mut |line| told.push(line.to_owned())).await.unwrap(), "answer");
        assert_eq!(told, ["127.0.0.1:1 refuses /x (status 503): no; trying again in 1 s"]);
        asked.set(0);
        let ask = async || -> Result<(), _> {
            asked.set(asked.get() + 1);
            Err(refused(403))
        };
        let error = patiently(ask, &mut |_| {}).await.unwrap_err();
        assert!(error.is_final() && asked.get() == 1);
    }
}
