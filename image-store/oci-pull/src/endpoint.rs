//! One registry, or one mirror of it, as it is spoken to: the OCI distribution specification 1.1,
//! of which only reading is needed.
//!
//! A login goes nowhere before the host that it is for has asked for it. It then goes to that host,
//! or to the token service that this host names, if that is the host itself (scheme, name and port)
//! or the one that the configuration sets for it; it must be HTTPS unless the host is spoken to in
//! plain HTTP anyway. What another host asks for, which a request was redirected to, is not
//! answered; redirects to another origin carry neither login nor token (`reqwest` takes them off).

use std::{fmt, time::Duration};

use base64::Engine as _;
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Origin;

use crate::{
    challenge::{self, Challenge},
    clients::RegistryClient,
    credentials::Login,
    error::RequestError,
    registries::RegistryHost,
};

/// Media types of manifests and indexes that are understood.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// How much of the body of an error is read, bytes: the codes of the specification are in it.
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// Largest answer of a token service, bytes: tokens of large sites have some 10 KiB.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Largest list of tags, bytes. Only a few are shown.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// How much of what a registry says goes into a message, characters.
const MAX_SAID: usize = 200;

/// A registry, and the repository there.
pub(crate) struct Endpoint {
    /// Whose endpoint this is, for people.
    pub(crate) host: RegistryHost,
    /// The repository's name at this host.
    pub(crate) repository: String,
    /// `http(s)://HOST[:PORT]/`.
    base: Url,
    client: RegistryClient,
    login: Option<Login>,
    /// Who besides the host gets the login.
    token_service: Option<Origin>,
    /// What the host takes as `Authorization`, once it has asked.
    authorization: Mutex<Option<HeaderValue>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Endpoint");
        shown.field("base", &self.base.as_str()).field("repository", &self.repository);
        shown.field("login", &self.login).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint at `host`, in plain HTTP if `plain`.
    ///
    /// # Errors
    /// [`RequestError::Address`] if no URL can be made of it.
    pub(crate) fn new(
        host: RegistryHost,
        repository: String,
        plain: bool,
        client: RegistryClient,
        (login, token_service): (Option<Login>, Option<Origin>),
    ) -> Result<Self, RequestError> {
        let scheme = if plain { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/", host.address()));
        let base = base.map_err(|error| RequestError::Address { problem: error.to_string() })?;
        Ok(Self {
            host,
            repository,
            base,
            client,
            login,
            token_service,
            authorization: Mutex::default(),
        })
    }

    /// A manifest or index by tag or digest, at most `limit` bytes.
    pub(crate) async fn manifest(
        &self,
        version: &str,
        limit: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        let response = self.get(&format!("manifests/{version}"), &headers).await?;
        read(response, limit).await
    }

    /// A blob from `offset` on. The status says whether the answer begins there (206) or at the
    /// beginning (200).
    pub(crate) async fn blob(&self, digest: &str, offset: u64) -> Result<Response, RequestError> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(RANGE, ascii(&format!("bytes={offset}-"))?);
        }
        self.get(&format!("blobs/{digest}"), &headers).await
    }

    /// A small blob, at most `limit` bytes.
    pub(crate) async fn document(&self, digest: &str, limit: u64) -> Result<Vec<u8>, RequestError> {
        read(self.blob(digest, 0).await?, limit).await
    }

    /// The first tags of the repository.
    pub(crate) async fn tags(&self, count: usize) -> Result<Vec<String>, RequestError> {
        #[derive(Deserialize)]
        struct Tags {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let response = self.get(&format!("tags/list?n={count}"), &HeaderMap::new()).await?;
        let listed: Tags =
            serde_json::from_slice(&read(response, MAX_LIST_BYTES).await?).map_err(|error| {
                RequestError::Nonsense { problem: format!("no list of tags: {error}") }
            })?;
        let mut tags = listed.tags.unwrap_or_default();
        tags.truncate(count);
        Ok(tags.iter().map(|tag| shown(tag)).collect())
    }

    /// Asks, and asks again with a login if that is what the host wants.
    async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Response, RequestError> {
        let address = |problem: String| RequestError::Address { problem };
        let path = format!("v2/{}/{path}", self.repository);
        let url = self.base.join(&path).map_err(|error| address(error.to_string()))?;
        let used = self.authorization.lock().await.clone();
        let response = self.send(&url, headers, used.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_own(response.url()) {
            return self.checked(response).await;
        }
        let lines = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> =
            lines.filter_map(|line| line.to_str().ok()).flat_map(challenge::parse).collect();
        match self.authorize(&challenges, used.as_ref()).await? {
            None => self.checked(response).await,
            Some(authorization) => {
                let response = self.send(&url, headers, Some(&authorization)).await?;
                self.checked(response).await
            }
        }
    }

    async fn send(
        &self,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RequestError> {
        let mut request = self.client.get(url.clone())?.headers(headers.clone());
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        request.send().await.map_err(|error| RequestError::of(&error))
    }

    /// Whether an answer came from this host, not from one that it was redirected to.
    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// What is sent after these challenges; nothing if none can be met. `used`: what was sent
    /// before and refused.
    async fn authorize(
        &self,
        challenges: &[Challenge],
        used: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, RequestError> {
        let mut held = self.authorization.lock().await;
        // Another request of this pull was told before, and has seen to it.
        if held.is_some() && held.as_ref() != used {
            return Ok(held.clone());
        }
        let token = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service } => Some((realm, service.as_deref())),
            Challenge::Basic => None,
        });
        let next = match (token, &self.login) {
            (Some((realm, service)), _) => Some(self.token(realm, service).await?),
            (None, Some(login)) if challenges.contains(&Challenge::Basic) => Some(basic(login)?),
            (None, _) => None,
        };
        // The same again would be refused again.
        let next = next.filter(|value| Some(value) != used);
        held.clone_from(&next);
        Ok(next)
    }

    /// Asks the token service that the host names for a token for this repository.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, RequestError> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(default)]
            token: Option<String>,
            #[serde(default)]
            access_token: Option<String>,
        }
        let named = || RequestError::TokenService { realm: shown(realm) };
        let url = Url::parse(realm).map_err(|_| named())?;
        // In plain HTTP anybody on the way would have the login of a registry that is
        // spoken to in HTTPS.
        let is_fit =
            url.scheme() == "https" || (url.scheme() == "http" && self.base.scheme() == "http");
        if !is_fit {
            return Err(named());
        }
        let origin = url.origin();
        if self.login.is_some()
            && !self.is_own(&url)
            && self.token_service.as_ref() != Some(&origin)
        {
            return Err(RequestError::OtherTokenService {
                origin: shown(&origin.ascii_serialization()),
            });
        }
        let scope = format!("repository:{}:pull", self.repository);
        let mut request = self.client.get(url)?.query(&[("scope", scope.as_str())]);
        if let Some(service) = service {
            request = request.query(&[("service", service)]);
        }
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, basic(login)?);
        }
        let response = request.send().await.map_err(|error| RequestError::of(&error))?;
        let bytes = read(self.checked(response).await?, MAX_TOKEN_BYTES).await?;
        let nonsense =
            || RequestError::Nonsense { problem: "its token service gives no token".to_owned() };
        let Token { token, access_token } =
            serde_json::from_slice(&bytes).map_err(|_| nonsense())?;
        let token =
            token.or(access_token).filter(|token| !token.is_empty()).ok_or_else(nonsense)?;
        let mut value = ascii(&format!("Bearer {token}"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// An answer that is one. Of an error, the text of another host than this is for the log alone:
    /// it is nobody's whom the user has named.
    async fn checked(&self, response: Response) -> Result<Response, RequestError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response.headers().get(RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        let is_own = self.is_own(response.url());
        let origin = response.url().origin().ascii_serialization();
        // The status says enough if the body breaks off.
        let body = read(response, MAX_ERROR_BYTES).await.unwrap_or_default();
        let (codes, message) = said(&body);
        if is_own {
            return Err(RequestError::Status { status, codes, message, retry_after });
        }
        tracing::info!(registry = %self.host, %origin, %status, said = message, "a host that it led to refuses");
        Err(RequestError::Status { status, codes, message: String::new(), retry_after })
    }
}

fn basic(login: &Login) -> Result<HeaderValue, RequestError> {
    let pair = format!("{}:{}", login.user, login.password);
    let mut value =
        ascii(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))?;
    value.set_sensitive(true);
    Ok(value)
}

fn ascii(text: &str) -> Result<HeaderValue, RequestError> {
    let nonsense =
        |_| RequestError::Nonsense { problem: "it sent what fits in no header".to_owned() };
    HeaderValue::from_str(text).map_err(nonsense)
}

/// The codes of an error, and what is said beside them.
fn said(body: &[u8]) -> (Vec<String>, String) {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<RegistryError>,
    }
    #[derive(Deserialize)]
    struct RegistryError {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(Envelope { errors }) = serde_json::from_slice(body) {
        let message = errors.iter().map(|error| format!("{}: {}", error.code, error.message));
        let message = shown(&message.collect::<Vec<_>>().join(", "));
        return (errors.into_iter().map(|error| error.code).collect(), message);
    }
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    // A page for browsers tells nothing that the status does not.
    let line = if line.starts_with('<') { "" } else { line };
    (Vec::new(), shown(line))
}

/// A stranger's text as it goes into messages: one line, not long.
pub(crate) fn shown(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(MAX_SAID).collect::<String>().trim().to_owned()
}

/// The body of an answer.
async fn read(mut response: Response, limit: u64) -> Result<Vec<u8>, RequestError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| RequestError::of(&error))? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(RequestError::TooLarge { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_one_short_line() {
        let (codes, message) =
            said(br#"{"errors":[{"code":"DENIED","message":"not\nyours","detail":{}}]}"#);
        assert_eq!((codes, message.as_str()), (vec!["DENIED".to_owned()], "DENIED: not yours"));
        assert_eq!(said(b"\n  overloaded \nmore").1, "overloaded");
        assert_eq!(said(b"<html><body>502</body></html>").1, "");
        assert_eq!(said(&[0xff; 1000]).1.chars().count(), MAX_SAID);
    }

    /// With a login, and a token service on loopback, where no client here goes.
    fn endpoint_of(host: &str, is_plain: bool) -> Endpoint {
        let login = Login { user: "site".to_owned(), password: "secret".to_owned() };
        let service = Url::parse("http://127.0.0.2:8001").unwrap().origin();
        let logins = (Some(login), Some(service));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = RegistryClient::unused();
        Endpoint::new(host.parse().unwrap(), "a/b".to_owned(), is_plain, client, logins).unwrap()
    }

    fn endpoint() -> Endpoint {
        endpoint_of("registry.example", false)
    }

    #[test]
    fn a_login_is_not_printed() {
        let printed = format!("{:?}", endpoint());
        assert!(
            printed.contains("https://registry.example/") && !printed.contains("secret"),
            "{printed}"
        );
    }

    #[tokio::test]
    async fn a_login_for_https_is_not_sent_in_the_clear() {
        for realm in ["http://registry.example/token", "ftp://registry.example/token", "token", ""]
        {
            let error = endpoint().token(realm, None).await.unwrap_err();
            assert_eq!(error, RequestError::TokenService { realm: realm.to_owned() }, "{realm}");
        }
    }

    #[tokio::test]
    async fn a_login_goes_to_no_token_service_that_it_is_not_for() {
        for (realm, origin) in [
            ("http://127.0.0.1:5001/token", "http://127.0.0.1:5001"),
            ("https://127.0.0.1:5000/token", "https://127.0.0.1:5000"),
            ("http://localhost:5000/token", "http://localhost:5000"),
            ("http://127.0.0.2:8002/token", "http://127.0.0.2:8002"),
            ("http://127.0.0.1:5000@other.example/token", "http://other.example"),
        ] {
            let error = endpoint_of("127.0.0.1:5000", true).token(realm, None).await.unwrap_err();
            assert_eq!(
                error,
                RequestError::OtherTokenService { origin: origin.to_owned() },
                "{realm}"
            );
        }
        // These two get it, as far as they are within reach.
        for realm in ["http://127.0.0.1:5000/token", "http://127.0.0.2:8001/token?x=1"] {
            let error = endpoint_of("127.0.0.1:5000", true).token(realm, None).await.unwrap_err();
            assert!(matches!(error, RequestError::OutOfReach { .. }), "{realm}: {error:?}");
        }
    }
}
