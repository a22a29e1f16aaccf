//! A workflow as it goes on: a screen with a line a stage, or a line for each change where there
//! is no terminal.

use std::io::{self, IsTerminal as _};

use api::{
    ids::Timestamp,
    workflow::{Stage, State, TaskCounts, Workflow, WorkflowStatus, WorkflowSummary},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    super::output::print,
    show::{nodes, tasks, took},
};

/// Most lines on the screen: a small terminal has 24.
const MAX_LINES: usize = 20;

/// Shows a workflow.
#[derive(Debug)]
pub(super) enum Live {
    /// On a terminal.
    Screen(MultiProgress, Vec<ProgressBar>),
    /// Anywhere else: what was last said of each stage.
    Lines(Vec<String>),
}

impl Live {
    pub(super) fn new() -> Self {
        if io::stdout().is_terminal() && io::stderr().is_terminal() {
            Self::Screen(MultiProgress::new(), Vec::new())
        } else {
            Self::Lines(Vec::new())
        }
    }

    /// Shows how it stands now.
    pub(super) fn draw(&mut self, workflow: &Workflow, now: Timestamp) -> anyhow::Result<()> {
        match self {
            Self::Screen(screen, drawn) => {
                let lines = screenful(workflow, now);
                while drawn.len() > lines.len() {
                    drawn.pop().inspect(ProgressBar::finish_and_clear);
                }
                for (index, line) in lines.into_iter().enumerate() {
                    if index == drawn.len() {
                        let bar = screen.add(ProgressBar::new_spinner());
                        // The template is a constant that a test reads.
                        bar.set_style(
                            ProgressStyle::with_template(LINE)
                                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                        );
                        drawn.push(bar);
                    }
                    drawn[index].set_message(api::visible::line(&line).into_owned());
                }
                Ok(())
            }
            Self::Lines(said) => {
                let lines: String = changes(said, workflow, now).concat();
                if lines.is_empty() { Ok(()) } else { print(&lines) }
            }
        }
    }

    /// Takes it off the screen.
    pub(super) fn clear(&self) {
        if let Self::Screen(screen, _) = self {
            // A terminal that is gone needs no clearing.
            let _ = screen.clear();
        }
    }

    /// Whether the whole is still to be shown when it is over.
    pub(super) fn is_screen(&self) -> bool {
        matches!(self, Self::Screen(..))
    }
}

/// A line of the screen, cut to its width.
const LINE: &str = "{wide_msg}";

/// What fits: if not all stages do, those that run, then those that failed, then those that wait,
/// then the others.
fn screenful(workflow: &Workflow, now: Timestamp) -> Vec<String> {
    let mut shown: Vec<&Stage> = workflow.stages.iter().collect();
    let hidden = shown.len().saturating_sub(MAX_LINES);
    if hidden > 0 {
        shown.sort_by_key(|stage| match stage.state {
            State::Started => 0,
            State::Failed => 1,
            State::Pending => 2,
            State::Canceled => 3,
            State::Finished => 4,
        });
        shown.truncate(MAX_LINES);
        shown.sort_by_key(|stage| stage.index);
    }
    let summary = &workflow.summary;
    let now = summary.ended.unwrap_or(now);
    let head = format!(
        "{}: {}, {} of {} stages, {}",
        summary.name,
        summary.status().as_str(),
        summary.stages_finished,
        summary.stages,
        took(summary.started, summary.ended, now)
    );
    let blocked = summary.blocked.as_ref().map(|why| format!("  blocked: {why}"));
    let more = (hidden > 0).then(|| format!("  … and {hidden} more"));
    let lines = shown.into_iter().map(|stage| line_of(stage, now));
    std::iter::once(head).chain(blocked).chain(lines).chain(more).collect()
}

fn line_of(stage: &Stage, now: Timestamp) -> String {
    let mark = match stage.state {
        State::Pending => ' ',
        State::Started => '>',
        State::Finished => '+',
        State::Failed => '!',
        State::Canceled => '-',
    };
    let time =
        if stage.started.is_some() { took(stage.started, stage.ended, now) } else { String::new() };
    let notes = [time, tasks(stage.tasks), nodes(stage), stage.reason.clone().unwrap_or_default()];
    let notes: Vec<String> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    let line = format!(
        "{mark} {:<6} {:<24} {:<9} {}",
        stage.kind.as_str(),
        stage.name,
        stage.state.as_str(),
        notes.join("  ")
    );
    line.trim_end().to_owned()
}

/// A line for each stage that looks different from what was last said of it, and before them one
/// for a workflow that stands still or is stopping. Each has the time when it came to be so: of
/// what began or ended, that of the record; the lines are in the order of their times.
fn changes(said: &mut Vec<String>, workflow: &Workflow, now: Timestamp) -> Vec<String> {
    said.resize(workflow.stages.len() + 1, String::new());
    let now = workflow.summary.ended.unwrap_or(now);
    let mut lines = Vec::new();
    let Some((last, said)) = said.split_first_mut() else { return Vec::new() };
    lines.extend(standing(last, &workflow.summary).map(|line| (now, line)));
    for (stage, last) in workflow.stages.iter().zip(said) {
        // What waits for other stages is no news; what waits for a free node is.
        let is_over = |index: &u32| {
            workflow.stages.get(*index as usize).is_none_or(|one| one.state.is_ended())
        };
        if stage.state == State::Pending
            && (stage.reason.is_none() || !stage.after.iter().all(is_over))
        {
            continue;
        }
        let head =
            format!("{:<6} {:<24} {:<9}", stage.kind.as_str(), stage.name, stage.state.as_str());
        let note = [quarter(stage.tasks), nodes(stage), stage.reason.clone().unwrap_or_default()];
        let note: Vec<String> = note.into_iter().filter(|part| !part.is_empty()).collect();
        let line = format!("{head} {}", note.join("  ")).trim_end().to_owned();
        if line != *last {
            let is_first = !last.starts_with(head.trim_end());
            // A reason of what runs came after its beginning.
            let has_begun = stage.started.filter(|_| is_first && stage.reason.is_none());
            lines.push((stage.ended.or(has_begun).unwrap_or(now), line.clone()));
            *last = line;
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    lines.into_iter().map(|(at, line)| format!("{at}  {line}\n")).collect()
}

/// What is said of a workflow that is blocked, paused or stopping, or is so no more, where it is
/// not what was last said.
fn standing(last: &mut String, summary: &WorkflowSummary) -> Option<String> {
    let how = match (summary.status(), &summary.blocked, &summary.paused) {
        (WorkflowStatus::Stopping, ..) => "stopping".to_owned(),
        (WorkflowStatus::Blocked, Some(why), _) => format!("blocked: {why}"),
        (WorkflowStatus::Paused, _, Some(by)) => format!("paused by {by}"),
        _ => String::new(),
    };
    if how == *last {
        return None;
    }
    let before = std::mem::replace(last, how.clone());
    if !how.is_empty() {
        return Some(how);
    }
    let is_no_more = match before.split([':', ' ']).next() {
        Some("blocked") => "blocked no more",
        Some("paused") => "goes on",
        _ => return None,
    };
    // That it is over is said by its end.
    summary.ended.is_none().then(|| is_no_more.to_owned())
}

/// The tasks of an array that have ended well, rounded down to a quarter.
fn quarter(counts: TaskCounts) -> String {
    let all = counts.pending + counts.started + counts.finished + counts.failed + counts.canceled;
    if all <= 1 {
        return String::new();
    }
    let percent = u64::from(counts.finished) * 4 / u64::from(all) * 25;
    format!("{percent}% of {all} tasks")
}

#[cfg(test)]
mod tests {
    use api::workflow::StageKind;
    use expect_test::expect;

    use super::{
        super::show::tests::{NOW, stage, workflow},
        *,
    };

    #[test]
    fn the_template_is_understood() {
        assert!(ProgressStyle::with_template(LINE).is_ok());
    }

    #[test]
    fn a_screen_shows_each_stage() {
        let mut job = stage(1, StageKind::Job, "frames", State::Started);
        job.tasks = TaskCounts { pending: 20, started: 8, finished: 4, ..TaskCounts::default() };
        job.nodes = vec!["n1".parse().unwrap()];
        let mut last = stage(2, StageKind::Job, "sum", State::Pending);
        last.reason = Some("waits for frames".to_owned());
        let stages = vec![stage(0, StageKind::Image, "busybox", State::Finished), job, last];
        let lines = screenful(&workflow(stages, State::Started), NOW).join("\n");
        expect![[r#"
            hello: running, 1 of 3 stages, 1m 40s
            + image  busybox                  finished  3s
            > job    frames                   started   1m 40s  4/32, 8 running  n1
              job    sum                      pending   waits for frames"#]]
        .assert_eq(&lines);
    }

    #[test]
    fn what_is_blocked_says_why() {
        let mut workflow =
            workflow(vec![stage(0, StageKind::Job, "a", State::Started)], State::Started);
        workflow.summary.blocked = Some("its plan is of tomorrow".to_owned());
        let screen = screenful(&workflow, NOW).join("\n");
        assert!(screen.contains("\n  blocked: its plan is of tomorrow\n"), "{screen}");
        let mut said = Vec::new();
        let first = changes(&mut said, &workflow, NOW).concat();
        assert!(first.contains("  blocked: its plan is of tomorrow\n"), "{first}");
        assert_eq!(changes(&mut said, &workflow, NOW).concat(), "");
        workflow.summary.blocked = None;
        assert!(changes(&mut said, &workflow, NOW).concat().ends_with("  blocked no more\n"));
    }

    #[test]
    fn a_screen_has_an_end() {
        let mut stages: Vec<Stage> =
            (0..100).map(|index| stage(index, StageKind::Job, "x", State::Finished)).collect();
        stages[90].state = State::Started;
        stages[90].name = "runs".to_owned();
        let lines = screenful(&workflow(stages, State::Started), NOW);
        assert_eq!(lines.len(), MAX_LINES + 2);
        assert!(lines.iter().any(|line| line.contains("runs")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "  … and 80 more");
    }

    #[test]
    fn a_stage_that_waits_for_another_is_no_news() {
        let mut job = stage(1, StageKind::Job, "a", State::Pending);
        job.after = vec![0];
        job.reason = Some("n1: 1 of 2 cores is free".to_owned());
        let mut said = Vec::new();
        let mut lines = |before| {
            let stages = vec![stage(0, StageKind::Image, "i", before), job.clone()];
            changes(&mut said, &workflow(stages, State::Started), NOW).concat()
        };
        assert!(!lines(State::Started).contains("cores"));
        assert!(lines(State::Finished).contains("1 of 2 cores is free"));
    }

    #[test]
    fn what_failed_and_is_tried_again_is_said_once() {
        let mut file = stage(0, StageKind::File, "data/in.tar", State::Started);
        let mut said = Vec::new();
        let mut lines = |reason: &str| {
            file.reason = Some(reason.to_owned());
            let workflow = workflow(vec![file.clone()], State::Started);
            assert!(screenful(&workflow, NOW).join("\n").ends_with(reason));
            changes(&mut said, &workflow, NOW).concat()
        };
        let first = "try 1 of 6 failed: http://host/in.tar answers 503; the next 2 s later";
        assert_eq!(
            lines(first),
            format!("2026-11-23T20:01:40Z  file   data/in.tar              started   {first}\n")
        );
        assert_eq!(lines(first), "");
        assert!(lines("try 2 of 6 failed: refused; the next 4 s later").contains("try 2 of 6"));
    }

    #[test]
    fn lines_are_said_once() {
        let mut said = Vec::new();
        let mut lines = |state, finished| {
            let mut job = stage(0, StageKind::Job, "frames", state);
            job.tasks = TaskCounts { pending: 4 - finished, finished, ..TaskCounts::default() };
            changes(&mut said, &workflow(vec![job], State::Started), NOW).concat()
        };
        assert_eq!(lines(State::Pending, 0), "");
        let first = lines(State::Started, 0);
        assert_eq!(
            first,
            "2026-11-23T20:00:00Z  job    frames                   started   0% of 4 tasks\n"
        );
        assert_eq!(lines(State::Started, 0), "");
        // Of how far it is there is no record.
        assert!(lines(State::Started, 1).starts_with("2026-11-23T20:01:40Z  job    frames"));
        let last = lines(State::Finished, 4);
        assert!(
            last.starts_with("2026-11-23T20:00:03Z") && last.contains("finished  100%"),
            "{last}"
        );
    }

    /// Whenever somebody watches it: not a time of that moment.
    #[test]
    fn a_workflow_that_is_over_is_shown_with_its_own_times() {
        let mut late = stage(0, StageKind::Job, "late", State::Failed);
        late.ended = Some(Timestamp(1_795_464_009_000_000));
        let mut never = stage(2, StageKind::Job, "never", State::Canceled);
        (never.started, never.reason) = (None, Some("job late failed".to_owned()));
        never.ended = late.ended;
        let stages = vec![late, stage(1, StageKind::Job, "early", State::Finished), never];
        let mut workflow = workflow(stages, State::Failed);
        workflow.summary.ended = Some(Timestamp(1_795_464_009_000_000));
        let tomorrow = NOW.plus_seconds(86_400);
        expect![[r#"
            2026-11-23T20:00:03Z  job    early                    finished
            2026-11-23T20:00:09Z  job    late                     failed
            2026-11-23T20:00:09Z  job    never                    canceled  job late failed
        "#]]
        .assert_eq(&changes(&mut Vec::new(), &workflow, tomorrow).concat());
        assert_eq!(screenful(&workflow, tomorrow)[0], "hello: failed, 1 of 3 stages, 9s");
    }

    #[test]
    fn what_stands_still_or_stops_says_so() {
        let mut workflow =
            workflow(vec![stage(0, StageKind::Job, "a", State::Pending)], State::Started);
        let mut said = Vec::new();
        let mut line = |status, paused: Option<&str>| {
            workflow.summary.status = Some(status);
            workflow.summary.paused = paused.map(str::to_owned);
            let lines = changes(&mut said, &workflow, NOW).concat();
            lines.trim_end().trim_start_matches("2026-11-23T20:01:40Z  ").to_owned()
        };
        assert_eq!(line(WorkflowStatus::Waiting, None), "");
        assert_eq!(line(WorkflowStatus::Paused, Some("ann")), "paused by ann");
        assert_eq!(line(WorkflowStatus::Running, None), "goes on");
        assert_eq!(line(WorkflowStatus::Paused, Some("bob")), "paused by bob");
        assert_eq!(line(WorkflowStatus::Stopping, None), "stopping");
        assert_eq!(line(WorkflowStatus::Canceled, None), "");
    }
}
