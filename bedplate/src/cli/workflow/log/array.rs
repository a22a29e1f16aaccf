//! The logs of all tasks of an array: one after the other, or as they are written.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::bail;
use api::workflow::{Attempt, Stage, TaskCounts, Workflow};
use client::{Client, ClientError, Content, LogOf};
use futures_util::{StreamExt as _, stream};

use super::{
    super::super::{
        output::print_note,
        words::{count, ranges},
    },
    LogStart, Printer,
    follow::{self, Run},
    job_of, print_whole,
};

/// Answers that are asked for before it is their turn: the server waits for a log that has not
/// arrived, and many may wait together.
const ASKED_AHEAD: usize = 8;

/// The job that is named, or the only one, if it has more than one task.
pub(super) fn of<'a>(workflow: &'a Workflow, job: Option<&str>) -> Option<&'a Stage> {
    job_of(workflow, job).filter(|stage| all_of(stage.tasks) > 1)
}

/// An array whose logs are printed.
pub(super) struct Array<'a> {
    pub(super) client: &'a Client,
    pub(super) id: String,
    pub(super) job: &'a Stage,
    /// What is wanted of each task.
    pub(super) wanted: &'a LogOf,
    /// The time that `--since` means, once the server has read it: the same for tasks whose turn
    /// comes later.
    since: OnceCell<String>,
}

/// Prints the log of each task that has run, by their numbers, or follows them. One that is not
/// whole spares none of the others.
pub(super) async fn print(
    client: &Client,
    workflow: &Workflow,
    job: &Stage,
    wanted: &LogOf,
) -> anyhow::Result<()> {
    let array =
        Array { client, id: workflow.summary.id.to_string(), job, wanted, since: OnceCell::new() };
    let mut done = Done::default();
    if wanted.follow {
        follow::all(&array, &mut done).await?;
    } else {
        let attempts = client.attempts(&array.id, Some(job.index), u32::MAX).await?;
        let tasks = tasks_of(&attempts, wanted.attempt);
        let asked = &array;
        let answers = stream::iter(tasks).map(|task| async move {
            let (wanted, answer) = asked.ask(task, asked.wanted.attempt, asked.wanted.tail).await;
            (task, wanted, answer)
        });
        let mut answers = std::pin::pin!(answers.buffered(ASKED_AHEAD));
        while let Some((task, wanted, answer)) = answers.next().await {
            let printer = Printer::labeled(&array.label(task));
            // Of each task there is one.
            let run = (task, wanted.attempt.unwrap_or_default());
            done.add(run, array.print_asked(wanted, answer, printer).await)?;
        }
    }
    array.conclude(&done)
}

impl Array<'_> {
    pub(super) fn label(&self, task: u32) -> String {
        format!("{}[{task}]", self.job.name)
    }

    /// Asks for the log of a task, of its last attempt where none is named: what for, and the
    /// answer. `tail`: how many lines of what is there now.
    async fn ask(
        &self,
        task: u32,
        attempt: Option<u32>,
        tail: Option<u64>,
    ) -> (LogOf, Result<Content, ClientError>) {
        let since = self.since.get().or(self.wanted.since.as_ref()).cloned();
        let job = Some(self.job.name.clone());
        let wanted = LogOf { job, task: Some(task), attempt, tail, since, ..self.wanted.clone() };
        let answer = self.client.workflow_log(&self.id, &wanted).await;
        if let Some(since) = answer.as_ref().ok().and_then(Content::log_since) {
            // The first answer counts: all that are asked for at once mean nearly the same.
            let _ = self.since.set(since.time);
        }
        (wanted, answer)
    }

    /// Prints the log of an attempt of a task beside those of others. `tail`: how many lines of
    /// what is there now.
    pub(super) async fn print_among_others(
        &self,
        (task, attempt): Run,
        tail: Option<u64>,
    ) -> Printed {
        let printer = Printer::labeled_among_others(&self.label(task));
        if attempt > 1 && self.wanted.attempt.is_none() {
            printer.print_note(&format!("attempt {attempt} begins"));
        }
        let (wanted, answer) = self.ask(task, Some(attempt), tail).await;
        self.print_asked(wanted, answer, printer).await
    }

    async fn print_asked(
        &self,
        mut wanted: LogOf,
        answer: Result<Content, ClientError>,
        mut printer: Printer,
    ) -> Printed {
        let begun = LogStart { answer: Some(answer), is_served: true };
        let printed = print_whole(self.client, &self.id, &mut wanted, begun, &mut printer).await;
        let ended = printer.end_line();
        Printed { printer, result: printed.and(ended) }
    }

    fn conclude(&self, done: &Done) -> anyhow::Result<()> {
        let Done { tasks, missing, .. } = done;
        let (name, attempt) = (&self.job.name, self.wanted.attempt);
        if tasks.is_empty() {
            let attempt = attempt.map(|attempt| format!(" {attempt} times")).unwrap_or_default();
            bail!("no task of {name} has run{attempt} (yet)");
        }
        if let Some(waiting) =
            all_of(self.job.tasks).checked_sub(tasks.len()).filter(|waiting| *waiting > 0)
            && attempt.is_none()
        {
            print_note(&format!("bedplate: {} of {name} has not run", count(waiting, "task")));
        }
        if !missing.is_empty() {
            let numbers: Vec<u32> = missing.keys().copied().collect();
            let (tasks, numbers) = (count(missing.len(), "task"), ranges(&numbers));
            bail!("bytes are missing of {tasks} of {name}: {numbers}");
        }
        Ok(())
    }
}

/// What came of the log of a task.
#[derive(Debug)]
pub(super) struct Printed {
    printer: Printer,
    result: anyhow::Result<()>,
}

/// What came of the logs that were printed.
#[derive(Debug, Default)]
pub(super) struct Done {
    tasks: BTreeSet<u32>,
    /// The last attempts that were printed whole, by task.
    whole: BTreeMap<u32, u32>,
    /// Attempts of whose log bytes are missing, by task, where no later one was printed whole.
    missing: BTreeMap<u32, u32>,
}

impl Done {
    /// Counts a task, and tells what is missing of its log. It may come once for each
    /// attempt, in any order.
    ///
    /// # Errors
    /// What keeps all others from being printed, too.
    pub(super) fn add(
        &mut self,
        (task, attempt): Run,
        Printed { printer, result }: Printed,
    ) -> anyhow::Result<()> {
        self.tasks.insert(task);
        let Err(error) = result else {
            self.whole.entry(task).and_modify(|last| *last = attempt.max(*last)).or_insert(attempt);
            self.missing.retain(|of, lost| *of != task || *lost > attempt);
            return Ok(());
        };
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
        printer.print_note(&format!("{error:#}"));
        if self.whole.get(&task).is_none_or(|whole| *whole < attempt) {
            self.missing
                .entry(task)
                .and_modify(|last| *last = attempt.max(*last))
                .or_insert(attempt);
        }
        Ok(())
    }
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
    use anyhow::anyhow;
    use api::workflow::{StageKind, State};

    use super::{super::super::show::tests, *};

    #[test]
    fn an_attempt_whose_log_is_lost_counts_unless_a_later_one_was_printed_whole() {
        let whole = || Printed { printer: Printer::labeled("a[0]"), result: Ok(()) };
        let lost = || Printed { printer: Printer::labeled("a[0]"), result: Err(anyhow!("lost")) };
        let missing = |printed: Vec<(Run, Printed)>| -> Vec<u32> {
            let mut done = Done::default();
            printed.into_iter().for_each(|(run, printed)| done.add(run, printed).unwrap());
            done.missing.into_keys().collect()
        };
        assert_eq!(missing(vec![((3, 1), lost()), ((3, 2), whole())]), [0_u32; 0]);
        assert_eq!(
            missing(vec![((3, 2), whole()), ((3, 1), lost())]),
            [0_u32; 0],
            "it ended later"
        );
        assert_eq!(missing(vec![((3, 1), whole()), ((3, 2), lost())]), [3]);
        assert_eq!(missing(vec![((3, 2), lost()), ((3, 1), whole())]), [3]);
        assert_eq!(missing(vec![((3, 1), lost()), ((3, 3), lost()), ((3, 2), whole())]), [3]);
        assert_eq!(missing(vec![((3, 1), lost()), ((4, 2), whole())]), [3], "another task");
    }

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
