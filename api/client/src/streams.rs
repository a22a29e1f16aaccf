//! `/v1/workflows/{id}/streams`: WebSockets (RFC 6455) over the connections of the other requests,
//! with the same trust.

use api::stream::StreamRequest;
use reqwest::{Method, StatusCode, header};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::Role,
    },
};

use crate::{Client, ClientError, workflows::of_workflow};

/// A stream that is open.
pub type Line = stream_line::StreamSocket<reqwest::Upgraded>;

/// The running task that a stream is to lead into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamOf {
    /// Id of the workflow, or its name.
    pub workflow: String,
    /// Name of the job; may be left out if there is one.
    pub job: Option<String>,
    /// `FB_TASK_ID`; the first that runs without it.
    pub task: Option<u32>,
    /// Member of the task's attempt; the first without it.
    pub member: Option<u32>,
}

impl Client {
    /// Opens a stream to a running job.
    ///
    /// # Errors
    /// As every request; 404 and 409 if there is no such job, or it does not run;
    /// [`ClientError::Upgrade`].
    pub async fn open_stream(
        &self,
        of: &StreamOf,
        request: &StreamRequest,
    ) -> Result<Line, ClientError> {
        // Serialising the API's own types into memory does not fail.
        let mut query = vec![("request", serde_json::to_string(request).unwrap_or_default())];
        query.extend(of.job.clone().map(|job| ("stage", job)));
        query.extend(of.task.map(|task| ("task", task.to_string())));
        query.extend(of.member.map(|member| ("member", member.to_string())));
        let key = generate_key();
        let request = self
            .request(Method::GET, &of_workflow(&of.workflow, &["streams"])?)?
            .query(&query)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        let response = self.answer(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Upgrade);
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept
            .is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
        {
            return Err(ClientError::Upgrade);
        }
        let connection = response.upgrade().await.map_err(ClientError::Answer)?;
        let limits = Some(stream_line::limits());
        Ok(Line::new(WebSocketStream::from_raw_socket(connection, Role::Client, limits).await))
    }
}
