//! What the server holds of each user: workflows, their documents, logs and files, and job images.
//!
//! Kept in memory alone, and made again from the database and the disk when the server starts, so
//! it cannot drift. Everything that adds to it asks first and is counted in the same moment, under
//! one lock: of two requests that would be past a limit together, one is refused.
//!
//! | counted | from | until |
//! |---|---|---|
//! | workflows, tasks, volumes and their sizes, inline files | the submission, before it is handed over | the workflow is over |
//! | documents and plans | likewise | the workflow is deleted, or forgotten for newer ones |
//! | logs, files for the client | each part, before it is written | likewise, and they are gone |
//! | job images | their conversion, before they are kept | they are removed |
//!
//! A workflow that is not known here is charged to nobody: its owner cannot be read.

mod images;
mod refusal;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use access::{QuotaExceeded, QuotaLimits};
use api::{
    ids::Digest,
    quota::{Amounts, QuotaName},
    run::WorkflowId,
};
use document::plan::{Plan, Source, StageAction, StoredFile};
use image_catalog::KeptImage;

use crate::record::Write;
use crate::store::HeldWorkflow;
use images::ChargedImage;
pub(crate) use refusal::SubmissionRefused;

/// What a submission is held against.
const OF_SUBMISSIONS: [QuotaName; 6] = [
    QuotaName::Workflows,
    QuotaName::Tasks,
    QuotaName::Volumes,
    QuotaName::VolumeBytes,
    QuotaName::Documents,
    QuotaName::Files,
];

/// What a workflow gives back when it is over.
const UNTIL_THE_END: [QuotaName; 5] = [
    QuotaName::Workflows,
    QuotaName::Tasks,
    QuotaName::Volumes,
    QuotaName::VolumeBytes,
    QuotaName::Files,
];

/// See the module. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct QuotaLedger(Arc<Mutex<LedgerState>>);

#[derive(Debug, Default)]
struct LedgerState {
    workflows: HashMap<WorkflowId, WorkflowUse>,
    /// Workflows that the database has no more and whose logs and files are being removed.
    going: HashSet<WorkflowId>,
    /// Sums of [`Self::workflows`] and [`Self::images`].
    users: HashMap<Arc<str>, Amounts>,
    /// Job images by their manifest.
    images: BTreeMap<Digest, ChargedImage>,
    /// Numbers the charges of images.
    next_charge: u64,
    /// Users who are being removed.
    leaving: HashSet<String>,
    /// Users who had no room for an image: what they do not use is to go.
    short_of_images: BTreeSet<Arc<str>>,
}

/// What is held of a workflow.
#[derive(Debug)]
struct WorkflowUse {
    owner: Arc<str>,
    is_over: bool,
    amounts: Amounts,
}

/// What a workflow has of the server as long as it is not over, but for its document.
pub(crate) fn of_plan(plan: &Plan) -> Amounts {
    let (mut tasks, mut volumes, mut volume_bytes) = (0_u64, 0, 0_u64);
    let mut files: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut file = |file: &StoredFile| {
        files.insert(file.digest, file.size);
    };
    for stage in &plan.stages {
        match &stage.work {
            StageAction::Job(job) => {
                tasks += u64::from(stage.tasks.count);
                job.files.iter().map(|file| &file.contents).chain(&job.script).for_each(&mut file);
            }
            StageAction::Volume { size_bytes, .. } => {
                volumes += 1;
                // One of before has no size, and is charged to nobody.
                volume_bytes = volume_bytes.saturating_add(size_bytes.unwrap_or(0));
            }
            StageAction::Ingress { source: Source::File(contents), .. } => file(contents),
            StageAction::Ingress { source: Source::Http { .. }, .. }
            | StageAction::Image { .. }
            | StageAction::Egress { .. }
            | StageAction::Unknown { .. } => {}
        }
    }
    Amounts::default()
        .with(QuotaName::Workflows, 1)
        .with(QuotaName::Tasks, tasks)
        .with(QuotaName::Volumes, volumes)
        .with(QuotaName::VolumeBytes, volume_bytes)
        .with(QuotaName::Files, files.values().sum())
}

impl LedgerState {
    fn used(&self, user: &str) -> Amounts {
        self.users.get(user).copied().unwrap_or_default()
    }

    /// Refuses what a user has no room for.
    fn check(
        &self,
        user: &str,
        more: &Amounts,
        limits: &QuotaLimits,
    ) -> Result<(), SubmissionRefused> {
        if self.leaving.contains(user) {
            return Err(SubmissionRefused::Leaving { user: user.to_owned() });
        }
        let used = self.used(user);
        for name in OF_SUBMISSIONS {
            QuotaExceeded::check(user, name, used.get(name), more.get(name), limits.get(name))
                .map_err(SubmissionRefused::Exceeded)?;
        }
        Ok(())
    }

    fn charge(&mut self, user: &Arc<str>, more: &Amounts) {
        self.users.entry(user.clone()).or_default().increase(more);
    }

    fn release(&mut self, user: &str, less: &Amounts) {
        if let Some(used) = self.users.get_mut(user) {
            used.decrease(less);
            if *used == Amounts::default() {
                self.users.remove(user);
            }
        }
    }

    /// Adds a workflow, in place of what was known of it.
    fn insert(&mut self, workflow: WorkflowId, owner: Arc<str>, is_over: bool, amounts: Amounts) {
        self.remove(workflow);
        self.charge(&owner, &amounts);
        self.workflows.insert(workflow, WorkflowUse { owner, is_over, amounts });
    }

    fn remove(&mut self, workflow: WorkflowId) {
        self.going.remove(&workflow);
        if let Some(held) = self.workflows.remove(&workflow) {
            self.release(&held.owner, &held.amounts);
        }
    }

    fn end(&mut self, workflow: WorkflowId) {
        let Some(held) = self.workflows.get_mut(&workflow) else { return };
        held.is_over = true;
        self.free(workflow, &UNTIL_THE_END);
    }

    /// A workflow has nothing of these any more.
    fn free(&mut self, workflow: WorkflowId, names: &[QuotaName]) {
        let Some(held) = self.workflows.get_mut(&workflow) else { return };
        let mut freed = Amounts::default();
        for name in names {
            freed.set(*name, held.amounts.get(*name));
        }
        held.amounts.decrease(&freed);
        let owner = held.owner.clone();
        self.release(&owner, &freed);
    }
}

impl QuotaLedger {
    fn book(&self) -> MutexGuard<'_, LedgerState> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the last run of the server left. `plans`: of workflows that are not over, what
    /// [`of_plan`] says; `on_disk`: bytes of logs and files, by workflow.
    pub(crate) fn recall(
        &self,
        workflows: Vec<HeldWorkflow>,
        plans: &HashMap<WorkflowId, Amounts>,
        on_disk: &HashMap<WorkflowId, Amounts>,
        images: &[KeptImage],
    ) {
        let mut book = self.book();
        let mut owners: HashSet<Arc<str>> = HashSet::new();
        for HeldWorkflow { id, owner, documents, is_over } in workflows {
            let Some(owner) = owner else { continue };
            let owner = owners.get(owner.as_str()).cloned().unwrap_or_else(|| {
                let owner: Arc<str> = owner.into();
                owners.insert(owner.clone());
                owner
            });
            let mut amounts = Amounts::default().with(QuotaName::Documents, documents);
            let plan = plans.get(&id);
            for more in plan.into_iter().chain(on_disk.get(&id)) {
                amounts.increase(more);
            }
            book.insert(id, owner, is_over, amounts);
        }
        for KeptImage { image, .. } in images {
            if let Some(user) = &image.pulled_by {
                book.insert_image(image.manifest, user.as_str().into(), image.root.size);
            }
        }
    }

    /// Whether a user has room for a submission, without taking it.
    ///
    /// # Errors
    /// [`SubmissionRefused`].
    pub(crate) fn has_room(
        &self,
        owner: &str,
        more: &Amounts,
        limits: &QuotaLimits,
    ) -> Result<(), SubmissionRefused> {
        self.book().check(owner, more, limits)
    }

    /// Takes a workflow that is about to be handed over.
    ///
    /// # Errors
    /// [`SubmissionRefused`]; nothing was counted.
    pub(crate) fn submit(
        &self,
        workflow: WorkflowId,
        owner: &str,
        more: Amounts,
        limits: &QuotaLimits,
    ) -> Result<(), SubmissionRefused> {
        let mut book = self.book();
        book.check(owner, &more, limits)?;
        book.insert(workflow, owner.into(), false, more);
        Ok(())
    }

    /// What the conductor has on disk now: workflows that are over.
    pub(crate) fn follow(&self, writes: &[Write]) {
        let ended = writes.iter().filter_map(|write| match write {
            Write::Workflow(row) if row.ended.is_some() => Some(row.id),
            _ => None,
        });
        let ended: Vec<WorkflowId> = ended.collect();
        if !ended.is_empty() {
            let mut book = self.book();
            ended.into_iter().for_each(|workflow| book.end(workflow));
        }
    }

    /// A workflow that was submitted, until it is handed over.
    pub(crate) fn until_handed_over(&self, workflow: WorkflowId) -> SubmissionCharge {
        SubmissionCharge { ledger: self.clone(), workflow: Some(workflow) }
    }

    /// The database has these no more. Returns those whose logs and files are to be removed now:
    /// nobody else removes them already. They are counted until they are gone ([`Self::forget`]).
    pub(crate) fn start_forgetting(&self, workflows: &[WorkflowId]) -> Vec<WorkflowId> {
        let mut book = self.book();
        let mut new = workflows.to_vec();
        new.retain(|workflow| book.going.insert(*workflow));
        new.iter().for_each(|workflow| book.free(*workflow, &[QuotaName::Documents]));
        new
    }

    /// A workflow and all that it had on disk is gone.
    pub(crate) fn forget(&self, workflow: WorkflowId) {
        self.book().remove(workflow);
    }

    /// Whose workflow it is.
    pub(crate) fn owner(&self, workflow: WorkflowId) -> Option<Arc<str>> {
        self.book().workflows.get(&workflow).map(|held| held.owner.clone())
    }

    /// Counts bytes that are about to be written for a workflow.
    ///
    /// # Errors
    /// [`QuotaExceeded`]; nothing was counted.
    pub(crate) fn reserve(
        &self,
        workflow: WorkflowId,
        name: QuotaName,
        bytes: u64,
        limit: Option<u64>,
    ) -> Result<(), QuotaExceeded> {
        let mut book = self.book();
        let Some(held) = book.workflows.get(&workflow) else { return Ok(()) };
        let owner = held.owner.clone();
        let used = book.used(&owner).get(name);
        QuotaExceeded::check(&owner, name, used, bytes, limit)?;
        let more = Amounts::default().with(name, bytes);
        book.charge(&owner, &more);
        if let Some(held) = book.workflows.get_mut(&workflow) {
            held.amounts.increase(&more);
        }
        Ok(())
    }

    /// What was reserved is written or given up: its files had `before` bytes and have `after` now.
    pub(crate) fn settle(
        &self,
        workflow: WorkflowId,
        name: QuotaName,
        reserved: u64,
        before: u64,
        after: u64,
    ) {
        let mut book = self.book();
        let Some(held) = book.workflows.get_mut(&workflow) else { return };
        let more = Amounts::default().with(name, after);
        let less = Amounts::default().with(name, before.saturating_add(reserved));
        held.amounts.increase(&more);
        held.amounts.decrease(&less);
        let owner = held.owner.clone();
        book.charge(&owner, &more);
        book.release(&owner, &less);
    }

    /// Users who have more workflows that are over than their share of `most`, and how many of them
    /// stay: as many for each as fit, where who has fewer leaves the rest to the others. The
    /// database has those that are being removed no more: they take no place from those that stay.
    pub(crate) fn users_over_share(&self, most: u32) -> Vec<(Arc<str>, u32)> {
        let mut counts: HashMap<Arc<str>, u32> = HashMap::new();
        let book = self.book();
        let kept =
            book.workflows.iter().filter(|(id, held)| held.is_over && !book.going.contains(id));
        for (_, held) in kept {
            *counts.entry(held.owner.clone()).or_default() += 1;
        }
        drop(book);
        let mut counts: Vec<(u32, Arc<str>)> =
            counts.into_iter().map(|(user, count)| (count, user)).collect();
        counts.sort_unstable();
        let (mut left, mut users) = (most, u32::try_from(counts.len()).unwrap_or(u32::MAX));
        let modest = counts.iter().take_while(|(count, _)| {
            let is_modest = *count <= left / users;
            if is_modest {
                (left, users) = (left - count, users - 1);
            }
            is_modest
        });
        let modest = modest.count();
        // Who comes behind them has as many as the first of these, or more.
        let share = left / users.max(1);
        counts.into_iter().skip(modest).map(|(_, user)| (user, share)).collect()
    }

    /// What a user has.
    pub(crate) fn used(&self, user: &str) -> Amounts {
        self.book().used(user)
    }

    /// What all users have.
    pub(crate) fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        self.book().users.values().for_each(|used| total.increase(used));
        total
    }

    /// A user is being removed: no submission is taken any more. Returns the user's workflows, all
    /// of which are over; without those that are being removed already.
    ///
    /// # Errors
    /// How many are not; then nothing changes.
    pub(crate) fn let_go(&self, user: &str) -> Result<Vec<WorkflowId>, usize> {
        let mut book = self.book();
        let of_user = || book.workflows.iter().filter(|(_, held)| *held.owner == *user);
        let open = of_user().filter(|(_, held)| !held.is_over).count();
        if open > 0 {
            return Err(open);
        }
        let workflows =
            of_user().map(|(id, _)| *id).filter(|id| !book.going.contains(id)).collect();
        book.leaving.insert(user.to_owned());
        Ok(workflows)
    }

    /// The removal of a user is over, whichever way.
    pub(crate) fn let_in(&self, user: &str) {
        self.book().leaving.remove(user);
    }
}

/// A workflow that is counted and not handed over yet. Dropped before [`Self::keep`], it is counted
/// no more: nobody else would know that it never began.
#[derive(Debug)]
pub(crate) struct SubmissionCharge {
    ledger: QuotaLedger,
    /// `None`: it is handed over.
    workflow: Option<WorkflowId>,
}

impl SubmissionCharge {
    /// The engine has it: it is counted until it is over.
    pub(crate) fn keep(mut self) {
        self.workflow = None;
    }
}

impl Drop for SubmissionCharge {
    fn drop(&mut self) {
        if let Some(workflow) = self.workflow {
            self.ledger.forget(workflow);
        }
    }
}

#[cfg(test)]
mod tests;
