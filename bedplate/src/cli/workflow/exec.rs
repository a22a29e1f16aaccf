//! `workflow exec`: a program in a running job.

use std::{
    io::{IsTerminal as _, stdin},
    process::ExitCode,
};

use api::{
    stream::{StreamRequest, Terminal},
    workflow::StageKind,
};
use clap::{Args, FromArgMatches as _};
use clap_complete::ArgValueCompleter;
use client::{Client, StreamOf};

use super::{
    super::{complete, context::Session, error::Usage, output::print_note},
    stream::{self, Last, Local, Writing, carry, reason_of, status_of, to_standard_output},
    terminal::{self, Raw},
};

/// Run a program in the container of a running job, within the job's limits.
#[derive(Debug, Args)]
#[command(
    override_usage = "bedplate workflow exec [OPTIONS] <WORKFLOW> [JOB] [--] <COMMAND>...",
    after_help = "The program runs as the job's user, with the job's environment and working directory. It ends when this command does,
and with the job. The first word behind the workflow is the job if the workflow has one of that name, else the
program. Options stand before it, or between the job and --.

Examples:
  bedplate workflow exec train nvidia-smi
  bedplate workflow exec --tty train main /bin/bash
  bedplate workflow exec -i render frames --task 7 -- tar -xC /data < scene.tar

Exit status: that of the program; 128 and the number of the signal that ended it; 255 if it was not reached."
)]
pub(in super::super) struct Exec {
    #[command(flatten)]
    options: Options,
    /// The workflow, by its id or a name: the newest of it. Then the job, which may be left out if
    /// there is one, and the program with its arguments.
    // All in one list, for clap drops a `--` between two.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "WORKFLOW",
        add = ArgValueCompleter::new(complete::workflows)
    )]
    words: Vec<String>,
}

impl Exec {
    /// The workflow, and what follows it.
    fn split(&self) -> (&str, &[String]) {
        self.words.split_first().map_or(("", &[]), |(workflow, rest)| (workflow, rest))
    }
}

/// How the program runs.
#[derive(Debug, Default, Clone, PartialEq, Eq, Args)]
struct Options {
    /// Task of an array, by its number [default: the first that runs].
    #[arg(long, value_name = "N")]
    task: Option<u32>,
    /// Member of the task's attempt, where it has several, from 0 [default: 0].
    #[arg(long, value_name = "N")]
    member: Option<u32>,
    /// Pass standard input to the program; always on with --tty from a terminal.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the program a terminal.
    #[arg(short, long)]
    tty: bool,
}

/// What is to run, and where.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    job: Option<String>,
    options: Options,
    command: Vec<String>,
}

/// The words in front of `--`.
#[derive(Debug, Args)]
struct Before {
    job: Option<String>,
    #[command(flatten)]
    options: Options,
}

pub(super) async fn run(
    session: &Session,
    client: &Client,
    exec: &Exec,
) -> anyhow::Result<ExitCode> {
    session.out.refuse_format("workflow exec")?;
    let (workflow, _) = exec.split();
    let call = match with_separator(exec)? {
        Some(call) => call,
        None => match jobs(client, workflow).await {
            Ok(jobs) => call(exec, &jobs)?,
            Err(error) => return Ok(stream::report(&error).into()),
        },
    };
    let status = match execute(client, workflow, call).await {
        Ok(status) => status,
        Err(error) => stream::report(&error),
    };
    Ok(status.into())
}

/// A call whose `--` says where the program begins; `None` if it has none that does.
fn with_separator(exec: &Exec) -> Result<Option<Call>, Usage> {
    let (_, words) = exec.split();
    let Some(end) = words.iter().position(|word| word == "--") else { return Ok(None) };
    let command = Before::augment_args(clap::Command::new("exec").no_binary_name(true));
    let matches = command.try_get_matches_from(&words[..end]);
    let Ok(before) = matches.and_then(|matches| Before::from_arg_matches(&matches)) else {
        // It is the program's own: `exec job sh -c 'cat -- "$1"' -- file`.
        return Ok(None);
    };
    let command = words[end + 1..].to_vec();
    if command.is_empty() {
        return Err(no_program());
    }
    let options = Options {
        task: before.options.task.or(exec.options.task),
        member: before.options.member.or(exec.options.member),
        stdin: before.options.stdin || exec.options.stdin,
        tty: before.options.tty || exec.options.tty,
    };
    Ok(Some(Call { job: before.job, options, command }))
}

/// A call without `--`, given the jobs that there are.
fn call(exec: &Exec, jobs: &[String]) -> Result<Call, Usage> {
    let (_, words) = exec.split();
    let names_job = words.first().is_some_and(|first| jobs.contains(first));
    let (job, command) = words.split_at(usize::from(names_job));
    if command.is_empty() {
        return Err(no_program());
    }
    Ok(Call { job: job.first().cloned(), options: exec.options.clone(), command: command.to_vec() })
}

fn no_program() -> Usage {
    Usage("name the program that is to run: bedplate workflow exec WORKFLOW JOB COMMAND".to_owned())
}

/// Names of a workflow's jobs.
async fn jobs(client: &Client, workflow: &str) -> anyhow::Result<Vec<String>> {
    let stages = client.workflow(workflow).await?.stages.into_iter();
    Ok(stages.filter(|stage| stage.kind == StageKind::Job).map(|stage| stage.name).collect())
}

async fn execute(client: &Client, workflow: &str, call: Call) -> anyhow::Result<u8> {
    let Call { job, options, command } = call;
    let name = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let terminal = options.tty.then(|| Terminal { name, size: terminal::size() });
    // Whoever asks for a terminal and sits at one wants to type.
    let input = options.stdin || (options.tty && stdin().is_terminal());
    let request = StreamRequest::Exec { command, terminal, input };
    let (workflow, task, member) = (workflow.to_owned(), options.task, options.member);
    let of = StreamOf { workflow, job, task, member };
    let line = client.open_stream(&of, &request).await?;
    let raw = if options.tty && input { Raw::enter()? } else { None };
    let Writing { output, taken, thread } = to_standard_output();
    let local = Local {
        input: input.then(terminal::input),
        output: Some(output),
        taken,
        words: if options.tty { Some(terminal::sizes()?) } else { None },
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
        print_note(&reason);
    }
    Ok(status_of(&outcome))
}

#[cfg(test)]
mod tests;
