//! What of the store of job images workflows that are not over need, and what they count for in
//! quotas.

use std::collections::HashMap;

use api::{quota::Amounts, run::WorkflowId};
use image_catalog::ImagesInUse;

use super::View;
use crate::ledger;

impl View {
    /// Images and inline files of all workflows that are here.
    pub(crate) fn images_in_use(&self) -> ImagesInUse {
        let mut in_use = ImagesInUse::default();
        for workflow_state in self.workflow_states.values() {
            if workflow_state.blocked.is_some() && workflow_state.ended.is_none() {
                in_use.unknown = Some(format!("workflow {} is blocked", workflow_state.id));
            }
            let images = workflow_state.stages.iter().filter_map(|stage| stage.image.as_ref());
            in_use.blobs.extend(images.flat_map(|image| [image.manifest, image.root.digest]));
            in_use.blobs.extend(workflow_state.plan.stored_files());
        }
        if self.is_any_spared {
            in_use.unknown = Some("rows of workflows or runs cannot be read".to_owned());
        }
        in_use
    }

    /// What each workflow that is not over has of the server, but for its document.
    pub(crate) fn held(&self) -> HashMap<WorkflowId, Amounts> {
        let open =
            self.workflow_states.values().filter(|workflow_state| workflow_state.ended.is_none());
        open.map(|workflow_state| (workflow_state.id, ledger::of_plan(&workflow_state.plan)))
            .collect()
    }
}
