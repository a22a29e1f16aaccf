//! The columns of every kind of thing as CSV: paths through its JSON, in one place and fixed.
//! Columns may be added at the end; none goes away and none changes its place. A test of
//! `cli::tests` writes them into `docs/reference/output.md`.

use api::{
    access::{AuditEntry, AuditHead, CreatedToken, Token, User, Whoami},
    alarm::{Alarm, Certificate},
    image::{Image, Operation},
    machine::{Applied, Explained, Node, Profile},
    overlay::{Overlay, RenderedFile},
    problem::Diagnostic,
    status::NodeEvent,
    stream::Copied,
    workflow::{Checked, ClientFile, TaskUsage, Waiting, Workflow, WorkflowSummary},
};
use serde_json::{Value, json};

use super::output::Rows;

/// What was done to things, by their names.
pub(super) const DONE: &[&str] = &["action", "name"];

/// A node.
pub(super) const NODE: &[&str] = &[
    "name",
    "status.phase",
    "status.since",
    "status.percent",
    "status.reason",
    "status.held",
    "status.refuses",
    "status.drain.reason",
    "status.overdue-seconds",
    "status.last-seen",
    "status.address",
    "status.image",
    "spec.image",
    "spec.profiles",
    "spec.groups",
    "spec.comment",
    "id",
    "version",
    "next-image",
    "status.epoch",
    "status.conflict.cause",
    "labels",
];

/// A step of a node's boot, as `node watch` has it.
pub(super) const STEP: &[&str] = &[
    "at",
    "name",
    "status.phase",
    "after.phase",
    "after.milliseconds",
    "status.percent",
    "status.reason",
    "status.held",
    "status.refuses",
    "status.drain.reason",
    "status.overdue-seconds",
    "status.address",
    "status.image",
    "id",
    "status.conflict.cause",
];

/// What happened to a node.
pub(super) const EVENT: &[&str] = &["at", "name", "phase", "severity", "message", "id"];

/// A value of a node, and where it comes from: a row for each.
pub(super) const ORIGIN: &[&str] = &["name", "field", "value", "origin"];

/// The hardware of a node; `inventory query --columns` has any other field.
pub(super) const HARDWARE: &[&str] = &[
    "name",
    "system.vendor",
    "system.product",
    "system.serial",
    "firmware.boot-mode",
    "firmware.version",
    "os.name",
    "os.kernel",
    "os.architecture",
    "topology.cpu-model",
    "topology.pus",
    "memory-bytes",
    "faults",
];

/// Nodes that agree on a fact on which not all do: a row for each value of a fact.
pub(super) const DIFFERENCE: &[&str] = &["fact", "value", "nodes", "majority"];

/// A profile.
pub(super) const PROFILE: &[&str] = &[
    "name",
    "spec.image",
    "spec.kernel",
    "spec.profiles",
    "spec.kernel-args",
    "spec.boot-overlays",
    "spec.runtime-overlays",
    "spec.groups",
    "spec.comment",
    "version",
    "problem",
    "spec.labels",
];

/// A node or profile of `export`.
pub(super) const DECLARED: &[&str] = &[
    "kind",
    "name",
    "spec.image",
    "spec.kernel",
    "spec.profiles",
    "spec.kernel-args",
    "spec.interfaces",
    "spec.boot-overlays",
    "spec.runtime-overlays",
    "spec.groups",
    "spec.tags",
    "spec.comment",
    "spec.labels",
];

/// A change that `apply` makes: a row for each.
pub(super) const CHANGE: &[&str] = &["kind", "name", "action", "fields"];

/// A version of an image: a row for each.
pub(super) const IMAGE_VERSION: &[&str] = &[
    "name",
    "version",
    "architecture",
    "source",
    "imported",
    "manifest",
    "root.digest",
    "root.size",
    "kernels",
    "warnings",
    "problem",
];

/// A long operation.
pub(super) const OPERATION: &[&str] =
    &["id", "title", "created", "state.state", "state.result", "state.error", "state.bars"];

/// The version that an import made.
pub(super) const IMPORTED: &[&str] = &["image"];

/// An overlay.
pub(super) const OVERLAY: &[&str] = &["name", "source", "summary", "files", "problems"];

/// A file as a node gets it.
pub(super) const RENDERED: &[&str] = &["path", "mode", "content"];

/// What was done to a file of an overlay.
pub(super) const OVERLAY_FILE: &[&str] = &["overlay", "action", "path"];

/// Who asks.
pub(super) const WHOAMI: &[&str] =
    &["name", "admin", "roles", "groups", "actions", "token", "expires"];

/// A user.
pub(super) const USER: &[&str] =
    &["name", "account.uid", "account.gid", "account.groups", "admin", "comment"];

/// A quota of a user: a row for each.
pub(super) const QUOTA: &[&str] = &["user", "name", "unit", "used", "limit", "own"];

/// How many sessions of a user were ended.
pub(super) const LOGGED_OUT: &[&str] = &["name", "ended"];

/// A token without its secret.
pub(super) const TOKEN: &[&str] =
    &["name", "user", "created", "expires", "scope", "last-used", "last-source"];

/// A new token with its secret.
pub(super) const CREATED_TOKEN: &[&str] = &["name", "token", "expires"];

/// A line of the audit log.
pub(super) const AUDIT: &[&str] = &[
    "number",
    "at",
    "principal",
    "action",
    "subject",
    "outcome",
    "object",
    "source",
    "token",
    "difference",
    "form",
    "hash",
];

/// A signed head of the audit log.
pub(super) const AUDIT_HEAD: &[&str] = &["number", "at", "hash", "key", "signature"];

/// The key that heads are signed with.
pub(super) const AUDIT_KEY: &[&str] = &["key"];

/// What a check of the audit log found.
pub(super) const VERIFIED: &[&str] = &["lines", "hash", "heads", "newest-head", "cut", "heads-cut"];

/// A certificate of the server.
pub(super) const CERTIFICATE: &[&str] = &[
    "certificate",
    "ends",
    "days-left",
    "fingerprint",
    "begins",
    "life-seconds",
    "renewal",
    "alarm",
];

/// What wants attention.
pub(super) const ALARM: &[&str] = &["alarm", "subject", "ends", "text"];

/// A context.
pub(super) const CONTEXT: &[&str] =
    &["name", "server", "in-use", "file", "ca-fingerprint", "problem"];

/// A context that was made, and whose token it holds.
pub(super) const CREATED_CONTEXT: &[&str] =
    &["name", "server", "in-use", "file", "ca-fingerprint", "problem", "user"];

/// Versions of client and server.
pub(super) const VERSIONS: &[&str] = &["client", "server"];

/// What `server check` found: a row for each.
pub(super) const FINDING: &[&str] = &["level", "line", "column", "path", "message", "hint"];

/// A workflow.
pub(super) const WORKFLOW: &[&str] = &[
    "id",
    "name",
    "user",
    "status",
    "state",
    "stages-finished",
    "stages",
    "submitted",
    "started",
    "ended",
    "reason",
    "paused",
    "blocked",
];

/// What a running task uses.
pub(super) const USAGE: &[&str] = &[
    "stage",
    "name",
    "task",
    "attempt",
    "member",
    "node",
    "cpus",
    "memory-limit-bytes",
    "started",
    "at",
    "usage.memory-bytes",
    "usage.processes",
    "usage.total.cpu-micros",
    "usage.total.memory-peak-bytes",
    "usage.total.read-bytes",
    "usage.total.written-bytes",
];

/// What a stage waits for.
pub(super) const WAITING: &[&str] = &["stage", "name", "reasons"];

/// A file that a workflow brings to its user.
pub(super) const FILE: &[&str] = &["stage", "destination", "size"];

/// A file that was written here.
pub(super) const PATH: &[&str] = &["path"];

/// What was copied.
pub(super) const COPIED: &[&str] = &["entries", "bytes", "left-out-count", "left-out"];

/// Kinds whose row is their JSON.
macro_rules! rows {
    ($($kind:ty: $columns:expr,)+) => {
        $(impl Rows for $kind {
            const COLUMNS: &'static [&'static str] = $columns;
        })+
    };
}

rows! {
    Node: NODE,
    NodeEvent: EVENT,
    Profile: PROFILE,
    Operation: OPERATION,
    Overlay: OVERLAY,
    RenderedFile: RENDERED,
    Whoami: WHOAMI,
    User: USER,
    Token: TOKEN,
    CreatedToken: CREATED_TOKEN,
    AuditEntry: AUDIT,
    AuditHead: AUDIT_HEAD,
    Certificate: CERTIFICATE,
    Alarm: ALARM,
    WorkflowSummary: WORKFLOW,
    TaskUsage: USAGE,
    Waiting: WAITING,
    ClientFile: FILE,
    Copied: COPIED,
}

impl Rows for Workflow {
    const COLUMNS: &'static [&'static str] = WORKFLOW;

    /// As in a list: its stages would hide how many there are.
    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        self.summary.rows()
    }
}

impl Rows for Explained {
    const COLUMNS: &'static [&'static str] = ORIGIN;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let row = |origin: &api::machine::Origin| {
            with(json!({"name": self.name}), serde_json::to_value(origin)?)
        };
        self.origins.iter().map(row).collect()
    }
}

impl Rows for Applied {
    const COLUMNS: &'static [&'static str] = CHANGE;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        self.changes.iter().map(serde_json::to_value).collect()
    }
}

impl Rows for Image {
    const COLUMNS: &'static [&'static str] = IMAGE_VERSION;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let named = || json!({"name": self.name});
        let good =
            self.versions.iter().map(|version| with(named(), serde_json::to_value(version)?));
        let bad = self.problems.iter().map(|problem| with(named(), serde_json::to_value(problem)?));
        good.chain(bad).collect()
    }
}

impl Rows for Checked {
    const COLUMNS: &'static [&'static str] = FINDING;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let diagnostics = self.diagnostics.iter().map(|diagnostic| finding("mistake", diagnostic));
        diagnostics
            .chain(self.warnings.iter().map(|diagnostic| finding("warning", diagnostic)))
            .collect()
    }
}

impl Rows for String {
    const COLUMNS: &'static [&'static str] = PATH;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        Ok(vec![json!({"path": self})])
    }
}

/// The row of something that a check found.
pub(super) fn finding(level: &str, diagnostic: &Diagnostic) -> serde_json::Result<Value> {
    with(json!({"level": level}), serde_json::to_value(diagnostic)?)
}

/// An object with the fields of another one behind its own.
fn with(mut row: Value, more: Value) -> serde_json::Result<Value> {
    if let (Value::Object(row), Value::Object(more)) = (&mut row, more) {
        row.extend(more);
    }
    Ok(row)
}
