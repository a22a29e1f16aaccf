//! `DELETE /v1/workflows/{id}`: what a workflow that is over has on the server is freed.

use access::Caller;
use api::{problem::Problem, run::WorkflowId};
use axum::{
    extract::{Path, State},
    http::StatusCode,
};
use database::outbox;
use rest::Refusal;

use super::find;
use crate::{
    Controller,
    conductor::{Command, Removal, ask},
};

/// Workflows of one name that are told of where it names several.
const MAX_TOLD: u32 = 5;

const TITLE: &str = "cannot delete the workflow";

/// Deletes a workflow that is over, with its history, its document, its logs and its files.
#[utoipa::path(
    delete, path = "/v1/workflows/{id}", tag = "workflows",
    params(("id" = String, Path,
        description = "Id, or a name that no other workflow has which the caller may delete")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem, description = "It is not over, its logs are still \
            coming, or several workflows have the name"),
        (status = SERVICE_UNAVAILABLE, body = Problem))
)]
pub(super) async fn delete(
    State(controller): State<Controller>,
    caller: Caller,
    Path(wanted): Path<String>,
) -> Result<StatusCode, Refusal> {
    let wanted = only_one(&controller, &caller, wanted).await?;
    let summary = find(&controller, &caller, &wanted, TITLE).await?.summary;
    if summary.ended.is_none() {
        let (name, status) = (&summary.name, summary.status());
        let why =
            format!("{name} is {}: stop it first with `bedplate workflow stop`", status.as_str());
        return Err(conflict(why));
    }
    let (id, orders) = (summary.id, &controller.0.orders);
    access::record_object(&format!("workflow {id}"));
    let told = outbox::current();
    match ask(orders, |done| Command::Forget { workflows: vec![id], done, told }).await {
        Ok(Some(removal)) => {
            Removal::wait_for(vec![removal]).await;
            Ok(StatusCode::NO_CONTENT)
        }
        Ok(None) => Err(conflict(format!(
            "the logs of {} are still coming from its nodes: try again in a few minutes",
            summary.name
        ))),
        Err(why) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, TITLE, why.to_string())),
    }
}

fn conflict(why: String) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, TITLE, why)
}

/// The id of the one workflow of a name; an id as it is. What is deleted does not come back, so a
/// name that several have is not taken for the newest of them.
async fn only_one(
    controller: &Controller,
    caller: &Caller,
    wanted: String,
) -> Result<String, Refusal> {
    if wanted.parse::<WorkflowId>().is_ok() {
        return Ok(wanted);
    }
    let rows = caller.visible()?;
    let found = controller.0.store.named(&wanted, rows.owner(), MAX_TOLD + 1).await;
    let found = found.map_err(|error| Refusal::internal(TITLE, &error))?;
    match found.as_slice() {
        // Whether there is none is told where it is looked for.
        [] => Ok(wanted),
        [(id, _)] => Ok(id.to_string()),
        several => Err(conflict(ambiguous(&wanted, several))),
    }
}

fn ambiguous(name: &str, several: &[(WorkflowId, Option<String>)]) -> String {
    let told = usize::try_from(MAX_TOLD).unwrap_or(usize::MAX);
    let one = |(id, owner): &(WorkflowId, Option<String>)| {
        format!("{id} of {}", owner.as_deref().unwrap_or("an owner that cannot be read"))
    };
    let mut words: Vec<String> = several.iter().take(told).map(one).collect();
    if several.len() > told {
        words.push("others".to_owned());
    }
    format!("several workflows have the name {name:?}: {}; delete each by its id", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_several_is_told_of_some() {
        let of = |number, owner: Option<&str>| {
            (WorkflowId(uuid::Uuid::from_u128(number)), owner.map(str::to_owned))
        };
        expect_test::expect![[
            r#"several workflows have the name "night": 00000000-0000-0000-0000-000000000001 of ann, 00000000-0000-0000-0000-000000000002 of an owner that cannot be read; delete each by its id"#
        ]]
        .assert_eq(&ambiguous("night", &[of(1, Some("ann")), of(2, None)]));
        let many: Vec<_> = (0..6).map(|number| of(number, Some("ann"))).collect();
        let why = ambiguous("night", &many);
        assert_eq!(why.matches(" of ann").count(), 5, "{why}");
        assert!(why.ends_with(", others; delete each by its id"), "{why}");
    }
}
