//! `/v1/inventory`: a question about the hardware of all nodes. `/metrics`: what Prometheus asks for.

use std::{sync::Arc, time::Duration};

use access::Routes;
use api::{
    inventory::{Answer, Answered, Inventory, Unclear},
    machine::Node,
    problem::{Mistake, Problem},
    rights::Action,
};
use axum::{
    Json,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use rest::Refusal;
use serde::Deserialize;
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
    time::timeout,
};
use utoipa_axum::routes;

use crate::{
    provisioner::Provisioner,
    query::{self, Columns, Facts, Filter},
};

/// Questions that are answered at once; others wait. Each keeps a processor busy.
static QUESTIONS: Semaphore = Semaphore::const_new(2);

/// Time for one question, in which others are waited for.
const DEADLINE: Duration = Duration::from_secs(30);

/// Whole inventories in one answer: at some 100 KB each it becomes 50 MB. Columns have no such limit.
const MAX_WHOLE: usize = 500;

/// Nodes named in the list of those of which the answer is unclear.
const MAX_UNCLEAR: usize = 1_000;

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new().route(Action::InventoryQuery, routes!(ask)).route(Action::MetricsRead, routes!(metrics))
}

/// Query of `GET /v1/inventory`.
#[derive(Debug, Deserialize)]
struct Question {
    filter: Option<String>,
    names: Option<String>,
    columns: Option<String>,
}

/// Nodes whose hardware is as an expression says, whole or in columns.
#[utoipa::path(
    get, path = "/v1/inventory", tag = "nodes",
    params(("filter" = Option<String>, Query, description = "Expression in CEL over the fields of the inventory, `name` and `status`, with _ for -; default: true"),
        ("names" = Option<String>, Query, description = "Host list, such as n[1-8],login1; default: all"),
        ("columns" = Option<String>, Query, description = "Fields, such as name,topology.cpu_model,gpus.model; default: whole inventories")),
    responses((status = OK, body = Answer), (status = NOT_FOUND, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem), (status = SERVICE_UNAVAILABLE, body = Problem))
)]
async fn ask(
    State(provisioner): State<Provisioner>,
    Query(question): Query<Question>,
) -> Result<Json<Answer>, Refusal> {
    let title = "cannot answer the question";
    let columns = question.columns.as_deref().map(Columns::parse).transpose();
    let columns = columns.map_err(|mistake| refuse(title, "columns", mistake))?;
    let filter = question.filter.unwrap_or_else(|| "true".to_owned());
    let nodes = provisioner.selected(title, question.names.as_deref())?;
    let answer = async {
        let _turn = QUESTIONS.acquire().await.map_err(|error| Refusal::internal(title, &error))?;
        let filter = spawn_blocking(move || Filter::read(&filter)).await;
        let filter = filter.map_err(|error| Refusal::internal(title, &error))?;
        let filter = Arc::new(filter.map_err(|mistake| refuse(title, "filter", mistake))?);
        gather(&provisioner, title, nodes, &filter, columns.as_ref()).await
    };
    let answer = timeout(DEADLINE, answer).await.map_err(|_| {
        let why = format!(
            "it took longer than {} s; ask of fewer nodes, or a simpler question",
            DEADLINE.as_secs()
        );
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, title, why)
    })?;
    let mut answer = answer?;
    let asked = question.columns.as_deref().unwrap_or_default().split(',').map(str::trim);
    answer.columns = asked.filter(|column| !column.is_empty()).map(str::to_owned).collect();
    Ok(Json(answer))
}

/// A question with a mistake.
fn refuse(title: &str, part: &str, mistake: query::Mistake) -> Refusal {
    let query::Mistake { line, column, message } = mistake;
    let mistake =
        Mistake { line: line.into(), column: column.into(), path: part.to_owned(), message, hint: None };
    let status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
    let detail = format!("the {part} cannot be understood; nothing was read");
    Refusal(Problem { status, title: title.to_owned(), detail, mistakes: vec![mistake] })
}

async fn gather(
    provisioner: &Provisioner,
    title: &str,
    nodes: Vec<Node>,
    filter: &Arc<Filter>,
    columns: Option<&Columns>,
) -> Result<Answer, Refusal> {
    let mut answer = Answer::default();
    for node in nodes {
        let name = node.name.clone();
        let found = provisioner.0.fleet.inventory(node.id).await;
        let found = found.map_err(|error| Refusal::internal(title, &error))?;
        let said = match found {
            None => Err("it never told of its hardware".to_owned()),
            Some(inventory) => {
                let (filter, columns) = (filter.clone(), columns.cloned());
                let said: Result<_, JoinError> =
                    spawn_blocking(move || answered(node, inventory, &filter, columns.as_ref())).await;
                said.map_err(|error| Refusal::internal(title, &error))?
            }
        };
        match said {
            Ok(Some(answered)) => answer.nodes.push(answered),
            Ok(None) => {}
            Err(cause) if answer.unclear.len() < MAX_UNCLEAR => answer.unclear.push(Unclear { name, cause }),
            Err(_) => {}
        }
        if columns.is_none() && answer.nodes.len() > MAX_WHOLE {
            let why =
                format!("it is true of more than {MAX_WHOLE} nodes; name the columns that you want of them");
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, why));
        }
    }
    Ok(answer)
}

/// `None` if the node is not meant.
fn answered(
    node: Node,
    inventory: Inventory,
    filter: &Filter,
    columns: Option<&Columns>,
) -> Result<Option<Answered>, String> {
    let facts = Facts::new(&node, &inventory).ok_or("its inventory cannot be read")?;
    if !filter.is_true_of(&facts)? {
        return Ok(None);
    }
    let values = columns.map(|columns| columns.of(&facts)).unwrap_or_default();
    let inventory = columns.is_none().then(|| Box::new(inventory));
    Ok(Some(Answered { name: node.name, values, inventory }))
}

/// Nodes and their hardware for Prometheus, in the text format of OpenMetrics.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses((status = OK, body = String, content_type = "application/openmetrics-text"))
)]
async fn metrics(State(provisioner): State<Provisioner>) -> Result<Response, Refusal> {
    let text = provisioner.0.fleet.metrics().await;
    let text = text.map_err(|error| Refusal::internal("cannot tell the metrics", &error))?;
    Ok(([(header::CONTENT_TYPE, fleet::METRICS_TYPE)], text).into_response())
}
