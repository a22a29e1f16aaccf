//! The workflows in memory, kept so that a reader's copy is cheap: a clone shares all of them, and
//! what is changed afterwards is copied by itself.
//!
//! [`WorkflowStates::get_mut`] copies a workflow that a [`super::View`] has, and the path to it,
//! once after each view. Whoever only looks takes [`WorkflowStates::get`].

use std::ops::{Index, IndexMut};

use api::run::WorkflowId;
use document::plan::StageId;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync, VectorSync};

use super::{WorkflowState, workflow_state::StageState};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkflowStates {
    /// By submission sequence.
    by_sequence: RedBlackTreeMapSync<u64, WorkflowState>,
    sequences: HashTrieMapSync<WorkflowId, u64>,
}

impl WorkflowStates {
    pub(crate) fn get(&self, sequence: u64) -> Option<&WorkflowState> {
        self.by_sequence.get(&sequence)
    }

    /// To change it: it is copied if a view has it.
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut WorkflowState> {
        self.by_sequence.get_mut(&sequence)
    }

    /// The submission sequence of a workflow, if it is here.
    pub(crate) fn sequence_of(&self, id: WorkflowId) -> Option<u64> {
        self.sequences.get(&id).copied()
    }

    pub(crate) fn of(&self, id: WorkflowId) -> Option<&WorkflowState> {
        self.get(self.sequence_of(id)?)
    }

    pub(super) fn insert(&mut self, workflow_state: WorkflowState) {
        self.sequences.insert_mut(workflow_state.id, workflow_state.sequence);
        self.by_sequence.insert_mut(workflow_state.sequence, workflow_state);
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some(workflow_state) = self.by_sequence.get(&sequence) {
            self.sequences.remove_mut(&workflow_state.id);
            self.by_sequence.remove_mut(&sequence);
        }
    }

    /// In the order of submission.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &WorkflowState)> {
        self.by_sequence.iter().map(|(sequence, workflow_state)| (*sequence, workflow_state))
    }

    /// In the order of submission.
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &WorkflowState> {
        self.by_sequence.values()
    }

    /// Sequences of those of which something holds.
    pub(super) fn sequences_where(&self, holds: impl Fn(&WorkflowState) -> bool) -> Vec<u64> {
        self.iter()
            .filter(|(_, workflow_state)| holds(workflow_state))
            .map(|(sequence, _)| sequence)
            .collect()
    }

    /// Sequences of all.
    pub(super) fn sequences(&self) -> Vec<u64> {
        self.sequences_where(|_| true)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_sequence.size()
    }
}

/// The stages of a workflow by number. Clones share them, as [`WorkflowStates`] does: one that is
/// changed is copied, and the others are not.
#[derive(Debug, Clone)]
pub(crate) struct Stages(VectorSync<StageState>);

impl Stages {
    pub(super) fn new(stages: impl Iterator<Item = StageState>) -> Self {
        let mut all = VectorSync::new_sync();
        stages.for_each(|stage| all.push_back_mut(stage));
        Self(all)
    }

    pub(crate) fn get(&self, stage: StageId) -> Option<&StageState> {
        self.0.get(stage.index())
    }

    pub(super) fn get_mut(&mut self, stage: StageId) -> Option<&mut StageState> {
        self.0.get_mut(stage.index())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &StageState> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Index<StageId> for Stages {
    type Output = StageState;

    fn index(&self, stage: StageId) -> &StageState {
        &self.0[stage.index()]
    }
}

impl IndexMut<StageId> for Stages {
    fn index_mut(&mut self, stage: StageId) -> &mut StageState {
        match self.0.get_mut(stage.index()) {
            Some(now) => now,
            None => panic!("no stage {stage}"),
        }
    }
}
