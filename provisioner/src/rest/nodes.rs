//! `/v1/nodes`: what is wanted of nodes, what they are doing, and what they are told to do.

use access::{Caller, Routes, Visibility};
use api::{
    ids::{Digest, NodeId, NodeName},
    machine::{AddNodes, MachineSpec, Node, PatchNodes},
    problem::Problem,
    rights::Action,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
};
use fleet::unknown_nodes;
use image_catalog::ImageTable;
use rest::{
    Abandoned, Body, BodyOf, Page, PageParams, Paging, Refusal, Versioned, if_match, node_names,
    quoted,
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use utoipa_axum::routes;

use super::{explain, patch, refuse_edit, watch};
use crate::{
    check::Subject,
    identity,
    image_use::next_image,
    provisioner::{Provisioner, View},
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
        .route(Action::NodeUpgrade, routes!(upgrade))
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
            next_image: resolved.and_then(|spec| next_image(spec, images)),
            labels: resolved.map(|spec| spec.labels.clone()).unwrap_or_default(),
            version: record.version,
        })
    }

    pub(crate) fn show_all<'a>(&self, names: impl IntoIterator<Item = &'a NodeName>) -> Vec<Node> {
        let (view, images) = (self.view(), self.0.images.table());
        let found = names
            .into_iter()
            .filter_map(|name| self.shown(&view, view.cluster.nodes.get(name)?, &images));
        found.collect()
    }

    /// Refuses names of nodes that are not registered. What is not there is said before what is
    /// wrong with what was sent for it.
    fn present(&self, title: &str, names: &[&NodeName]) -> Result<(), Refusal> {
        let view = self.view();
        let is_missing = |name: &&NodeName| !view.cluster.nodes.contains_key(*name);
        let missing: Vec<&NodeName> = names.iter().copied().filter(is_missing).collect();
        if missing.is_empty() { Ok(()) } else { Err(unknown_nodes(title, &missing)) }
    }
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
    let names = provisioner.0.fleet.selected_names(&caller, title, selection.names).await?;
    let mut names = provisioner.0.fleet.labelled(title, names, selection.labels.as_deref())?;
    if paging.is_wanted() {
        // A cursor is a name, so pages are by name, whatever the order of the host list.
        names.sort();
        names.dedup();
    }
    let page = paging.cut("nodes", names, Clone::clone, |name, after| name > after)?;
    let visibility = Visibility::of(&caller.principal);
    let page = Page { rows: provisioner.show_all(&page.rows), next: page.next };
    Ok(page.map(|node| visibility.of_thing(node)))
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
    let title = format!("cannot add {}", quoted(&names));
    let names = node_names(user, &title, names).await?;
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
    let title = format!("cannot change {}", quoted(&names));
    let names = node_names(&caller.principal.name, &title, names).await?;
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
    Ok(Versioned { version, body: Visibility::of(&caller.principal).of_thing(body) })
}

fn one(provisioner: &Provisioner, name: &NodeName) -> Result<Versioned<Node>, Refusal> {
    let shown = provisioner.show_all([name]).pop();
    let shown = shown.map(|node| Versioned { version: node.version, body: node });
    shown.ok_or_else(|| unknown_nodes("cannot show the node", &[name]))
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
struct DeleteParams {
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
    Query(DeleteParams { names }): Query<DeleteParams>,
) -> Result<StatusCode, Refusal> {
    let title = format!("cannot delete {}", quoted(&names));
    let mut names = node_names(&caller.principal.name, &title, names).await?;
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
    let id = provisioner.0.fleet.find(&title, &name)?;
    let images = provisioner.0.images.clone();
    let program = tokio::task::spawn_blocking(move || {
        images
            .substrate()
            .map(|program| (Digest(Sha256::digest(&program).into()), program.len() as u64))
    });
    let program = program.await.map_err(|error| Refusal::internal(title.clone(), &error))?;
    let program = program.map_err(|error| Refusal::internal(title.clone(), &error))?;
    provisioner.0.fleet.order_upgrade(&caller, title, id, program).await?;
    Ok(StatusCode::ACCEPTED)
}
// x
