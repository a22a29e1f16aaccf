//! Logs over the whole server: read at once when their job has ended, they are whole, or the reader
//! learns that they are not.

use std::time::Duration;

use api::{
    log::{LogState, LogStatus},
    status::Phase,
    workflow::State,
};
use client::{Client, LogOf, StreamEnd};

use crate::{
    cluster::in_namespace,
    workflows::{cluster, document, end, start},
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
        let (rebooted, one, other) = tokio::join!(reboot, read(&ann, &id, &one), read(&ann, &id, &other));
        rebooted?;
        for (bytes, status) in [one?, other?, read(&ann, &id, &LogOf::default()).await?] {
            assert_eq!(bytes, half);
            assert_eq!(status.state, LogState::Incomplete, "{status:?}");
            let words = status.shortfall().unwrap();
            let counts = format!("{} of {} bytes", half.len(), whole.len());
            let why = format!("{} was rebooted", attempt.node);
            assert!(words.contains(&counts) && words.contains(&why), "{words}");
            assert!(words.contains("the node was lost before the rest of the log arrived"), "{words}");
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
        let (bytes, status) = read(&ann, &id, &LogOf { attempt: Some(1), ..LogOf::default() }).await?;
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
