//! The keys of a CDI spec, and the types that a spec which has only those is read into.

use serde::Deserialize;
use yaml_tree::{Shape, field, required};

pub(super) static SPEC: Shape = Shape::Object(&[
    required("cdiVersion", Shape::Text),
    required("kind", Shape::Text),
    field("annotations", Shape::Map(&Shape::Text)),
    required("devices", Shape::List(&DEVICE)),
    field("containerEdits", EDITS),
]);

static DEVICE: Shape = Shape::Object(&[
    required("name", Shape::Text),
    field("annotations", Shape::Map(&Shape::Text)),
    required("containerEdits", EDITS),
]);

const EDITS: Shape = Shape::Object(&[
    field("env", TEXTS),
    field("deviceNodes", Shape::List(&NODE)),
    field("mounts", Shape::List(&MOUNT)),
    field("hooks", Shape::List(&HOOK)),
    field("additionalGIDs", Shape::List(&Shape::Number(u32::MAX))),
    field("intelRdt", INTEL_RDT),
    field("netDevices", Shape::List(&NET_DEVICE)),
]);

const TEXTS: Shape = Shape::List(&Shape::Text);

static NODE: Shape = Shape::Object(&[
    required("path", Shape::Text),
    field("hostPath", Shape::Text),
    field("type", Shape::Text),
    field("major", Shape::Number(u32::MAX)),
    field("minor", Shape::Number(u32::MAX)),
    // Some YAML readers take 0660 for octal and others do not.
    field(
        "fileMode",
        Shape::Parsed {
            what: "a decimal number up to 4095",
            example: "432, which is 0660",
            accepts: is_mode,
        },
    ),
    field("permissions", Shape::Text),
    field("uid", Shape::Number(u32::MAX)),
    field("gid", Shape::Number(u32::MAX)),
]);

static MOUNT: Shape = Shape::Object(&[
    required("hostPath", Shape::Text),
    required("containerPath", Shape::Text),
    field("options", TEXTS),
    field("type", Shape::Text),
]);

static HOOK: Shape = Shape::Object(&[
    required("hookName", Shape::Text),
    required("path", Shape::Text),
    field("args", TEXTS),
    field("env", TEXTS),
    field("timeout", Shape::Number(u32::MAX)),
]);

const INTEL_RDT: Shape = Shape::Object(&[
    field("closID", Shape::Text),
    field("l3CacheSchema", Shape::Text),
    field("memBwSchema", Shape::Text),
    field("schemata", TEXTS),
    field("enableMonitoring", Shape::Flag),
    field("enableCMT", Shape::Flag),
    field("enableMBM", Shape::Flag),
]);

static NET_DEVICE: Shape =
    Shape::Object(&[required("hostInterfaceName", Shape::Text), required("name", Shape::Text)]);

fn is_mode(text: &str) -> bool {
    (text == "0" || !text.starts_with('0')) && text.parse::<u32>().is_ok_and(|mode| mode <= 0o7777)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSpec {
    pub(super) cdi_version: String,
    pub(super) kind: String,
    pub(super) devices: Vec<RawDevice>,
    #[serde(default)]
    pub(super) container_edits: RawEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDevice {
    pub(super) name: String,
    pub(super) container_edits: RawEdits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawEdits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<RawNode>,
    pub(super) mounts: Vec<RawMount>,
    pub(super) hooks: Vec<RawHook>,
    #[serde(rename = "additionalGIDs")]
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<serde_json::Value>,
    pub(super) net_devices: Vec<RawNetDevice>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawNode {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<String>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawHook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawNetDevice {
    pub(super) host_interface_name: String,
}
