//! What lines of a workflow's history are about.

use serde::{Deserialize, Serialize};

/// Declares [`EventKind`] with the word of each kind.
macro_rules! event_kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)*) => {
        /// What a [`WorkflowEvent`](super::WorkflowEvent) is about. On the wire and in the database
        /// it is its word.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $($(#[$doc])* $kind,)*
            /// A word that this release does not know: of a newer server.
            Other(String),
        }

        impl EventKind {
            /// The word on the wire and in the database: `CONTAINER_EXITED`.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$kind => $word,)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for EventKind {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $($word => Self::$kind,)*
                    _ => Self::Other(word),
                }
            }
        }
    };
}

event_kinds! {
    /// The workflow was submitted.
    WorkflowStarted = "WORKFLOW_STARTED",
    /// Somebody paused the workflow.
    WorkflowPaused = "WORKFLOW_PAUSED",
    /// Somebody resumed the workflow.
    WorkflowResumed = "WORKFLOW_RESUMED",
    /// The workflow ended well.
    WorkflowFinished = "WORKFLOW_FINISHED",
    /// The workflow ended badly.
    WorkflowFailed = "WORKFLOW_FAILED",
    /// The workflow was stopped, and is over.
    WorkflowCanceled = "WORKFLOW_CANCELED",
    /// The first task of the stage was placed, or its image is being pulled.
    StageStarted = "STAGE_STARTED",
    /// The stage ended well.
    StageFinished = "STAGE_FINISHED",
    /// The stage ended badly.
    StageFailed = "STAGE_FAILED",
    /// The stage was stopped, or something that it needs failed.
    StageCanceled = "STAGE_CANCELED",
    /// All stages that the stage waits for are as it needs them.
    DependencySatisfied = "DEPENDENCY_SATISFIED",
    /// The server began to pull the image.
    ImagePullStarted = "IMAGE_PULL_STARTED",
    /// The image was stored at the server already.
    ImageCacheHit = "IMAGE_CACHE_HIT",
    /// The image was pulled and converted.
    ImageConvertCompleted = "IMAGE_CONVERT_COMPLETED",
    /// A run was placed on a node.
    ResourcesAllocated = "RESOURCES_ALLOCATED",
    /// All members of an attempt are prepared, and start.
    AttemptReleased = "ATTEMPT_RELEASED",
    /// The process of a job began.
    ContainerStarted = "CONTAINER_STARTED",
    /// The process of a job is over.
    ContainerExited = "CONTAINER_EXITED",
    /// The node of a group of volumes was chosen.
    VolumeStorageInfo = "VOLUME_STORAGE_INFO",
    /// A node began to make a volume.
    VolumeCreateStarted = "VOLUME_CREATE_STARTED",
    /// A volume is there.
    VolumeCreated = "VOLUME_CREATED",
    /// A file is being transferred.
    FileTransferStarted = "FILE_TRANSFER_STARTED",
    /// A remark on a transfer, such as what it left out.
    FileTransferInfo = "FILE_TRANSFER_INFO",
    /// A file was transferred.
    FileTransferCompleted = "FILE_TRANSFER_COMPLETED",
    /// Something failed; the message says what.
    Error = "ERROR",
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_events_are_read_as_they_are_written() {
        for word in ["WORKFLOW_STARTED", "ERROR", "PROVISIONING_REQUESTED"] {
            let kind: EventKind = serde_json::from_value(json!(word)).unwrap();
            assert_eq!(matches!(kind, EventKind::Other(_)), word == "PROVISIONING_REQUESTED");
            assert_eq!(serde_json::to_value(&kind).unwrap(), json!(word));
        }
        assert_eq!(EventKind::from("CONTAINER_EXITED".to_owned()), EventKind::ContainerExited);
    }
}
