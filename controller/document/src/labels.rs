//! Annotations of a document: labels that a job's node must have. Those of the document are for all
//! of its jobs, those of the defaults are stronger, and those of a job's own `resource` strongest.

use std::collections::BTreeMap;

use api::labels::{MAX_LABELS, check_key, check_value};
use yaml_tree::LATER;

use crate::{Job, check::DiagnosticSink};

/// Annotations that say how a service is reached, and nothing of nodes.
const OF_SERVICES: &str = "fuzzball.io/connect/";

/// What each annotation must be. Counted as they are: a document is as large as all that it names.
pub(crate) fn check(
    annotations: &BTreeMap<String, String>,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) {
    notes.count(annotations.len());
    for (key, value) in annotations {
        let path = format!("{path}.{key}");
        if key.starts_with(OF_SERVICES) {
            let message = format!("annotations of services are {LATER}");
            notes.unreadable(&path, &message, "leave it out: this version runs no services");
        } else if let Err(error) = check_key(key).and_then(|()| check_value(value)) {
            let hint = "an annotation is a label that the node must have; see `bedplate node list --show-labels`";
            notes.hint(&path, &format!("{key:?}: {value:?} is no label: {error}"), hint);
        }
    }
}

/// How many one job comes to.
pub(crate) fn count(job: &Job, notes: &mut DiagnosticSink<'_>) {
    let labels = job.resource.labels.len();
    if labels > MAX_LABELS {
        let path = format!("jobs.{}", job.name);
        let message =
            format!("the job wants {labels} labels of its node; at most {MAX_LABELS} are taken");
        notes.hint(&path, &message, "those of the document and of the defaults count too");
    }
}
