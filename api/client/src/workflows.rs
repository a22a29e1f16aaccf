//! `/v1/workflows`. A workflow is named by its id, or by its name: the newest of
//! that name is meant.

use api::{
    log::{
        FROM_HEADER, LogStatus,
        times::{KEPT, SINCE_HEADER, TIMES_HEADER},
    },
    workflow::{
        Attempt, CheckDocument, Checked, StartWorkflow, TaskUsage, Waiting, Workflow,
        WorkflowEvent, WorkflowSummary,
    },
};
use reqwest::Method;

use crate::{
    Client, ClientError, DEADLINE, Events, StreamEnd, pages::PAGE_ROWS, path::path_of,
    retry::IDEMPOTENCY_KEY,
};

/// Which workflows, in which order: as the query of `GET /v1/workflows` has it, whose words the
/// server checks. The default: all, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkflowsOf {
    /// Only those with one of these, joined by commas: `running,paused`.
    pub state: Option<String>,
    /// Only those of this user.
    pub user: Option<String>,
    /// Only those with such a name: a part of it, or a pattern with `*` and `?`.
    pub name: Option<String>,
    /// Only those handed in then or later: `2026-11-30T12:00:00Z`, `2h` ago.
    pub since: Option<String>,
    /// Only those handed in then or before.
    pub until: Option<String>,
    /// `created`, `name`, `state` or `user`.
    pub sort: Option<String>,
    /// The other way round.
    pub reverse: bool,
    /// At most so many that are over; all of them without it.
    pub limit: Option<u32>,
}

impl WorkflowsOf {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let texts = [
            ("state", &self.state),
            ("user", &self.user),
            ("name", &self.name),
            ("since", &self.since),
            ("until", &self.until),
            ("sort", &self.sort),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?)));
        texts.chain(self.reverse.then_some(("reverse", "true"))).collect()
    }
}

/// Parameters of `GET /v1/workflows/{id}/log`: the attempt whose log is wanted, and which part of
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOf {
    /// Name of the job; may be left out if there is one.
    pub job: Option<String>,
    /// `FB_TASK_ID`; the first without it.
    pub task: Option<u32>,
    /// The last without it.
    pub attempt: Option<u32>,
    /// Member of the attempt; the first without it.
    pub member: Option<u32>,
    /// Bytes to leave out at the beginning.
    pub offset: u64,
    /// Only the last lines, so many, instead of `offset`: then [`Content::log_from`] is where the
    /// answer begins.
    pub tail: Option<u64>,
    /// Only what was written then or later, instead of `offset`: a time (RFC 3339, or a
    /// date), or how long ago by the server's clock, `10m`. [`Content::log_since`] is what
    /// the server made of it.
    pub since: Option<String>,
    /// Go on until the attempt is over.
    pub follow: bool,
}

/// What became of [`LogOf::since`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSince {
    /// The time, RFC 3339: to be asked for again, it is the same.
    pub time: String,
    /// When the log was written is known. Else the answer has it from the beginning on.
    pub has_times: bool,
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

    /// Of a log of which the last lines were asked for, or what was written since a time:
    /// the offset of the first byte of the answer. `None` from a server of before, which
    /// sends the whole log.
    #[must_use]
    pub fn log_from(&self) -> Option<u64> {
        self.0.headers().get(FROM_HEADER)?.to_str().ok()?.parse().ok()
    }

    /// Of a log that was asked for since a time: what became of that. `None` from a server of
    /// before, which sends all that else was asked for.
    #[must_use]
    pub fn log_since(&self) -> Option<LogSince> {
        let header = |name: &'static str| self.0.headers().get(name)?.to_str().ok();
        let time = header(SINCE_HEADER)?.to_owned();
        Some(LogSince { time, has_times: header(TIMES_HEADER) == Some(KEPT) })
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

    /// A list of workflows: those that are not over, all of them, and then those that are. A server
    /// of before ignores all but `limit`; its rows have no [`WorkflowSummary::status`].
    ///
    /// # Errors
    /// As every request; 400 names what the server does not understand, and what it would.
    pub async fn list_workflows(
        &self,
        of: &WorkflowsOf,
    ) -> Result<Vec<WorkflowSummary>, ClientError> {
        let limit = of.limit.unwrap_or(PAGE_ROWS).to_string();
        let first = self.request(Method::GET, "/v1/workflows")?.query(&of.query());
        let (mut rows, mut next): (Vec<WorkflowSummary>, _) =
            self.get_page(first.query(&[("limit", limit)])).await?;
        let not_over = rows.iter().filter(|one| !one.state.is_ended()).count();
        let most = of.limit.map_or(usize::MAX, |limit| not_over.saturating_add(limit as usize));
        while let Some(query) = next.take().filter(|_| rows.len() < most) {
            let page = self.request(Method::GET, &format!("/v1/workflows{query}"))?;
            let (more, after): (Vec<WorkflowSummary>, _) = self.get_page(page).await?;
            rows.extend(more);
            next = after;
        }
        rows.truncate(most);
        Ok(rows)
    }

    /// Hands a workflow in; it is on the server's disk when this returns.
    ///
    /// # Errors
    /// As every request; all mistakes of the document with line and column.
    pub async fn start_workflow(
        &self,
        start: &StartWorkflow,
    ) -> Result<WorkflowSummary, ClientError> {
        self.send_json(Method::POST, "/v1/workflows", start).await
    }

    /// Hands a workflow in under a key: sent again within 24 hours, after an answer that never
    /// came, it starts nothing and is answered with the same workflow. Where the connection breaks
    /// it is sent again here, a few times.
    ///
    /// # Errors
    /// As [`Client::start_workflow`]; 409 if the key was used for another request, 410 if the
    /// workflow is no longer kept.
    pub async fn start_workflow_once(
        &self,
        start: &StartWorkflow,
        key: &str,
    ) -> Result<WorkflowSummary, ClientError> {
        let request = || -> Result<reqwest::RequestBuilder, ClientError> {
            let request = self.request(Method::POST, "/v1/workflows")?.header(IDEMPOTENCY_KEY, key);
            Ok(request.json(start).timeout(DEADLINE))
        };
        if let Ok(started) = self.answer(request()?).await?.json().await {
            return Ok(started);
        }
        // It may have broken off in the middle; asked again, the server says the same.
        self.answer(request()?).await?.json().await.map_err(ClientError::Answer)
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
        let response =
            self.answer(request.json(&CheckDocument { document }).timeout(DEADLINE)).await?;
        response.text().await.map_err(ClientError::Answer)
    }

    /// A workflow with its stages.
    ///
    /// # Errors
    /// As every request.
    pub async fn workflow(&self, id: &str) -> Result<Workflow, ClientError> {
        self.get(&of_workflow(id, &[])?, &[]).await
    }

    /// The document of a workflow as it was handed in.
    ///
    /// # Errors
    /// As every request.
    pub async fn workflow_document(&self, id: &str) -> Result<String, ClientError> {
        let request =
            self.request(Method::GET, &of_workflow(id, &["document"])?)?.timeout(DEADLINE);
        self.answer(request).await?.text().await.map_err(ClientError::Answer)
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

    /// Deletes a workflow that is over, with its logs and files.
    ///
    /// # Errors
    /// As every request; 409 if it is not over, or its logs are still coming.
    pub async fn delete_workflow(&self, id: &str) -> Result<(), ClientError> {
        self.send_empty(Method::DELETE, &of_workflow(id, &[])?).await
    }

    /// Pauses a workflow, or lets it go on.
    ///
    /// # Errors
    /// As every request; 409 if it is so already, or over.
    pub async fn pause_workflow(
        &self,
        id: &str,
        paused: bool,
    ) -> Result<WorkflowSummary, ClientError> {
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

    /// Why a job of a workflow does not begin, and what it waits for doesn't. A server of before
    /// tells it of all jobs.
    ///
    /// # Errors
    /// As every request; 404 if the workflow has no such job.
    pub async fn why_job(&self, id: &str, job: &str) -> Result<Vec<Waiting>, ClientError> {
        self.get(&of_workflow(id, &["why"])?, &[("stage", job.to_owned())]).await
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

    /// Attempts of tasks by stage, task and attempt; of one stage, or of all; at most `limit`, in
    /// as many pages as the server makes of them.
    ///
    /// # Errors
    /// As every request.
    pub async fn attempts(
        &self,
        id: &str,
        stage: Option<u32>,
        limit: u32,
    ) -> Result<Vec<Attempt>, ClientError> {
        let of_stage = stage.map(|stage| format!("&stage={stage}")).unwrap_or_default();
        self.get_first_of(&of_workflow(id, &["attempts"])?, &of_stage, limit).await
    }

    /// What an attempt of a task wrote. Whether that is all of it, [`Content::log_status`] says; if
    /// it says `open` of a log that is followed, ask again from where it ended.
    ///
    /// # Errors
    /// As every request; 404 if it has not run.
    pub async fn workflow_log(&self, id: &str, of: &LogOf) -> Result<Content, ClientError> {
        let mut query = vec![("offset", of.offset.to_string()), ("follow", of.follow.to_string())];
        query.extend(of.tail.map(|lines| ("tail", lines.to_string())));
        query.extend(of.since.clone().map(|time| ("since", time)));
        query.extend(of.job.clone().map(|job| ("stage", job)));
        query.extend(of.task.map(|task| ("task", task.to_string())));
        query.extend(of.attempt.map(|attempt| ("attempt", attempt.to_string())));
        query.extend(of.member.map(|member| ("member", member.to_string())));
        let request = self.request(Method::GET, &of_workflow(id, &["log"])?)?.query(&query);
        self.answer(request).await.map(Content)
    }

    /// A file that the stage of number `stage` took out of a volume for the client.
    ///
    /// # Errors
    /// As every request; 404 if it is not there yet.
    pub async fn workflow_file(&self, id: &str, stage: u32) -> Result<Content, ClientError> {
        let request =
            self.request(Method::GET, &of_workflow(id, &["files", &stage.to_string()])?)?;
        self.answer(request).await.map(Content)
    }
}

/// The path of a workflow, by its id or its name, or of something of it.
pub(crate) fn of_workflow(id: &str, rest: &[&str]) -> Result<String, ClientError> {
    path_of(["workflows", id].into_iter().chain(rest.iter().copied()))
}
