//! `/v1/inventory`: a question about the hardware of all nodes.

mod places;

use std::{sync::Arc, time::Duration};

use access::{Caller, Routes, Visibility};
use api::{
    ids::NodeName,
    inventory::{Answer, Answered, Inventory, Unclear},
    problem::{Diagnostic, Problem},
    rights::Action,
    status::NodeUpdate,
};
use axum::{
    extract::{Query, State},
    http::StatusCode,
};
use fleet::Fleet;
use rest::{Abandoned, Linked, MAX_PAGE_ROWS, Paging, Refusal, Turns, causes};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use utoipa_axum::routes;

use self::places::InventoryPermit;
use super::{Roles, is_damaged};
use crate::query::{self, AnswerError, AskedNode, Columns, Facts, Filter};

/// Time for one question. Waiting for a turn is not counted: it is the work of others.
const DEADLINE: Duration = Duration::from_secs(30);

/// Nodes that are asked in one turn: at some 100 KB each their inventories become 6 MB.
const BATCH: usize = 64;

/// Whole inventories in one answer: at some 100 KB each it becomes 50 MB. Columns
/// have no such limit.
const MAX_WHOLE: u32 = 500;

/// Nodes named in the list of those of which the answer is unclear, where no page is asked for.
const MAX_UNCLEAR: usize = 1_000;

/// The list that cursors of answers are of.
const LIST: &str = "inventory";

pub(super) fn routes() -> Routes<Roles> {
    Routes::new().route(Action::InventoryQuery, routes!(ask))
}

/// Query of `GET /v1/inventory`.
#[derive(Debug, Deserialize)]
struct Question {
    filter: Option<String>,
    names: Option<String>,
    labels: Option<String>,
    columns: Option<String>,
}

/// Nodes whose hardware is as an expression says, whole or in columns.
#[utoipa::path(
    get, path = "/v1/inventory", tag = "nodes",
    params(("filter" = Option<String>, Query, description = "Expression in CEL over the fields of the inventory, `name`, `labels` and `status`, with _ for -; default: true"),
        ("names" = Option<String>, Query, description = "Host list, such as n[1-8],login1; default: all"),
        ("labels" = Option<String>, Query, description = "Only nodes with such labels: rack=a1,tier!=test,gpu,!old"),
        ("columns" = Option<String>, Query, description = "Fields, such as name,topology.cpu_model,gpus.model; default: whole inventories"),
        ("limit" = Option<u32>, Query,
            description = "Nodes at most, unclear ones included: up to 10000, with whole inventories 500. \
                They come by name, and the `Link` header leads to the next page. Default: all"),
        ("cursor" = Option<String>, Query, description = "From the `Link` header of the page before")),
    responses((status = OK, body = Answer), (status = BAD_REQUEST, body = Problem),
        (status = NOT_FOUND, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem),
        (status = SERVICE_UNAVAILABLE, body = Problem))
)]
async fn ask(
    State(roles): State<Roles>,
    caller: Caller,
    Query(question): Query<Question>,
    paging: Paging,
) -> Result<Linked<Answer>, Refusal> {
    let title = "cannot answer the question";
    let columns = question.columns.as_deref().map(Columns::parse).transpose();
    let columns = columns.map_err(|diagnostic| refuse(title, "columns", diagnostic))?;
    let filter = question.filter.unwrap_or_else(|| "true".to_owned());
    let names = wanted(&roles.fleet, &caller, title, question.names, &paging).await?;
    let names = roles.fleet.labelled(title, names, question.labels.as_deref())?;
    let most = if columns.is_some() { MAX_PAGE_ROWS } else { MAX_WHOLE };
    let limit = paging.limit().map(|limit| limit.min(most));
    let mut turns = rest::turns(&caller.principal.name);
    let filter = turns.work(title, move |_| Filter::read(&filter)).await?;
    let filter = filter.map_err(|diagnostic| refuse(title, "filter", diagnostic))?;
    let asked = Arc::new(QuestionParts { filter, columns });
    let place = places::take(title, &caller.principal.name).await?;
    let rows = Rows { limit, _place: Some(place), ..Rows::default() };
    let sight = Visibility::of(&caller.principal);
    let rows = gather((&roles, sight), title, &mut turns, &names, &asked, rows).await?;
    let next = rows.last().filter(|_| rows.has_more).map(|name| paging.link(LIST, name));
    let mut answer = rows.answer;
    let asked = question.columns.as_deref().unwrap_or_default().split(',').map(str::trim);
    answer.columns = asked.filter(|column| !column.is_empty()).map(str::to_owned).collect();
    Ok(Linked { body: answer, next })
}

/// The nodes that are asked about, in the order of the host list. For a page they are by name, from
/// its first one on.
async fn wanted(
    fleet: &Fleet,
    caller: &Caller,
    title: &str,
    list: Option<String>,
    paging: &Paging,
) -> Result<Vec<NodeName>, Refusal> {
    let mut names = fleet.selected_names(caller, title, list).await?;
    if paging.is_wanted() {
        names.sort();
        names.dedup();
    }
    if let Some(after) = paging.after::<NodeName>(LIST)? {
        names.retain(|name| *name > after);
    }
    Ok(names)
}

/// A question with a mistake.
fn refuse(title: &str, part: &str, diagnostic: query::Diagnostic) -> Refusal {
    let query::Diagnostic { line, column, message } = diagnostic;
    let diagnostic = Diagnostic {
        line: line.into(),
        column: column.into(),
        path: part.to_owned(),
        message,
        hint: None,
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
    let detail = format!("the {part} cannot be understood; nothing was read");
    Refusal(Problem { status, title: title.to_owned(), detail, diagnostics: vec![diagnostic] })
}

/// What is asked of each node.
struct QuestionParts {
    filter: Filter,
    columns: Option<Columns>,
}

/// A node, and its inventory or why it cannot be told.
type NodeAnswer = (AskedNode, Result<Inventory, AnswerError>);

/// Asks of so many nodes in each turn: others have theirs in between. `rows`: none yet.
async fn gather(
    (roles, sight): (&Roles, Visibility),
    title: &str,
    turns: &mut Turns,
    names: &[NodeName],
    asked: &Arc<QuestionParts>,
    mut rows: Rows,
) -> Result<Rows, Refusal> {
    let mut taken = Duration::ZERO;
    for names in names.chunks(BATCH) {
        let begun = Instant::now();
        let reading = timeout(DEADLINE.saturating_sub(taken), told(roles, sight, title, names));
        let batch = reading.await.map_err(|_| StopReason::TooLong.refusal(title))??;
        taken += begun.elapsed();
        let (asked, left) = (asked.clone(), DEADLINE.saturating_sub(taken));
        let answering = move |abandoned: &Abandoned| {
            let begun = Instant::now();
            let end = rows.ask(batch, &asked, abandoned, || begun.elapsed() > left);
            (rows, end, begun.elapsed())
        };
        let (answered, end, took) = turns.work(title, answering).await?;
        rows = answered;
        taken += took;
        match end {
            None => {}
            Some(StopReason::PageIsFull) => break,
            Some(end) => return Err(end.refusal(title)),
        }
    }
    Ok(rows)
}

/// What nodes told of themselves. One that was deleted in this moment is none.
/// What is not seen cannot be asked for either: it is taken out before the question is.
async fn told(
    Roles { hardware, fleet }: &Roles,
    sight: Visibility,
    title: &str,
    names: &[NodeName],
) -> Result<Vec<NodeAnswer>, Refusal> {
    let mut all = Vec::with_capacity(names.len());
    for NodeUpdate { id, name, status } in names.iter().filter_map(|name| fleet.node(name)) {
        let told = match hardware.inventory(id).await {
            Err(error) if is_damaged(&error) => {
                Err(AnswerError::Damaged(sight.of_cause(causes(&error))))
            }
            Err(error) => return Err(Refusal::internal(title, &error)),
            Ok(None) => Err(AnswerError::NeverTold),
            Ok(Some(inventory)) => Ok(sight.of_thing(inventory)),
        };
        let labels =
            fleet.labels().borrow().get(&id).map(|labels| (**labels).clone()).unwrap_or_default();
        all.push((AskedNode { name, labels, status: sight.of_thing(status) }, told));
    }
    Ok(all)
}

/// Why no more nodes are asked.
#[derive(Debug, PartialEq, Eq)]
enum StopReason {
    PageIsFull,
    /// It is true of more nodes than are told whole.
    TooMany,
    TooLong,
    /// Nobody waits for the answer.
    Abandoned,
}

impl StopReason {
    /// Why there is no answer.
    fn refusal(&self, title: &str) -> Refusal {
        let (status, why) = match self {
            Self::TooMany => (
                StatusCode::UNPROCESSABLE_ENTITY,
                format!(
                    "it is true of more than {MAX_WHOLE} nodes; name the columns that you want of them, or \
                     ask the API for pages with `limit`"
                ),
            ),
            Self::TooLong | Self::PageIsFull | Self::Abandoned => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "it took longer than {} s; ask of fewer nodes, or a simpler question",
                    DEADLINE.as_secs()
                ),
            ),
        };
        Refusal::new(status, title, why)
    }
}

/// What is found of a node that is meant, or may be.
#[derive(Debug)]
enum Row {
    Answered(Answered),
    Unclear(Unclear),
}

/// An answer while it is gathered: all of it, or one page.
#[derive(Debug, Default)]
struct Rows {
    answer: Answer,
    /// Rows of the page at most, both kinds counted; `None`: the answer is all of it.
    limit: Option<u32>,
    /// There is a row behind this page.
    has_more: bool,
    /// Here it goes with the work: that of a client that hung up holds inventories
    /// until it has ended.
    _place: Option<InventoryPermit>,
}

impl Rows {
    /// Asks of these nodes. `None`: of all of them, and it may go on with others.
    fn ask(
        &mut self,
        batch: Vec<NodeAnswer>,
        asked: &QuestionParts,
        abandoned: &Abandoned,
        is_late: impl Fn() -> bool,
    ) -> Option<StopReason> {
        for (node, told) in batch {
            if abandoned.is_set() {
                return Some(StopReason::Abandoned);
            }
            if is_late() {
                return Some(StopReason::TooLong);
            }
            let name = node.name.clone();
            let said = told.and_then(|inventory| answered(node, inventory, asked, abandoned));
            let row = match said {
                Ok(Some(answered)) => Row::Answered(answered),
                Ok(None) => continue,
                Err(error) => Row::Unclear(Unclear { name, cause: error.to_string() }),
            };
            if !self.add(row) {
                return Some(StopReason::PageIsFull);
            }
            if asked.columns.is_none() && self.answer.nodes.len() > MAX_WHOLE as usize {
                return Some(StopReason::TooMany);
            }
        }
        None
    }

    /// Adds a row. `false`: the page was full, and the row belongs to the next one.
    fn add(&mut self, row: Row) -> bool {
        let count = self.answer.nodes.len() + self.answer.unclear.len();
        if self.limit.is_some_and(|limit| count >= limit as usize) {
            self.has_more = true;
            return false;
        }
        match row {
            Row::Answered(answered) => self.answer.nodes.push(answered),
            // A page is bounded anyway, and a node that is on no page would look as if it
            // were not meant.
            Row::Unclear(_) if self.limit.is_none() && self.answer.unclear.len() >= MAX_UNCLEAR => {
            }
            Row::Unclear(unclear) => self.answer.unclear.push(unclear),
        }
        true
    }

    /// The node of the last row of a page, whose rows are by name.
    fn last(&self) -> Option<&NodeName> {
        let answered = self.answer.nodes.last().map(|answered| &answered.name);
        answered.max(self.answer.unclear.last().map(|unclear| &unclear.name))
    }
}

/// `None` if the node is not meant.
fn answered(
    node: AskedNode,
    inventory: Inventory,
    QuestionParts { filter, columns }: &QuestionParts,
    abandoned: &Abandoned,
) -> Result<Option<Answered>, AnswerError> {
    let facts = Facts::new(&node, &inventory).ok_or(AnswerError::NoFacts)?;
    if !filter.is_true_of(&facts, abandoned)? {
        return Ok(None);
    }
    let values = columns.as_ref().map(|columns| columns.of(&facts)).unwrap_or_default();
    let inventory = columns.is_none().then(|| Box::new(inventory));
    Ok(Some(Answered { name: node.name, values, inventory }))
}

#[cfg(test)]
mod tests;
