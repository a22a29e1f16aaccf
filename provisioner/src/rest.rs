//! The REST routes of nodes, profiles and overlays, each with its action. `bedplate server`
//! merges them and puts `access::layer` in front, which tells who asks and writes the audit log.

use access::Routes;
use api::problem::{Diagnostic, Problem};
use axum::http::StatusCode;
use rest::{Refusal, causes};

use crate::{
    cluster::ChangeError,
    provisioner::{EditError, Provisioner},
};

mod apply;
mod explain;
mod nodes;
mod overlays;
mod patch;
mod profiles;
mod watch;

impl Provisioner {
    /// The routes.
    #[must_use]
    pub fn rest(&self) -> Routes {
        Routes::new()
            .merge(nodes::routes())
            .merge(profiles::routes())
            .merge(apply::routes())
            .merge(overlays::routes())
            .with_state(self.clone())
    }
}

/// A change that did not happen.
fn refuse_edit(title: impl Into<String>, error: &EditError) -> Refusal {
    let status = match error {
        EditError::Change(error) => match error {
            ChangeError::NotFound { .. } => StatusCode::NOT_FOUND,
            ChangeError::Exists { .. } => StatusCode::CONFLICT,
            ChangeError::VersionMismatch { .. } => StatusCode::PRECONDITION_FAILED,
            ChangeError::Unreadable { .. } => StatusCode::CONFLICT,
            ChangeError::Spec { .. }
            | ChangeError::ProfileInUse { .. }
            | ChangeError::TooMany
            | ChangeError::Diagnostics { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        },
        EditError::Store(_) | EditError::Broken { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal::new(status, title, causes(error))
}

/// A document with mistakes.
fn refuse_document(title: impl Into<String>, diagnostics: Vec<Diagnostic>) -> Refusal {
    let detail = match diagnostics.len() {
        1 => "the document has a mistake; nothing was changed".to_owned(),
        count => format!("the document has {count} mistakes; nothing was changed"),
    };
    let status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
    Refusal(Problem { status, title: title.into(), detail, diagnostics })
}
