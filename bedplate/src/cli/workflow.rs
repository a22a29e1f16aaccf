//! `workflow`: from a document to results.

mod attach;
mod copy;
mod document;
mod exec;
mod files;
mod live;
mod log;
mod port_forward;
mod show;
mod stream;
mod terminal;
mod top;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use api::workflow::{StartWorkflow, WorkflowSummary};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use client::Client;

use self::{files::Destination, top::Top};
use super::{
    complete,
    context::Session,
    input::{read, tell_mistakes},
    output::say,
    words::count,
};

/// Workflows that are over, in a list, where nobody says how many.
const LISTED: u32 = 20;

/// Attempts and events that `describe` shows.
const DESCRIBED: u32 = 10_000;

/// Run workflows.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start a workflow from a document.
    Start(Start),
    /// List workflows, newest first.
    List {
        /// So many that are over.
        #[arg(long, value_name = "N", default_value_t = LISTED)]
        limit: u32,
    },
    /// Show a workflow and its stages.
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// Show a workflow with every attempt of its tasks, where they ran and what happened.
    Describe {
        #[command(flatten)]
        which: Which,
    },
    /// Follow a workflow to its end and fetch its files; Ctrl-C leaves it running.
    #[command(
        after_help = "Exit status: 0 if the workflow finished, 1 if it failed or was stopped, 130 after Ctrl-C."
    )]
    Watch {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        destination: Destination,
    },
    /// Print what a job wrote.
    Log(log::Log),
    /// Run a program in the container of a running job, within the job's limits.
    Exec(exec::Exec),
    /// Follow what a running job writes, straight from its node; Ctrl-C leaves it running.
    Attach(attach::Attach),
    /// Make a port of a running job reachable on this machine until Ctrl-C.
    PortForward(port_forward::PortForward),
    /// Copy files and folders out of a running job, or into it.
    Cp(copy::Copy),
    /// Stop workflows: what runs gets SIGTERM, and SIGKILL if it does not end.
    Stop {
        /// Ids or names.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    /// Let the processes of workflows stand still, and begin nothing of them.
    #[command(
        after_help = "Jobs keep the processors, memory and devices that they were granted; their timeouts stand still. Transfers that
are under way go to their end."
    )]
    Pause {
        /// Ids or names.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    /// Let paused workflows go on.
    Resume {
        /// Ids or names.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    Top(Top),
    /// Tell what each stage waits for.
    Why {
        #[command(flatten)]
        which: Which,
    },
    /// Fetch the files that a workflow brings to its user.
    #[command(
        after_help = "Exit status: 0 if all of them were fetched; 1 if not, with the names of those that are missing."
    )]
    Files {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        destination: Destination,
        /// Tell which there are and fetch none.
        #[arg(long)]
        list: bool,
    },
    /// Check a document and start nothing.
    #[command(after_help = "Every mistake is told with its line and column. Exit status: 1 if there is one.")]
    Validate {
        /// The document; - reads standard input.
        file: PathBuf,
    },
    /// Print a document as the server understands it: defaults merged, units resolved.
    Render {
        /// The document; - reads standard input.
        file: PathBuf,
    },
}

/// One workflow.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Id, or a name: the newest workflow of it.
    #[arg(add = ArgValueCompleter::new(complete::workflows))]
    workflow: String,
}

/// Start a workflow from a document.
#[derive(Debug, Args)]
#[command(
    after_help = "The workflow's id is printed. A document with a mistake starts nothing: every mistake is told with its line and
column.

Examples:
  bedplate workflow start hello.yaml --watch
  id=$(bedplate workflow start - < hello.yaml)
  bedplate workflow start hello.yaml --as ann
  bedplate workflow start nightly.yaml --idempotency-key nightly-$(date +%F)

Exit status with --watch: 0 if the workflow finished, 1 if it failed or was stopped, 130 after Ctrl-C, which leaves it
running."
)]
pub(super) struct Start {
    /// The document; - reads standard input.
    file: PathBuf,
    /// Name of the workflow [default: the document's].
    #[arg(long)]
    name: Option<String>,
    /// Start it as this user; for admins.
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Start it once: the same document with the same key again, within 24 hours, prints the id of
    /// the workflow that is there. For scripts that try again.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Follow it to its end and fetch its files.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    destination: Destination,
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    let client = session.client()?;
    match verb {
        Verb::Start(start) => return run_start(session, &client, start).await,
        Verb::Watch { which, destination } => {
            return watch::run(session, &client, &which.workflow, &destination).await;
        }
        Verb::Validate { file } => return document::validate(session, &client, &file).await,
        Verb::Render { file } => document::render(session, &client, &file).await?,
        Verb::List { limit } => {
            let workflows = client.workflows(limit).await?;
            session.out.show(&workflows, |look| show::list(*look, &workflows))?;
        }
        Verb::Status { which } => {
            let workflow = client.workflow(&which.workflow).await?;
            session.out.show(&workflow, |look| show::status(*look, &workflow))?;
        }
        Verb::Describe { which } => describe(session, &client, &which.workflow).await?,
        Verb::Exec(exec) => return exec::run(session, &client, &exec).await,
        Verb::Attach(attach) => return attach::run(session, &client, &attach).await,
        Verb::PortForward(forward) => port_forward::run(session, &client, &forward).await?,
        Verb::Cp(copy) => return copy::run(session, &client, &copy).await,
        Verb::Log(log) => log::run(session, &client, &log).await?,
        Verb::Stop { workflows } => {
            let mut stopped: Vec<WorkflowSummary> = Vec::new();
            for workflow in &workflows {
                stopped.push(client.stop_workflow(workflow).await?);
            }
            session.out.show(&stopped, |_| {
                stopped.iter().map(|one| format!("stopping {} ({})\n", one.name, one.id)).collect()
            })?;
        }
        Verb::Pause { workflows } => pause(session, &client, &workflows, true).await?,
        Verb::Resume { workflows } => pause(session, &client, &workflows, false).await?,
        Verb::Top(top) => top::run(session, &client, &top).await?,
        Verb::Why { which } => {
            let waiting = client.why_workflow(&which.workflow).await?;
            session.out.show(&waiting, |_| show::why(&waiting))?;
        }
        Verb::Files { which, destination, list } => {
            let workflow = client.workflow(&which.workflow).await?;
            if list {
                session.out.show(&workflow.files, |look| files::list(*look, &workflow.files))?;
            } else {
                let fetched = files::fetch(&client, &workflow, &destination).await?;
                let written = &fetched.written;
                session.out.show(written, |_| written.iter().map(|path| format!("{path}\n")).collect())?;
                fetched.require_all(&workflow)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pause(session: &Session, client: &Client, workflows: &[String], paused: bool) -> anyhow::Result<()> {
    let mut changed: Vec<WorkflowSummary> = Vec::new();
    for workflow in workflows {
        changed.push(client.pause_workflow(workflow, paused).await?);
    }
    let word = if paused { "paused" } else { "resumed" };
    session
        .out
        .show(&changed, |_| changed.iter().map(|one| format!("{word} {} ({})\n", one.name, one.id)).collect())
}

async fn run_start(session: &Session, client: &Client, start: Start) -> anyhow::Result<ExitCode> {
    let (file, document) = read(&start.file)?;
    let request = StartWorkflow { name: start.name, document, user: start.user };
    let started = match &start.idempotency_key {
        Some(key) => client.start_workflow_once(&request, key).await,
        None => client.start_workflow(&request).await,
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => return Err(tell_mistakes(&file, error)),
    };
    let id = started.id.to_string();
    if !start.watch {
        session.out.show(&started, |_| format!("{id}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{} is workflow {id}: {}", started.name, count(started.stages as usize, "stage")));
    watch::run(session, client, &id, &start.destination).await
}

async fn describe(session: &Session, client: &Client, id: &str) -> anyhow::Result<()> {
    let workflow = client.workflow(id).await?;
    let id = workflow.summary.id.to_string();
    let attempts = client.attempts(&id, None, DESCRIBED).await?;
    let events = client.workflow_events(&id, 0, DESCRIBED).await?;
    let waiting = client.why_workflow(&id).await?;
    let whole = show::Described { workflow, attempts, waiting, events };
    session.out.show(&whole, |look| show::described(*look, &whole))
}
