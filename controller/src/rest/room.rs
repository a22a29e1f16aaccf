//! Whether the owner of a submission has room for it: the quotas that a submission is held against.

use std::collections::HashSet;

use api::{
    quota::{Amounts, QuotaName},
    run::WorkflowId,
};
use axum::http::StatusCode;
use document::{
    Workflow,
    plan::{self, Plan},
};
use rest::Refusal;

use crate::{
    Controller, ledger,
    ledger::{SubmissionCharge, SubmissionRefused},
};

/// Looks before anything of it is stored. What is known only with its plan is left to [`take`].
pub(super) async fn look(
    controller: &Controller,
    owner: &str,
    document: &str,
    workflow: &Workflow,
    title: &str,
) -> Result<(), Refusal> {
    // The same text twice is one file.
    let files: HashSet<&str> = plan::files(workflow).map(|(_, text)| text).collect();
    let more = Amounts::default()
        .with(QuotaName::Workflows, 1)
        .with(QuotaName::Documents, document.len() as u64)
        .with(QuotaName::Files, files.iter().map(|text| text.len() as u64).sum());
    let limits = controller.0.access.quotas_of(owner).await;
    let limits = limits.map_err(|error| Refusal::internal(title, &error))?;
    let looked = controller.0.results.ledger().has_room(owner, &more, &limits);
    looked.map_err(|not_taken| refuse(controller, title, &not_taken))
}

/// Takes the room of a workflow that is handed over next. `documents`: bytes of its document and of
/// its plan. It is counted until it is over, or until what is returned is dropped before that.
pub(super) async fn take(
    controller: &Controller,
    id: WorkflowId,
    owner: &str,
    (plan, documents): (&Plan, usize),
    title: &str,
) -> Result<SubmissionCharge, Refusal> {
    let access = &controller.0.access;
    let limits = access.quotas_of(owner).await.map_err(|error| Refusal::internal(title, &error))?;
    let more = ledger::of_plan(plan).with(QuotaName::Documents, documents as u64);
    let ledger = controller.0.results.ledger();
    if let Err(not_taken) = ledger.submit(id, owner, more, &limits) {
        // Its inline files are of no use.
        controller.0.images.fetch_failed();
        return Err(refuse(controller, title, &not_taken));
    }
    let charge = ledger.until_handed_over(id);
    // Whoever removes a user refuses submissions first, and then looks what there is.
    if let Err(error) = access.user(owner).await {
        return Err(match error {
            access::AccessError::UnknownUser { user } => {
                refuse(controller, title, &SubmissionRefused::Leaving { user })
            }
            error => Refusal::internal(title, &error),
        });
    }
    Ok(charge)
}

fn refuse(controller: &Controller, title: &str, not_taken: &SubmissionRefused) -> Refusal {
    match not_taken {
        SubmissionRefused::Exceeded(exceeded) => {
            controller.0.access.count_refusal(exceeded.name);
            exceeded.refusal(title)
        }
        SubmissionRefused::Leaving { .. } => {
            Refusal::new(StatusCode::CONFLICT, title, not_taken.to_string())
        }
    }
}
