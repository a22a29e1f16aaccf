//! The writer of workflows: it starts them under keys, and stops some.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail};
use api::workflow::{StartWorkflow, WorkflowStatus, WorkflowSummary};
use client::{Client, ClientError};
use fastrand::Rng;
use tokio::{sync::watch, time::sleep};

use super::{OWNER, audit::Lines, is_unknown};

/// Ended workflows that are asked for: more than those of a round.
const LISTED: u32 = 1_000;

/// Between two of them: a campaign of hours shall not make millions.
const PAUSE: Duration = Duration::from_millis(10);

/// One of so many is not stopped: all that go on would be looked after for the whole campaign.
const STOPPED_OF: u8 = 8;

const STARTS: &str = "/v1/workflows";

/// A workflow that was acknowledged.
#[derive(Debug)]
struct Started {
    id: String,
    stop: Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    UnderWay,
    Acknowledged,
}

/// What was done in this round.
#[derive(Debug, Default)]
pub(super) struct Workflows {
    started: Vec<Started>,
    /// Number of a workflow whose start had no answer.
    under_way: Option<u64>,
    /// Number of the next one.
    next: u64,
    rng: Rng,
}

impl Workflows {
    pub(super) fn new(rng: Rng) -> Self {
        Self { rng, ..Self::default() }
    }

    /// Changes that were acknowledged in this round.
    pub(super) fn acknowledged(&self) -> u64 {
        let stopped = self.started.iter().filter(|one| one.stop == Stop::Acknowledged).count();
        (self.started.len() + stopped) as u64
    }

    /// Writes until there is no answer, or `death` says that the server is dead: under a key the
    /// client would try again for as long as a restart takes.
    ///
    /// # Errors
    /// If the server refuses a workflow.
    pub(super) async fn write(
        mut self,
        client: Client,
        mut death: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        loop {
            let number = self.next;
            self.next += 1;
            let answered = tokio::select! {
                biased;
                answered = start(&client, number) => answered,
                () = dead(&mut death) => {
                    self.under_way = Some(number);
                    return Ok(self);
                }
            };
            let id = match answered {
                Ok(summary) => summary.id.to_string(),
                Err(error) if is_unknown(&error) => {
                    self.under_way = Some(number);
                    return Ok(self);
                }
                Err(error) => bail!("starting workflow {number}: {error}"),
            };
            let stop = if self.rng.u8(..STOPPED_OF) == 0 {
                Stop::No
            } else {
                match client.stop_workflow(&id).await {
                    Ok(_) => Stop::Acknowledged,
                    // It is over already: its image cannot be had.
                    Err(error) if error.status() == Some(409) => Stop::No,
                    Err(error) if is_unknown(&error) => Stop::UnderWay,
                    Err(error) => bail!("stopping workflow {number}: {error}"),
                }
            };
            self.started.push(Started { id, stop });
            if stop == Stop::UnderWay {
                return Ok(self);
            }
            sleep(PAUSE).await;
        }
    }

    /// Holds what the server says now against all that. Whether what was under way was done, if
    /// something was.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) async fn settle(
        &mut self,
        client: &Client,
        lines: &mut Lines,
        diagnostics: &mut Vec<String>,
    ) -> anyhow::Result<Option<bool>> {
        let listed = client.workflows(LISTED).await.context("the workflows")?;
        let by_id: BTreeMap<String, &WorkflowSummary> =
            listed.iter().map(|one| (one.id.to_string(), one)).collect();
        let mut done = None;
        for Started { id, stop } in self.started.drain(..) {
            lines.must(("POST", STARTS.to_owned()));
            let stop_line = ("POST", format!("{STARTS}/{id}/stop"));
            let Some(summary) = by_id.get(&id) else {
                diagnostics.push(format!("workflow {id} was acknowledged, and is not there"));
                continue;
            };
            let status = summary.status();
            let is_stopped = matches!(status, WorkflowStatus::Stopping | WorkflowStatus::Canceled);
            match stop {
                Stop::No => {}
                Stop::Acknowledged => {
                    lines.must(stop_line);
                    // It may have ended by itself between the two.
                    if !is_stopped && !summary.state.is_ended() {
                        diagnostics.push(format!("workflow {id} was stopped, and is {status:?}"));
                    }
                }
                Stop::UnderWay => {
                    done = Some(is_stopped);
                    if is_stopped { lines.must(stop_line) } else { lines.may(stop_line) }
                }
            }
        }
        if let Some(number) = self.under_way {
            let is_there = count(&listed, number) == 1;
            done = Some(is_there);
            if is_there {
                lines.must(("POST", STARTS.to_owned()));
            }
        }
        Ok(done)
    }

    /// Sends the start that had no answer again, as a user does: there is one workflow of it then.
    ///
    /// # Errors
    /// If the server does not answer, or refuses it.
    pub(super) async fn start_again(
        &mut self,
        client: &Client,
        diagnostics: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let Some(number) = self.under_way.take() else { return Ok(()) };
        start(client, number).await.with_context(|| format!("starting workflow {number} again"))?;
        let there = count(&client.workflows(LISTED).await.context("the workflows")?, number);
        if there != 1 {
            diagnostics.push(format!(
                "workflow {number} was started again under its key, and is there {there} times"
            ));
        }
        Ok(())
    }
}

/// Returns when the server is dead, or nobody would say so any more.
async fn dead(death: &mut watch::Receiver<bool>) {
    let _ = death.wait_for(|is_dead| *is_dead).await;
}

/// A workflow whose image cannot be had: it waits, and fails by itself, and needs no node.
async fn start(client: &Client, number: u64) -> Result<WorkflowSummary, ClientError> {
    let document = format!(
        "version: v1\nfiles: {{w: '{number}'}}\n\
         jobs: {{a: {{image: 'docker://127.0.0.1:1/none', command: [a]}}}}\n"
    );
    let start = StartWorkflow { name: Some(name(number)), document, user: Some(OWNER.to_owned()) };
    client.start_workflow_once(&start, &format!("kills-{number}")).await
}

fn name(number: u64) -> String {
    format!("w{number}")
}

fn count(listed: &[WorkflowSummary], number: u64) -> usize {
    let name = name(number);
    listed.iter().filter(|one| one.name == name).count()
}
