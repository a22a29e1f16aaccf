//! The logs of all tasks of an array, one after the other.

use std::collections::BTreeSet;

use anyhow::bail;
use api::workflow::{Attempt, Stage, TaskCounts, Workflow};
use client::{Client, ClientError, LogOf};
use futures_util::{StreamExt as _, stream};

use super::{
    super::super::{
        error::Usage,
        output::say,
        words::{count, ranges},
    },
    Printer, job_of, print_whole,
};

/// Answers that are asked for before it is their turn: the server waits for a log that has not
/// arrived, and many may wait together.
const ASKED_AHEAD: usize = 8;

/// The job that is named, or the only one, if it has more than one task.
pub(super) fn of<'a>(workflow: &'a Workflow, job: Option<&str>) -> Option<&'a Stage> {
    job_of(workflow, job).filter(|stage| all_of(stage.tasks) > 1)
}

/// Prints the log of each task that has run, by their numbers. One that is not whole spares none of
/// the others.
pub(super) async fn print(
    client: &Client,
    workflow: &Workflow,
    job: &Stage,
    wanted: &LogOf,
) -> anyhow::Result<()> {
    if wanted.follow {
        let why =
            format!("{} is an array: to follow the log of one of its tasks, name it by --task", job.name);
        return Err(Usage(why).into());
    }
    let id = workflow.summary.id.to_string();
    let attempts = client.attempts(&id, Some(job.index), u32::MAX).await?;
    let tasks = tasks_of(&attempts, wanted.attempt);
    if tasks.is_empty() {
        let attempt = wanted.attempt.map(|attempt| format!(" {attempt} times")).unwrap_or_default();
        bail!("no task of {} has run{attempt} (yet)", job.name);
    }
    let answers = stream::iter(&tasks).map(|&task| {
        let wanted = LogOf { job: Some(job.name.clone()), task: Some(task), ..wanted.clone() };
        let id = &id;
        async move { (task, client.workflow_log(id, &wanted).await, wanted) }
    });
    let mut answers = std::pin::pin!(answers.buffered(ASKED_AHEAD));
    let mut missing = Vec::new();
    while let Some((task, answer, mut wanted)) = answers.next().await {
        let mut printer = Printer::labeled(&format!("{}[{task}]", job.name));
        let printed = print_whole(client, &id, &mut wanted, Some(answer), &mut printer).await;
        printer.end_line()?;
        if let Err(error) = printed {
            let is_of_all = match error.downcast_ref::<ClientError>() {
                // Each of the others would wait for the server as long.
                Some(ClientError::Unreachable { .. }) => true,
                Some(_) => false,
                // Nobody reads any more.
                None => error.downcast_ref::<std::io::Error>().is_some(),
            };
            if is_of_all {
                return Err(error);
            }
            printer.say(&format!("{error:#}"));
            missing.push(task);
        }
    }
    let all = all_of(job.tasks);
    if let Some(waiting) = all.checked_sub(tasks.len()).filter(|waiting| *waiting > 0)
        && wanted.attempt.is_none()
    {
        say(&format!("bedplate: {} of {} has not run", count(waiting, "task"), job.name));
    }
    if !missing.is_empty() {
        bail!("bytes are missing of {} of {}: {}", count(missing.len(), "task"), job.name, ranges(&missing));
    }
    Ok(())
}

/// The tasks that have run, so many times if that is wanted, by their numbers.
fn tasks_of(attempts: &[Attempt], attempt: Option<u32>) -> BTreeSet<u32> {
    let is_wanted = |one: &&Attempt| attempt.is_none_or(|attempt| attempt == one.attempt);
    attempts.iter().filter(is_wanted).map(|one| one.task).collect()
}

fn all_of(counts: TaskCounts) -> usize {
    let TaskCounts { pending, started, finished, failed, canceled } = counts;
    [pending, started, finished, failed, canceled].into_iter().map(|count| count as usize).sum()
}

#[cfg(test)]
mod tests {
    use api::workflow::{StageKind, State};

    use super::{super::super::show::tests, *};

    #[test]
    fn an_array_has_several_tasks() {
        let mut frames = tests::stage(1, StageKind::Job, "frames", State::Started);
        frames.tasks = TaskCounts { pending: 1, finished: 1, ..TaskCounts::default() };
        let image = tests::stage(0, StageKind::Image, "frames", State::Finished);
        let mut workflow = tests::workflow(vec![image, frames], State::Started);
        let name = |workflow: &Workflow, job| of(workflow, job).map(|stage| stage.index);
        assert_eq!(
            [None, Some("frames"), Some("other")].map(|job| name(&workflow, job)),
            [Some(1), Some(1), None]
        );
        workflow.stages[1].tasks.pending = 0;
        assert_eq!(name(&workflow, None), None, "one task is no array");
        let sum = tests::stage(2, StageKind::Job, "sum", State::Pending);
        workflow.stages[1].tasks.pending = 1;
        workflow.stages.push(sum);
        assert_eq!([None, Some("frames")].map(|job| name(&workflow, job)), [None, Some(1)]);
    }
}
