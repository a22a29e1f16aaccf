//! `GET /v1/workflows/{id}/usage`: what the running tasks of a workflow use now, asked
//! of their nodes.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use access::Caller;
use api::{
    channel::FromServer,
    ids::NodeId,
    problem::Problem,
    run::{LiveUsage, MAX_RUNS_PER_MESSAGE, RunId},
    workflow::TaskUsage,
};
use axum::{
    Json,
    extract::{Path, State},
};
use rest::Refusal;
use tokio::{sync::broadcast::error::RecvError, time::timeout};

use super::find;
use crate::{Controller, clock, engine::RunningJob};

/// Tasks in one answer: more fit on no screen.
const MAX_TASKS: usize = 1_000;

/// How long nodes have to tell. One that is away holds nobody up for longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the running tasks of a workflow use. A task whose node does not answer is without figures.
#[utoipa::path(
    get, path = "/v1/workflows/{id}/usage", tag = "workflows",
    params(("id" = String, Path, description = "Id, or a name: the newest workflow of it")),
    responses((status = OK, body = [TaskUsage], description = "At most 1,000 tasks"),
        (status = NOT_FOUND, body = Problem))
)]
pub(super) async fn usage(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<Json<Vec<TaskUsage>>, Refusal> {
    let id =
        find(&controller, &caller, &wanted, "cannot tell what the workflow uses").await?.summary.id;
    let mut jobs = controller.view().running_jobs(id);
    jobs.truncate(MAX_TASKS);
    let mut told = HashMap::new();
    // Those that did not tell in time are without figures.
    let _ = timeout(PATIENCE, ask(&controller, &jobs, &mut told)).await;
    let now = clock::now();
    let with_figures = |job: RunningJob| {
        let usage: Option<LiveUsage> = told.remove(&job.run).flatten();
        TaskUsage { at: usage.as_ref().map(|_| now), usage, ..job.task }
    };
    Ok(Json(jobs.into_iter().map(with_figures).collect()))
}

/// Asks the nodes of `jobs` and collects what they tell.
async fn ask(
    controller: &Controller,
    jobs: &[RunningJob],
    told: &mut HashMap<RunId, Option<LiveUsage>>,
) {
    let fleet = &controller.0.fleet;
    let mut answers = fleet.usages();
    let mut by_node: BTreeMap<NodeId, Vec<RunId>> = BTreeMap::new();
    for job in jobs {
        by_node.entry(job.node).or_default().push(job.run);
    }
    let mut asked = 0;
    for (node, runs) in by_node {
        for runs in runs.chunks(MAX_RUNS_PER_MESSAGE) {
            if fleet.try_send(node, FromServer::SendUsage { runs: runs.to_vec() }) {
                asked += runs.len();
            }
        }
    }
    while told.len() < asked {
        match answers.recv().await {
            Ok(answer) => {
                let ours =
                    |run: RunId| jobs.iter().any(|job| job.run == run && job.node == answer.node);
                for one in answer.runs.iter().filter(|one| ours(one.run)) {
                    told.insert(one.run, one.usage.clone());
                }
            }
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}
