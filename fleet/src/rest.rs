//! The REST routes of nodes' lives: what they are told to do, whose certificates are good, and what
//! happened to them. `bedplate server` merges them with those of the other roles.
//!
//! Every role that answers for nodes by their names finds them here ([`Fleet::find`],
//! [`Fleet::selected_names`], [`Fleet::labelled`]), so that a name that no node has is refused in
//! one way.

mod enrolments;
mod history;
mod orders;

use std::sync::Arc;

use access::{Caller, Routes};
use api::{
    hostlist,
    ids::{NodeId, NodeName},
    labels::{Labels, Selector, SelectorError},
};
use axum::http::StatusCode;
use rest::{Refusal, node_names};

use crate::Fleet;

impl Fleet {
    /// The routes.
    #[must_use]
    pub fn rest(&self) -> Routes {
        Routes::new()
            .merge(orders::routes())
            .merge(enrolments::routes())
            .merge(history::routes())
            .with_state(self.clone())
    }

    /// The node of a name, of which the audit log then tells that the request is about it.
    /// `title`: what failed if there is none.
    ///
    /// # Errors
    /// Status 404 if no node has the name.
    pub fn find(&self, title: &str, name: &NodeName) -> Result<NodeId, Refusal> {
        access::record_object(&format!("node {name}"));
        self.registry().find(name).ok_or_else(|| unknown_nodes(title, &[name]))
    }

    /// The names of the nodes of a host list, in its order; without one the names of all, sorted.
    ///
    /// # Errors
    /// As [`node_names`]; status 404 if a node of the list does not exist.
    pub async fn selected_names(
        &self,
        caller: &Caller,
        title: &str,
        list: Option<String>,
    ) -> Result<Vec<NodeName>, Refusal> {
        let Some(list) = list else { return Ok(self.registry().names()) };
        let names = node_names(&caller.principal.name, title, list).await?;
        let missing = self.registry().missing(&names);
        if !missing.is_empty() {
            return Err(unknown_nodes(title, &missing));
        }
        Ok(names)
    }

    /// Of some nodes those whose labels a selector means; all without one.
    ///
    /// # Errors
    /// Status 400 if it is no selector.
    pub fn labelled(
        &self,
        title: &str,
        mut names: Vec<NodeName>,
        selector: Option<&str>,
    ) -> Result<Vec<NodeName>, Refusal> {
        let Some(selector) = selector else { return Ok(names) };
        let selector: Selector = selector.parse().map_err(|error: SelectorError| {
            Refusal::new(StatusCode::BAD_REQUEST, title, error.to_string())
        })?;
        let (all, none) = (self.labels().borrow().clone(), Labels::new());
        names.retain(|name| {
            let Some(id) = self.registry().find(name) else { return false };
            selector.matches(all.get(&id).map_or(&none, Arc::as_ref))
        });
        Ok(names)
    }
}

/// The refusal of names that no nodes have. `title`: what failed.
#[must_use]
pub fn unknown_nodes(title: &str, names: &[&NodeName]) -> Refusal {
    let list = hostlist::compress(names.iter().map(|name| name.as_str()));
    let verb = if names.len() == 1 { "does" } else { "do" };
    let detail = format!("node {list} {verb} not exist; `bedplate node list` shows those that do");
    Refusal::new(StatusCode::NOT_FOUND, title, detail)
}
