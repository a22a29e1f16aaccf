//! `/v1/nodes`: what is wanted of nodes, what they are doing, and what they are told to do.

use access::{Caller, Routes};
use api::{
    ids::{Digest, NodeId, NodeName},
    labels::{Selector, SelectorError},
    machine::{AddNodes, MachineSpec, Node, PatchNodes},
    problem::Problem,
    rights::Action,
    status::{DrainNode, MAX_DRAIN_REASON_BYTES},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use rest::{Abandoned, Body, BodyOf, Page, PageParams, Paging, Refusal, Versioned, if_match};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa_axum::routes;

use super::{
    enrolments, explain, hardware, history,
    names::{self, expand},
    patch, refuse_edit, watch,
};
use crate::{
    check::Subject,
    hostlist, identity,
    images::ImageTable,
    provisioner::{Provisioner, View},
    public::Sight,
    spread::{SpreadError, check_size, spread},
    store::NodeRecord,
};

pub(super) fn routes() -> Routes<Provisioner> {
    Routes::new()
        .route(Action::NodeList, routes!(list))
        .route(Action::NodeAdd, routes!(add))
        .route(Action::NodeEdit, routes!(patch_many))
        .route(Action::NodeList, routes!(watch::nodes))
        .route(Action::NodeRead, routes!(show))
        .route(Action::NodeEdit, routes!(replace, patch_one))
        .route(Action::NodeDelete, routes!(delete))
        .route(Action::NodeDelete, routes!(delete_many))
        .merge(explain::routes())
        .merge(hardware::routes())
        .merge(history::routes())
        .route(Action::NodeReboot, routes!(reboot))
        .route(Action::NodeUpgrade, routes!(upgrade))
        .route(Action::NodeArm, routes!(arm))
        .merge(enrolments::routes())
        .route(Action::NodeDrain, routes!(drain, undrain))
}

impl Provisioner {
    /// A node with its status; `None` if it was deleted in this moment.
    fn shown(&self, view: &View, record: &NodeRecord, images: &ImageTable) -> Option<Node> {
        let resolved = view.cluster.checked.resolved.get(&record.name);
        Some(Node {
            name: record.name.clone(),
            id: record.id,
            spec: record.spec.clone(),
            status: self.0.fleet.status(record.id)?,
            next_image: self.next_image(record, images),
            labels: resolved.map(|spec| spec.labels.clone()).unwrap_or_default(),
            version: record.version,
        })
    }

    pub(super) fn show_all<'a>(&self, names: impl IntoIterator<Item = &'a NodeName>) -> Vec<Node> {
        let (view, images) = (self.view(), self.0.images.table());
        let found =
            names.into_iter().filter_map(|name| self.shown(&view, view.cluster.nodes.get(name)?, &images));
        found.collect()
    }

    /// The names of the nodes of a host list, in its order; of all without one.
    pub(super) async fn selected_names(
        &self,
        caller: &Caller,
        title: &str,
        list: Option<String>,
    ) -> Result<Vec<NodeName>, Refusal> {
        let Some(list) = list else { return Ok(self.view().cluster.nodes.keys().cloned().collect()) };
        let names = expand(&caller.principal.name, title, list).await?;
        self.present(title, &names.iter().collect::<Vec<_>>())?;
        Ok(names)
    }

    /// Refuses names of nodes that are not registered. What is not there is said before what is
    /// wrong with what was sent for it.
    fn present(&self, title: &str, names: &[&NodeName]) -> Result<(), Refusal> {
        let view = self.view();
        let is_missing = |name: &&NodeName| !view.cluster.nodes.contains_key(*name);
        let missing: Vec<&NodeName> = names.iter().copied().filter(is_missing).collect();
        if missing.is_empty() { Ok(()) } else { Err(not_found(title, &missing)) }
    }

    /// Of some nodes those whose labels a selector means; all without one.
    pub(super) fn labelled(
        &self,
        title: &str,
        mut names: Vec<NodeName>,
        selector: Option<&str>,
    ) -> Result<Vec<NodeName>, Refusal> {
        let Some(selector) = selector else { return Ok(names) };
        let selector: Selector = selector.parse().map_err(|error: SelectorError| {
            Refusal::new(StatusCode::BAD_REQUEST, title, error.to_string())
        })?;
        let view = self.view();
        let resolved = &view.cluster.checked.resolved;
        names.retain(|name| resolved.get(name).is_some_and(|spec| selector.matches(&spec.labels)));
        Ok(names)
    }

    pub(super) fn find(&self, title: &str, name: &NodeName) -> Result<NodeId, Refusal> {
        access::object_told(&format!("node {name}"));
        self.view().cluster.nodes.get(name).map(|record| record.id).ok_or_else(|| not_found(title, &[name]))
    }
}

pub(super) fn not_found(title: &str, names: &[&NodeName]) -> Refusal {
    let list = hostlist::compress(names.iter().map(|name| name.as_str()));
    let verb = if names.len() == 1 { "does" } else { "do" };
    let detail = format!("node {list} {verb} not exist; `bedplate node list` shows those that do");
    Refusal::new(StatusCode::NOT_FOUND, title, detail)
}

/// Query of `GET /v1/nodes`.
#[derive(Debug, Deserialize)]
struct Selection {
    names: Option<String>,
    labels: Option<String>,
}

/// Nodes with their status.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes",
    params(("names" = Option<String>, Query, description = "Host list, such as n[1-8],login1; default: all"),
        ("labels" = Option<String>, Query, description = "Only nodes with such labels: rack=a1,tier!=test,gpu,!old"),
        PageParams),
    responses((status = OK, body = [Node]), (status = BAD_REQUEST, body = Problem),
        (status = NOT_FOUND, body = Problem))
)]
async fn list(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Query(selection): Query<Selection>,
    paging: Paging,
) -> Result<Page<Node>, Refusal> {
    let title = "cannot list nodes";
    let names = provisioner.selected_names(&caller, title, selection.names).await?;
    let mut names = provisioner.labelled(title, names, selection.labels.as_deref())?;
    if paging.is_wanted() {
        // A cursor is a name, so pages are by name, whatever the order of the host list.
        names.sort();
        names.dedup();
    }
    let page = paging.cut("nodes", names, Clone::clone, |name, after| name > after)?;
    let sight = Sight::of(&caller.principal);
    let page = Page { rows: provisioner.show_all(&page.rows), next: page.next };
    Ok(page.map(|node| sight.of_thing(node)))
}

/// Adds nodes by one specification: all, or none.
#[utoipa::path(
    post, path = "/v1/nodes", tag = "nodes", request_body = AddNodes,
    responses((status = CREATED, body = [Node]), (status = CONFLICT, body = Problem),
        (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn add(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Body(AddNodes { names, spec }): Body<AddNodes>,
) -> Result<(StatusCode, Json<Vec<Node>>), Refusal> {
    let user = &caller.principal.name;
    let title = format!("cannot add {}", names::quoted(&names));
    let names = expand(user, &title, names).await?;
    let count = names.len();
    let making = move |_: &Abandoned| {
        let ids = (0..count).map(|_| identity::new_node()).collect::<Result<Vec<NodeId>, _>>();
        (spread(&spec, count), ids)
    };
    let (specs, ids) = rest::work(&title, user, making).await?;
    let specs = specs.map_err(|error| too_large(&title, &error))?;
    let ids = ids.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let new = names.into_iter().zip(ids).zip(specs);
    let added = provisioner
        .change(move |draft| {
            let new: Vec<_> = new.collect();
            draft.are_free(new.iter().map(|((name, _), _)| name))?;
            let mut names = Vec::with_capacity(new.len());
            for ((name, id), spec) in new {
                draft.add_node(&name, id, spec)?;
                names.push(name);
            }
            Ok(names)
        })
        .await
        .map_err(|error| refuse_edit(title, &error))?;
    Ok((StatusCode::CREATED, Json(provisioner.show_all(&added))))
}

/// Changes nodes by one JSON merge patch: all, or none.
#[utoipa::path(
    patch, path = "/v1/nodes", tag = "nodes", request_body = PatchNodes,
    responses((status = OK, body = [Node]), (status = NOT_FOUND, body = Problem),
        (status = CONFLICT, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn patch_many(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Body(PatchNodes { names, patch }): Body<PatchNodes>,
) -> Result<Json<Vec<Node>>, Refusal> {
    let title = format!("cannot change {}", names::quoted(&names));
    let names = expand(&caller.principal.name, &title, names).await?;
    if let Err(error) = check_size(&patch, names.len()) {
        provisioner.present(&title, &names.iter().collect::<Vec<_>>())?;
        return Err(too_large(&title, &error));
    }
    change(&provisioner, title, names.clone(), patch, None).await?;
    Ok(Json(provisioner.show_all(&names)))
}

fn too_large(title: &str, error: &SpreadError) -> Refusal {
    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, error.to_string())
}

async fn change(
    provisioner: &Provisioner,
    title: String,
    names: Vec<NodeName>,
    wanted: Value,
    if_match: Option<u64>,
) -> Result<(), Refusal> {
    provisioner
        .change(move |draft| {
            draft.has_nodes(&names)?;
            for name in names {
                let old = draft.readable_spec(&Subject::Node(name.clone()))?;
                let spec = patch::apply("node", name.as_str(), &old, &wanted)?;
                draft.set_node(&name, spec, if_match)?;
            }
            Ok(())
        })
        .await
        .map_err(|error| refuse_edit(title, &error))
}

/// One node with its status.
#[utoipa::path(
    get, path = "/v1/nodes/{name}", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = OK, body = Node), (status = NOT_FOUND, body = Problem))
)]
async fn show(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<Versioned<Node>, Refusal> {
    let Versioned { version, body } = one(&provisioner, &name)?;
    Ok(Versioned { version, body: Sight::of(&caller.principal).of_thing(body) })
}

fn one(provisioner: &Provisioner, name: &NodeName) -> Result<Versioned<Node>, Refusal> {
    let shown = provisioner.show_all([name]).pop();
    let shown = shown.map(|node| Versioned { version: node.version, body: node });
    shown.ok_or_else(|| not_found("cannot show the node", &[name]))
}

/// Gives a node another specification.
#[utoipa::path(
    put, path = "/v1/nodes/{name}", tag = "nodes", request_body = MachineSpec,
    params(("name" = inline(NodeName), Path, description = "Name of the node"),
        ("if-match" = Option<u64>, Header, description = "Refuse if the node has another version")),
    responses((status = OK, body = Node), (status = NOT_FOUND, body = Problem),
        (status = PRECONDITION_FAILED, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn replace(
    State(provisioner): State<Provisioner>,
    Path(name): Path<NodeName>,
    headers: HeaderMap,
    body: BodyOf<MachineSpec>,
) -> Result<Versioned<Node>, Refusal> {
    let version = if_match(&headers)?;
    let title = format!("cannot change {name}");
    provisioner.present(&title, &[&name])?;
    let spec = body.checked()?;
    let edited = name.clone();
    provisioner
        .change(move |draft| draft.set_node(&edited, spec, version))
        .await
        .map_err(|error| refuse_edit(title, &error))?;
    one(&provisioner, &name)
}

/// Changes a node by a JSON merge patch (RFC 7396) on its specification.
#[utoipa::path(
    patch, path = "/v1/nodes/{name}", tag = "nodes", request_body = Object,
    params(("name" = inline(NodeName), Path, description = "Name of the node"),
        ("if-match" = Option<u64>, Header, description = "Refuse if the node has another version")),
    responses((status = OK, body = Node), (status = CONFLICT, body = Problem),
        (status = PRECONDITION_FAILED, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn patch_one(
    State(provisioner): State<Provisioner>,
    Path(name): Path<NodeName>,
    headers: HeaderMap,
    body: BodyOf<Value>,
) -> Result<Versioned<Node>, Refusal> {
    let version = if_match(&headers)?;
    let title = format!("cannot change {name}");
    provisioner.present(&title, &[&name])?;
    change(&provisioner, title, vec![name.clone()], body.checked()?, version).await?;
    one(&provisioner, &name)
}

/// Query of `DELETE /v1/nodes`.
#[derive(Debug, Deserialize)]
struct Doomed {
    names: String,
}

/// Deletes nodes, their history and their certificates: all, or none.
#[utoipa::path(
    delete, path = "/v1/nodes", tag = "nodes",
    params(("names" = String, Query, description = "Host list, such as n[1-8],login1")),
    responses((status = NO_CONTENT), (status = BAD_REQUEST, body = Problem),
        (status = NOT_FOUND, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn delete_many(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Query(Doomed { names }): Query<Doomed>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot delete {}", names::quoted(&names));
    let mut names = expand(&caller.principal.name, &title, names).await?;
    names.sort();
    names.dedup();
    let deleted = provisioner.change(move |draft| {
        draft.has_nodes(&names)?;
        names.iter().try_for_each(|name| draft.remove_node(name, None))
    });
    deleted.await.map_err(|error| refuse_edit(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a node, its history and its certificates.
#[utoipa::path(
    delete, path = "/v1/nodes/{name}", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node"),
        ("if-match" = Option<u64>, Header, description = "Refuse if the node has another version")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem),
        (status = PRECONDITION_FAILED, body = Problem), (status = UNPROCESSABLE_ENTITY, body = Problem))
)]
async fn delete(
    State(provisioner): State<Provisioner>,
    Path(name): Path<NodeName>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let version = if_match(&headers)?;
    let title = format!("cannot delete {name}");
    let deleted = provisioner.change(move |draft| draft.remove_node(&name, version)).await;
    deleted.map_err(|error| refuse_edit(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reboots a node whose agent is connected, and arms it for the boot that follows.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/reboot", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = ACCEPTED), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn reboot(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot reboot {name}");
    let id = provisioner.find(&title, &name)?;
    write_ahead(&provisioner, id, &title).await?;
    let told = provisioner.0.fleet.reboot(id, &format!("asked for by {}", caller.principal.name)).await;
    told.map_err(|error| refuse_order(title, &error))?;
    Ok(StatusCode::ACCEPTED)
}

/// Writes down who asks for an order that is out before anything of it is on disk.
async fn write_ahead(provisioner: &Provisioner, id: NodeId, title: &str) -> Result<(), Refusal> {
    // What cannot be told has no row of its own each time.
    let connected = provisioner.0.fleet.check_connected(id);
    connected.map_err(|error| refuse_order(title.to_owned(), &error))?;
    let ahead = database::outbox::write_ahead(&provisioner.0.database).await;
    ahead.map_err(|error| Refusal::internal(title.to_owned(), &error))
}

fn refuse_order(title: String, error: &fleet::FleetError) -> Refusal {
    match error {
        fleet::FleetError::NotConnected { .. } => {
            Refusal::new(StatusCode::CONFLICT, title, error.to_string())
        }
        error => Refusal::internal(title, error),
    }
}

/// Lets a node's agent become this server's substrate program. Jobs on the node run on meanwhile.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/upgrade", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = ACCEPTED), (status = NOT_FOUND, body = Problem), (status = CONFLICT, body = Problem))
)]
async fn upgrade(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot upgrade the agent of {name}");
    let id = provisioner.find(&title, &name)?;
    let images = provisioner.0.images.clone();
    let program = tokio::task::spawn_blocking(move || {
        images.substrate().map(|program| (Digest(Sha256::digest(&program).into()), program.len() as u64))
    });
    let program = program.await.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let (digest, size) = program.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let reason = format!("asked for by {}", caller.principal.name);
    write_ahead(&provisioner, id, &title).await?;
    let told = provisioner.0.fleet.upgrade_agent(id, digest, size, &reason).await;
    told.map_err(|error| refuse_order(title, &error))?;
    Ok(StatusCode::ACCEPTED)
}

/// Allows a node to get a boot token again.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/arm", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem))
)]
async fn arm(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot arm {name}");
    let id = provisioner.find(&title, &name)?;
    let armed = provisioner.0.fleet.arm(id, &format!("asked for by {}", caller.principal.name)).await;
    armed.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keeps new work away from a node. What runs there goes on.
#[utoipa::path(
    post, path = "/v1/nodes/{name}/drain", tag = "nodes", request_body = DrainNode,
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT))
)]
async fn drain(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
    body: BodyOf<DrainNode>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot drain {name}");
    let id = provisioner.find(&title, &name)?;
    let request = body.checked()?;
    let reason = request.reason.trim();
    let is_line = !reason.is_empty() && !reason.chars().any(char::is_control);
    if !is_line || reason.len() > MAX_DRAIN_REASON_BYTES {
        let why = format!("the reason must be one line of 1 to {MAX_DRAIN_REASON_BYTES} bytes");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, title, why));
    }
    let drained = provisioner.0.fleet.drain(id, reason.to_owned(), caller.principal.name).await;
    drained.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets new work go to a node again.
#[utoipa::path(
    delete, path = "/v1/nodes/{name}/drain", tag = "nodes",
    params(("name" = inline(NodeName), Path, description = "Name of the node")),
    responses((status = NO_CONTENT), (status = NOT_FOUND, body = Problem))
)]
async fn undrain(
    State(provisioner): State<Provisioner>,
    caller: Caller,
    Path(name): Path<NodeName>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot undrain {name}");
    let id = provisioner.find(&title, &name)?;
    let undrained = provisioner.0.fleet.undrain(id, caller.principal.name).await;
    undrained.map_err(|error| Refusal::internal(title, &error))?;
    Ok(StatusCode::NO_CONTENT)
}
