//! Documents on their way in: checked, normalised, and made a submission.

use access::{Caller, Resource};
use api::{
    access::Account,
    problem::{Diagnostic, Problem},
    workflow::{CheckDocument, Checked, StartWorkflow, WorkflowSummary},
};
use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use document::{
    Parsed,
    plan::{Plan, PlanError},
};
use image_catalog::JobImages;
use rest::{Abandoned, Body, Refusal, causes};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::{
    idempotency::{IdempotencyKey, Keyed},
    room,
};
use crate::{
    Controller,
    conductor::{NoReply, ORDER_PATIENCE},
    engine,
    engine::Submission,
    files, identity,
    ledger::SubmissionCharge,
    record::Owner,
};

/// Name of a workflow whose document and starter give it none.
const DEFAULT_NAME: &str = "workflow";

/// Longest name of a workflow, characters.
const MAX_NAME: usize = 63;

/// A checked submission; its place is its own until `turn` is dropped.
pub(super) struct Draft {
    pub(super) submission: Box<Submission>,
    pub(super) turn: OwnedMutexGuard<()>,
    /// Holds its files until the engine knows of them.
    pub(super) lease: JobImages,
    /// It is counted as long as it may still be started.
    pub(super) charge: SubmissionCharge,
}

/// What comes of a request to start a workflow.
pub(super) enum Request {
    /// A new workflow.
    New(Draft),
    /// It was handed in before, with the same key.
    Earlier(WorkflowSummary),
}

/// Checks a document against the language, the nodes and the rights of who starts it.
pub(super) async fn check(
    controller: &Controller,
    caller: &Caller,
    key: IdempotencyKey,
    request: StartWorkflow,
) -> Result<Request, Refusal> {
    let owner = owner(controller, caller, request.user.as_deref()).await?;
    let keyed = Keyed::of(key, caller, &request)?;
    // Before the document is checked: what was accepted is held against no rule again.
    if let Some(keyed) = &keyed
        && let Some(earlier) = keyed.earlier(controller, caller).await?
    {
        return Ok(Request::Earlier(earlier));
    }
    let (shared, document) = (controller.clone(), request.document);
    let mut turns = rest::turns(&caller.principal.name).holding(document.len());
    let checking = turns.work("cannot start the workflow", move |_| {
        // A start goes on to its end, whether its client waits or not.
        let parsed = parse(&shared, &document, &Abandoned::default());
        parsed.map(|parsed| (parsed, document))
    });
    let (parsed, document) = checking.await?.map_err(refuse)?;
    let name = name(request.name, &parsed)?;
    let title = format!("cannot start workflow {name}");
    room::look(controller, &owner.name, &document, &parsed.workflow, &title).await?;
    let lease = controller.0.images.leased();
    let files = files::store(&parsed.workflow, &lease).await;
    let files = files.map_err(|error| Refusal::internal(title.clone(), &error))?;
    // Its files are stored by now: this turn is not refused.
    let volume_bytes = controller.0.volume_bytes;
    let planning = turns.work(&title, move |_| {
        let mut plan = Plan::of(&parsed.workflow, &files)?;
        plan.limit_volumes(volume_bytes);
        Ok::<_, PlanError>((plan.to_json()?, plan))
    });
    let plan = planning.await?;
    let (stored_plan, plan) = plan.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let turn = timeout(ORDER_PATIENCE, controller.0.numbering.clone().lock_owned()).await;
    let turn = turn.map_err(|_| {
        Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            title.clone(),
            not_handed_over(keyed.is_some()),
        )
    })?;
    // Once more: the same request may have been in front of this one.
    if let Some(keyed) = &keyed
        && let Some(earlier) = keyed.earlier(controller, caller).await?
    {
        return Ok(Request::Earlier(earlier));
    }
    let sequence = controller.0.store.next_sequence().await;
    let sequence = sequence.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let id = identity::new_workflow();
    let documents = document.len() + stored_plan.len();
    let charge = room::take(controller, id, &owner.name, (&plan, documents), &title).await?;
    let submission = Submission {
        id,
        sequence,
        name,
        owner,
        document,
        plan,
        stored_plan,
        key: keyed.map(Keyed::into_row),
    };
    Ok(Request::New(Draft { submission: Box::new(submission), turn, lease, charge }))
}

/// Why a request is not handed over: those in front of it wait for the disk. Of those under a key
/// the one in front may be the same request, sent before.
fn not_handed_over(has_key: bool) -> &'static str {
    if has_key {
        "the server cannot write its database at the moment, and its log says why; this request was not \
         handed over, but one that was sent before under its key may still start when the database can be \
         written: `bedplate workflow list` tells then, and sent again with the same key it starts once"
    } else {
        "the server cannot write its database at the moment, and its log says why; this request started \
         nothing"
    }
}

/// Why a workflow that was handed over is not answered with.
pub(super) fn not_answered(why: NoReply) -> String {
    let may_start = "the server cannot write its database at the moment, and its log says why; the \
                     workflow may still start when it can: `bedplate workflow list` tells then, and sent \
                     again with the same key it starts once";
    match why {
        NoReply::Stopping => why.to_string(),
        NoReply::NotWritten => may_start.to_owned(),
    }
}

/// What a workflow is called.
fn name(wanted: Option<String>, parsed: &Parsed) -> Result<String, Refusal> {
    let name =
        wanted.or_else(|| parsed.workflow.name.clone()).unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let is_good = name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control);
    // As a part of a URL the last two mean something else.
    if !is_good || matches!(name.as_str(), "" | "." | "..") {
        let why = format!(
            "{name:?} cannot name a workflow: use 1 to {MAX_NAME} printable characters, not `.` or `..` alone"
        );
        return Err(Refusal::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "cannot start the workflow",
            why,
        ));
    }
    Ok(name)
}

/// As whom the jobs run: from the record of a user, never from the request.
async fn owner(
    controller: &Controller,
    caller: &Caller,
    wanted: Option<&str>,
) -> Result<Owner, Refusal> {
    let title = "cannot start the workflow";
    let principal = &caller.principal;
    caller.authorize(Resource::Owned { owner: wanted.unwrap_or(&principal.name) })?;
    let (name, account) = match wanted.filter(|name| *name != principal.name) {
        None => (principal.name.clone(), principal.account.clone()),
        Some(name) => {
            let user = controller.0.access.user(name).await;
            let user = user.map_err(|error| {
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, causes(&error))
            })?;
            (user.name, user.account)
        }
    };
    let Some(Account { uid, gid, groups }) = account else {
        let why = format!(
            "{name} has no uid and gid, and jobs do not run as root; give it some with `bedplate user set {name} --uid \
             … --gid …`, or start it as another user"
        );
        return Err(Refusal::new(StatusCode::FORBIDDEN, title, why));
    };
    Ok(Owner { name, uid, gid, groups })
}

/// The document, or its mistakes. What no node can run is one. Of a client that has
/// gone none are told.
fn parse(
    controller: &Controller,
    text: &str,
    abandoned: &Abandoned,
) -> Result<Parsed, Vec<Diagnostic>> {
    let parsed = document::parse_while(text, &|| !abandoned.is_set()).unwrap_or(Err(Vec::new()))?;
    let too_large = engine::too_large(&controller.view(), &parsed.workflow);
    if too_large.is_empty() {
        return Ok(parsed);
    }
    Err(parsed.diagnostics_of_jobs(too_large))
}

fn refuse(diagnostics: Vec<Diagnostic>) -> Refusal {
    let detail = match diagnostics.len() {
        1 => "the document has a mistake; nothing was started".to_owned(),
        count => format!("the document has {count} mistakes; nothing was started"),
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
    Refusal(Problem { status, title: "cannot start the workflow".to_owned(), detail, diagnostics })
}

/// Checks a document and starts nothing.
#[utoipa::path(
    post, path = "/v1/workflows/validate", tag = "workflows", request_body = CheckDocument,
    responses((status = OK, body = Checked), (status = SERVICE_UNAVAILABLE, body = Problem))
)]
pub(super) async fn validate(
    State(controller): State<Controller>,
    caller: Caller,
    Body(request): Body<CheckDocument>,
) -> Result<Json<Checked>, Refusal> {
    let mut turns = rest::turns(&caller.principal.name).holding(request.document.len());
    let checking = turns.work("cannot check the document", move |abandoned| {
        match parse(&controller, &request.document, abandoned) {
            Ok(parsed) => {
                let far = engine::not_near(&controller.view(), &parsed.workflow);
                let far = parsed.diagnostics_of_jobs(far);
                Checked { diagnostics: Vec::new(), warnings: [parsed.warnings, far].concat() }
            }
            Err(diagnostics) => Checked { diagnostics, warnings: Vec::new() },
        }
    });
    checking.await.map(Json)
}

/// The normalised form of a document as YAML: defaults merged, units gone.
#[utoipa::path(
    post, path = "/v1/workflows/render", tag = "workflows", request_body = CheckDocument,
    responses((status = OK, body = String, content_type = "application/yaml"),
        (status = UNPROCESSABLE_ENTITY, body = Problem), (status = SERVICE_UNAVAILABLE, body = Problem))
)]
pub(super) async fn render(
    caller: Caller,
    Body(request): Body<CheckDocument>,
) -> Result<impl IntoResponse, Refusal> {
    let title = "cannot write the document";
    let mut turns = rest::turns(&caller.principal.name).holding(request.document.len());
    let rendering = turns.work(title, move |abandoned| {
        let parsed = document::parse_while(&request.document, &|| !abandoned.is_set());
        parsed.unwrap_or(Err(Vec::new())).map(|parsed| parsed.workflow.to_yaml())
    });
    let text = rendering.await?.map_err(refuse)?;
    let text = text.map_err(|error| Refusal::internal(title, &error))?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/yaml")], text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_that_nothing_starts_where_something_may() {
        let keyed = not_handed_over(true);
        let handed_over = not_answered(NoReply::NotWritten);
        for why in [keyed, handed_over.as_str()] {
            assert!(!why.contains("nothing"), "{why}");
            assert!(why.contains("may still start when"), "{why}");
            assert!(why.contains("`bedplate workflow list` tells"), "{why}");
            assert!(why.contains("with the same key it starts once"), "{why}");
        }
        assert!(not_handed_over(false).ends_with("this request started nothing"));
    }
}
