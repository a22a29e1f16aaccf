//! `operation`: long operations, and following one with progress bars, or with lines where there
//! is no terminal.

pub(super) mod progress;

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use api::image::{Operation, OperationState};
use clap::Subcommand;
use client::{Client, ClientError};

use self::progress::Progress;
use super::{
    context::Session,
    output::{print, print_note},
    table::{Style, cells, table},
};

/// Exit status of somebody who left by Ctrl-C, as shells have it.
pub(super) const LEFT: u8 = 130;

/// How long to wait before the server is asked again after it went away.
const RETRY: Duration = Duration::from_secs(1);

/// How often in a row: a server that restarts is back within this many seconds.
const MAX_RETRIES: u32 = 60;

/// Show, follow and cancel long operations.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List operations, newest first.
    List,
    /// Show an operation.
    Show {
        /// Its number.
        id: u64,
    },
    /// Follow an operation to its end; Ctrl-C leaves it running.
    Watch {
        /// Its number.
        id: u64,
    },
    /// End an operation that waits or runs, such as an import.
    #[command(
        after_help = "It then counts as failed. What an import has pulled is removed, unless something else needs it."
    )]
    Cancel {
        /// Its number; `operation list` shows it.
        id: u64,
    },
}

/// How following ended.
#[derive(Debug)]
pub(super) enum FollowEnd {
    /// With this result.
    Done(String),
    /// For this reason.
    Failed(String),
    /// The person left; the operation goes on.
    Left,
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    let client = session.client()?;
    match verb {
        Verb::List => {
            let operations = client.operations().await?;
            session.out.show(&operations, |style| list(*style, &operations))?;
        }
        Verb::Show { id } => {
            let operation = client.operation(id).await?;
            session.out.show(&operation, |style| list(*style, std::slice::from_ref(&operation)))?;
        }
        Verb::Watch { id } => {
            let operation = client.operation(id).await?;
            let each = |operation: &Operation| session.out.stream_to_programs(operation);
            match follow_each(&client, operation, each).await? {
                FollowEnd::Left => {
                    print_note(&format!(
                        "operation {id} goes on; end it with `bedplate operation cancel {id}`"
                    ));
                    return Ok(LEFT.into());
                }
                FollowEnd::Failed(error) => bail!("{error}"),
                // A program has got it as the operation's last state.
                FollowEnd::Done(_) if session.out.is_for_programs() => {}
                FollowEnd::Done(result) => print(&format!("{result}\n"))?,
            }
        }
        Verb::Cancel { id } => {
            let operation = client.cancel_operation(id).await?;
            session.out.show(&operation, |style| list(*style, std::slice::from_ref(&operation)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Draws an operation until it ends or the person leaves.
pub(super) async fn follow(client: &Client, operation: Operation) -> anyhow::Result<FollowEnd> {
    follow_each(client, operation, |_| Ok(())).await
}

/// The same; `each` gets the operation at each step, and at its end.
async fn follow_each(
    client: &Client,
    operation: Operation,
    each: impl FnMut(&Operation) -> anyhow::Result<()>,
) -> anyhow::Result<FollowEnd> {
    print_note(&format!("operation {}: {}", operation.id, operation.title));
    let mut progress = Progress::new();
    let end = tokio::select! {
        end = to_the_end(client, operation.id, &mut progress, each) => end?,
        _ = tokio::signal::ctrl_c() => FollowEnd::Left,
    };
    progress.clear();
    Ok(end)
}

async fn to_the_end(
    client: &Client,
    id: u64,
    progress: &mut Progress,
    mut each: impl FnMut(&Operation) -> anyhow::Result<()>,
) -> anyhow::Result<FollowEnd> {
    let mut retries = 0;
    let mut last = None;
    loop {
        let mut events = match client.watch_operation(id).await {
            Ok(events) => events,
            Err(ClientError::Unreachable { .. }) if retries < MAX_RETRIES => {
                retries += 1;
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        while let Ok(operation) = events.next().await? {
            retries = 0;
            // A server that is back says again how it stands.
            if last.as_ref() != Some(&operation) {
                each(&operation)?;
                last = Some(operation.clone());
            }
            match operation.state {
                OperationState::Running { bars, waiting } => {
                    progress.draw(&bars, waiting.as_deref())
                }
                OperationState::Done { result } => return Ok(FollowEnd::Done(result)),
                OperationState::Failed { error } => return Ok(FollowEnd::Failed(error)),
            }
        }
        retries += 1;
        if retries > MAX_RETRIES {
            bail!("the server says nothing of operation {id} any more");
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn list(style: Style, operations: &[Operation]) -> String {
    if operations.is_empty() {
        return "no operations yet\n".to_owned();
    }
    let row = |operation: &Operation| {
        let (state, note) = match &operation.state {
            OperationState::Running { waiting: Some(why), .. } => ("running", why.clone()),
            OperationState::Running { bars, waiting: None } => ("running", progress::sum(bars)),
            OperationState::Done { result } => ("done", result.clone()),
            OperationState::Failed { error } => ("failed", error.clone()),
        };
        cells([
            operation.id.to_string(),
            state.to_owned(),
            operation.created.to_string(),
            operation.title.clone(),
            note,
        ])
    };
    table(style, &["NUMBER", "STATE", "CREATED", "WHAT", "RESULT"], operations.iter().map(row))
}

#[cfg(test)]
mod tests {
    use api::{ids::Timestamp, image::Bar};
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_list_of_operations() {
        let operation = |id, state| Operation {
            id,
            title: "import docker://r/debian as debian".to_owned(),
            created: Timestamp(1_795_464_000_000_000),
            state,
        };
        let bar = |done, total| Bar { label: "layer".to_owned(), done, total };
        let operations = [
            operation(
                4,
                OperationState::Running {
                    bars: vec![bar(50, 100)],
                    waiting: Some("waiting for r: connection refused; next try in 8 s".to_owned()),
                },
            ),
            operation(
                3,
                OperationState::Running {
                    bars: vec![bar(50, 100), bar(0, 100), bar(9, 0)],
                    waiting: None,
                },
            ),
            operation(2, OperationState::Failed { error: "no such tag".to_owned() }),
            operation(1, OperationState::Done { result: "debian@1".to_owned() }),
        ];
        expect![[r#"
            NUMBER  STATE    CREATED               WHAT                                RESULT
            4       running  2026-11-23T20:00:00Z  import docker://r/debian as debian  waiting for r: connection refused; next try in 8 s
            3       running  2026-11-23T20:00:00Z  import docker://r/debian as debian  50 B of 200 B
            2       failed   2026-11-23T20:00:00Z  import docker://r/debian as debian  no such tag
            1       done     2026-11-23T20:00:00Z  import docker://r/debian as debian  debian@1
        "#]]
        .assert_eq(&list(Style::PLAIN, &operations));
    }
}
