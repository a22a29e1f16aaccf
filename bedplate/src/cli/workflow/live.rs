//! A workflow as it goes on: a screen with a line a stage, or a line for each change where there is no terminal.

use std::io::{self, IsTerminal as _};

use api::{
    ids::Timestamp,
    workflow::{Stage, State, TaskCounts, Workflow},
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
                    drawn[index].set_message(line);
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

/// What fits: if not all stages do, those that run, then those that failed, then those that wait, then the others.
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
    let head = format!(
        "{}: {}, {} of {} stages, {}",
        summary.name,
        summary.state.as_str(),
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
    let time = if stage.started.is_some() { took(stage.started, stage.ended, now) } else { String::new() };
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
/// for a workflow that is blocked.
fn changes(said: &mut Vec<String>, workflow: &Workflow, now: Timestamp) -> Vec<String> {
    said.resize(workflow.stages.len() + 1, String::new());
    let mut lines = Vec::new();
    let blocked = workflow.summary.blocked.as_deref().unwrap_or_default();
    let Some((last, said)) = said.split_first_mut() else { return lines };
    if blocked != last {
        blocked.clone_into(last);
        let how =
            if blocked.is_empty() { "blocked no more".to_owned() } else { format!("blocked: {blocked}") };
        lines.push(format!("{now}  {how}\n"));
    }
    for (stage, last) in workflow.stages.iter().zip(said) {
        // What waits for other stages is no news; what waits for a free node is.
        let is_over =
            |index: &u32| workflow.stages.get(*index as usize).is_none_or(|one| one.state.is_ended());
        if stage.state == State::Pending && (stage.reason.is_none() || !stage.after.iter().all(is_over)) {
            continue;
        }
        let note = [quarter(stage.tasks), nodes(stage), stage.reason.clone().unwrap_or_default()];
        let note: Vec<String> = note.into_iter().filter(|part| !part.is_empty()).collect();
        let line = format!(
            "{:<6} {:<24} {:<9} {}",
            stage.kind.as_str(),
            stage.name,
            stage.state.as_str(),
            note.join("  ")
        );
        let line = line.trim_end().to_owned();
        if line != *last {
            lines.push(format!("{now}  {line}\n"));
            *last = line;
        }
    }
    lines
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
            hello: started, 1 of 3 stages, 1m 40s
            + image  busybox                  finished  3s
            > job    frames                   started   1m 40s  4/32, 8 running  n1
              job    sum                      pending   waits for frames"#]]
        .assert_eq(&lines);
    }

    #[test]
    fn what_is_blocked_says_why() {
        let mut workflow = workflow(vec![stage(0, StageKind::Job, "a", State::Started)], State::Started);
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
    fn lines_are_said_once() {
        let mut said = Vec::new();
        let mut lines = |state, finished| {
            let mut job = stage(0, StageKind::Job, "frames", state);
            job.tasks = TaskCounts { pending: 4 - finished, finished, ..TaskCounts::default() };
            changes(&mut said, &workflow(vec![job], State::Started), NOW).concat()
        };
        assert_eq!(lines(State::Pending, 0), "");
        let first = lines(State::Started, 0);
        assert_eq!(first, "2026-11-23T20:01:40Z  job    frames                   started   0% of 4 tasks\n");
        assert_eq!(lines(State::Started, 0), "");
        assert!(lines(State::Started, 1).contains("25%"));
        assert!(lines(State::Finished, 4).contains("finished  100%"));
    }
}
