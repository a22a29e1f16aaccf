//! `workflow log`: what a job wrote, as it comes if that is wanted.

use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCompleter;
use client::{Client, ClientError, LogOf, StreamEnd};

use super::super::{
    complete,
    context::Session,
    output::{print_bytes, say},
};

/// How long to wait before the server is asked again after it went away.
const RETRY: Duration = Duration::from_secs(1);

/// How often in a row: a server that restarts is back within this many seconds.
const MAX_RETRIES: u32 = 60;

/// Print what a job wrote.
#[derive(Debug, Args)]
#[command(
    after_help = "Standard output and standard error of a job are one log. Of a job that was tried again it is that of the last
attempt.

Examples:
  bedplate workflow log hello
  bedplate workflow log render frames --task 7 --follow"
)]
pub(in super::super) struct Log {
    /// Id, or a name: the newest workflow of it.
    #[arg(add = ArgValueCompleter::new(complete::workflows))]
    workflow: String,
    /// The job; may be left out if there is one.
    job: Option<String>,
    /// Task of an array, by its number [default: the first].
    #[arg(long, value_name = "N")]
    task: Option<u32>,
    /// Attempt, from 1 [default: the last].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Go on until the job is over.
    #[arg(short, long)]
    follow: bool,
}

pub(super) async fn run(session: &Session, client: &Client, log: &Log) -> anyhow::Result<()> {
    session.out.refuse_format("workflow log")?;
    let mut wanted =
        LogOf { job: log.job.clone(), task: log.task, attempt: log.attempt, offset: 0, follow: log.follow };
    let mut retries = 0;
    loop {
        match client.workflow_log(&log.workflow, &wanted).await {
            Err(ClientError::Unreachable { .. }) if (1..MAX_RETRIES).contains(&retries) => {}
            Err(error) => return Err(error.into()),
            Ok(mut content) => loop {
                match content.next().await {
                    Ok(bytes) => {
                        wanted.offset += bytes.len() as u64;
                        print_bytes(&bytes)?;
                    }
                    Err(StreamEnd::Closed) => return Ok(()),
                    Err(StreamEnd::Broken) => {
                        say("the server has gone away: asking again");
                        retries = 0;
                        break;
                    }
                }
            },
        }
        retries += 1;
        tokio::time::sleep(RETRY).await;
    }
}
