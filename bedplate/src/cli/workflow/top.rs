//! `workflow top`: what the running tasks of a workflow use, as it goes on.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use api::{
    ids::Timestamp,
    workflow::{TaskUsage, Workflow},
};
use clap::Args;
use client::Client;

use super::{
    super::{
        clock,
        context::Session,
        output::{Format, print, print_bytes},
        table::{Style, cells, table},
        words::{duration, size},
    },
    Which,
    show::took,
};

/// Where members of attempts stand: behind the number of the attempt.
const MEMBER_COLUMN: usize = 3;

/// Clears the screen and goes to its first line (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show what the running jobs of a workflow use.
#[derive(Debug, Args)]
#[command(
    after_help = "CPU is in hundredths of one processor, over the last interval. WAIT is the share of that interval in which a process
waited for a processor, for memory and for a disk.

On a terminal it goes on until Ctrl-C or the workflow's end; elsewhere, with --once or with -o, one interval is measured
and printed. JSON and YAML hold totals since the start of each task.

Examples:
  bedplate workflow top render
  bedplate workflow top render --once --interval 10"
)]
pub(in super::super) struct Top {
    #[command(flatten)]
    which: Which,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    interval: Duration,
    /// Print once.
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(session: &Session, client: &Client, top: &Top) -> anyhow::Result<()> {
    let workflow = client.workflow(&top.which.workflow).await?;
    let id = workflow.summary.id.to_string();
    let mut before = client.workflow_usage(&id).await?;
    let goes_on = session.out.format() == Format::Table && !top.once && io::stdout().is_terminal();
    loop {
        if !before.is_empty() {
            tokio::time::sleep(top.interval.max(Duration::from_secs(1))).await;
        }
        let after = client.workflow_usage(&id).await?;
        if !goes_on {
            return session.out.show(&after, |look| shown(*look, &before, &after, clock::now()));
        }
        let workflow = client.workflow(&id).await?;
        let text = shown(session.out.style, &before, &after, clock::now());
        print_bytes(CLEAR.as_bytes())?;
        print(&format!("{}\n\n{text}", head(&workflow)))?;
        if workflow.summary.ended.is_some() {
            return Ok(());
        }
        before = after;
    }
}

fn head(workflow: &Workflow) -> String {
    let summary = &workflow.summary;
    let paused = summary.paused.as_ref().map(|by| format!(", paused by {by}")).unwrap_or_default();
    let blocked =
        summary.blocked.as_ref().map(|why| format!(", blocked: {why}")).unwrap_or_default();
    let (done, all) = (summary.stages_finished, summary.stages);
    format!("{}: {}{paused}{blocked}, {done} of {all} stages", summary.name, summary.state.as_str())
}

fn shown(look: Style, before: &[TaskUsage], after: &[TaskUsage], now: Timestamp) -> String {
    if after.is_empty() {
        return "nothing of it runs\n".to_owned();
    }
    // A column that most have no use for is left out for them.
    let has_members = after.iter().any(|task| task.member > 0);
    let rows = after.iter().map(|task| {
        let key = |one: &TaskUsage| (one.stage, one.task, one.attempt, one.member);
        let mut row = row(before.iter().find(|one| key(one) == key(task)), task, now).to_vec();
        if has_members {
            row.insert(MEMBER_COLUMN, task.member.to_string());
        }
        row
    });
    let mut header = vec![
        "JOB",
        "TASK",
        "TRY",
        "NODE",
        "CPUS",
        "CPU",
        "MEMORY",
        "LIMIT",
        "PROCESSES",
        "READ",
        "WRITTEN",
        "WAIT",
        "TIME",
    ];
    if has_members {
        header.insert(MEMBER_COLUMN, "MEMBER");
    }
    table(look, &header, rows.map(cells))
}

fn row(before: Option<&TaskUsage>, task: &TaskUsage, now: Timestamp) -> [String; 13] {
    let usage = task.usage.as_ref();
    let told =
        |text: &dyn Fn(&api::run::LiveUsage) -> String| usage.map_or_else(|| "-".to_owned(), text);
    [
        task.name.clone(),
        task.task.to_string(),
        task.attempt.to_string(),
        task.node.to_string(),
        task.cpus.to_string(),
        share(before, task, |usage| usage.cpu_micros),
        told(&|usage| size(usage.memory_bytes)),
        size(task.memory_limit_bytes),
        told(&|usage| usage.processes.to_string()),
        told(&|usage| size(usage.total.read_bytes)),
        told(&|usage| size(usage.total.written_bytes)),
        [
            share(before, task, |usage| usage.cpu_wait_micros),
            share(before, task, |usage| usage.memory_wait_micros),
            share(before, task, |usage| usage.io_wait_micros),
        ]
        .join("/"),
        took(Some(task.started), None, now),
    ]
}

/// Hundredths of the time between two looks, or since the task began, that a counter of
/// microseconds grew.
fn share(
    before: Option<&TaskUsage>,
    task: &TaskUsage,
    micros: impl Fn(&api::run::Usage) -> u64,
) -> String {
    let (Some(at), Some(usage)) = (task.at, &task.usage) else { return "-".to_owned() };
    let earlier =
        before.and_then(|before| Some((before.at?, micros(&before.usage.as_ref()?.total))));
    let (since, had) = earlier.unwrap_or((task.started, 0));
    let elapsed = u64::try_from(at.0.saturating_sub(since.0)).unwrap_or(0).max(1);
    let grown = micros(&usage.total).saturating_sub(had);
    format!("{}%", grown.saturating_mul(100) / elapsed)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn usage(at: u64, cpu_micros: u64) -> TaskUsage {
        let total = json!({
            "cpu-micros": cpu_micros, "memory-peak-bytes": 67_108_864, "read-bytes": 4096, "written-bytes": 0,
            "cpu-wait-micros": cpu_micros / 10, "memory-wait-micros": 0, "io-wait-micros": 0,
        });
        let value = json!({
            "stage": 1, "name": "frames", "task": 7, "attempt": 1, "node": "n1", "cpus": 2,
            "memory-limit-bytes": 134_217_728, "started": 1_000_000, "at": at,
            "usage": {"total": total, "memory-bytes": 33_554_432, "processes": 3},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn shares_are_of_the_last_interval() {
        let silent = TaskUsage { task: 8, at: None, usage: None, ..usage(0, 0) };
        let text = shown(
            Style::PLAIN,
            &[usage(3_000_000, 1_000_000)],
            &[usage(5_000_000, 4_000_000), silent],
            Timestamp(6_000_000),
        );
        expect![[r#"
            JOB     TASK  TRY  NODE  CPUS  CPU   MEMORY  LIMIT    PROCESSES  READ   WRITTEN  WAIT       TIME
            frames  7     1    n1    2     150%  32 MiB  128 MiB  3          4 KiB  0 B      15%/0%/0%  5s
            frames  8     1    n1    2     -     -       128 MiB  -          -      -        -/-/-      5s
        "#]]
        .assert_eq(&text);
        assert_eq!(share(None, &usage(3_000_000, 1_000_000), |usage| usage.cpu_micros), "50%");
        assert_eq!(shown(Style::PLAIN, &[], &[], Timestamp(0)), "nothing of it runs\n");
    }
}
