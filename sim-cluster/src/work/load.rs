//! The workflows: arrays of pretended jobs, of four kinds each.
//!
//! | job | share | does |
//! |---|---|---|
//! | `work` | the rest | ends with 0 after a while |
//! | `flaky` | a fifth | ends with 1 now and then, and is tried again |
//! | `talk` | a fiftieth | writes a log |
//! | `last` | a tenth | as `work`, after all of it |

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use api::{run::WorkflowId, workflow::StartWorkflow};
use client::{Client, ClientError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::{Duration, sleep};

use crate::registry::IMAGE;

/// Tasks of one workflow, at most.
const MAX_TASKS: u32 = 500;

/// The job whose tasks write logs.
pub(super) const TALK: &str = "talk";

/// Lines that a task of it writes.
pub(super) const LINES: u32 = 40;

/// Attempts beside the first: more than chance and faults can use up.
const RETRIES: u32 = 30;

/// Submissions at once.
const SUBMITTING: usize = 8;

/// How often a server that is away is asked again, and after what pause: it is back
/// in some seconds.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// A workflow that was handed in.
#[derive(Debug, Clone)]
pub(super) struct Submitted {
    pub(super) id: WorkflowId,
    /// Tasks of all its jobs.
    pub(super) tasks: u32,
}

/// Hands so many tasks in, in as many workflows as it takes.
///
/// # Errors
/// The server's refusal, or that it stays away.
pub(super) async fn submit(client: Client, tasks: u32) -> anyhow::Result<Vec<Submitted>> {
    let count = tasks.div_ceil(MAX_TASKS);
    let of_workflow = move |number: u32| tasks / count + u32::from(number < tasks % count);
    stream::iter(0..count)
        .map(|number| {
            let client = client.clone();
            async move { submit_one(&client, number, of_workflow(number)).await }
        })
        .buffer_unordered(SUBMITTING)
        .try_collect()
        .await
}

async fn submit_one(client: &Client, number: u32, tasks: u32) -> anyhow::Result<Submitted> {
    let name = format!("sim-{number:05}");
    let start = StartWorkflow { name: Some(name.clone()), document: document(tasks)?, user: None };
    for _ in 0..TRIES {
        match client.start_workflow(&start).await {
            Ok(summary) => return Ok(Submitted { id: summary.id, tasks }),
            Err(error) if is_away(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("submitting {name}")),
        }
        sleep(PAUSE).await;
        // It may have been taken all the same, and the answer been lost.
        if let Ok(taken) = client.workflow(&name).await {
            return Ok(Submitted { id: taken.summary.id, tasks });
        }
    }
    bail!("the server stays away: {name} cannot be submitted")
}

fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Answer(_))
        || error.status() == Some(503)
}

/// A document with so many tasks.
fn document(tasks: u32) -> anyhow::Result<String> {
    let (flaky, talk, last) = (tasks / 5, tasks / 50, tasks / 10);
    let work = tasks - flaky - talk - last;
    let kinds = [
        ("work", work, "[work, '100', '2000']".to_owned(), ""),
        ("flaky", flaky, "[flaky, '10', '100', '2000']".to_owned(), ""),
        (TALK, talk, format!("[talk, '{LINES}', '100', '2000']"), ""),
        ("last", last, "[work, '100', '2000']".to_owned(), ", requires: [work]"),
    ];
    let mut document = "version: v1\njobs:\n".to_owned();
    for (name, count, command, more) in kinds.iter().filter(|(_, count, ..)| *count > 0) {
        writeln!(
            document,
            "  {name}: {{image: '{IMAGE}', command: {command}, task-array: {{start: 1, end: {count}}}, \
             resource: {{cpu: {{cores: 1}}, memory: {{size: 16MiB}}}}, policy: {{retry: {{attempts: {RETRIES}}}}}{more}}}"
        )?;
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arrays_of_a_document_have_all_its_tasks() {
        for tasks in [1, 7, 49, 50, 499, 500] {
            let text = document(tasks).unwrap();
            let ends = text.split("end: ").skip(1).map(|rest| rest.split('}').next().unwrap());
            assert_eq!(ends.map(|end| end.parse::<u32>().unwrap()).sum::<u32>(), tasks, "{text}");
        }
    }
}
