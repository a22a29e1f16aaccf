//! `workflow exec`: a program in a running job.

use std::process::ExitCode;

use api::stream::{StreamRequest, Terminal};
use clap::Args;
use client::Client;

use super::{
    super::{context::Session, output::say},
    stream::{self, Last, Local, Target, Writing, carry, reason_of, status_of, to_standard_output},
    terminal::{self, Raw},
};

/// Run a program in the container of a running job, within the job's limits.
#[derive(Debug, Args)]
#[command(
    after_help = "The program runs as the job's user, with the job's environment and working folder. It ends when this command does,
and with the job.

Examples:
  bedplate workflow exec train -- nvidia-smi
  bedplate workflow exec -it train -- bash
  bedplate workflow exec -i render frames --task 7 -- tar -xC /data < scene.tar

Exit status: that of the program; 128 and the number of the signal that ended it; 255 if it was not reached."
)]
pub(in super::super) struct Exec {
    #[command(flatten)]
    target: Target,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the program a terminal.
    #[arg(short, long)]
    tty: bool,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(session: &Session, client: &Client, exec: &Exec) -> anyhow::Result<ExitCode> {
    session.out.refuse_format("workflow exec")?;
    let status = match execute(client, exec).await {
        Ok(status) => status,
        Err(error) => stream::report(&error),
    };
    Ok(status.into())
}

async fn execute(client: &Client, exec: &Exec) -> anyhow::Result<u8> {
    let name = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let terminal = exec.tty.then(|| Terminal { name, size: terminal::size() });
    let command = exec.command.clone();
    let request = StreamRequest::Exec { command, terminal, input: exec.stdin };
    let line = client.open_stream(&exec.target.of(), &request).await?;
    let raw = if exec.tty && exec.stdin { Raw::enter()? } else { None };
    let Writing { output, taken, thread } = to_standard_output();
    let local = Local {
        input: exec.stdin.then(terminal::input),
        output: Some(output),
        taken,
        words: if exec.tty { Some(terminal::sizes()?) } else { None },
    };
    let last = tokio::select! {
        last = carry(line, local) => last?,
        status = terminal::ended_by_signal() => return status,
    };
    // It has all that came; a panic of the thread has been told.
    if let Ok(written) = thread.join() {
        written?;
    }
    drop(raw);
    let Last::Ended(outcome) = last else { anyhow::bail!("the node says that a copy is done") };
    if let Some(reason) = reason_of(&outcome) {
        say(&reason);
    }
    Ok(status_of(&outcome))
}
