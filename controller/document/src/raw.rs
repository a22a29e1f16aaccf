//! The document as written, decoded from what the walk found right. Every field may be absent: what
//! was wrong is noted.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// The whole document; jobs, volumes and mounts in the order written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Document {
    pub(crate) name: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) defaults: Defaults,
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) volumes: Map<String, Value>,
    pub(crate) jobs: Map<String, Value>,
}

impl Document {
    /// Never fails after the walk: it lets nothing through that does not decode.
    pub(crate) fn of(value: Value) -> Self {
        decode(value)
    }
}

/// Decodes what the walk let through.
pub(crate) fn decode<T: Default + for<'de> Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Defaults {
    pub(crate) job: Job,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Job {
    pub(crate) name: Option<String>,
    pub(crate) image: Option<Uri>,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) script: Option<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) mounts: Map<String, Value>,
    pub(crate) requires: Vec<String>,
    pub(crate) depends_on: Option<Vec<Dependency>>,
    pub(crate) policy: Policy,
    pub(crate) resource: Resource,
    pub(crate) task_array: Option<TaskArray>,
    pub(crate) network: Network,
    pub(crate) files: BTreeMap<String, String>,
}

/// In short, or as a map.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Uri {
    Short(String),
    Long { uri: String },
}

impl Uri {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(uri) | Self::Long { uri } => uri,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Mount {
    Volume(String),
    Long {
        #[serde(default)]
        location: Option<String>,
        #[serde(default)]
        volume: Option<String>,
    },
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) status: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Policy {
    pub(crate) timeout: Timeout,
    pub(crate) retry: Retry,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Timeout {
    pub(crate) execute: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Retry {
    pub(crate) attempts: Option<u32>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Resource {
    pub(crate) cpu: Cpu,
    pub(crate) memory: Memory,
    pub(crate) by_core: Option<bool>,
    pub(crate) devices: BTreeMap<String, u32>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) exclusive: Option<bool>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Cpu {
    pub(crate) cores: Option<u32>,
    pub(crate) affinity: Option<String>,
    pub(crate) threads: Option<bool>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Memory {
    pub(crate) size: Option<String>,
    pub(crate) by_core: Option<bool>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct TaskArray {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) concurrency: Option<u32>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Network {
    pub(crate) isolated: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Volume {
    pub(crate) name: Option<String>,
    pub(crate) reference: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    #[serde(rename = "use")]
    pub(crate) provisioner: Option<String>,
    pub(crate) size: Option<String>,
    pub(crate) ingress: Vec<Transfer>,
    pub(crate) egress: Vec<Transfer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Transfer {
    pub(crate) source: Option<Uri>,
    pub(crate) destination: Option<Uri>,
    pub(crate) policy: Policy,
}
