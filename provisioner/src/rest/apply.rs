//! `/v1/apply` and `/v1/export`: the whole cluster as a YAML document.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use access::{Caller, Routes, Visibility};
use api::{
    ids::{NodeId, NodeName, ProfileName},
    machine::{Applied, Apply, Change, MachineSpec},
    problem::{Diagnostic, Problem},
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
use yaml_tree::Diagnostics;

use super::{refuse_document, refuse_edit};
use crate::{
    check::{Known, Subject},
    cluster::{ChangeError, Cluster, Draft, Next},
    document::{self, Document},
    identity,
    provisioner::{EditError, Provisioner},
    resolve::{collect_leaves, to_json},
};

/// Largest request, bytes: a document of the largest size with every character escaped.
const MAX_BODY_BYTES: usize = 2 * document::MAX_BYTES;

/// What failed if a document is refused.
const TITLE: &str = "cannot apply the document";

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new()
        .route(Action::ClusterApply, routes!(apply))
        .with_body_limit(MAX_BODY_BYTES)
        .route(Action::ClusterExport, routes!(export))
}

/// Makes nodes and profiles be as a document says: all of it, or nothing.
#[utoipa::path(
    post, path = "/v1/apply", tag = "apply", request_body = Apply,
    responses((status = OK, body = Applied), (status = UNPROCESSABLE_ENTITY, body = Problem),
        (status = CONFLICT, body = Problem), (status = NOT_FOUND, body = Problem),
        (status = SERVICE_UNAVAILABLE, body = Problem))
)]
async fn apply(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Body(Apply { document, dry_run, prune }): Body<Apply>,
) -> Result<Json<Applied>, Refusal> {
    let mut turns = rest::turns(&caller.principal.name).holding(document.len());
    let reading = turns.work(TITLE, move |_| Document::read(&document));
    let wanted = Arc::new(ParsedDocument::new(reading.await?, prune));
    // What the document changes is found while others may change something. Then it is found again,
    // the second time with the turn held: that is bounded by what a cluster may have.
    let (view, known) = (provisioner.view(), provisioner.known());
    let (cluster, facts, asked) = (view.clone(), known.clone(), wanted.clone());
    let plan = turns.work(TITLE, move |_| plan(&cluster.cluster, &asked, &facts)).await?;
    let plan = plan.map_err(refuse)?;
    if dry_run {
        return Ok(Json(Applied { changes: plan.changes }));
    }
    let turn = provisioner.0.turn.clone().lock_owned().await;
    let (view_now, known_now) = (provisioner.view(), provisioner.known());
    let (turn, plan) = if Arc::ptr_eq(&view, &view_now) && known == known_now {
        (turn, plan)
    } else {
        // The turn ends with the work, also where the client hangs up.
        let again = move || (turn, self::plan(&view_now.cluster, &wanted, &known_now));
        let again = tokio::task::spawn_blocking(again).await;
        let (turn, plan) = again.map_err(|error| Refusal::internal(TITLE, &error))?;
        (turn, plan.map_err(refuse)?)
    };
    let committed = provisioner.commit(turn, plan.next).await;
    committed.map_err(|error| refuse_edit(TITLE, &error))?;
    Ok(Json(Applied { changes: plan.changes }))
}

fn refuse(refused: Refused) -> Refusal {
    match refused {
        Refused::Diagnostics(diagnostics) => refuse_document(TITLE, diagnostics),
        Refused::Change(error) => refuse_edit(TITLE, &EditError::Change(error)),
        Refused::Randomness(error) => Refusal::internal(TITLE, &error),
    }
}

#[derive(Debug)]
enum Refused {
    Diagnostics(Vec<Diagnostic>),
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
    next: Next,
    changes: Vec<Change>,
}

/// What a document says, read once for all clusters that it is held against.
#[derive(Debug)]
struct ParsedDocument {
    document: Document,
    diagnostics: Diagnostics,
    prune: bool,
}

impl ParsedDocument {
    fn new((document, diagnostics): (Document, Diagnostics), prune: bool) -> Self {
        Self { document, diagnostics, prune }
    }
}

/// What a document changes, or the mistakes in it.
fn plan(cluster: &Cluster, wanted: &ParsedDocument, known: &Known) -> Result<Plan, Refused> {
    let ParsedDocument { document, diagnostics, prune } = wanted;
    let mut draft = cluster.draft();
    let mut changes = Vec::new();
    for entry in &document.entries {
        changes.extend(set(&mut draft, &entry.subject, &entry.spec)?);
    }
    // A document that could not be read as a whole does not say what is to go.
    if *prune && diagnostics.is_empty() {
        self::prune(&mut draft, document, &mut changes)?;
    }
    let mut diagnostics = diagnostics.clone();
    match cluster.finish(draft, known) {
        Ok(next) if diagnostics.is_empty() => Ok(Plan { next, changes }),
        Ok(_) => Err(Refused::Diagnostics(diagnostics.told())),
        Err(ChangeError::Diagnostics { findings }) => {
            findings.iter().for_each(|finding| document.note(finding, &mut diagnostics));
            Err(Refused::Diagnostics(diagnostics.told()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sets one object; `None` if it is so already.
fn set(
    draft: &mut Draft,
    subject: &Subject,
    spec: &MachineSpec,
) -> Result<Option<Change>, Refused> {
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
    let nodes: Vec<NodeName> = draft.nodes().keys().cloned().collect();
    let profiles: Vec<ProfileName> = draft.profiles().keys().cloned().collect();
    let all =
        nodes.into_iter().map(Subject::Node).chain(profiles.into_iter().map(Subject::Profile));
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
    let (was, is) = (by_path(&before), by_path(&after));
    let text = |value: Option<&&Value>| match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let added = after.iter().filter(|(path, _)| !was.contains_key(path.as_str()));
    let fields = before.iter().chain(added).map(|(path, _)| path.as_str());
    fields
        .filter_map(|field| {
            let (was, is) = (text(was.get(field)), text(is.get(field)));
            (was != is).then(|| format!("{field}: {was} -> {is}"))
        })
        .collect()
}

/// The first value of each path.
fn by_path(leaves: &[(String, Value)]) -> BTreeMap<&str, &Value> {
    let mut values = BTreeMap::new();
    for (path, value) in leaves {
        values.entry(path.as_str()).or_insert(value);
    }
    values
}

/// All nodes and profiles as a document that applies without a change.
#[utoipa::path(
    get, path = "/v1/export", tag = "apply",
    responses((status = OK, body = Object, content_type = "application/yaml"))
)]
async fn export(
    State(provisioner): State<Provisioner>,
    caller: Caller,
) -> Result<Response, Refusal> {
    let title = "cannot export the cluster";
    let view = provisioner.view();
    let visibility = Visibility::of(&caller.principal);
    let text =
        rest::work(title, &caller.principal.name, move |_| exported(&view.cluster, visibility))
            .await?;
    let text = text.map_err(|error| Refusal::internal(title, &error))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], text).into_response())
}

fn exported(cluster: &Cluster, visibility: Visibility) -> Result<String, serde_saphyr::ser::Error> {
    let seen = |spec: &MachineSpec, unreadable: &Option<String>| {
        unreadable.is_none().then(|| visibility.of_thing(spec.clone()))
    };
    let profiles = cluster.profiles.iter();
    let profiles =
        profiles.filter_map(|(name, one)| Some((name, seen(&one.spec, &one.unreadable)?)));
    let nodes = cluster.nodes.iter();
    let nodes = nodes.filter_map(|(name, one)| Some((name, seen(&one.spec, &one.unreadable)?)));
    let (profiles, nodes): (Vec<_>, Vec<_>) = (profiles.collect(), nodes.collect());
    let text = document::export(
        profiles.iter().map(|(name, spec)| (*name, spec)),
        nodes.iter().map(|(name, spec)| (*name, spec)),
    );
    let remark = match visibility {
        Visibility::Full => String::new(),
        Visibility::Public => {
            let remark = "# tags, MAC addresses and BMCs are left out: admins read them\n";
            remark.to_owned() + document::PARTIAL_LINE
        }
    };
    Ok(remark + &left_out(cluster, visibility) + &text?)
}

/// A comment for each object whose specification is not known: an empty one would be
/// applied as such.
fn left_out(cluster: &Cluster, visibility: Visibility) -> String {
    let profiles =
        cluster.profiles.values().map(|one| ("profile", one.name.as_str(), &one.unreadable));
    let nodes = cluster.nodes.values().map(|one| ("node", one.name.as_str(), &one.unreadable));
    let line = |(kind, name, unreadable): (&str, &str, &Option<String>)| {
        let cause = match visibility {
            Visibility::Full => unreadable.as_ref()?.replace(char::is_control, " "),
            // It may quote what stands there.
            Visibility::Public => unreadable.as_ref().map(|_| "an admin is told why".to_owned())?,
        };
        Some(format!(
            "# {kind} {name} is left out, its row in the database cannot be read: {cause}\n"
        ))
    };
    profiles.chain(nodes).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(cluster: &Cluster, document: &str, prune: bool, expect: &Expect) -> Option<Cluster> {
        let wanted = ParsedDocument::new(Document::read(document), prune);
        let overlays =
            crate::resolve::DEFAULT_BOOT_OVERLAYS.iter().map(|name| name.parse().unwrap());
        let known = Known { overlays: overlays.collect(), ..Known::default() };
        let (text, next) = match plan(cluster, &wanted, &known) {
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
                (plan.changes.iter().map(line).collect::<String>(), Some(plan.next.cluster))
            }
            Err(Refused::Diagnostics(diagnostics)) => {
                (diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect(), None)
            }
            Err(other) => (format!("{other:?}"), None),
        };
        expect.assert_eq(&text);
        next
    }

    #[test]
    fn tells_every_change_and_then_none() {
        let document =
            "profiles:\n  base: {kernel-args: [quiet]}\nnodes:\n  n[1-2]: {profiles: [base]}\n";
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
    fn tells_every_diagnostic_at_once_with_its_place() {
        check(
            &Cluster::default(),
            "nodes:\n  n1:\n    imgae: debian\n    profiles: [bsae]\n    interfaces:\n      eth0: {mac: zz}\n  n2: {profiles: [nope]}\n",
            false,
            &expect![[r#"
                3:5: nodes.n1.imgae: unknown key "imgae" (did you mean `image`?)
                4:15: nodes.n1.profiles: profile "bsae" does not exist
                6:19: nodes.n1.interfaces.eth0.mac: "zz" is not a MAC address (as in 52:54:00:12:34:56)
                7:18: nodes.n2.profiles: profile "nope" does not exist
            "#]],
        );
    }

    #[test]
    fn what_a_user_exported_is_not_applied_as_it_is() {
        let document = "nodes: {n1: {interfaces: {e: {mac: '52:54:00:00:00:01'}}}}";
        let cluster = check(
            &Cluster::default(),
            document,
            false,
            &expect![[r#"
                node n1 created: interfaces.e.mac: - -> 52:54:00:00:00:01
            "#]],
        )
        .unwrap();
        check(&cluster, &exported(&cluster, Visibility::Full).unwrap(), true, &expect![""]);
        let users = exported(&cluster, Visibility::Public).unwrap();
        check(
            &cluster,
            &users,
            false,
            &expect![[r#"
                2:1: partial: the document leaves out tags, MAC addresses and BMCs, which only admins read: nodes and profiles would lose theirs (apply what an admin exported; if they shall go, take this line out)
            "#]],
        );
        check(
            &cluster,
            &users.replace(document::PARTIAL_LINE, ""),
            false,
            &expect![[r#"
                node n1 changed: interfaces.e.mac: 52:54:00:00:00:01 -> -
            "#]],
        );
    }

    /// It was 25 s with the turn held, and a cluster that has no room for them.
    #[test]
    fn more_nodes_than_a_cluster_has_are_not_made() {
        let many: String = (0..20).map(|part| format!("  p{part}-[1-10000]: {{}}\n")).collect();
        let wanted = ParsedDocument::new(Document::read(&format!("nodes:\n{many}")), false);
        assert!(wanted.document.entries.is_empty());
        let Err(Refused::Diagnostics(diagnostics)) =
            plan(&Cluster::default(), &wanted, &Known::default())
        else {
            panic!("it was taken");
        };
        assert!(diagnostics[0].message.contains("more than 65536 nodes"), "{diagnostics:?}");
    }

    #[test]
    fn differences_are_those_of_the_first_value_of_a_path() {
        let old = MachineSpec {
            kernel_args: vec!["a".to_owned(), "b".to_owned()],
            ..MachineSpec::default()
        };
        let new = MachineSpec { kernel_args: vec!["a".to_owned()], ..MachineSpec::default() };
        assert_eq!(differences(&old, &new), ["kernel-args[1]: b -> -"]);
        assert_eq!(differences(&new, &old), ["kernel-args[1]: - -> b"]);
        // A key with a dot makes the same path as a map within.
        let tags = |pairs: &[(&str, &str)]| MachineSpec {
            tags: pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..MachineSpec::default()
        };
        assert_eq!(
            differences(&tags(&[("a.b", "1")]), &tags(&[("a.b", "2")])),
            ["tags.a.b: 1 -> 2"]
        );
    }
}
