//! Workflows of the checks and of the demo: documents of `vm-tests/documents`, started
//! as the user ann.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api::workflow::{Attempt, StageKind, State, Workflow};

use crate::{clock, cluster::Cluster};

/// The user of all workflows, an ordinary one.
pub(crate) const USER: &str = "ann";

/// Her numbers: uid, gid and one group more.
pub(crate) const NUMBERS: (&str, &str, &str) = ("1001", "1002", "2000");

/// What a document's HTTP server offers.
pub(crate) const WORDS: &str = "to be or not to be that is the question\n";

/// How long a workflow of the checks may take, where the processor itself runs the nodes.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the user, and what the documents fetch.
///
/// # Errors
/// Those of the command line.
pub(crate) fn prepare(cluster: &Cluster) -> anyhow::Result<()> {
    let (uid, gid, group) = NUMBERS;
    cluster.server.cli(&["user", "add", USER, "--uid", uid, "--gid", gid, "--groups", group])?;
    cluster.files.offer("words.txt", WORDS);
    Ok(())
}

/// Starts a document; the workflow's id.
///
/// # Errors
/// Those of the command line.
pub(crate) fn start(cluster: &Cluster, document: &str) -> anyhow::Result<String> {
    let path = path(cluster, document);
    let id = cluster.server.cli(&["workflow", "start", &path, "--as", USER])?;
    Ok(id.trim().to_owned())
}

/// The file of a document.
pub(crate) fn path(cluster: &Cluster, document: &str) -> String {
    cluster
        .checkout_paths()
        .in_workspace(&format!("vm-tests/documents/{document}.yaml"))
        .display()
        .to_string()
}

/// A workflow as it is now.
///
/// # Errors
/// Those of the request.
pub(crate) fn view(cluster: &Cluster, id: &str) -> anyhow::Result<Workflow> {
    Ok(cluster.server.ask(|client| async move { client.workflow(id).await })?)
}

/// Waits until it is over.
///
/// # Errors
/// If that takes too long; what it waits for is in the message.
pub(crate) fn wait(cluster: &Cluster, id: &str) -> anyhow::Result<Workflow> {
    wait_and_look(cluster, id, |_| Ok(()))
}

/// Waits until it is over, and looks at it on the way.
///
/// # Errors
/// As [`wait`], and those of `look`.
pub(crate) fn wait_and_look(
    cluster: &Cluster,
    id: &str,
    mut look: impl FnMut(&Workflow) -> anyhow::Result<()>,
) -> anyhow::Result<Workflow> {
    let limit = cluster.accelerator().stretch(LIMIT);
    let waited = clock::wait_for(&format!("workflow {id} to be over"), limit, || {
        let workflow = view(cluster, id)?;
        look(&workflow)?;
        Ok(workflow.summary.ended.is_some().then_some(workflow))
    });
    waited.with_context(|| cluster.server.cli(&["workflow", "describe", id]).unwrap_or_default())
}

/// Runs a document to its good end; its id.
///
/// # Errors
/// If it ends otherwise; all that is known of it is in the message.
pub(crate) fn finish(cluster: &Cluster, document: &str) -> anyhow::Result<String> {
    let id = start(cluster, document)?;
    let workflow = wait(cluster, &id)?;
    if workflow.summary.state != State::Finished {
        bail!(
            "{document} did not finish:\n{}",
            cluster.server.cli(&["workflow", "describe", &id])?
        );
    }
    Ok(id)
}

/// Runs a document that fails; its id and the reason.
///
/// # Errors
/// If it ends otherwise.
pub(crate) fn fail(cluster: &Cluster, document: &str) -> anyhow::Result<(String, String)> {
    let id = start(cluster, document)?;
    let summary = wait(cluster, &id)?.summary;
    ensure!(summary.state == State::Failed, "{document} is {}", summary.state.as_str());
    Ok((id, summary.reason.unwrap_or_default()))
}

/// The attempts of the tasks of its jobs.
///
/// # Errors
/// Those of the request.
pub(crate) fn attempts(cluster: &Cluster, id: &str) -> anyhow::Result<Vec<Attempt>> {
    let stages = view(cluster, id)?.stages;
    let is_job = |index: u32| {
        stages.iter().any(|stage| stage.index == index && stage.kind == StageKind::Job)
    };
    let mut attempts =
        cluster.server.ask(|client| async move { client.attempts(id, None, 1000).await })?;
    attempts.retain(|attempt| is_job(attempt.stage));
    Ok(attempts)
}

/// What a job wrote.
///
/// # Errors
/// Those of the command line.
pub(crate) fn log(cluster: &Cluster, id: &str, job: &str) -> anyhow::Result<String> {
    cluster.server.cli(&["workflow", "log", id, job])
}
