//! `node watch`: a line for each change, until somebody has seen enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::{anyhow, bail};
use api::{
    ids::{NodeName, Timestamp},
    status::{NodeStatus, NodeUpdate, Phase},
};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use client::{Client, ClientError};
use provisioner::hostlist;

use super::{
    super::{clock, context::Session, output::say, words},
    MaybeNodes, show,
};

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

/// Print each change of nodes as it comes, or wait until they are in a phase.
#[derive(Debug, Args)]
#[command(after_help = "A server that goes away is asked again until it is back.

Examples:
  bedplate node watch
  bedplate node watch n[1-8] --until ready --timeout 10m && echo all ready
  bedplate node watch -o json | jq -r .name")]
pub(in super::super) struct Watch {
    #[command(flatten)]
    nodes: MaybeNodes,
    /// End as soon as all these nodes are in this phase.
    #[arg(long, value_name = "PHASE", value_parser = phases())]
    until: Option<Phase>,
    /// With --until: fail after this time, such as 90s or 10m.
    #[arg(long, value_name = "TIME", value_parser = words::duration, requires = "until")]
    timeout: Option<Duration>,
}

fn phases() -> impl clap::builder::TypedValueParser<Value = Phase> {
    PossibleValuesParser::new(PHASES.map(Phase::as_str)).map(|text| {
        // The parser lets only these words through.
        PHASES.into_iter().find(|phase| phase.as_str() == text).unwrap_or(Phase::Ready)
    })
}

pub(super) async fn run(session: &Session, client: &Client, watch: &Watch) -> anyhow::Result<ExitCode> {
    let present = client.nodes(watch.nodes.list().as_deref()).await?;
    let names: BTreeSet<NodeName> = present.into_iter().map(|node| node.name).collect();
    if watch.until.is_some() && names.is_empty() {
        bail!("there are no nodes to wait for");
    }
    let mut seen = Seen { only: watch.nodes.list().is_some(), names, last: BTreeMap::new() };
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

/// Prints changes until all nodes are where they should be. Without `--until` it ends only with an error.
async fn follow(session: &Session, client: &Client, watch: &Watch, seen: &mut Seen) -> anyhow::Result<()> {
    let mut answered = false;
    loop {
        let mut events = match client.watch_nodes().await {
            Ok(events) => events,
            Err(ClientError::Unreachable { .. }) if answered => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        answered = true;
        while let Ok(update) = events.next().await? {
            if let Some(line) = seen.take(&update, clock::now()) {
                session.out.stream(&update, |_| line)?;
            }
            if watch.until.is_some_and(|phase| seen.all_are(phase)) {
                return Ok(());
            }
        }
        say("the server has gone away: asking again");
        tokio::time::sleep(RETRY).await;
    }
}

/// What was printed, and who is waited for.
#[derive(Debug)]
struct Seen {
    /// Other nodes are not shown.
    only: bool,
    names: BTreeSet<NodeName>,
    last: BTreeMap<NodeName, NodeStatus>,
}

impl Seen {
    /// The line to print; `None` if nothing that shows has changed, as after the server is back.
    fn take(&mut self, update: &NodeUpdate, now: Timestamp) -> Option<String> {
        if self.only && !self.names.contains(&update.name) {
            return None;
        }
        let last = self.last.insert(update.name.clone(), update.status.clone());
        let entered = last.as_ref().is_none_or(|last| last.phase != update.status.phase);
        let shown = |status: &NodeStatus| (status.phase, status.percent, show::note(status));
        if last.is_some_and(|last| shown(&last) == shown(&update.status)) {
            return None;
        }
        let at = if entered { update.status.since } else { now };
        Some(line(at, &update.name, &update.status))
    }

    fn all_are(&self, phase: Phase) -> bool {
        self.names.iter().all(|name| self.last.get(name).is_some_and(|status| status.phase == phase))
    }

    /// Who is not there yet, and where they are.
    fn late(&self, until: Option<Phase>, timeout: Duration) -> anyhow::Error {
        let mut late: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in &self.names {
            let phase = self.last.get(name).map(|status| status.phase);
            if phase != until {
                late.entry(phase.map_or("not heard of", Phase::as_str)).or_default().push(name.as_str());
            }
        }
        let groups: Vec<String> =
            late.into_iter().map(|(phase, names)| format!("{} {phase}", hostlist::compress(names))).collect();
        let until = until.map_or("there", Phase::as_str);
        anyhow!("not all nodes are {until} after {} s: {}", timeout.as_secs(), groups.join("; "))
    }
}

fn line(at: Timestamp, name: &NodeName, status: &NodeStatus) -> String {
    let phase = match status.percent {
        Some(percent) if status.phase == Phase::Fetching => format!("fetching {percent}%"),
        _ => status.phase.as_str().to_owned(),
    };
    let line = format!("{at}  {name:<12}  {phase:<13}  {}", show::note(status));
    line.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use api::ids::NodeId;
    use expect_test::expect;

    use super::*;

    fn update(name: &str, status: NodeStatus) -> NodeUpdate {
        NodeUpdate { id: NodeId(uuid::Uuid::nil()), name: name.parse().unwrap(), status }
    }

    fn seen(names: &[&str]) -> Seen {
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        Seen { only: true, names, last: BTreeMap::new() }
    }

    #[test]
    fn only_what_changed_is_printed() {
        let mut seen = seen(&["n1"]);
        let status = super::show::tests::status;
        let fetching = |percent| NodeStatus { percent: Some(percent), ..status(Phase::Fetching) };
        let later = NodeStatus { last_seen: Some(Timestamp(1_795_464_009_000_000)), ..status(Phase::Ready) };
        let updates = [
            update("n1", status(Phase::Stage1)),
            update("n2", status(Phase::Stage1)),
            update("n1", fetching(1)),
            update("n1", fetching(1)),
            update("n1", fetching(50)),
            update("n1", NodeStatus { reason: Some("no route".to_owned()), ..status(Phase::Failed) }),
            update("n1", status(Phase::Ready)),
            update("n1", later),
        ];
        let now = Timestamp(1_795_464_000_000_000);
        let lines: String = updates.iter().filter_map(|update| seen.take(update, now)).collect();
        expect![[r#"
            2026-11-23T19:58:30Z  n1            stage1
            2026-11-23T19:58:30Z  n1            fetching 1%
            2026-11-23T20:00:00Z  n1            fetching 50%
            2026-11-23T19:58:30Z  n1            failed         no route
            2026-11-23T19:58:30Z  n1            ready
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn all_must_be_there() {
        let mut seen = seen(&["n1", "n2", "n3"]);
        let now = Timestamp(0);
        let status = super::show::tests::status;
        seen.take(&update("n1", status(Phase::Ready)), now);
        seen.take(&update("n2", status(Phase::Fetching)), now);
        assert!(!seen.all_are(Phase::Ready));
        let late = seen.late(Some(Phase::Ready), Duration::from_secs(60));
        assert_eq!(late.to_string(), "not all nodes are ready after 60 s: n2 fetching; n3 not heard of");
        seen.take(&update("n2", status(Phase::Ready)), now);
        seen.take(&update("n3", status(Phase::Ready)), now);
        assert!(seen.all_are(Phase::Ready));
    }
}
