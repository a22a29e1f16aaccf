//! `workflow log`: what a job wrote, as it comes if that is wanted; and whether that was all.

mod array;
mod follow;
mod printer;

use std::time::Duration;

use anyhow::bail;
use api::{
    log::{LogGap, LogState, LogStatus},
    run::WorkflowId,
    workflow::{Stage, StageKind, Workflow},
};
use clap::Args;
use clap_complete::ArgValueCompleter;
use client::{Client, ClientError, Content, LogOf, StreamEnd};

use self::printer::Printer;
use super::super::{complete, context::Session, output::print_note};

/// How long to wait before the server is asked again after it went away.
const RETRY: Duration = Duration::from_secs(1);

/// What is said of a log that `--since` can leave nothing out of.
const TIMELESS: &str = "when it was written is not known, so --since leaves nothing out: its node's agent \
                        is of an earlier release, or its times are lost";

/// How often in a row: a server that restarts is back within this many seconds.
const MAX_RETRIES: u32 = 60;

/// Print what a job wrote.
#[derive(Debug, Args)]
#[command(
    after_help = "Standard output and standard error of a job are one log. Of a job that was tried again it is that of the last
attempt. Of an array the logs of all tasks are printed, one after the other by their numbers, each line behind
the job and the task: `frames[3] | `; with --task it is the log of one, as it was written.

With --follow the lines of all tasks come as they are written, those of tasks that begin later too.
At most 32 tasks are followed at a time. The others have their turn when one of those is over, and
nothing of them is missing then. A line of more than 64 KiB is continued in a further one.
A task that is tried again is followed in its new attempt, too; where that begins is told on standard error.
Of one task, or a job that is no array, one attempt is followed: the last one when the command begins.

TIME is how long ago by the server's clock (90s, 10m, 2h, 7d), or a time such as 2026-11-30T12:00:00Z.
When a log was written is told by the clock of its node. No line that was written later is left out;
some of just before may be printed.

Examples:
  bedplate workflow log hello --tail 20
  bedplate workflow log hello --since 10m --follow
  bedplate workflow log render frames | grep -i error
  bedplate workflow log render frames --task 7 --follow

Of a log that is longer than the server's `jobs.log-mib`, beginning and end are kept. What is left out is told on standard
error, in the place where it would be; nothing is added to what is printed.

Exit status: 0 if all that is kept of what the attempt wrote was printed, or all so far of one that is not over and not
followed; 1 if bytes are missing, with how many and why: of an array, if they are missing of any task that has run,
and, with --follow, no later attempt of it was printed whole."
)]
pub(in super::super) struct Log {
    /// Id, or a name: the newest workflow of it.
    #[arg(add = ArgValueCompleter::new(complete::workflows))]
    workflow: String,
    /// The job; may be left out if there is one.
    job: Option<String>,
    /// Task of an array, by its number [default: all].
    #[arg(long, value_name = "N")]
    task: Option<u32>,
    /// Attempt, from 1 [default: the last].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Member of the attempt, where it has several, from 0 [default: 0].
    #[arg(long, value_name = "N")]
    member: Option<u32>,
    /// Only so many lines, the last of what is there; with --follow, and what comes after them.
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Only what was written then or later; with --tail, only what is in both.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Follow the log until the job ends; of one task, until its attempt ends.
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(session: &Session, client: &Client, log: &Log) -> anyhow::Result<()> {
    session.out.refuse_format("workflow log")?;
    let mut wanted = LogOf {
        job: log.job.clone(),
        task: log.task,
        attempt: log.attempt,
        member: log.member,
        offset: 0,
        tail: log.tail,
        since: log.since.clone(),
        follow: log.follow,
    };
    // A name may mean another workflow by the time of the next request.
    let workflow = match (log.workflow.parse::<WorkflowId>(), log.task) {
        (Ok(id), Some(_)) => id.to_string(),
        _ => {
            let workflow = client.workflow(&log.workflow).await?;
            if log.task.is_none()
                && let Some(array) = array::of(&workflow, log.job.as_deref())
            {
                return array::print(client, &workflow, array, &wanted).await;
            }
            workflow.summary.id.to_string()
        }
    };
    print_whole(client, &workflow, &mut wanted, LogStart::default(), &mut Printer::plain()).await
}

/// What is known of a log when its printing begins.
#[derive(Debug, Default)]
struct LogStart {
    /// The first answer, where it is here already.
    answer: Option<Result<Content, ClientError>>,
    /// The server has answered of late: where it is away, it is waited for.
    is_served: bool,
}

/// Prints what is wanted of a log, over restarts of the server; fails if bytes are missing.
async fn print_whole(
    client: &Client,
    workflow: &str,
    wanted: &mut LogOf,
    mut begun: LogStart,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let (mut retries, mut asked_for_verdict) = (u32::from(begun.is_served), false);
    loop {
        let answer = match begun.answer.take() {
            Some(answer) => answer,
            None => client.workflow_log(workflow, wanted).await,
        };
        match answer {
            Err(ClientError::Unreachable { .. }) if (1..MAX_RETRIES).contains(&retries) => {}
            Err(error) => return Err(error.into()),
            Ok(mut content) => {
                let status = content.log_status();
                if let Some(status) = &status {
                    // So may the last attempt.
                    (wanted.task, wanted.attempt) = (Some(status.task), Some(status.attempt));
                }
                let (tail, since) = (wanted.tail.take(), wanted.since.take());
                if tail.is_some() || since.is_some() {
                    wanted.offset = begin(&content, since.is_some(), printer)?;
                }
                let before = wanted.offset;
                let gap = status.as_ref().and_then(|status| status.gap);
                let end = print(&mut content, &mut wanted.offset, gap, printer).await?;
                // The attempt has just ended, or the log goes on behind a gap.
                asked_for_verdict &= wanted.offset == before;
                match end {
                    StreamEnd::Closed => match Verdict::of(status.as_ref(), wanted.follow) {
                        Verdict::Done => return Ok(()),
                        Verdict::Missing(what) => bail!("{what}"),
                        Verdict::Unreported => {
                            print_note(
                                "this server is of an earlier release, which does not say whether a log is whole",
                            );
                            return Ok(());
                        }
                        // Once at once.
                        Verdict::AskAgain if !asked_for_verdict => {
                            (asked_for_verdict, retries) = (true, 1);
                            continue;
                        }
                        Verdict::AskAgain => {}
                    },
                    StreamEnd::Broken => {
                        print_note("the connection to the server broke: asking again")
                    }
                }
                retries = 0;
            }
        }
        retries += 1;
        tokio::time::sleep(RETRY).await;
    }
}

/// Where an answer begins that was not asked for from an offset on.
fn begin(content: &Content, has_since: bool, printer: &Printer) -> anyhow::Result<u64> {
    if has_since {
        match content.log_since() {
            Some(since) if since.has_times => {}
            Some(_) => printer.print_note(TIMELESS),
            None => bail!("this server is of an earlier release, which knows no --since"),
        }
    }
    match content.log_from() {
        Some(from) => Ok(from),
        None => bail!("this server is of an earlier release, which knows no --tail"),
    }
}

/// Prints what comes, and counts it; what is left out is told in its place. How it ended.
async fn print(
    content: &mut Content,
    offset: &mut u64,
    gap: Option<LogGap>,
    printer: &mut Printer,
) -> anyhow::Result<StreamEnd> {
    print_gap(offset, gap, printer);
    loop {
        match content.next().await {
            Ok(bytes) => {
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(up_to_gap(*offset, gap).min(rest.len()));
                    printer.print(now)?;
                    *offset += now.len() as u64;
                    print_gap(offset, gap, printer);
                    rest = later;
                }
            }
            Err(end) => return Ok(end),
        }
    }
}

/// Bytes from an offset on that are before the gap; all, where the gap is not ahead.
fn up_to_gap(offset: u64, gap: Option<LogGap>) -> usize {
    let ahead = gap.and_then(|gap| gap.from.checked_sub(offset)).filter(|ahead| *ahead > 0);
    ahead.map_or(usize::MAX, |ahead| usize::try_from(ahead).unwrap_or(usize::MAX))
}

/// Tells of a gap at an offset, and goes to its end.
fn print_gap(offset: &mut u64, gap: Option<LogGap>, printer: &Printer) {
    let Some(LogGap { to, .. }) = gap.filter(|gap| gap.past(*offset) > *offset) else { return };
    printer.print_note(&LogGap { from: *offset, to }.to_string());
    *offset = to;
}

/// The job that is named, or the only one; `None` if there is no such job, as the server will tell.
fn job_of<'a>(workflow: &'a Workflow, name: Option<&str>) -> Option<&'a Stage> {
    let mut jobs = workflow.stages.iter().filter(|stage| stage.kind == StageKind::Job);
    match name {
        Some(name) => jobs.find(|stage| stage.name == name),
        None => jobs.next().filter(|_| jobs.next().is_none()),
    }
}

/// What an answer that came whole is worth.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All that was wanted is there.
    Done,
    /// The attempt that was followed is over: the next answer says whether its log is whole.
    AskAgain,
    /// Bytes are missing.
    Missing(String),
    /// The server does not say.
    Unreported,
}

impl Verdict {
    fn of(status: Option<&LogStatus>, follow: bool) -> Self {
        let Some(status) = status else { return Self::Unreported };
        if status.state == LogState::Open && follow {
            return Self::AskAgain;
        }
        status.shortfall().map_or(Self::Done, Self::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_worth_what_the_server_says() {
        let status = |state| LogStatus {
            state,
            task: 0,
            attempt: 1,
            here: 1,
            bytes: Some(2),
            gap: None,
            reason: None,
        };
        let verdict = |state, follow| Verdict::of(Some(&status(state)), follow);
        assert_eq!(verdict(LogState::Open, false), Verdict::Done);
        assert_eq!(verdict(LogState::Open, true), Verdict::AskAgain);
        assert_eq!(Verdict::of(None, true), Verdict::Unreported);
        for follow in [false, true] {
            assert_eq!(verdict(LogState::Complete, follow), Verdict::Done);
            for state in [LogState::Arriving, LogState::Incomplete, LogState::Unknown] {
                let missing = verdict(state, follow);
                assert!(
                    matches!(&missing, Verdict::Missing(what) if what.contains("1 of 2")),
                    "{missing:?}"
                );
            }
        }
    }

    #[test]
    fn a_gap_is_met_where_it_is() {
        let gap = Some(LogGap { from: 5, to: 9 });
        let ahead = [0, 4, 5, 8, 9, 10].map(|offset| up_to_gap(offset, gap));
        assert_eq!(ahead, [5, 1, usize::MAX, usize::MAX, usize::MAX, usize::MAX]);
        assert_eq!(up_to_gap(0, None), usize::MAX);
        let after = [0, 4, 5, 8, 9, 10].map(|mut offset| {
            print_gap(&mut offset, gap, &Printer::plain());
            offset
        });
        assert_eq!(after, [0, 4, 9, 9, 9, 10]);
    }
}
