//! `node watch`: a line for each step of each node, until somebody has seen enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::{anyhow, bail};
use api::{
    hostlist,
    ids::{NodeId, NodeName, Timestamp},
    status::{NodeStatus, NodeUpdate, Phase},
};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use client::{Client, ClientError, WatchMessage};
use serde::Serialize;

use super::{
    super::{
        clock, columns,
        context::Session,
        output::{Rows, print_note},
        table::phase_word,
        words,
    },
    MaybeNodes, show,
};

/// Failed nodes whose cause is told at the end; of the others, how many there are.
const MAX_CAUSES: usize = 5;

/// How long to wait before the server is asked again after it went away.
const RETRY: Duration = Duration::from_secs(1);

/// All phases, for `--until`.
const PHASES: [Phase; 11] = [
    Phase::Unseen,
    Phase::Offered,
    Phase::Firmware,
    Phase::Stage1,
    Phase::Fetching,
    Phase::Switching,
    Phase::Enrolled,
    Phase::Ready,
    Phase::Rebooting,
    Phase::Lost,
    Phase::Failed,
];

/// Print each step of nodes as it comes, or wait until they are in a phase.
#[derive(Debug, Args)]
#[command(
    after_help = "First comes a line for each node as it is. From then on each node has a line for each step
that it takes: offered, firmware, stage1, fetching, switching, enrolled, ready, or failed with the
cause. The line tells when the step began and how long the one before took. What else keeps a node
(held, drained, stuck) has a line when it begins and when it ends. The lines are the same on a
terminal and in a pipe. A server that goes away is asked again until it is back.

With --until it ends when each node is in that phase, or has failed or was deleted meanwhile. A node
that has failed before is waited for. One that was added again under the same name is another node.

-o json and yaml print an object for each line, csv a row; `after` holds the phase before and how
long it took.

Exit status with --until: 0 all nodes are in the phase; 1 one has failed or was deleted, or the time
has passed.

Examples:
  bedplate node watch
  bedplate node watch n[1-8] --until ready --timeout 10m && echo all ready
  bedplate node watch -o json | jq -r .name"
)]
pub(in super::super) struct Watch {
    #[command(flatten)]
    nodes: MaybeNodes,
    /// End as soon as all these nodes are in this phase.
    #[arg(long, value_name = "PHASE", value_parser = phases())]
    until: Option<Phase>,
    /// With --until: fail after this time, such as 90s or 10m.
    #[arg(long, value_name = "TIME", value_parser = words::duration, requires = "until")]
    timeout: Option<Duration>,
    /// Print also how much of the root image a node has fetched.
    #[arg(long)]
    progress: bool,
}

fn phases() -> impl clap::builder::TypedValueParser<Value = Phase> {
    PossibleValuesParser::new(PHASES.map(Phase::as_str)).map(|text| {
        // The parser lets only these words through.
        PHASES.into_iter().find(|phase| phase.as_str() == text).unwrap_or(Phase::Ready)
    })
}

pub(super) async fn run(
    session: &Session,
    client: &Client,
    watch: &Watch,
) -> anyhow::Result<ExitCode> {
    let present = client.nodes(watch.nodes.list().as_deref()).await?;
    let ids: BTreeMap<NodeName, NodeId> =
        present.into_iter().map(|node| (node.name, node.id)).collect();
    if watch.until.is_some() && ids.is_empty() {
        bail!("there are no nodes to wait for");
    }
    let mut seen = Seen {
        only: watch.nodes.list().is_some(),
        progress: watch.progress,
        names: ids.keys().cloned().collect(),
        ids,
        ..Seen::default()
    };
    let watching = follow(session, client, watch, &mut seen);
    match watch.timeout {
        None => watching.await?,
        Some(timeout) => match tokio::time::timeout(timeout, watching).await {
            Ok(ended) => ended?,
            Err(_) => return Err(seen.late(watch.until, timeout)),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints changes until all nodes are where they should be. Without `--until` it ends
/// only with an error.
async fn follow(
    session: &Session,
    client: &Client,
    watch: &Watch,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let mut answered = false;
    loop {
        let mut events = match client.watch_nodes().await {
            Ok(events) => events,
            Err(error) if answered && is_away(&error) => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        answered = true;
        while let Ok(told) = events.next_message().await? {
            match told {
                WatchMessage::ListBegin => seen.listed.clear(),
                WatchMessage::State(update) => {
                    if let Some(step) = seen.take(update, clock::now()) {
                        session.out.stream(&step, |_| line(&step, watch.progress))?;
                    }
                }
                WatchMessage::ListEnd => {
                    for name in seen.end_list() {
                        print_note(&format!("{name} was deleted"));
                    }
                }
            }
            if let Some(outcome) = watch.until.and_then(|phase| seen.outcome(phase)) {
                return outcome;
            }
        }
        print_note("the server has gone away: asking again");
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether the server is away or not yet there again; a proxy before it says so with a 5xx.
fn is_away(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. })
        || error.status().is_some_and(|status| status >= 500)
}

/// A step of a node, or what else changed of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Step {
    /// When the node came into its phase; of a change within a phase, when it was seen here.
    at: Timestamp,
    #[serde(flatten)]
    update: NodeUpdate,
    /// The step before; `None` of the first line of a node and of a change within a phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<StepBefore>,
}

/// A step that is over.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct StepBefore {
    phase: Phase,
    /// How long the node was in it, by the server's clock.
    milliseconds: u64,
}

impl StepBefore {
    fn of(before: &NodeStatus, now: &NodeStatus) -> Self {
        let micros = now.since.0.saturating_sub(before.since.0);
        // A server's clock that was set back leaves nothing to tell.
        Self { phase: before.phase, milliseconds: u64::try_from(micros / 1000).unwrap_or(0) }
    }
}

impl Rows for Step {
    const COLUMNS: &'static [&'static str] = columns::STEP;
}

/// What was printed, and who is waited for.
#[derive(Debug, Default)]
struct Seen {
    /// Other nodes are not shown.
    only: bool,
    /// Progress of a fetch is shown.
    progress: bool,
    names: BTreeSet<NodeName>,
    /// Those nodes as they were at the beginning: another one may get the name of one
    /// that is deleted.
    ids: BTreeMap<NodeName, NodeId>,
    /// Those of `names` that the server has told since it began a list of all.
    listed: BTreeSet<NodeName>,
    /// Those of `names` that were deleted meanwhile.
    deleted: BTreeSet<NodeName>,
    last: BTreeMap<NodeName, NodeStatus>,
    /// Those that failed while they were watched, and why.
    failed: BTreeMap<NodeName, String>,
}

impl Seen {
    /// What to print; `None` if nothing that shows has changed, as after the server is back.
    fn take(&mut self, update: NodeUpdate, now: Timestamp) -> Option<Step> {
        if self.only && !self.names.contains(&update.name) {
            return None;
        }
        if self.ids.get(&update.name).is_none_or(|id| *id == update.id) {
            self.listed.insert(update.name.clone());
        }
        let status = &update.status;
        let Some(last) = self.last.insert(update.name.clone(), status.clone()) else {
            return Some(Step { at: status.since, update, after: None });
        };
        if last.phase != status.phase || is_another_boot(&last, status) {
            if status.phase == Phase::Failed {
                self.failed.insert(update.name.clone(), show::note(status));
            } else {
                self.failed.remove(&update.name);
            }
            let after = Some(StepBefore::of(&last, status));
            return Some(Step { at: status.since, update, after });
        }
        let percent = |status: &NodeStatus| status.percent.filter(|_| self.progress);
        let is_same = percent(&last) == percent(status) && show::note(&last) == show::note(status);
        (!is_same).then_some(Step { at: now, update, after: None })
    }

    /// The server has told all nodes that there are: which of those that are watched are new
    /// among the deleted.
    fn end_list(&mut self) -> Vec<NodeName> {
        let gone = self.names.difference(&self.listed);
        let new: Vec<NodeName> =
            gone.filter(|name| !self.deleted.contains(*name)).cloned().collect();
        for name in &new {
            // What another node of this name does is told from its beginning.
            self.last.remove(name);
            self.failed.remove(name);
        }
        self.deleted.extend(new.iter().cloned());
        new
    }

    /// How it ends, as soon as each node is in the phase, or has failed or is gone.
    fn outcome(&self, phase: Phase) -> Option<anyhow::Result<()>> {
        let is_deleted = |name: &NodeName| self.deleted.contains(name);
        let is_there = |name: &NodeName| {
            !is_deleted(name) && self.last.get(name).is_some_and(|status| status.phase == phase)
        };
        let failed: Vec<&NodeName> = self
            .names
            .iter()
            .filter(|name| !is_there(name) && self.failed.contains_key(*name))
            .collect();
        let is_over =
            |name: &NodeName| is_there(name) || is_deleted(name) || self.failed.contains_key(name);
        if !self.names.iter().all(is_over) {
            return None;
        }
        if failed.is_empty() && self.deleted.is_empty() {
            return Some(Ok(()));
        }
        let cause = |name: &&&NodeName| match self.failed.get(**name).map(String::as_str) {
            None | Some("") => name.to_string(),
            Some(cause) => format!("{name} ({cause})"),
        };
        let mut causes: Vec<String> =
            failed.iter().take(MAX_CAUSES).map(|name| cause(&name)).collect();
        let more = failed.len().saturating_sub(MAX_CAUSES);
        if more > 0 {
            causes.push(format!("and {more} more"));
        }
        let failed = (!causes.is_empty()).then(|| format!("failed: {}", causes.join(", ")));
        let names = self.deleted.iter().map(NodeName::as_str);
        let deleted = (!self.deleted.is_empty())
            .then(|| format!("deleted meanwhile: {}", hostlist::compress(names)));
        let why: Vec<String> = failed.into_iter().chain(deleted).collect();
        Some(Err(anyhow!("not all nodes are {}: {}", phase.as_str(), why.join("; "))))
    }

    /// Who is not there yet, and where they are.
    fn late(&self, until: Option<Phase>, timeout: Duration) -> anyhow::Error {
        let mut late: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in &self.names {
            if self.deleted.contains(name) {
                late.entry("deleted").or_default().push(name.as_str());
                continue;
            }
            let phase = self.last.get(name).map(|status| status.phase);
            if phase != until {
                late.entry(phase.map_or("not heard of", Phase::as_str))
                    .or_default()
                    .push(name.as_str());
            }
        }
        let groups: Vec<String> = late
            .into_iter()
            .map(|(phase, names)| format!("{} {phase}", hostlist::compress(names)))
            .collect();
        let until = until.map_or("there", Phase::as_str);
        anyhow!("not all nodes are {until} after {} s: {}", timeout.as_secs(), groups.join("; "))
    }
}

/// The firmware began again in the phase in which it was.
fn is_another_boot(last: &NodeStatus, now: &NodeStatus) -> bool {
    matches!(now.phase, Phase::Offered | Phase::Firmware) && now.since > last.since
}

/// `TIME  NODE  PHASE  PHASE-BEFORE took 3.1 s; NOTE`.
fn line(step: &Step, progress: bool) -> String {
    let Step { at, update: NodeUpdate { name, status, .. }, after } = step;
    let phase = match status.percent {
        Some(percent) if progress && status.phase == Phase::Fetching => {
            format!("fetching {percent}%")
        }
        _ => phase_word(status),
    };
    let took = after.as_ref().map(|StepBefore { phase, milliseconds }| {
        format!("{} took {}", phase.as_str(), words::milliseconds(*milliseconds))
    });
    let is_booted = status.phase == Phase::Ready
        && after.as_ref().is_some_and(|before| before.phase == Phase::Enrolled);
    let boot = status.boot_ms.filter(|_| is_booted);
    let boot = boot.map(|boot| format!("the boot took {}", words::milliseconds(boot)));
    let note = Some(show::note(status)).filter(|note| !note.is_empty());
    let rest: Vec<String> = took.into_iter().chain(boot).chain(note).collect();
    let line = format!("{at}  {name:<12}  {phase:<13}  {}", rest.join("; "));
    line.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// 2026-11-23 20:00 UTC.
    const NOW: Timestamp = Timestamp(1_795_464_000_000_000);

    fn update(name: &str, status: NodeStatus) -> NodeUpdate {
        NodeUpdate { id: NodeId(uuid::Uuid::nil()), name: name.parse().unwrap(), status }
    }

    fn seen(names: &[&str], progress: bool) -> Seen {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        Seen { only: true, progress, names, ..Seen::default() }
    }

    /// In a phase since so many tenths of a second after [`NOW`].
    fn at(tenths: i64, phase: Phase) -> NodeStatus {
        let since = Timestamp(NOW.0 + tenths * 100_000);
        NodeStatus { since, ..super::show::tests::status(phase) }
    }

    fn lines(seen: &mut Seen, statuses: impl IntoIterator<Item = NodeStatus>) -> String {
        let steps = statuses.into_iter().filter_map(|status| seen.take(update("n1", status), NOW));
        let steps: Vec<Step> = steps.collect();
        steps.iter().map(|step| line(step, seen.progress)).collect()
    }

    #[test]
    fn a_boot_has_a_line_for_each_step_with_the_time_of_the_one_before() {
        let fetching = |percent| NodeStatus { percent: Some(percent), ..at(130, Phase::Fetching) };
        let boot = || {
            [
                at(0, Phase::Offered),
                at(0, Phase::Offered),
                at(31, Phase::Firmware),
                at(100, Phase::Stage1),
                fetching(1),
                fetching(1),
                fetching(50),
                at(900, Phase::Switching),
                at(950, Phase::Enrolled),
                NodeStatus { boot_ms: Some(95_700), ..at(957, Phase::Ready) },
                NodeStatus {
                    last_seen: Some(NOW.plus_seconds(200)),
                    boot_ms: Some(95_700),
                    ..at(957, Phase::Ready)
                },
                NodeStatus {
                    held: Some("overlay x".into()),
                    boot_ms: Some(95_700),
                    ..at(957, Phase::Ready)
                },
                at(2000, Phase::Offered),
                at(2050, Phase::Offered),
                NodeStatus { reason: Some("no route".to_owned()), ..at(2100, Phase::Failed) },
            ]
        };
        expect![[r#"
            2026-11-23T20:00:00Z  n1            offered
            2026-11-23T20:00:03Z  n1            firmware       offered took 3.1 s
            2026-11-23T20:00:10Z  n1            stage1         firmware took 6.9 s
            2026-11-23T20:00:13Z  n1            fetching       stage1 took 3.0 s
            2026-11-23T20:01:30Z  n1            switching      fetching took 1 m 17 s
            2026-11-23T20:01:35Z  n1            enrolled       switching took 5.0 s
            2026-11-23T20:01:35Z  n1            ready          enrolled took 0.7 s; the boot took 1 m 35 s
            2026-11-23T20:00:00Z  n1            ready          held: overlay x
            2026-11-23T20:03:20Z  n1            offered        ready took 1 m 44 s
            2026-11-23T20:03:25Z  n1            offered        offered took 5.0 s
            2026-11-23T20:03:30Z  n1            failed         offered took 5.0 s; no route
        "#]]
        .assert_eq(&lines(&mut seen(&["n1"], false), boot()));
        let progress = lines(&mut seen(&["n1"], true), boot());
        assert!(
            progress.contains("fetching 1% ") && progress.contains("fetching 50%"),
            "{progress}"
        );
        assert!(seen(&["n1"], false).take(update("n2", at(0, Phase::Ready)), NOW).is_none());
    }

    #[test]
    fn a_step_for_programs_is_the_update_with_its_time_and_the_step_before() {
        let mut seen = seen(&["n1"], false);
        seen.take(update("n1", at(0, Phase::Offered)), NOW);
        let step = seen.take(update("n1", at(31, Phase::Firmware)), NOW).unwrap();
        let mut json = serde_json::to_value(&step).unwrap();
        let at = NOW.0 + 3_100_000;
        assert_eq!(
            (json["at"].as_i64(), json["after"].take()),
            (
                Some(at),
                serde_json::json!({
                    "phase": "offered", "milliseconds": 3100,
                })
            )
        );
        let plain: NodeUpdate = serde_json::from_value(json).unwrap();
        assert_eq!(plain, step.update);
    }

    #[test]
    fn all_must_be_there() {
        let mut seen = seen(&["n1", "n2", "n3"], false);
        seen.take(update("n1", at(0, Phase::Ready)), NOW);
        seen.take(update("n2", at(0, Phase::Fetching)), NOW);
        assert!(seen.outcome(Phase::Ready).is_none());
        let late = seen.late(Some(Phase::Ready), Duration::from_secs(60));
        assert_eq!(
            late.to_string(),
            "not all nodes are ready after 60 s: n2 fetching; n3 not heard of"
        );
        seen.take(update("n2", at(1, Phase::Ready)), NOW);
        seen.take(update("n3", at(1, Phase::Ready)), NOW);
        assert!(seen.outcome(Phase::Ready).unwrap().is_ok());
    }

    #[test]
    fn one_that_is_deleted_is_not_waited_for_and_told() {
        let mut seen = seen(&["n1", "n2", "n3"], false);
        let list = |seen: &mut Seen, names: &[&str]| {
            seen.listed.clear();
            for name in names {
                seen.take(update(name, at(0, Phase::Ready)), NOW);
            }
            seen.end_list().iter().map(NodeName::to_string).collect::<Vec<_>>()
        };
        assert_eq!(list(&mut seen, &["n1", "n2", "n3"]), [""; 0]);
        assert!(seen.outcome(Phase::Ready).unwrap().is_ok());
        seen.take(update("n3", at(1, Phase::Offered)), NOW);
        assert_eq!(list(&mut seen, &["n2"]), ["n1", "n3"]);
        let outcome = seen.outcome(Phase::Ready).unwrap().unwrap_err().to_string();
        assert_eq!(outcome, "not all nodes are ready: deleted meanwhile: n[1,3]");
        // The others are waited for.
        seen.take(update("n2", at(2, Phase::Offered)), NOW);
        assert!(seen.outcome(Phase::Ready).is_none());
        assert_eq!(list(&mut seen, &[]), ["n2"], "each is told once");
        let late = seen.late(Some(Phase::Ready), Duration::from_secs(60)).to_string();
        assert_eq!(late, "not all nodes are ready after 60 s: n[1-3] deleted");
        // Another node takes the name: it is not the one that is waited for.
        let name: NodeName = "n1".parse().unwrap();
        let mut seen = self::seen(&["n1"], false);
        seen.ids.insert(name, NodeId(uuid::Uuid::from_u128(9)));
        assert_eq!(list(&mut seen, &["n1"]), ["n1"]);
        assert!(seen.outcome(Phase::Ready).unwrap().is_err());
    }

    #[test]
    fn one_that_fails_is_not_waited_for_and_told() {
        let failed = |tenths| NodeStatus {
            reason: Some("no route".to_owned()),
            ..at(tenths, Phase::Failed)
        };
        let mut seen = seen(&["n1", "n2"], false);
        // It failed before somebody mended it and began to watch.
        seen.take(update("n1", failed(0)), NOW);
        seen.take(update("n2", at(0, Phase::Stage1)), NOW);
        seen.take(update("n2", failed(10)), NOW);
        assert!(seen.outcome(Phase::Ready).is_none(), "n1 may still come");
        seen.take(update("n1", at(20, Phase::Ready)), NOW);
        let outcome = seen.outcome(Phase::Ready).unwrap().unwrap_err();
        assert_eq!(outcome.to_string(), "not all nodes are ready: failed: n2 (no route)");
        assert!(seen.outcome(Phase::Failed).is_none());
        // It tries again by itself.
        seen.take(update("n2", at(30, Phase::Offered)), NOW);
        assert!(seen.outcome(Phase::Ready).is_none());
        let names: Vec<String> = (0..9).map(|number| format!("m{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut many = self::seen(&names, false);
        for name in names {
            many.take(update(name, at(0, Phase::Stage1)), NOW);
            many.take(update(name, at(1, Phase::Failed)), NOW);
        }
        let outcome = many.outcome(Phase::Ready).unwrap().unwrap_err().to_string();
        assert_eq!(outcome, "not all nodes are ready: failed: m0, m1, m2, m3, m4, and 4 more");
        assert!(many.outcome(Phase::Failed).unwrap().is_ok());
    }
}
