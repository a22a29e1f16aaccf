//! Logs over the whole server: read at once when their job has ended, they are whole, or the reader
//! learns that they are not.

use std::time::Duration;

use api::{
    log::{LogGap, LogState, LogStatus},
    status::Phase,
    workflow::{State, WorkflowEvent},
};
use client::{Client, LogOf, StreamEnd};

use crate::{
    cluster::in_namespace,
    workflows::{cluster, cluster_configured, document, end, start},
};

/// Lines of a log of some 3 MB.
const LINES: usize = 160_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a job `NAME` that is told to talk or mumble writes, whole.
fn talk(name: &str, lines: usize) -> Vec<u8> {
    (1..=lines).flat_map(|line| format!("job {name} line {line}\n").into_bytes()).collect()
}

fn talks(lines: usize) -> String {
    format!("command: [talk, '{lines}', '0', '1']")
}

/// One answer: its bytes, and what the server said of them.
async fn read(client: &Client, id: &str, of: &LogOf) -> anyhow::Result<(Vec<u8>, LogStatus)> {
    let reading = async {
        let mut content = client.workflow_log(id, of).await?;
        let status = content.log_status().expect("the server says nothing of the log");
        let mut bytes = Vec::new();
        loop {
            match content.next().await {
                Ok(more) => bytes.extend(more),
                Err(StreamEnd::Closed) => return anyhow::Ok((bytes, status)),
                Err(StreamEnd::Broken) => anyhow::bail!("broken after {} bytes", bytes.len()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await?
}

#[test]
fn a_log_is_whole_when_it_is_read_right_after_the_end() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let whole = talk("big", LINES);
        assert!(whole.len() > 3_000_000);
        for round in 0..5 {
            let id = start(&ann, document(&[("big", &talks(LINES))])).await?;
            assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
            let (bytes, status) = read(&ann, &id, &LogOf::default()).await?;
            let length = whole.len() as u64;
            assert_eq!((status.state, status.here), (LogState::Complete, length), "round {round}");
            assert_eq!(bytes.len(), whole.len(), "round {round}");
            assert!(bytes == whole, "round {round}: other bytes");
            let of = LogOf { offset: length - 5, ..LogOf::default() };
            assert_eq!(read(&ann, &id, &of).await?.0, whole[whole.len() - 5..]);
            let of = LogOf { offset: length + 5, ..LogOf::default() };
            assert_eq!(read(&ann, &id, &of).await?.0, b"");
        }
        Ok(())
    });
}

#[test]
fn who_follows_a_log_gets_all_of_it_and_then_the_verdict() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let rest = format!("command: [talk, '{LINES}', '900', '1000']");
        let id = start(&ann, document(&[("big", &rest)])).await?;
        let mut of = LogOf { follow: true, ..LogOf::default() };
        let (bytes, status) = read(&ann, &id, &of).await?;
        assert_eq!((status.state, status.task, status.attempt), (LogState::Open, 0, 1));
        assert!(bytes == talk("big", LINES), "{} bytes", bytes.len());
        of.offset = bytes.len() as u64;
        let (more, status) = read(&ann, &id, &of).await?;
        assert_eq!((more.len(), status.state), (0, LogState::Complete));
        assert_eq!(status.bytes, Some(bytes.len() as u64));
        Ok(())
    });
}

/// The job has ended, and half of its log is all that will ever come.
#[test]
fn a_node_that_is_lost_before_the_rest_came_is_named() {
    in_namespace(async {
        let (cluster, mut agents, ann) = cluster().await?;
        let id = start(&ann, document(&[("half", "command: [mumble, '1000']")])).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        let attempt = ann.attempts(&id, None, 1).await?.remove(0);
        let whole = talk("half", 1000);
        let half = &whole[..whole.len() / 2];
        assert_eq!(attempt.log_bytes, whole.len() as u64);
        // Two readers wait for the rest meanwhile.
        let (one, other) = (LogOf::default(), LogOf { follow: true, ..LogOf::default() });
        let number: u8 = attempt.node.to_string().trim_start_matches('n').parse()?;
        let reboot = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            agents.remove(usize::from(number - 1)).power_off();
            cluster.until_phase(number, Phase::Lost).await;
            agents.push(cluster.node(number).boot().await?.start_agent());
            anyhow::Ok(())
        };
        let (rebooted, one, other) =
            tokio::join!(reboot, read(&ann, &id, &one), read(&ann, &id, &other));
        rebooted?;
        for (bytes, status) in [one?, other?, read(&ann, &id, &LogOf::default()).await?] {
            assert_eq!(bytes, half);
            assert_eq!(status.state, LogState::Incomplete, "{status:?}");
            let words = status.shortfall().unwrap();
            let counts = format!("{} of {} bytes", half.len(), whole.len());
            let why = format!("{} was rebooted", attempt.node);
            assert!(words.contains(&counts) && words.contains(&why), "{words}");
            assert!(
                words.contains("the node was lost before the rest of the log arrived"),
                "{words}"
            );
        }
        Ok(())
    });
}

/// Nobody knows what a job wrote whose node was lost with it.
#[test]
fn the_log_of_a_lost_attempt_is_never_called_whole() {
    in_namespace(async {
        let (cluster, _agents, ann) = cluster().await?;
        let id = start(&ann, document(&[("gone", "command: [hang]")])).await?;
        let node = loop {
            let attempts = ann.attempts(&id, None, 1).await?;
            if let Some(attempt) = attempts.into_iter().find(|attempt| attempt.started.is_some()) {
                break attempt.node;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        cluster.client().delete_node(&node).await?;
        end(&ann, &id).await?;
        let (bytes, status) =
            read(&ann, &id, &LogOf { attempt: Some(1), ..LogOf::default() }).await?;
        assert_eq!((bytes.len(), status.state, status.bytes), (0, LogState::Incomplete, None));
        assert!(status.shortfall().unwrap().contains("was deleted"), "{status:?}");
        Ok(())
    });
}

/// The server ends when the job has just ended; its successor takes the rest of the log.
#[test]
fn a_log_that_waited_for_the_server_arrives_after_its_restart() {
    in_namespace(async {
        let (mut cluster, _agents, ann) = cluster().await?;
        let whole = talk("big", LINES);
        let id = start(&ann, document(&[("big", &talks(LINES))])).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        cluster.restart().await?;
        let (bytes, status) = read(&ann, &id, &LogOf::default()).await?;
        assert_eq!(status.state, LogState::Complete, "{status:?}");
        assert!(bytes == whole, "{} bytes", bytes.len());
        Ok(())
    });
}

/// Limit of a log in the tests of long ones, MiB.
const SMALL: &str = "jobs: {log-mib: 1}\n";

/// Bytes are those of `whole` from `offset` on, without the gap that was named; where they end.
fn follow_on(whole: &[u8], offset: u64, bytes: &[u8], status: &LogStatus) -> u64 {
    let gap = status.gap.unwrap_or(LogGap { from: u64::MAX, to: u64::MAX });
    let offset = gap.past(offset);
    let before_gap = usize::try_from(gap.from.saturating_sub(offset)).unwrap().min(bytes.len());
    let (first, second) = bytes.split_at(before_gap);
    let at = |offset: u64, bytes: &[u8]| {
        let place = usize::try_from(offset).unwrap();
        assert!(whole[place..place + bytes.len()] == *bytes, "other bytes at {offset}: {status:?}");
        offset + bytes.len() as u64
    };
    at(gap.past(at(offset, first)), second)
}

#[test]
fn who_follows_a_log_past_its_limit_gets_both_ends_and_is_told_what_is_left_out() {
    in_namespace(async {
        let (mut cluster, _agents, ann) = cluster_configured(SMALL).await?;
        let whole = talk("big", LINES);
        let length = whole.len() as u64;
        let id = start(&ann, document(&[("big", &format!("command: [flood, '{LINES}']"))])).await?;
        let (mut offset, mut gaps) = (0, Vec::new());
        let last = loop {
            let of = LogOf { offset, follow: true, ..LogOf::default() };
            let (bytes, status) = read(&ann, &id, &of).await?;
            offset = follow_on(&whole, offset, &bytes, &status);
            gaps.extend(status.gap);
            if status.state != LogState::Open {
                break status;
            }
        };
        assert_eq!(
            (last.state, last.here, offset),
            (LogState::Complete, length, length),
            "{last:?}"
        );
        let gap = last.gap.unwrap();
        assert_eq!((gap.from, gap.to), (512 << 10, length - (256 << 10)));
        assert!(gaps.iter().any(|before| before.to < gap.to), "none while it ran: {gaps:?}");

        // Whoever comes later gets the same, from wherever.
        cluster.restart().await?;
        let kept = [&whole[..512 << 10], &whole[whole.len() - (256 << 10)..]].concat();
        for offset in
            [0, 10, gap.from - 1, gap.from, gap.from + 1, gap.to - 1, gap.to, gap.to + 1, length]
        {
            let (bytes, status) = read(&ann, &id, &LogOf { offset, ..LogOf::default() }).await?;
            assert_eq!((status.state, status.gap), (LogState::Complete, Some(gap)));
            assert_eq!(follow_on(&whole, offset, &bytes, &status), length, "from {offset}");
        }
        assert!(read(&ann, &id, &LogOf::default()).await?.0 == kept);
        let attempt = ann.attempts(&id, None, 1).await?.remove(0);
        assert_eq!(attempt.log_bytes, length);
        Ok(())
    });
}

/// A node that sends all of a log, because it came slowly enough or its agent knows no gaps.
#[test]
fn a_long_log_that_comes_whole_is_kept_within_the_limit() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster_configured(SMALL).await?;
        let whole = talk("big", LINES);
        let length = whole.len() as u64;
        let id = start(&ann, document(&[("big", &talks(LINES))])).await?;
        end(&ann, &id).await?;
        let (bytes, status) = read(&ann, &id, &LogOf::default()).await?;
        assert_eq!(
            (status.state, status.here, status.bytes),
            (LogState::Complete, length, Some(length))
        );
        assert!((960 << 10..=1 << 20).contains(&bytes.len()), "{} bytes are kept", bytes.len());
        assert_eq!(follow_on(&whole, 0, &bytes, &status), length);
        assert_eq!(status.gap.map(|gap| gap.from), Some(512 << 10));
        Ok(())
    });
}

#[test]
fn a_log_is_read_since_a_time_as_far_as_its_node_tells_when_it_was_written() {
    in_namespace(async {
        let (mut cluster, _agents, ann) = cluster_configured(SMALL).await?;
        let whole = talk("big", LINES);
        let length = whole.len() as u64;
        let id = start(&ann, document(&[("big", &format!("command: [flood, '{LINES}']"))])).await?;
        end(&ann, &id).await?;
        // Head and tail are kept, and the times with them.
        for restarts in [false, true] {
            if restarts {
                cluster.restart().await?;
            }
            let of = LogOf { since: Some("1h".to_owned()), ..LogOf::default() };
            let (bytes, status) = read(&ann, &id, &of).await?;
            assert_eq!(follow_on(&whole, 0, &bytes, &status), length);
            let of =
                LogOf { since: Some("2999-01-01".to_owned()), follow: true, ..LogOf::default() };
            let content = ann.workflow_log(&id, &of).await?;
            let since = content.log_since().unwrap();
            assert_eq!((since.time.as_str(), since.has_times), ("2999-01-01T00:00:00Z", true));
            assert_eq!((content.length(), content.log_from()), (Some(0), Some(length)));
        }
        let of = LogOf { since: Some("soon".to_owned()), ..LogOf::default() };
        let refused = ann.workflow_log(&id, &of).await.unwrap_err();
        assert_eq!(refused.status(), Some(400), "{refused}");
        let of = LogOf { since: Some("1h".to_owned()), offset: 3, ..LogOf::default() };
        let refused = ann.workflow_log(&id, &of).await.unwrap_err().to_string();
        assert!(refused.contains("offset and since both say where the answer begins"), "{refused}");
        Ok(())
    });
}

/// Past the quota of its user a log has a gap, the job goes on, and the history says why.
#[test]
fn a_log_past_its_users_quota_has_a_gap_and_is_freed_with_its_workflow() {
    const QUOTA: u64 = 1536 << 10;
    in_namespace(async {
        let (mut cluster, _agents, ann) = cluster_configured("quotas: {logs: 1536KiB}\n").await?;
        let whole = talk("big", LINES);
        let id = start(&ann, document(&[("big", &talks(LINES))])).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        let (bytes, status) = read(&ann, &id, &LogOf::default()).await?;
        let length = whole.len() as u64;
        assert_eq!((status.state, status.here), (LogState::Complete, length), "{status:?}");
        assert!(status.gap.is_some_and(|gap| gap.from < QUOTA), "{status:?}");
        assert_eq!(follow_on(&whole, 0, &bytes, &status), length);
        let events = ann.workflow_events(&id, 0, 1_000).await?;
        let told = |event: &&WorkflowEvent| {
            event.message.contains("a part of its log is not kept: ann has ")
        };
        assert_eq!(events.iter().filter(told).count(), 1, "{events:?}");

        let used = async || -> anyhow::Result<u64> {
            let quotas = ann.quotas("ann").await?.quotas;
            Ok(quotas.iter().find(|quota| quota.name == "logs").map_or(0, |quota| quota.used))
        };
        let before = used().await?;
        assert!(before >= bytes.len() as u64 && before <= QUOTA, "{before}");
        cluster.restart().await?;
        assert_eq!(used().await?, before, "after a restart");
        let deletion = async {
            // The node may have to be told yet that its log is here.
            while let Err(error) = ann.delete_workflow(&id).await {
                anyhow::ensure!(error.status() == Some(409), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, deletion).await??;
        assert_eq!(used().await?, 0);
        Ok(())
    });
}
