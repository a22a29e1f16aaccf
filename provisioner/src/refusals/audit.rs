//! Refused requests in the audit log, whose every line is synced to the disk: the first of each
//! node within a minute, for some nodes, and one line for all others when the minute is over.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use access::Access;
use api::ids::{NodeName, Timestamp};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Lines within a minute, the one that sums up not counted.
const MAX_LINES_PER_MINUTE: u32 = 20;

/// Nodes that the line that sums up names, with their numbers.
const MAX_NAMED: usize = 20;

/// Who acts: nobody is known who asks for boot files.
const PRINCIPAL: &str = "boot";

/// What of refused requests is in the audit log.
#[derive(Debug, Default)]
pub(crate) struct RefusedAudit(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    since: Option<Timestamp>,
    lines: u32,
    /// Requests without a line, by node. Only registered nodes are in it.
    left_out: BTreeMap<NodeName, u64>,
}

impl Minute {
    /// Begins the next minute if this one is over, and says what it left out.
    fn turn(&mut self, now: Timestamp) -> Option<String> {
        let goes_on = |since: Timestamp| (since..since.plus_seconds(60)).contains(&now);
        if self.since.is_some_and(goes_on) {
            return None;
        }
        let ended = std::mem::replace(self, Self { since: Some(now), ..Self::default() });
        ended.summary()
    }

    /// Whether this one has a line.
    fn take(&mut self, node: &NodeName) -> bool {
        if self.lines < MAX_LINES_PER_MINUTE && !self.left_out.contains_key(node) {
            self.lines += 1;
            self.left_out.insert(node.clone(), 0);
            return true;
        }
        *self.left_out.entry(node.clone()).or_default() += 1;
        false
    }

    fn summary(&self) -> Option<String> {
        let all: u64 = self.left_out.values().sum();
        let repeated = || self.left_out.iter().filter(|(_, count)| **count > 0);
        let mut named: Vec<String> =
            repeated().take(MAX_NAMED).map(|(node, count)| format!("{node} ({count})")).collect();
        match repeated().count().saturating_sub(MAX_NAMED) {
            0 => {}
            more => named.push(format!("{more} more nodes")),
        }
        (all > 0).then(|| format!("refused {all} more within a minute: {}", named.join(", ")))
    }
}

impl RefusedAudit {
    /// Records that a node was refused something, or counts it.
    pub(crate) async fn record(
        &self,
        access: &Access,
        action: &str,
        node: &NodeName,
        outcome: &str,
    ) {
        let (summary, has_line) = self.take(node, clock::now());
        if let Some(summary) = summary {
            write(access, action, "nodes", &summary).await;
        }
        if has_line {
            write(access, action, node.as_str(), outcome).await;
        }
    }

    /// Records what was left out, though nothing comes after it, until `stop`. `pause`: how long
    /// until it is looked again.
    pub(crate) async fn sum_up_until(
        &self,
        access: &Access,
        action: &str,
        pause: Duration,
        stop: CancellationToken,
    ) {
        // A sum that is being written is nowhere else: only the pause ends early.
        while stop.run_until_cancelled(sleep(pause)).await.is_some() {
            self.sum_up(access, action).await;
        }
    }

    /// Records what was left out, if its minute is over.
    async fn sum_up(&self, access: &Access, action: &str) {
        let summary = self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(clock::now());
        if let Some(summary) = summary {
            write(access, action, "nodes", &summary).await;
        }
    }

    /// Records what was left out in the minute that runs: the server stops, and no
    /// other line comes.
    pub(crate) async fn finish(&self, access: &Access, action: &str) {
        let minute = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(summary) = minute.summary() {
            write(access, action, "nodes", &summary).await;
        }
    }

    fn take(&self, node: &NodeName, now: Timestamp) -> (Option<String>, bool) {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let summary = minute.turn(now);
        (summary, minute.take(node))
    }
}

async fn write(access: &Access, action: &str, subject: &str, outcome: &str) {
    if let Err(error) = access.record(PRINCIPAL, action, subject, outcome).await {
        tracing::error!("audit log not written: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use database::Database;
    use tokio::task::yield_now;

    use super::*;

    async fn opened(directory: &Path) -> (Database, Access) {
        let database =
            Database::open(&directory.join("bedplate.db"), &[&access::SCHEMA]).await.unwrap();
        (database.clone(), Access::open(database).await.unwrap())
    }

    fn node(number: usize) -> NodeName {
        format!("n{number}").parse().unwrap()
    }

    #[test]
    fn a_flood_of_requests_has_one_line_a_minute_and_a_sum() {
        let audit = RefusedAudit::default();
        let taken =
            |number, second: i64| audit.take(&node(number), Timestamp(0).plus_seconds(second));
        let lines = (0..20_640).filter(|number| taken(1, i64::from(*number) / 344).1).count();
        assert_eq!(lines, 1, "344 a second for a minute");
        assert_eq!(taken(2, 59), (None, true), "another node");
        let summary = "refused 20639 more within a minute: n1 (20639)".to_owned();
        assert_eq!(taken(1, 60), (Some(summary), true));
        assert_eq!(taken(1, 180), (None, true), "there was nothing to sum up");
    }

    #[tokio::test]
    async fn what_a_server_that_stops_has_left_out_is_summed_up_before_its_minute_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let (_database, access) = opened(directory.path()).await;
        let audit = RefusedAudit::default();
        audit.finish(&access, "issue-token").await;
        for _ in 0..5 {
            audit.take(&node(1), clock::now());
        }
        audit.finish(&access, "issue-token").await;
        audit.finish(&access, "issue-token").await;
        let lines = access.audit(10).await.unwrap();
        let said: Vec<&str> = lines.iter().map(|line| line.outcome.as_str()).collect();
        assert_eq!(
            said,
            ["refused 4 more within a minute: n1 (4)"],
            "once, and nothing for nothing"
        );
    }

    #[tokio::test]
    async fn a_sum_that_is_being_written_when_the_server_stops_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (database, access) = opened(directory.path()).await;
        let (audit, stop) = (Arc::new(RefusedAudit::default()), CancellationToken::new());
        for _ in 0..5 {
            // Long ago.
            audit.take(&node(1), Timestamp(0));
        }
        let writer = database.begin().await.unwrap();
        let summing = tokio::spawn({
            let (audit, access, stop) = (audit.clone(), access.clone(), stop.clone());
            async move { audit.sum_up_until(&access, "issue-token", Duration::ZERO, stop).await }
        });
        while !audit.0.lock().unwrap().left_out.is_empty() {
            yield_now().await;
        }
        stop.cancel();
        for _ in 0..100 {
            yield_now().await;
        }
        audit.finish(&access, "issue-token").await;
        writer.commit("let others write").await.unwrap();
        summing.await.unwrap();
        let lines = access.audit(10).await.unwrap();
        let said: Vec<&str> = lines.iter().map(|line| line.outcome.as_str()).collect();
        assert_eq!(said, ["refused 4 more within a minute: n1 (4)"]);
    }

    #[test]
    fn a_flood_in_the_name_of_all_nodes_is_bounded_too() {
        let audit = RefusedAudit::default();
        let lines = (0..1_000).filter(|number| audit.take(&node(*number), Timestamp(0)).1).count();
        assert_eq!(u32::try_from(lines).unwrap(), MAX_LINES_PER_MINUTE);
        let summary = audit.0.lock().unwrap().turn(Timestamp(60_000_000)).unwrap();
        assert!(summary.starts_with("refused 980 more within a minute: n100 (1), "), "{summary}");
        assert!(summary.ends_with(", 960 more nodes"), "{summary}");
    }
}
