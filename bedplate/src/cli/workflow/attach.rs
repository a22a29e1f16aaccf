//! `workflow attach`: what a running job writes, straight from its node.

use std::process::ExitCode;

use api::stream::StreamRequest;
use clap::Args;
use client::Client;

use super::{
    super::{context::Session, operation::LEFT, output::print_note},
    stream::{self, Last, Local, Target, Writing, carry, reason_of, status_of, to_standard_output},
};

/// Follow what a running job writes, straight from its node; Ctrl-C leaves it running.
#[derive(Debug, Args)]
#[command(
    after_help = "Jobs have no standard input, so there is nothing to type: `exec` runs a program beside the job. `log` has the output of
jobs that are over, too.

Exit status: that of the job; 128 and the number of the signal that ended it; 124 after its timeout; 130 after Ctrl-C; 255 if
it was not reached."
)]
pub(in super::super) struct Attach {
    #[command(flatten)]
    target: Target,
    /// Print the output from the beginning, not only what follows.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(
    session: &Session,
    client: &Client,
    attach: &Attach,
) -> anyhow::Result<ExitCode> {
    session.out.refuse_format("workflow attach")?;
    let status = match follow(client, attach).await {
        Ok(status) => status,
        Err(error) => stream::report(&error),
    };
    Ok(status.into())
}

async fn follow(client: &Client, attach: &Attach) -> anyhow::Result<u8> {
    let request = StreamRequest::Attach { all: attach.all };
    let line = client.open_stream(&attach.target.of(), &request).await?;
    let Writing { output, taken, thread } = to_standard_output();
    let local = Local { input: None, output: Some(output), taken, words: None };
    let last = tokio::select! {
        last = carry(line, local) => last?,
        _ = tokio::signal::ctrl_c() => {
            print_note("the job goes on");
            return Ok(LEFT);
        }
    };
    // It has all that came; a panic of the thread has been told.
    if let Ok(written) = thread.join() {
        written?;
    }
    let Last::Ended(outcome) = last else { anyhow::bail!("the node says that a copy is done") };
    if let Some(reason) = reason_of(&outcome) {
        print_note(&reason);
    }
    Ok(status_of(&outcome))
}
