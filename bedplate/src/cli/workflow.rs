//! `workflow`: from a document to results.

mod attach;
mod copy;
mod document;
mod exec;
mod files;
mod list;
mod live;
mod log;
mod port_forward;
mod show;
mod stream;
mod terminal;
mod top;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use api::workflow::{StartWorkflow, Workflow, WorkflowSummary};
use clap::{Args, Subcommand, ValueHint};
use clap_complete::ArgValueCompleter;
use client::{Client, ClientError};
use ring::rand::{SecureRandom as _, SystemRandom};

use self::{files::Destination, top::Top};
use super::{
    complete,
    context::Session,
    each::each,
    error::Usage,
    input::{print_diagnostics, read},
    output::print_note,
    words::count,
};

/// Attempts and events that `describe` shows.
const DESCRIBED: u32 = 10_000;

/// Run workflows.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Start a workflow from a document.
    Start(Start),
    List(list::List),
    /// Show a workflow and its stages.
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// Show a workflow with every attempt of its tasks, their nodes and events.
    Describe {
        #[command(flatten)]
        which: Which,
    },
    /// Print the document of a workflow as it was submitted.
    Document {
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
    /// Copy files and directories out of a running job, or into it.
    Cp(copy::Copy),
    /// Stop workflows: what runs gets SIGTERM, and SIGKILL if it does not end.
    Stop {
        /// Ids or names.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    /// Delete workflows that have ended, with their history, documents, logs and files.
    Delete {
        /// Ids, or names that only one workflow has.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    /// Pause the running jobs of workflows and start no new ones.
    #[command(
        after_help = "Paused jobs keep their processors, memory and devices; their timeouts are suspended. Transfers that have
started are completed."
    )]
    Pause {
        /// Ids or names.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    /// Resume paused workflows.
    Resume {
        /// Ids or names.
        #[arg(required = true, value_name = "WORKFLOW", add = ArgValueCompleter::new(complete::workflows))]
        workflows: Vec<String>,
    },
    Top(Top),
    /// Show what each stage waits for: image pulls and their progress, missing resources, or its
    /// position in the queue.
    Why {
        #[command(flatten)]
        which: Which,
        /// Show only this job and the stages that it depends on.
        job: Option<String>,
    },
    /// Fetch the files that a workflow leaves for its user.
    #[command(
        after_help = "Exit status: 0 if all files were fetched; otherwise 1, with the names of the missing ones."
    )]
    Files {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        destination: Destination,
        /// List the files and fetch none.
        #[arg(long)]
        list: bool,
    },
    /// Check a document and start nothing.
    #[command(
        after_help = "Every error is reported with its line and column. Exit status: 1 if there is one. Without a server the document
is checked by itself; with one also whether its nodes have what it asks for."
    )]
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
    override_usage = "bedplate workflow start [OPTIONS] [NAME] <FILE>",
    after_help = "The workflow's id is printed. If the document has errors, nothing is started, and each error is
reported with its line and column.

Examples:
  bedplate workflow start hello.yaml --watch
  bedplate workflow start morning-run hello.yaml
  id=$(bedplate workflow start - < hello.yaml)
  bedplate workflow start hello.yaml --as ann
  bedplate workflow start nightly.yaml --idempotency-key nightly-$(date +%F)

Exit status with --watch: 0 if the workflow finished, 1 if it failed or was stopped, 130 after Ctrl-C, which leaves it
running."
)]
pub(super) struct Start {
    /// Name of the workflow [default: the document's, else the file's], and the document; - reads
    /// standard input.
    #[arg(required = true, num_args = 1..=2, value_names = ["NAME", "FILE"], value_hint = ValueHint::FilePath)]
    words: Vec<PathBuf>,
    /// Name of the workflow [default: the document's, else the file's].
    #[arg(long)]
    name: Option<String>,
    /// Start it as this user; for admins.
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
    /// Start it only once: within 24 hours, the same document with the same key prints the id of
    /// the existing workflow. For scripts that retry.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Follow it to its end and fetch its files.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    destination: Destination,
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<ExitCode> {
    if let Verb::Validate { file } = &verb {
        return document::validate(session, file).await;
    }
    let client = session.client()?;
    match verb {
        Verb::Start(start) => return run_start(session, &client, start).await,
        Verb::Watch { which, destination } => {
            return watch::run(session, &client, &which.workflow, &destination).await;
        }
        // It needs no server: see above.
        Verb::Validate { .. } => {}
        Verb::Render { file } => document::render(session, &client, &file).await?,
        Verb::List(list) => list::run(session, &client, &list).await?,
        Verb::Status { which } => {
            let workflow = client.workflow(&which.workflow).await?;
            session.out.show(&workflow, |look| show::status(*look, &workflow))?;
        }
        Verb::Document { which } => document::submitted(session, &client, &which.workflow).await?,
        Verb::Describe { which } => describe(session, &client, &which.workflow).await?,
        Verb::Exec(exec) => return exec::run(session, &client, &exec).await,
        Verb::Attach(attach) => return attach::run(session, &client, &attach).await,
        Verb::PortForward(forward) => port_forward::run(session, &client, &forward).await?,
        Verb::Cp(copy) => return copy::run(session, &client, &copy).await,
        Verb::Log(log) => log::run(session, &client, &log).await?,
        Verb::Stop { workflows } => {
            let stop = async |workflow: &str| client.stop_workflow(workflow).await;
            one_by_one(session, &workflows, ("stopping", "stopped"), stop).await?;
        }
        Verb::Delete { workflows } => {
            each(session, &workflows, "deleted", async |name: &String| delete(&client, name).await)
                .await?;
        }
        Verb::Pause { workflows } => {
            let pause = async |workflow: &str| client.pause_workflow(workflow, true).await;
            one_by_one(session, &workflows, ("paused", "paused"), pause).await?;
        }
        Verb::Resume { workflows } => {
            let resume = async |workflow: &str| client.pause_workflow(workflow, false).await;
            one_by_one(session, &workflows, ("resumed", "resumed"), resume).await?;
        }
        Verb::Top(top) => top::run(session, &client, &top).await?,
        Verb::Why { which, job } => {
            let waiting = match job {
                Some(job) => client.why_job(&which.workflow, &job).await?,
                None => client.why_workflow(&which.workflow).await?,
            };
            session.out.show(&waiting, |_| show::why(&waiting))?;
        }
        Verb::Files { which, destination, list } => {
            let workflow = client.workflow(&which.workflow).await?;
            if list {
                session.out.show(&workflow.files, |look| files::list(*look, &workflow.files))?;
            } else {
                let fetched = files::fetch(&client, &workflow, &destination).await?;
                let written = &fetched.written;
                session
                    .out
                    .show(written, |_| written.iter().map(|path| format!("{path}\n")).collect())?;
                fetched.require_all(&workflow)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for each workflow in turn. That one fails does not spare the others: each outcome is shown,
/// also where the server goes away in the middle. `words`: what is done now, and what was not done.
async fn one_by_one(
    session: &Session,
    workflows: &[String],
    (doing, undone): (&str, &str),
    each: impl AsyncFn(&str) -> Result<WorkflowSummary, ClientError>,
) -> anyhow::Result<()> {
    let (mut done, mut failed): (Vec<WorkflowSummary>, Vec<(&str, ClientError)>) =
        Default::default();
    let mut left = workflows.iter();
    for workflow in left.by_ref() {
        match each(workflow).await {
            Ok(summary) => done.push(summary),
            Err(error) => {
                let is_gone = matches!(error, ClientError::Unreachable { .. });
                failed.push((workflow, error));
                // Each of the others would wait for the server as long.
                if is_gone {
                    break;
                }
            }
        }
    }
    if !done.is_empty() || failed.is_empty() {
        session.out.show(&done, |_| {
            done.iter().map(|one| format!("{doing} {} ({})\n", one.name, one.id)).collect()
        })?;
    }
    if workflows.len() == 1 {
        return failed.pop().map_or(Ok(()), |(_, error)| Err(error.into()));
    }
    for (workflow, error) in &failed {
        print_note(&format!("{workflow}: {error}"));
    }
    if !failed.is_empty() {
        let failed = failed.iter().map(|(workflow, _)| *workflow);
        let names: Vec<&str> = failed.chain(left.map(String::as_str)).collect();
        bail!("not {undone}: {}", names.join(", "));
    }
    Ok(())
}

/// Deletes a workflow, and tells which one that was and whose: a name alone does not say.
async fn delete(client: &Client, wanted: &str) -> Result<&'static str, ClientError> {
    let shown = match client.workflow(wanted).await {
        Err(error @ ClientError::Unreachable { .. }) => return Err(error),
        // What is not shown is refused below, in the words of what was asked for.
        shown => shown.ok(),
    };
    client.delete_workflow(wanted).await?;
    if let Some(Workflow { summary, .. }) = shown {
        print_note(&format!("{} was workflow {} of {}", summary.name, summary.id, summary.user));
    }
    Ok("deleted")
}

async fn run_start(session: &Session, client: &Client, start: Start) -> anyhow::Result<ExitCode> {
    let (name, path) = name_and_file(start.words, start.name)?;
    let (file, document) = read(&path)?;
    let name = name.or_else(|| document::name_of_file(&path, &document));
    let request = StartWorkflow { name, document, user: start.user };
    let started = match start_once(client, &request, start.idempotency_key).await {
        Ok(started) => started,
        Err(error) => return Err(print_diagnostics(&file, error)),
    };
    let id = started.id.to_string();
    if !start.watch {
        session.out.show(&started, |_| format!("{id}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_note(&format!(
        "{} is workflow {id}: {}",
        started.name,
        count(started.stages as usize, "stage")
    ));
    watch::run(session, client, &id, &start.destination).await
}

/// Status of the server's answer to who has used too many keys within a day, which names the
/// header. Who only asks too fast gets it too, without: without a key the same document might
/// be started twice.
const TOO_MANY_KEYS: (u16, &str) = (429, "Idempotency-Key");

/// Starts it under the user's key, else under one of its own: then it is sent again where the
/// connection breaks, and there is one workflow all the same.
async fn start_once(
    client: &Client,
    request: &StartWorkflow,
    key: Option<String>,
) -> Result<WorkflowSummary, ClientError> {
    if let Some(key) = key {
        return client.start_workflow_once(request, &key).await;
    }
    let Some(key) = own_key() else { return client.start_workflow(request).await };
    let started = client.start_workflow_once(request, &key).await;
    // It did not ask for a key, so it shall not be refused for one.
    match &started {
        Err(ClientError::Refused(problem))
            if problem.status == TOO_MANY_KEYS.0 && problem.detail.contains(TOO_MANY_KEYS.1) =>
        {
            client.start_workflow(request).await
        }
        _ => started,
    }
}

/// A key that nobody else uses; `None` without randomness.
fn own_key() -> Option<String> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(uuid::Builder::from_random_bytes(random).into_uuid().to_string())
}

/// The name of a workflow and its document: `FILE`, `NAME FILE`, `FILE --name NAME`.
fn name_and_file(
    words: Vec<PathBuf>,
    option: Option<String>,
) -> Result<(Option<String>, PathBuf), Usage> {
    let mut words = words.into_iter();
    match (words.next(), words.next(), option) {
        (Some(file), None, name) => Ok((name, file)),
        (Some(name), Some(file), None) => {
            let name = name.into_os_string().into_string();
            let name = name.map_err(|name| {
                Usage(format!("{name:?} cannot name a workflow: it is not UTF-8"))
            })?;
            Ok((Some(name), file))
        }
        (Some(name), Some(file), Some(_)) => Err(Usage(format!(
            "the workflow is named twice, {:?} and by --name: leave one out, or is {:?} a second document?",
            name.display(),
            file.display()
        ))),
        (None, ..) => Err(Usage("name the document of the workflow".to_owned())),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_key_of_its_own() {
        let (one, other) = (own_key().unwrap(), own_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(uuid::Uuid::parse_str(&one).unwrap().get_version_num(), 4);
    }
}
