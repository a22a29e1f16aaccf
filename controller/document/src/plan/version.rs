//! Versions of stored plans.
//!
//! | version | has |
//! |---|---|
//! | 1 | all but labels |
//! | 2 | labels that a job wants of its node |
//! | 3 | dependencies on something else than that a stage has finished; attempts of several members |
//!
//! A plan is written in the oldest version whose readers carry it out as it is meant, so a release
//! of before goes on with whatever it understands (`docs/decisions/0007-stored-plans.md`).

use serde::{Deserialize, Serialize};

use super::{Plan, StageAction, StagePlan, Until};

/// Newest version of the plans that this release writes and reads.
pub const VERSION: u32 = 3;

/// The version whose readers know no labels: they would place a job on any node.
const WITHOUT_LABELS: u32 = 1;

/// The version whose readers know one kind of dependency, and start every run by itself.
const WITHOUT_MEMBERS: u32 = 2;

/// A plan behind its version.
#[derive(Serialize)]
pub(super) struct VersionedPlan<'a> {
    plan: u32,
    #[serde(flatten)]
    content: &'a Plan,
}

impl<'a> VersionedPlan<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let has_labels = |stage: &StagePlan| match &stage.work {
            StageAction::Job(job) => !job.resource.labels.is_empty(),
            StageAction::Image { .. }
            | StageAction::Volume { .. }
            | StageAction::Ingress { .. }
            | StageAction::Egress { .. }
            | StageAction::Unknown { .. } => false,
        };
        let needs_newest = |stage: &StagePlan| {
            stage.members > 1 || stage.after.iter().any(|after| after.until != Until::Finished)
        };
        let version = match () {
            () if plan.stages.iter().any(needs_newest) => VERSION,
            () if plan.stages.iter().any(has_labels) => WITHOUT_MEMBERS,
            () => WITHOUT_LABELS,
        };
        Self { plan: version, content: plan }
    }
}

/// What every version of a plan has.
#[derive(Deserialize)]
pub(super) struct VersionOnly {
    pub(super) plan: u32,
}
