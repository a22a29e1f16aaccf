//! Workflows, stages, attempts and reasons as people read them.

use api::{
    ids::Timestamp,
    run::Outcome,
    workflow::{Attempt, Stage, TaskCounts, Waiting, Workflow, WorkflowEvent, WorkflowSummary},
};
use serde::Serialize;

use super::super::{
    clock, columns,
    output::Rows,
    table::{Cell, Style, cells, pairs, table},
    words::{or_dash, ranges, size, span},
};

/// All that is known of a workflow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Described {
    #[serde(flatten)]
    pub(super) workflow: Workflow,
    pub(super) attempts: Vec<Attempt>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) events: Vec<WorkflowEvent>,
}

impl Rows for Described {
    const COLUMNS: &'static [&'static str] = columns::WORKFLOW;

    fn rows(&self) -> serde_json::Result<Vec<serde_json::Value>> {
        self.workflow.rows()
    }
}

/// A list of workflows.
pub(super) fn list(style: Style, workflows: &[WorkflowSummary]) -> String {
    if workflows.is_empty() {
        return "no workflows yet: `bedplate workflow start --help`\n".to_owned();
    }
    let now = clock::now();
    let row = |one: &WorkflowSummary| {
        vec![
            Cell::new(one.id),
            Cell::new(&one.name),
            Cell::new(&one.user),
            style.status(one.status()),
            Cell::new(format!("{}/{}", one.stages_finished, one.stages)),
            Cell::new(one.submitted),
            Cell::new(or_dash(one.started.as_ref())),
            Cell::new(took(one.started, one.ended, now)),
        ]
    };
    let header = ["ID", "NAME", "USER", "STATUS", "STAGES", "SUBMITTED", "STARTED", "TIME"];
    table(style, &header, workflows.iter().map(row))
}

/// A workflow and its stages.
pub(super) fn status(style: Style, workflow: &Workflow) -> String {
    status_at(style, workflow, clock::now())
}

fn status_at(style: Style, workflow: &Workflow, now: Timestamp) -> String {
    let summary = &workflow.summary;
    let now = summary.ended.unwrap_or(now);
    let mut head = vec![
        ("id", Cell::new(summary.id)),
        ("user", Cell::new(&summary.user)),
        ("state", style.status(summary.status())),
        ("submitted", Cell::new(summary.submitted)),
        ("time", Cell::new(took(summary.started, summary.ended, now))),
    ];
    head.extend(summary.blocked.as_ref().map(|why| ("blocked", Cell::new(why))));
    head.extend(summary.paused.as_ref().map(|by| ("paused by", Cell::new(by))));
    head.extend(summary.reason.as_ref().map(|reason| ("reason", Cell::new(reason))));
    let row = |stage: &Stage| {
        vec![
            Cell::new(stage.kind.as_str()),
            Cell::new(&stage.name),
            style.state(stage.state),
            Cell::new(tasks(stage.tasks)),
            Cell::new(nodes(stage)),
            Cell::new(took(stage.started, stage.ended, now)),
            Cell::new(stage.reason.as_deref().unwrap_or_default()),
        ]
    };
    let header = ["STAGE", "NAME", "STATE", "TASKS", "NODES", "TIME", "REASON"];
    let stages = table(style, &header, workflow.stages.iter().map(row));
    format!("{}\n{}\n{stages}", summary.name, pairs(style, &head))
}

/// Everything.
pub(super) fn described(style: Style, whole: &Described) -> String {
    let now = whole.workflow.summary.ended.unwrap_or_else(clock::now);
    let mut text = status_at(style, &whole.workflow, now);
    if !whole.attempts.is_empty() {
        text.push('\n');
        text.push_str(&attempts(style, &whole.workflow.stages, &whole.attempts, now));
    }
    if !whole.waiting.is_empty() {
        text.push('\n');
        text.push_str(&why(&whole.waiting));
    }
    if !whole.workflow.files.is_empty() {
        text.push('\n');
        text.push_str(&super::files::list(style, &whole.workflow.files));
    }
    let row = |event: &WorkflowEvent| {
        let name = event.name.clone().unwrap_or_default();
        cells([event.at.to_string(), event.event.to_string(), name, event.message.clone()])
    };
    let header = ["WHEN", "EVENT", "STAGE", "MESSAGE"];
    format!("{text}\n{}", table(style, &header, whole.events.iter().map(row)))
}

/// Where members of attempts stand: behind the number of the attempt.
const MEMBER_COLUMN: usize = 3;

fn attempts(style: Style, stages: &[Stage], attempts: &[Attempt], now: Timestamp) -> String {
    // A column that most have no use for is left out for them.
    let has_members = attempts.iter().any(|attempt| attempt.member > 0);
    let row = |attempt: &Attempt| {
        let stage = stages.iter().find(|stage| stage.index == attempt.stage);
        let micros = attempt.usage.cpu_micros;
        let mut row = vec![
            or_dash(stage.map(|stage| &stage.name)),
            attempt.task.to_string(),
            attempt.attempt.to_string(),
            attempt.node.to_string(),
            ranges(&attempt.cpus),
            if attempt.devices.is_empty() { "-".to_owned() } else { attempt.devices.join(" ") },
            took(attempt.started, attempt.ended, now),
            format!("{}.{:02}s", micros / 1_000_000, micros / 10_000 % 100),
            size(attempt.usage.memory_peak_bytes),
            attempt.outcome.as_ref().map_or_else(|| "-".to_owned(), outcome),
        ];
        if has_members {
            row.insert(MEMBER_COLUMN, attempt.member.to_string());
        }
        cells(row)
    };
    let mut header =
        vec!["JOB", "TASK", "TRY", "NODE", "CPUS", "DEVICES", "TIME", "CPU", "MEMORY", "END"];
    if has_members {
        header.insert(MEMBER_COLUMN, "MEMBER");
    }
    table(style, &header, attempts.iter().map(row))
}

/// How an attempt ended, in a few words.
pub(super) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { code } => format!("exit {code}"),
        Outcome::Signaled { signal } => format!("signal {signal}"),
        Outcome::OutOfMemory { limit_bytes } => {
            format!("killed for memory: more than {}", size(*limit_bytes))
        }
        Outcome::TimedOut { seconds, cause } => {
            let cause = cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("timeout after {seconds} s{cause}")
        }
        Outcome::Stopped { why } => format!("stopped: {why}"),
        Outcome::Failed { why, .. } => format!("failed: {why}"),
        Outcome::Lost { why, .. } => format!("lost: {why}"),
        Outcome::Refused { why } => format!("not begun: {why}"),
        Outcome::Unknown => "ended in a way that this release doesn't know".to_owned(),
    }
}

/// What each stage waits for.
pub(super) fn why(waiting: &[Waiting]) -> String {
    if waiting.is_empty() {
        return "nothing waits\n".to_owned();
    }
    let mut text = String::new();
    for one in waiting {
        text.push_str(&format!("{} waits:\n", one.name));
        for reason in &one.reasons {
            text.push_str(&format!("  {reason}\n"));
        }
    }
    text
}

/// `3/32`, and what else there is to say; nothing for one task.
pub(super) fn tasks(counts: TaskCounts) -> String {
    let all = counts.pending + counts.started + counts.finished + counts.failed + counts.canceled;
    if all <= 1 {
        return String::new();
    }
    let mut text = format!("{}/{all}", counts.finished);
    for (number, word) in [(counts.started, "running"), (counts.failed, "failed")] {
        if number > 0 {
            text.push_str(&format!(", {number} {word}"));
        }
    }
    text
}

/// Its nodes, joined.
pub(super) fn nodes(stage: &Stage) -> String {
    stage.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// How long it took, or takes so far.
pub(super) fn took(started: Option<Timestamp>, ended: Option<Timestamp>, now: Timestamp) -> String {
    or_dash(started.map(|started| span(started, ended.unwrap_or(now))))
}

#[cfg(test)]
pub(super) mod tests {
    use api::workflow::{StageKind, State};
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    pub(in super::super) const NOW: Timestamp = Timestamp(1_795_464_100_000_000);

    pub(in super::super) fn stage(index: u32, kind: StageKind, name: &str, state: State) -> Stage {
        let started = (state != State::Pending).then_some(Timestamp(1_795_464_000_000_000));
        Stage {
            index,
            kind,
            name: name.to_owned(),
            state,
            after: Vec::new(),
            reason: None,
            started,
            ended: state.is_ended().then_some(Timestamp(1_795_464_003_000_000)),
            nodes: Vec::new(),
            tasks: TaskCounts { started: 1, ..TaskCounts::default() },
        }
    }

    pub(in super::super) fn workflow(stages: Vec<Stage>, state: State) -> Workflow {
        let summary = json!({
            "id": "6f1c1f0e52a14a539f0b6f5f6d1f2d11", "name": "hello", "user": "ann", "state": state.as_str(),
            "stages-finished": 1, "stages": stages.len(), "submitted": 1_795_464_000_000_000_u64,
            "started": 1_795_464_000_000_000_u64, "ended": null, "reason": null,
        });
        Workflow { summary: serde_json::from_value(summary).unwrap(), stages, files: Vec::new() }
    }

    #[test]
    fn a_workflow_with_its_stages() {
        let image = stage(0, StageKind::Image, "docker://r/busybox", State::Finished);
        let mut job = stage(1, StageKind::Job, "frames", State::Started);
        job.nodes = vec!["n1".parse().unwrap(), "n2".parse().unwrap()];
        job.tasks = TaskCounts { pending: 20, started: 8, finished: 3, failed: 1, canceled: 0 };
        let mut last = stage(2, StageKind::Job, "sum", State::Pending);
        last.reason = Some("waits for frames".to_owned());
        let workflow = workflow(vec![image, job, last], State::Started);
        expect![[r#"
            hello
              id         6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11
              user       ann
              state      running
              submitted  2026-11-23T20:00:00Z
              time       1m 40s

            STAGE  NAME                STATE     TASKS                      NODES  TIME    REASON
            image  docker://r/busybox  finished                                    3s
            job    frames              started   3/32, 8 running, 1 failed  n1,n2  1m 40s
            job    sum                 pending                                     -       waits for frames
        "#]]
        .assert_eq(&status_at(Style::PLAIN, &workflow, NOW));
        let list = list(Style::PLAIN, std::slice::from_ref(&workflow.summary));
        assert!(
            list.starts_with("ID                                    NAME   USER  STATUS   STAGES"),
            "{list}"
        );
    }

    #[test]
    fn attempts_say_where_and_how() {
        let stages = [stage(1, StageKind::Job, "sum", State::Failed)];
        let attempt = json!({
            "stage": 1, "task": 0, "attempt": 2, "node": "n1", "cpus": [2, 3], "mems": [0],
            "devices": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"],
            "placed": 1_795_464_000_000_000_u64, "started": 1_795_464_000_000_000_u64,
            "ended": 1_795_464_005_000_000_u64,
            "outcome": {"outcome": "out-of-memory", "limit-bytes": 67_108_864},
            "usage": {"cpu-micros": 1_234_567, "memory-peak-bytes": 67_108_864}, "log-bytes": 9,
        });
        let attempt: Attempt = serde_json::from_value(attempt).unwrap();
        expect![[r#"
            JOB  TASK  TRY  NODE  CPUS  DEVICES                            TIME  CPU    MEMORY  END
            sum  0     2    n1    2-3   nvidia.com/gpu=0 nvidia.com/gpu=1  5s    1.23s  64 MiB  killed for memory: more than 64 MiB
        "#]]
        .assert_eq(&attempts(Style::PLAIN, &stages, std::slice::from_ref(&attempt), NOW));
        let second = Attempt {
            member: 1,
            node: "n2".parse().unwrap(),
            devices: Vec::new(),
            ..attempt.clone()
        };
        let first = Attempt { devices: Vec::new(), ..attempt };
        expect![[r#"
            JOB  TASK  TRY  MEMBER  NODE  CPUS  DEVICES  TIME  CPU    MEMORY  END
            sum  0     2    0       n1    2-3   -        5s    1.23s  64 MiB  killed for memory: more than 64 MiB
            sum  0     2    1       n2    2-3   -        5s    1.23s  64 MiB  killed for memory: more than 64 MiB
        "#]]
        .assert_eq(&attempts(Style::PLAIN, &stages, &[first, second], NOW));
    }

    #[test]
    fn what_is_blocked_says_why() {
        let mut workflow =
            workflow(vec![stage(0, StageKind::Job, "a", State::Started)], State::Started);
        workflow.summary.paused = Some("bob".to_owned());
        workflow.summary.blocked = Some("its plan is of tomorrow".to_owned());
        let status = status_at(Style::PLAIN, &workflow, NOW);
        assert!(status.contains("\n  state      blocked\n"), "{status}");
        assert!(status.contains("\n  blocked    its plan is of tomorrow\n"), "{status}");
        let list = list(Style::PLAIN, std::slice::from_ref(&workflow.summary));
        assert!(list.contains("  blocked  ") && !list.contains("paused"), "{list}");
        assert_eq!(
            serde_json::to_value(&workflow.summary).unwrap()["blocked"],
            "its plan is of tomorrow"
        );
    }

    /// What a server says is shown, in list and status alike; also a word of a newer one.
    #[test]
    fn a_status_is_shown_as_it_is_told() {
        let mut workflow =
            workflow(vec![stage(0, StageKind::Job, "a", State::Started)], State::Started);
        let mut shown = |status| {
            workflow.summary.status = status;
            let list = list(Style::PLAIN, std::slice::from_ref(&workflow.summary));
            let of_list =
                list.lines().nth(1).unwrap().split_whitespace().nth(3).unwrap().to_owned();
            let whole = status_at(Style::PLAIN, &workflow, NOW);
            assert!(whole.contains(&format!("\n  state      {of_list}\n")), "{whole}");
            of_list
        };
        for status in api::workflow::WorkflowStatus::ALL {
            assert_eq!(shown(Some(status)), status.as_str());
        }
        assert_eq!(shown(Some(api::workflow::WorkflowStatus::Unknown)), "unknown");
        assert_eq!(shown(None), "running", "of a server of before");
    }

    /// Nothing of it goes on, whenever somebody looks, and whatever became of its stages.
    #[test]
    fn a_workflow_that_is_over_has_its_own_times() {
        let mut job = stage(0, StageKind::Job, "a", State::Started);
        job.ended = None;
        let mut workflow = workflow(vec![job], State::Canceled);
        workflow.summary.ended = Some(Timestamp(1_795_464_007_000_000));
        let status = status_at(Style::PLAIN, &workflow, Timestamp(1_795_500_000_000_000));
        let times = status.lines().filter(|line| line.contains("7s")).count();
        assert_eq!(times, 2, "{status}");
    }

    #[test]
    fn reasons_stand_below_what_waits() {
        let one = Waiting {
            stage: 1,
            name: "a".to_owned(),
            reasons: vec!["n1: 2 of 4 cores are free".to_owned()],
        };
        assert_eq!(why(&[one]), "a waits:\n  n1: 2 of 4 cores are free\n");
        assert_eq!(why(&[]), "nothing waits\n");
    }
}
