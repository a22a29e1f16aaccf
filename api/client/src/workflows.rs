//! `/v1/workflows`. A workflow is named by its id, or by its name: the newest of that name is meant.

use api::{
    log::LogStatus,
    workflow::{
        Attempt, CheckDocument, Checked, StartWorkflow, TaskUsage, Waiting, Workflow, WorkflowEvent,
        WorkflowSummary,
    },
};
use reqwest::Method;

use crate::{Client, ClientError, DEADLINE, Events, StreamEnd, path::path_of};

/// Which log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOf {
    /// Name of the job; may be left out if there is one.
    pub job: Option<String>,
    /// `FB_TASK_ID`; the first without it.
    pub task: Option<u32>,
    /// The last without it.
    pub attempt: Option<u32>,
    /// Bytes to leave out at the beginning.
    pub offset: u64,
    /// Go on until the attempt is over.
    pub follow: bool,
}

/// Bytes as they come.
#[derive(Debug)]
pub struct Content(reqwest::Response);

impl Content {
    /// Length, bytes, where the server told it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.0.content_length()
    }

    /// Of a log: what the server said of it when its answer began. `None` from a server of before,
    /// which says nothing.
    #[must_use]
    pub fn log_status(&self) -> Option<LogStatus> {
        let headers = self.0.headers();
        LogStatus::from_headers(|name| headers.get(name).and_then(|value| value.to_str().ok()))
    }

    /// The next bytes.
    ///
    /// # Errors
    /// How they ended. [`StreamEnd::Closed`]: as many came as the server announced, or all that it
    /// wanted to send where it announced no number.
    pub async fn next(&mut self) -> Result<Vec<u8>, StreamEnd> {
        match self.0.chunk().await {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(StreamEnd::Closed),
            Err(_) => Err(StreamEnd::Broken),
        }
    }
}

impl Client {
    /// Workflows, newest first: all that are not over and at most `limit` that are.
    ///
    /// # Errors
    /// As every request.
    pub async fn workflows(&self, limit: u32) -> Result<Vec<WorkflowSummary>, ClientError> {
        self.get("/v1/workflows", &[("limit", limit.to_string())]).await
    }

    /// Hands a workflow in; it is on the server's disk when this returns.
    ///
    /// # Errors
    /// As every request; all mistakes of the document with line and column.
    pub async fn start_workflow(&self, start: &StartWorkflow) -> Result<WorkflowSummary, ClientError> {
        self.send_json(Method::POST, "/v1/workflows", start).await
    }

    /// Hands a workflow in under a key: sent again within 24 hours, after an answer that never came,
    /// it starts nothing and is answered with the same workflow.
    ///
    /// # Errors
    /// As [`Client::start_workflow`]; 409 if the key was used for another request, 410 if the
    /// workflow is no longer kept.
    pub async fn start_workflow_once(
        &self,
        start: &StartWorkflow,
        key: &str,
    ) -> Result<WorkflowSummary, ClientError> {
        let request = self.request(Method::POST, "/v1/workflows")?.header("idempotency-key", key);
        let answer = self.answer(request.json(start).timeout(DEADLINE)).await?;
        answer.json().await.map_err(ClientError::Answer)
    }

    /// Checks a document and starts nothing.
    ///
    /// # Errors
    /// As every request; the mistakes of the document are no error.
    pub async fn validate_workflow(&self, document: String) -> Result<Checked, ClientError> {
        self.send_json(Method::POST, "/v1/workflows/validate", &CheckDocument { document }).await
    }

    /// The normalised form of a document, YAML.
    ///
    /// # Errors
    /// As every request; all mistakes of the document with line and column.
    pub async fn render_workflow(&self, document: String) -> Result<String, ClientError> {
        let request = self.request(Method::POST, "/v1/workflows/render")?;
        let response = self.answer(request.json(&CheckDocument { document }).timeout(DEADLINE)).await?;
        response.text().await.map_err(ClientError::Answer)
    }

    /// A workflow with its stages.
    ///
    /// # Errors
    /// As every request.
    pub async fn workflow(&self, id: &str) -> Result<Workflow, ClientError> {
        self.get(&of_workflow(id, &[])?, &[]).await
    }

    /// A workflow now and whenever it has changed, until it is over.
    ///
    /// # Errors
    /// As every request.
    pub async fn watch_workflow(&self, id: &str) -> Result<Events<Workflow>, ClientError> {
        self.events(&of_workflow(id, &["watch"])?).await
    }

    /// Stops a workflow.
    ///
    /// # Errors
    /// As every request; 409 if it is over.
    pub async fn stop_workflow(&self, id: &str) -> Result<WorkflowSummary, ClientError> {
        let request = self.request(Method::POST, &of_workflow(id, &["stop"])?)?.timeout(DEADLINE);
        self.answer(request).await?.json().await.map_err(ClientError::Answer)
    }

    /// Pauses a workflow, or lets it go on.
    ///
    /// # Errors
    /// As every request; 409 if it is so already, or over.
    pub async fn pause_workflow(&self, id: &str, paused: bool) -> Result<WorkflowSummary, ClientError> {
        let verb = if paused { "pause" } else { "resume" };
        let request = self.request(Method::POST, &of_workflow(id, &[verb])?)?.timeout(DEADLINE);
        self.answer(request).await?.json().await.map_err(ClientError::Answer)
    }

    /// What the running tasks of a workflow use now.
    ///
    /// # Errors
    /// As every request.
    pub async fn workflow_usage(&self, id: &str) -> Result<Vec<TaskUsage>, ClientError> {
        self.get(&of_workflow(id, &["usage"])?, &[]).await
    }

    /// Why a workflow goes no faster.
    ///
    /// # Errors
    /// As every request.
    pub async fn why_workflow(&self, id: &str) -> Result<Vec<Waiting>, ClientError> {
        self.get(&of_workflow(id, &["why"])?, &[]).await
    }

    /// What happened after event number `after`, oldest first, at most `limit` events.
    ///
    /// # Errors
    /// As every request.
    pub async fn workflow_events(
        &self,
        id: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<WorkflowEvent>, ClientError> {
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        self.get(&of_workflow(id, &["events"])?, &query).await
    }

    /// Attempts of tasks by stage, task and attempt; of one stage, or of all.
    ///
    /// # Errors
    /// As every request.
    pub async fn attempts(
        &self,
        id: &str,
        stage: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Attempt>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        query.extend(stage.map(|stage| ("stage", stage.to_string())));
        self.get(&of_workflow(id, &["attempts"])?, &query).await
    }

    /// What an attempt of a task wrote. Whether that is all of it, [`Content::log_status`] says; if
    /// it says `open` of a log that is followed, ask again from where it ended.
    ///
    /// # Errors
    /// As every request; 404 if it has not run.
    pub async fn workflow_log(&self, id: &str, of: &LogOf) -> Result<Content, ClientError> {
        let mut query = vec![("offset", of.offset.to_string()), ("follow", of.follow.to_string())];
        query.extend(of.job.clone().map(|job| ("stage", job)));
        query.extend(of.task.map(|task| ("task", task.to_string())));
        query.extend(of.attempt.map(|attempt| ("attempt", attempt.to_string())));
        let request = self.request(Method::GET, &of_workflow(id, &["log"])?)?.query(&query);
        self.answer(request).await.map(Content)
    }

    /// A file that the stage of number `stage` took out of a volume for the client.
    ///
    /// # Errors
    /// As every request; 404 if it is not there yet.
    pub async fn workflow_file(&self, id: &str, stage: u32) -> Result<Content, ClientError> {
        let request = self.request(Method::GET, &of_workflow(id, &["files", &stage.to_string()])?)?;
        self.answer(request).await.map(Content)
    }
}

/// The path of a workflow, by its id or its name, or of something of it.
pub(crate) fn of_workflow(id: &str, rest: &[&str]) -> Result<String, ClientError> {
    path_of(["workflows", id].into_iter().chain(rest.iter().copied()))
}
