//! What a stage waits for of another.

use serde::{Deserialize, Serialize};

use super::StageId;

/// A stage that another waits for. In JSON the number of the stage, where it must have finished;
/// else `{"stage": 2, "until": "running"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "DependencyForm", into = "DependencyForm")]
pub struct Dependency {
    /// The stage that is waited for.
    pub stage: StageId,
    /// What has to have happened to that stage, as its document says.
    pub until: Until,
}

/// What is waited for of a stage. Where it cannot happen any more, what waits is canceled.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// It has ended well.
    #[default]
    Finished,
    /// It has ended badly; one that was canceled has not.
    Failed,
    /// It is over, however it ended: canceled, too.
    Any,
    /// The processes of all members of one attempt of one of its tasks have begun, whatever became
    /// of them since; or it has ended well.
    Running,
}

impl Dependency {
    /// On a stage that must have finished.
    #[must_use]
    pub fn finished(stage: StageId) -> Self {
        Self { stage, until: Until::Finished }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DependencyForm {
    Finished(StageId),
    Until { stage: StageId, until: Until },
}

impl From<DependencyForm> for Dependency {
    fn from(form: DependencyForm) -> Self {
        match form {
            DependencyForm::Finished(stage) => Self::finished(stage),
            DependencyForm::Until { stage, until } => Self { stage, until },
        }
    }
}

impl From<Dependency> for DependencyForm {
    fn from(Dependency { stage, until }: Dependency) -> Self {
        match until {
            Until::Finished => Self::Finished(stage),
            until => Self::Until { stage, until },
        }
    }
}
