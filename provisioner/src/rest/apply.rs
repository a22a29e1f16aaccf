//! `/v1/apply` and `/v1/export`: the whole cluster as a YAML document.

use std::collections::BTreeSet;

use access::Routes;
use api::{
    ids::{NodeId, NodeName, ProfileName},
    machine::{Applied, Apply, Change, MachineSpec},
    problem::{Mistake, Problem},
    rights::Action,
};
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use rest::{Body, Refusal};
use serde_json::Value;
use utoipa_axum::routes;

use super::{refuse_document, refuse_edit};
use crate::{
    check::{Known, Subject},
    cluster::{ChangeError, Cluster, Draft},
    document::{self, Document},
    identity,
    provisioner::{EditError, Provisioner},
    resolve::{collect_leaves, to_json},
    store::Write,
};

/// Largest request, bytes: a document of the largest size with every character escaped.
const MAX_BODY_BYTES: usize = 2 * document::MAX_BYTES;

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new()
        .route(Action::ClusterApply, routes!(apply))
        .with_body_limit(MAX_BODY_BYTES)
        .route(Action::ClusterExport, routes!(export))
}

/// Makes nodes and profiles be as a document says: all of it, or nothing.
#[utoipa::path(
    post, path = "/v1/apply", tag = "apply", request_body = Apply,
    responses((status = OK, body = Applied), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn apply(
    State(provisioner): State<Provisioner>,
    Body(request): Body<Apply>,
) -> Result<Json<Applied>, Refusal> {
    let title = "cannot apply the document";
    let turn = provisioner.0.turn.clone().lock_owned().await;
    let (view, known) = (provisioner.view(), provisioner.known());
    let planning = tokio::task::spawn_blocking(move || {
        let planned = plan(&view.cluster, &request, &known)?;
        Ok::<_, Refused>((planned, request.dry_run))
    });
    let planned = planning.await.map_err(|error| Refusal::internal(title, &error))?;
    let (plan, dry_run) = planned.map_err(|refused| match refused {
        Refused::Mistakes(mistakes) => refuse_document(title, mistakes),
        Refused::Change(error) => refuse_edit(title, &EditError::Change(error)),
        Refused::Randomness(error) => Refusal::internal(title, &error),
    })?;
    if !dry_run {
        let committed = provisioner.commit(turn, plan.next, plan.writes).await;
        committed.map_err(|error| refuse_edit(title, &error))?;
    }
    Ok(Json(Applied { changes: plan.changes }))
}

#[derive(Debug)]
enum Refused {
    Mistakes(Vec<Mistake>),
    Change(ChangeError),
    Randomness(identity::NoRandomness),
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        Self::Change(error)
    }
}

#[derive(Debug)]
struct Plan {
    next: Cluster,
    writes: Vec<Write>,
    changes: Vec<Change>,
}

/// What a document changes, or every mistake in it.
fn plan(cluster: &Cluster, request: &Apply, known: &Known) -> Result<Plan, Refused> {
    let (document, mut mistakes) = Document::read(&request.document);
    let mut draft = cluster.draft();
    let mut changes = Vec::new();
    for entry in &document.entries {
        changes.extend(set(&mut draft, &entry.subject, &entry.spec)?);
    }
    // A document that could not be read as a whole does not say what is to go.
    if request.prune && mistakes.is_empty() {
        prune(&mut draft, &document, &mut changes)?;
    }
    match cluster.finish(draft, known) {
        Ok((next, writes)) if mistakes.is_empty() => Ok(Plan { next, writes, changes }),
        Ok(_) => Err(Refused::Mistakes(mistakes)),
        Err(ChangeError::Mistakes { findings }) => {
            mistakes.extend(findings.iter().map(|finding| document.locate(finding)));
            mistakes.sort();
            mistakes.truncate(document::MAX_MISTAKES);
            Err(Refused::Mistakes(mistakes))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sets one object; `None` if it is so already.
fn set(draft: &mut Draft, subject: &Subject, spec: &MachineSpec) -> Result<Option<Change>, Refused> {
    let old = draft.spec(subject).cloned();
    let action = match &old {
        Some(old) if old == spec && draft.unreadable(subject).is_none() => return Ok(None),
        Some(_) => "changed",
        None => "created",
    };
    match (subject, &old) {
        (Subject::Node(name), None) => {
            let id: NodeId = identity::new_node().map_err(Refused::Randomness)?;
            draft.add_node(name, id, spec.clone())?;
        }
        (Subject::Node(name), Some(_)) => draft.set_node(name, spec.clone(), None)?,
        (Subject::Profile(name), None) => draft.add_profile(name, spec.clone())?,
        (Subject::Profile(name), Some(_)) => draft.set_profile(name, spec.clone(), None)?,
    }
    Ok(Some(change(subject, action, &old.unwrap_or_default(), spec)))
}

/// Removes what the document does not name.
fn prune(draft: &mut Draft, document: &Document, changes: &mut Vec<Change>) -> Result<(), Refused> {
    let named: BTreeSet<&Subject> = document.entries.iter().map(|entry| &entry.subject).collect();
    let nodes: Vec<NodeName> = draft.nodes.keys().cloned().collect();
    let profiles: Vec<ProfileName> = draft.profiles.keys().cloned().collect();
    let all = nodes.into_iter().map(Subject::Node).chain(profiles.into_iter().map(Subject::Profile));
    for subject in all.filter(|subject| !named.contains(subject)) {
        let old = draft.spec(&subject).cloned().unwrap_or_default();
        match &subject {
            Subject::Node(name) => draft.remove_node(name, None)?,
            Subject::Profile(name) => draft.remove_profile(name, None)?,
        }
        changes.push(change(&subject, "deleted", &old, &MachineSpec::default()));
    }
    Ok(())
}

fn change(subject: &Subject, action: &str, old: &MachineSpec, new: &MachineSpec) -> Change {
    let (kind, name) = match subject {
        Subject::Node(name) => ("node", name.to_string()),
        Subject::Profile(name) => ("profile", name.to_string()),
    };
    Change { kind: kind.to_owned(), name, action: action.to_owned(), fields: differences(old, new) }
}

/// Changed fields as `path: old -> new`; `-` stands for unset.
fn differences(old: &MachineSpec, new: &MachineSpec) -> Vec<String> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    collect_leaves("", &to_json(old), &mut before);
    collect_leaves("", &to_json(new), &mut after);
    let text = |leaves: &[(String, Value)], field: &str| {
        let found = leaves.iter().find(|(path, _)| path == field);
        found.map_or("-".to_owned(), |(_, value)| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let added = after.iter().filter(|(path, _)| !before.iter().any(|(other, _)| other == path));
    let fields = before.iter().chain(added).map(|(path, _)| path);
    fields
        .filter_map(|field| {
            let (was, is) = (text(&before, field), text(&after, field));
            (was != is).then(|| format!("{field}: {was} -> {is}"))
        })
        .collect()
}

/// All nodes and profiles as a document that applies without a change.
#[utoipa::path(
    get, path = "/v1/export", tag = "apply",
    responses((status = OK, body = String, content_type = "application/yaml"))
)]
async fn export(State(provisioner): State<Provisioner>) -> Result<Response, Refusal> {
    let view = provisioner.view();
    let (profiles, nodes) = (&view.cluster.profiles, &view.cluster.nodes);
    let readable = |unreadable: &Option<String>| unreadable.is_none();
    let text = document::export(
        profiles.iter().filter(|(_, one)| readable(&one.unreadable)).map(|(name, one)| (name, &one.spec)),
        nodes.iter().filter(|(_, one)| readable(&one.unreadable)).map(|(name, one)| (name, &one.spec)),
    );
    let text = text.map_err(|error| Refusal::internal("cannot export the cluster", &error))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], left_out(&view.cluster) + &text).into_response())
}

/// A comment for each object whose specification is not known: an empty one would be applied as such.
fn left_out(cluster: &Cluster) -> String {
    let profiles = cluster.profiles.values().map(|one| ("profile", one.name.as_str(), &one.unreadable));
    let nodes = cluster.nodes.values().map(|one| ("node", one.name.as_str(), &one.unreadable));
    let line = |(kind, name, unreadable): (&str, &str, &Option<String>)| {
        let cause = unreadable.as_ref()?.replace(char::is_control, " ");
        Some(format!("# {kind} {name} is left out, its row in the database cannot be read: {cause}\n"))
    };
    profiles.chain(nodes).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(cluster: &Cluster, document: &str, prune: bool, expect: &Expect) -> Option<Cluster> {
        let request = Apply { document: document.to_owned(), dry_run: false, prune };
        let overlays = crate::resolve::DEFAULT_BOOT_OVERLAYS.iter().map(|name| name.parse().unwrap());
        let known = Known { overlays: overlays.collect(), ..Known::default() };
        let (text, next) = match plan(cluster, &request, &known) {
            Ok(plan) => {
                let line = |change: &Change| {
                    format!(
                        "{} {} {}: {}\n",
                        change.kind,
                        change.name,
                        change.action,
                        change.fields.join(", ")
                    )
                };
                (plan.changes.iter().map(line).collect::<String>(), Some(plan.next))
            }
            Err(Refused::Mistakes(mistakes)) => {
                (mistakes.iter().map(|mistake| format!("{mistake}\n")).collect(), None)
            }
            Err(other) => (format!("{other:?}"), None),
        };
        expect.assert_eq(&text);
        next
    }

    #[test]
    fn tells_every_change_and_then_none() {
        let document = "profiles:\n  base: {kernel-args: [quiet]}\nnodes:\n  n[1-2]: {profiles: [base]}\n";
        let cluster = check(
            &Cluster::default(),
            document,
            false,
            &expect![[r#"
                profile base created: kernel-args[0]: - -> quiet
                node n1 created: profiles[0]: - -> base
                node n2 created: profiles[0]: - -> base
            "#]],
        )
        .unwrap();
        check(&cluster, document, true, &expect![""]);
        check(
            &cluster,
            "profiles: {base: {kernel-args: [debug]}}\nnodes: {n1: {profiles: [base], comment: x}}",
            true,
            &expect![[r#"
                profile base changed: kernel-args[0]: quiet -> debug
                node n1 changed: comment: - -> x
                node n2 deleted: profiles[0]: base -> -
            "#]],
        );
    }

    #[test]
    fn tells_every_mistake_at_once_with_its_place() {
        check(
            &Cluster::default(),
            "nodes:\n  n1:\n    imgae: debian\n    profiles: [bsae]\n    interfaces:\n      eth0: {mac: zz}\n  n2: {profiles: [nope]}\n",
            false,
            &expect![[r#"
                3:5: nodes.n1.imgae: unknown key "imgae" (did you mean `image`?)
                4:15: nodes.n1.profiles: profile "bsae" does not exist
                6:19: nodes.n1.interfaces.eth0.mac: "zz" is not a hardware address (as in 52:54:00:12:34:56)
                7:18: nodes.n2.profiles: profile "nope" does not exist
            "#]],
        );
    }
}
