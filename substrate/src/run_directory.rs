//! The layout of a run's directory, `RUNS/RUN/`, on the node's tmpfs: it outlives the agent, not
//! the node. The agent (`agent/runs/folder.rs`, by its path) and the processes of containers
//! (`container/record.rs`, through a descriptor) take every name in it from here.
//!
//! | file | content | written by |
//! |---|---|---|
//! | `spec.json` | [`RunSpec`] | the agent, before the order counts as taken |
//! | `stop.json` | [`StopOrder`] | the agent, when the server orders a stop |
//! | `released` | empty: its process may start, if it had to await that | the agent |
//! | `paused` | empty: its processes are to be frozen | the agent |
//! | `prolog`, `epilog` | empty: the site's programs before it were begun, those after it are done | the agent |
//! | `launching` | empty; locked by the spawner and the container init | the agent, before it starts a container |
//! | `devices.json` | `Claim` of `agent/runs/devices.rs` | the agent, before it starts a container that is granted devices |
//! | `container.json` | `ContainerSpec` of `container/spec.rs` | the agent, before it starts a container |
//! | `init.pid` | PID and start time of the container init, `PID START\n` | the container init |
//! | `started.json` | [`Started`] | the container init; the agent for transfers |
//! | `end.json` | [`RunEnd`] | the container init; the spawner if there is none; the agent for all else |
//! | `log`, `log.tail/` | output of the run (`log_files`) | whoever does the work |
//! | `log.times` | when a container wrote it (`log_files::TimesWriter`) | the container init |
//!
//! A directory appears with its `spec.json` in one step: it is made as `RUN.new` and renamed.
//! Without `launching` no container was ever started; with it none is started again. A file of
//! JSON appears whole: it is written under its [`draft_name`], synced and renamed.

use std::marker::PhantomData;

use api::{
    ids::Timestamp,
    run::{RunEnd, RunSpec},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Most that is read of a file of JSON, bytes: a spec with a long environment and many mounts is
/// well below a tenth of it.
pub const MAX_JSON_BYTES: u64 = 16 << 20;

/// The order of the server.
pub const SPEC: JsonFile<RunSpec> = JsonFile::new("spec.json");

/// The server's wish that the run ends.
pub const STOP: JsonFile<StopOrder> = JsonFile::new("stop.json");

/// That the work of the run has begun.
pub const STARTED: JsonFile<Started> = JsonFile::new("started.json");

/// How the run ended.
pub const END: JsonFile<RunEnd> = JsonFile::new("end.json");

/// Name of what the start of a container reads; its [`JsonFile`] is beside the type of its content.
pub const CONTAINER_NAME: &str = "container.json";

/// Name of what the run holds of the node's devices; its [`JsonFile`] is beside the type of its
/// content.
pub const DEVICES_NAME: &str = "devices.json";

/// Mark: its process may start, if it had to await the server's release.
pub const RELEASED: &str = "released";

/// Mark: its processes are to be frozen.
pub const PAUSED: &str = "paused";

/// Mark: the site's programs before the job were begun.
pub const PROLOG: &str = "prolog";

/// Mark: the site's programs after the job are done.
pub const EPILOG: &str = "epilog";

/// Mark and lock: a container was about to be started; the spawner and the container init hold the
/// lock.
pub const LAUNCHING: &str = "launching";

/// PID and start time of the container init.
pub const INIT_PID: &str = "init.pid";

/// The head of the log; `log_files` derives the other names from it.
pub const LOG: &str = "log";

/// Contents of `stop.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StopOrder {
    /// Time between SIGTERM and SIGKILL, seconds.
    pub grace_seconds: u32,
    /// The server's words.
    pub why: String,
}

/// Contents of `started.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Started {
    /// When the program was executed, or the transfer begun.
    pub started: Timestamp,
}

/// A file of JSON in a run's directory: its name, and the type of what is in it.
#[derive(Debug)]
pub struct JsonFile<T> {
    name: &'static str,
    content: PhantomData<fn() -> T>,
}

impl<T> Clone for JsonFile<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for JsonFile<T> {}

impl<T> JsonFile<T> {
    /// The file of this name. Which names there are is said above.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, content: PhantomData }
    }

    /// Its name in the directory.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl<T: Serialize> JsonFile<T> {
    /// The bytes of the file with this content.
    ///
    /// # Errors
    /// As `serde_json`'s.
    pub fn encode(self, content: &T) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(content)
    }
}

impl<T: DeserializeOwned> JsonFile<T> {
    /// The content of the file with these bytes.
    ///
    /// # Errors
    /// As `serde_json`'s: they are not what [`Self::encode`] writes.
    pub fn decode(self, bytes: &[u8]) -> serde_json::Result<T> {
        serde_json::from_slice(bytes)
    }
}

/// Under which name a file is written before it is renamed to `name`.
#[must_use]
pub fn draft_name(name: &str) -> String {
    format!(".{name}.new")
}

#[cfg(test)]
mod tests {
    use api::run::{Outcome, Usage};

    use super::*;

    /// An agent and the containers that an older one started read each other's files.
    #[test]
    fn names_and_contents_stay_as_they_are_on_disk() {
        let json =
            [SPEC.name(), STOP.name(), STARTED.name(), END.name(), CONTAINER_NAME, DEVICES_NAME];
        assert_eq!(
            json,
            [
                "spec.json",
                "stop.json",
                "started.json",
                "end.json",
                "container.json",
                "devices.json"
            ]
        );
        let others = [RELEASED, PAUSED, PROLOG, EPILOG, LAUNCHING, INIT_PID, LOG];
        assert_eq!(
            others,
            ["released", "paused", "prolog", "epilog", "launching", "init.pid", "log"]
        );
        assert_eq!(draft_name(END.name()), ".end.json.new");

        let stop = StopOrder { grace_seconds: 9, why: "enough".to_owned() };
        let text = br#"{"grace-seconds":9,"why":"enough"}"#;
        assert_eq!(STOP.encode(&stop).unwrap(), text);
        assert_eq!(STOP.decode(text).unwrap(), stop);
        assert!(STOP.decode(b"{}").is_err());
        let started = Started { started: Timestamp(5) };
        assert_eq!(STARTED.decode(&STARTED.encode(&started).unwrap()).unwrap(), started);
        let outcome = Outcome::Exited { code: 3 };
        let usage = Usage::default();
        let end = RunEnd { started: None, ended: Timestamp(6), outcome, log_bytes: 1, usage };
        assert_eq!(END.decode(&END.encode(&end).unwrap()).unwrap(), end);
    }
}
