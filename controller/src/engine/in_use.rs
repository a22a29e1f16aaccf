//! What of the store of job images workflows that are not over need, and what they count for in
//! quotas.

use std::collections::HashMap;

use api::{quota::Amounts, run::WorkflowId};

use super::Engine;
use crate::{ledger, record::InUse};

impl Engine {
    /// Images and inline files of all workflows that are here.
    pub(crate) fn images_in_use(&self) -> InUse {
        let mut in_use = InUse::default();
        for flow in self.flows.values() {
            if flow.blocked.is_some() && flow.ended.is_none() {
                in_use.unknown = Some(format!("workflow {} is blocked", flow.id));
            }
            let images = flow.stages.iter().filter_map(|stage| stage.image.as_ref());
            in_use.blobs.extend(images.flat_map(|image| [image.manifest, image.root.digest]));
            in_use.blobs.extend(flow.plan.stored_files());
        }
        if self.spared.is_any() {
            in_use.unknown = Some("rows of workflows or runs cannot be read".to_owned());
        }
        in_use
    }

    /// What each workflow that is not over has of the server, but for its document.
    pub(crate) fn held(&self) -> HashMap<WorkflowId, Amounts> {
        let open = self.flows.values().filter(|flow| flow.ended.is_none());
        open.map(|flow| (flow.id, ledger::of_plan(&flow.plan))).collect()
    }
}
