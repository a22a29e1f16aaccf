//! What a plan refers to, it has.

use super::{Plan, PlanError, StageAction, StageId, Tasks};

/// Members of an attempt at most: they are placed, written and released at once.
const MAX_MEMBERS: u32 = 4_096;

impl Plan {
    /// # Errors
    /// [`PlanError::Inconsistent`].
    pub(super) fn check_references(&self) -> Result<(), PlanError> {
        let has = |stage: StageId| stage.index() < self.stages.len();
        for (stage, plan) in self.stages.iter().enumerate() {
            let problem = |problem: String| Err(PlanError::Inconsistent { stage, problem });
            if let Some(after) =
                plan.after.iter().map(|after| after.stage).find(|after| !has(*after))
            {
                return problem(format!("waits for stage {after}, which is not there"));
            }
            let most = if matches!(plan.work, StageAction::Job(_)) { MAX_MEMBERS } else { 1 };
            if !(1..=most).contains(&plan.members) {
                return problem(format!("has attempts of {} members", plan.members));
            }
            // The node of its volumes is chosen before it is known what the agent there knows.
            if plan.members > 1 && plan.group.is_some() {
                return problem(format!(
                    "has attempts of {} members and mounts volumes",
                    plan.members
                ));
            }
            if let Some(group) = plan.group.filter(|group| *group >= self.groups) {
                return problem(format!("needs volumes of group {group}, which is not there"));
            }
            let Tasks { first, count, concurrency } = plan.tasks;
            if count == 0 || concurrency == 0 || first.unwrap_or(0).checked_add(count - 1).is_none()
            {
                return problem(format!("has {count} tasks from {first:?}, {concurrency} at once"));
            }
            if let StageAction::Job(job) = &plan.work {
                let image = self.stages.get(job.image.index()).map(|stage| &stage.work);
                if !matches!(image, Some(StageAction::Image { .. })) {
                    return problem(format!(
                        "has its image from stage {}, which is none",
                        job.image
                    ));
                }
            }
        }
        Ok(())
    }
}
