//! Typed client of Bedplate's REST API, used by the command line and by tests.
//!
//! One method per route. Trusts the CA of the [`Context`] and nothing else, or those of the system
//! if it has none; sends its bearer token, and turns every refusal of the server into
//! [`ClientError::Refused`] with the server's own words. Where the server is busy (503 with
//! `Retry-After`), what may be sent twice is sent again a few times; where too many requests were
//! sent (429 with `Retry-After`), all are.

mod audit;
mod error;
mod events;
mod hardware;
mod overlays;
mod pages;
mod path;
mod retry;
mod server;
mod streams;
mod tokens;
mod trust;
mod users;
mod workflows;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use api::{
    access::Whoami,
    ids::{ImageName, NodeName, ProfileName},
    image::{Image, ImportImage, Operation},
    machine::{AddNodes, Applied, Apply, Explained, MachineSpec, Node, PatchNodes, Profile},
    status::{DrainNode, NodeEvent, NodeUpdate, RevokeNode, TrustNode},
};
use reqwest::{Method, RequestBuilder, header};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use crate::path::path_of;
pub use crate::{
    audit::AuditFilter,
    error::ClientError,
    events::{Events, StreamEnd, WatchMessage},
    streams::{Line, StreamOf},
    trust::{Fingerprint, NoFingerprint, PresentedCertificate, PresentedError, presented},
    workflows::{Content, LogOf, LogSince, WorkflowsOf},
};

/// How long a request may take. A change of thousands of nodes takes seconds; streams
/// have no deadline.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a connection may take to be made.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Where a server is and how to be let in. `admin.yaml` of the server's state directory is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Context {
    /// URL of the REST API: `https://10.1.0.1:9470`.
    pub server: Url,
    /// The server's CA certificate, PEM. `None`: the server's certificate is good for the system's
    /// CAs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Bearer token.
    pub token: String,
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: String,
    notice: Option<Arc<ExpiryNotice>>,
    retry_notice: Option<Arc<RetryNotice>>,
}

/// Whom to tell that the token ends soon, once.
#[derive(Debug)]
struct ExpiryNotice {
    told: AtomicBool,
    tell: fn(&str),
}

/// Whom to tell that a request is sent again, once.
#[derive(Debug)]
struct RetryNotice {
    told: AtomicBool,
    tell: fn(&ClientError),
}

impl Client {
    /// A client; no request is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Context`] if the CA is no PEM certificate.
    pub fn new(context: &Context) -> Result<Self, ClientError> {
        // Already installed is as good as installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder();
        if let Some(ca) = &context.ca {
            let ca = reqwest::Certificate::from_pem(ca.as_bytes()).map_err(ClientError::Context)?;
            http = http.tls_certs_only([ca]);
        }
        let http = http
            .connect_timeout(CONNECT_DEADLINE)
            .pool_idle_timeout(api::http::REUSE_LIMIT)
            .tcp_nodelay(true)
            .build()
            .map_err(ClientError::Context)?;
        let (server, token) = (context.server.clone(), context.token.clone());
        Ok(Self { http, server, token, notice: None, retry_notice: None })
    }

    /// Tells when the token ends, RFC 3339, if the server says with an answer that this is soon:
    /// once, for this client and its clones.
    #[must_use]
    pub fn with_expiry_notice(self, tell: fn(&str)) -> Self {
        Self { notice: Some(Arc::new(ExpiryNotice { told: AtomicBool::new(false), tell })), ..self }
    }

    /// Tells why a request is sent again, where that takes longer than two seconds or too many were
    /// sent: once, for this client and its clones.
    #[must_use]
    pub fn with_retry_notice(self, tell: fn(&ClientError)) -> Self {
        let notice = RetryNotice { told: AtomicBool::new(false), tell };
        Self { retry_notice: Some(Arc::new(notice)), ..self }
    }

    /// Who the token belongs to.
    ///
    /// # Errors
    /// As every request: [`ClientError::Unreachable`], [`ClientError::Refused`],
    /// [`ClientError::Answer`].
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.get("/v1/whoami", &[]).await
    }

    /// The server's version.
    ///
    /// # Errors
    /// As every request.
    pub async fn version(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/version", &[]).await
    }

    /// Nodes; all of them without a host list. Without one they are fetched in pages: a
    /// cluster has thousands.
    ///
    /// # Errors
    /// As every request; 404 if a name of the list is not registered.
    pub async fn nodes(&self, names: Option<&str>) -> Result<Vec<Node>, ClientError> {
        match names {
            Some(names) => self.get("/v1/nodes", &[("names", names.to_owned())]).await,
            None => self.get_pages("/v1/nodes").await,
        }
    }

    /// One node.
    ///
    /// # Errors
    /// As every request.
    pub async fn node(&self, name: &NodeName) -> Result<Node, ClientError> {
        self.get(&path_of(["nodes", name.as_str()])?, &[]).await
    }

    /// Adds nodes, all or none.
    ///
    /// # Errors
    /// As every request; every mistake of the specification at once.
    pub async fn add_nodes(&self, add: &AddNodes) -> Result<Vec<Node>, ClientError> {
        self.send_json(Method::POST, "/v1/nodes", add).await
    }

    /// Changes nodes, all or none.
    ///
    /// # Errors
    /// As every request.
    pub async fn patch_nodes(&self, patch: &PatchNodes) -> Result<Vec<Node>, ClientError> {
        self.send_json(Method::PATCH, "/v1/nodes", patch).await
    }

    /// Deletes the nodes of a host list: all, or none.
    ///
    /// # Errors
    /// As every request.
    pub async fn delete_nodes(&self, names: &str) -> Result<(), ClientError> {
        let request =
            self.request(Method::DELETE, "/v1/nodes")?.query(&[("names", names)]).timeout(DEADLINE);
        self.answer(request).await.map(drop)
    }

    /// Deletes a node.
    ///
    /// # Errors
    /// As every request.
    pub async fn delete_node(&self, name: &NodeName) -> Result<(), ClientError> {
        self.send_empty(Method::DELETE, &path_of(["nodes", name.as_str()])?).await
    }

    /// The node with its profiles applied, and the origin of each value.
    ///
    /// # Errors
    /// As every request.
    pub async fn explain(&self, name: &NodeName) -> Result<Explained, ClientError> {
        self.get(&path_of(["nodes", name.as_str(), "explain"])?, &[]).await
    }

    /// The last events of a node, newest first.
    ///
    /// # Errors
    /// As every request.
    pub async fn history(
        &self,
        name: &NodeName,
        limit: u32,
    ) -> Result<Vec<NodeEvent>, ClientError> {
        self.get_first(&path_of(["nodes", name.as_str(), "history"])?, limit).await
    }

    /// Lets the agent of a node become the server's substrate program.
    ///
    /// # Errors
    /// As every request; 409 if the agent is not connected.
    pub async fn upgrade_agent(&self, name: &NodeName) -> Result<(), ClientError> {
        self.send_empty(Method::POST, &path_of(["nodes", name.as_str(), "upgrade"])?).await
    }

    /// Reboots a node whose agent is connected.
    ///
    /// # Errors
    /// As every request; 409 if it is not connected.
    pub async fn reboot(&self, name: &NodeName) -> Result<(), ClientError> {
        self.send_empty(Method::POST, &path_of(["nodes", name.as_str(), "reboot"])?).await
    }

    /// Keeps new work away from a node.
    ///
    /// # Errors
    /// As every request.
    pub async fn drain(&self, name: &NodeName, drain: &DrainNode) -> Result<(), ClientError> {
        let path = path_of(["nodes", name.as_str(), "drain"])?;
        let request = self.request(Method::POST, &path)?.json(drain).timeout(DEADLINE);
        self.answer(request).await.map(drop)
    }

    /// Lets new work go to a node again.
    ///
    /// # Errors
    /// As every request.
    pub async fn undrain(&self, name: &NodeName) -> Result<(), ClientError> {
        self.send_empty(Method::DELETE, &path_of(["nodes", name.as_str(), "drain"])?).await
    }

    /// Allows one boot token to be issued to a node.
    ///
    /// # Errors
    /// As every request.
    pub async fn arm(&self, name: &NodeName) -> Result<(), ClientError> {
        self.send_empty(Method::POST, &path_of(["nodes", name.as_str(), "arm"])?).await
    }

    /// Says which enrolment of a node is the node: the certificates of its others are dead.
    ///
    /// # Errors
    /// As every request; 409 if there is no such enrolment, or it was revoked.
    pub async fn trust(&self, name: &NodeName, epoch: u64) -> Result<(), ClientError> {
        let path = path_of(["nodes", name.as_str(), "trust"])?;
        let request =
            self.request(Method::POST, &path)?.json(&TrustNode { epoch }).timeout(DEADLINE);
        self.answer(request).await.map(drop)
    }

    /// Revokes the certificates of a node, or those up to an enrolment.
    ///
    /// # Errors
    /// As every request; 409 if there is no such enrolment.
    pub async fn revoke(&self, name: &NodeName, epoch: Option<u64>) -> Result<(), ClientError> {
        let path = path_of(["nodes", name.as_str(), "revoke"])?;
        let request =
            self.request(Method::POST, &path)?.json(&RevokeNode { epoch }).timeout(DEADLINE);
        self.answer(request).await.map(drop)
    }

    /// The status of every node, then of each that changes.
    ///
    /// # Errors
    /// As every request.
    pub async fn watch_nodes(&self) -> Result<Events<NodeUpdate>, ClientError> {
        self.events("/v1/nodes/watch").await
    }

    /// Profiles.
    ///
    /// # Errors
    /// As every request.
    pub async fn profiles(&self) -> Result<Vec<Profile>, ClientError> {
        self.get("/v1/profiles", &[]).await
    }

    /// One profile.
    ///
    /// # Errors
    /// As every request.
    pub async fn profile(&self, name: &ProfileName) -> Result<Profile, ClientError> {
        self.get(&path_of(["profiles", name.as_str()])?, &[]).await
    }

    /// Makes or replaces a profile.
    ///
    /// # Errors
    /// As every request.
    pub async fn put_profile(
        &self,
        name: &ProfileName,
        spec: &MachineSpec,
    ) -> Result<Profile, ClientError> {
        self.send_json(Method::PUT, &path_of(["profiles", name.as_str()])?, spec).await
    }

    /// Changes a profile by a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// As every request.
    pub async fn patch_profile(
        &self,
        name: &ProfileName,
        patch: &serde_json::Value,
    ) -> Result<Profile, ClientError> {
        self.send_json(Method::PATCH, &path_of(["profiles", name.as_str()])?, patch).await
    }

    /// Deletes a profile.
    ///
    /// # Errors
    /// As every request; 409 if something lists it.
    pub async fn delete_profile(&self, name: &ProfileName) -> Result<(), ClientError> {
        self.send_empty(Method::DELETE, &path_of(["profiles", name.as_str()])?).await
    }

    /// Makes nodes and profiles be as a document says.
    ///
    /// # Errors
    /// As every request; every mistake of the document with line and column.
    pub async fn apply(&self, apply: &Apply) -> Result<Applied, ClientError> {
        self.send_json(Method::POST, "/v1/apply", apply).await
    }

    /// All nodes and profiles as a document for [`Client::apply`].
    ///
    /// # Errors
    /// As every request.
    pub async fn export(&self) -> Result<String, ClientError> {
        let response =
            self.answer(self.request(Method::GET, "/v1/export")?.timeout(DEADLINE)).await?;
        response.text().await.map_err(ClientError::Answer)
    }

    /// Images.
    ///
    /// # Errors
    /// As every request.
    pub async fn images(&self) -> Result<Vec<Image>, ClientError> {
        self.get("/v1/images", &[]).await
    }

    /// One image.
    ///
    /// # Errors
    /// As every request.
    pub async fn image(&self, name: &ImageName) -> Result<Image, ClientError> {
        self.get(&path_of(["images", name.as_str()])?, &[]).await
    }

    /// Starts an import.
    ///
    /// # Errors
    /// As every request.
    pub async fn import(&self, import: &ImportImage) -> Result<Operation, ClientError> {
        self.send_json(Method::POST, "/v1/images", import).await
    }

    /// Deletes an image, or one version of it.
    ///
    /// # Errors
    /// As every request; 409 if a node uses it.
    pub async fn delete_image(
        &self,
        name: &ImageName,
        version: Option<u32>,
    ) -> Result<(), ClientError> {
        let path = match version {
            Some(version) => path_of(["images", name.as_str(), "versions", &version.to_string()])?,
            None => path_of(["images", name.as_str()])?,
        };
        self.send_empty(Method::DELETE, &path).await
    }

    /// Long operations, newest first.
    ///
    /// # Errors
    /// As every request.
    pub async fn operations(&self) -> Result<Vec<Operation>, ClientError> {
        self.get("/v1/operations", &[]).await
    }

    /// One long operation.
    ///
    /// # Errors
    /// As every request.
    pub async fn operation(&self, id: u64) -> Result<Operation, ClientError> {
        self.get(&path_of(["operations", &id.to_string()])?, &[]).await
    }

    /// Cancels a long operation; how it ended.
    ///
    /// # Errors
    /// As every request; 409 if it is over.
    pub async fn cancel_operation(&self, id: u64) -> Result<Operation, ClientError> {
        let path = path_of(["operations", &id.to_string(), "cancel"])?;
        let request = self.request(Method::POST, &path)?.timeout(DEADLINE);
        self.answer(request).await?.json().await.map_err(ClientError::Answer)
    }

    /// An operation as it goes on, until it ends.
    ///
    /// # Errors
    /// As every request.
    pub async fn watch_operation(&self, id: u64) -> Result<Events<Operation>, ClientError> {
        self.events(&path_of(["operations", &id.to_string(), "events"])?).await
    }

    /// The OpenAPI document.
    ///
    /// # Errors
    /// As every request.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/openapi.json", &[]).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let request = self.request(Method::GET, path)?.query(query).timeout(DEADLINE);
        self.answer(request).await?.json().await.map_err(ClientError::Answer)
    }

    async fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.request(method, path)?.json(body).timeout(DEADLINE);
        self.answer(request).await?.json().await.map_err(ClientError::Answer)
    }

    async fn send_empty(&self, method: Method, path: &str) -> Result<(), ClientError> {
        let request = self.request(method, path)?.timeout(DEADLINE);
        self.answer(request).await.map(drop)
    }

    async fn events<T: DeserializeOwned>(&self, path: &str) -> Result<Events<T>, ClientError> {
        let request = self.request(Method::GET, path)?.header(header::ACCEPT, "text/event-stream");
        Ok(Events::new(self.answer(request).await?))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let url = self
            .server
            .join(path)
            .map_err(|source| ClientError::Url { path: path.to_owned(), source })?;
        Ok(self.http.request(method, url).bearer_auth(&self.token))
    }
}

impl Context {
    /// Reads a context as the server or `bedplate context` wrote it (JSON, which is YAML too).
    ///
    /// # Errors
    /// [`ClientError::ContextFile`] names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, ClientError> {
        let failed = |cause: String| ClientError::ContextFile { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
    }
}
