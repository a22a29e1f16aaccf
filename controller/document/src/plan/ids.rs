//! Numbers of stages and tasks in a plan. They are what lists of stages are indexed by, so that a
//! stage and a task cannot be mixed up.

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use serde::{Deserialize, Serialize};

use super::Tasks;

/// The number of a stage in its plan, from 0.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StageId(pub u32);

impl StageId {
    /// The numbers of the first `count` stages. A plan has far fewer than 2^32.
    pub fn first(count: usize) -> impl Iterator<Item = Self> + Clone + use<> {
        (0..Self::of_index(count).0).map(Self)
    }

    /// The stage at this place of a list.
    #[must_use]
    pub fn of_index(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// Its place in a list of stages.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Index<StageId> for Vec<T> {
    type Output = T;

    fn index(&self, stage: StageId) -> &T {
        &self[stage.index()]
    }
}

impl<T> IndexMut<StageId> for Vec<T> {
    fn index_mut(&mut self, stage: StageId) -> &mut T {
        &mut self[stage.index()]
    }
}

/// The number of a task in its stage, from 0. What users call it is [`Tasks::number`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u32);

impl Tasks {
    /// What users call a task: `FB_TASK_ID` of an array, else 0.
    #[must_use]
    pub fn number(&self, task: TaskId) -> u32 {
        self.first.unwrap_or(0) + task.0
    }

    /// The task that users call by this number; `None` if there is none.
    #[must_use]
    pub fn task(&self, number: u32) -> Option<TaskId> {
        let task = number.checked_sub(self.first.unwrap_or(0))?;
        (task < self.count).then_some(TaskId(task))
    }
}
