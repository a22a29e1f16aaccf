//! What only the whole document shows: how much it is, names that are not there, and cycles.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::DiagnosticSink;
use crate::{JobDependency, MAX_JOBS, MAX_MERGED_BYTES, MAX_TRANSFERS_OF_JOBS, Workflow, raw};

/// Longest name of a job or a volume with which a document is looked at closely: that of a path.
const MAX_NAME_BYTES: usize = 4_096;

/// Whether the document is of a size that is looked at closely; a mistake if it is not. Nothing is
/// made of its jobs before.
pub(crate) fn is_small_enough(document: &raw::Document, notes: &mut DiagnosticSink<'_>) -> bool {
    let names = document.jobs.keys().chain(document.volumes.keys());
    // The name is a part of every path below it. What is wrong with one the checks of names tell;
    // this is so long that there is none.
    let is_long = |name: &&String| name.len() > MAX_NAME_BYTES;
    notes.count(document.jobs.len() + document.volumes.len());
    if let Some(name) = names.clone().find(is_long) {
        let message = format!("a name of {} bytes cannot name a job or a volume", name.len());
        notes.hint("", &message, "use 1 to 63 characters");
        return false;
    }
    if document.jobs.len() > MAX_JOBS {
        let message =
            format!("the document has {} jobs; at most {MAX_JOBS} are taken", document.jobs.len());
        notes.hint("jobs", &message, "an array makes many tasks of one job");
        return false;
    }
    merged(document, notes)
}

/// What `defaults` come to when they are merged into every job. `false` if that is more than is
/// made: the jobs are then not looked at.
fn merged(document: &raw::Document, notes: &mut DiagnosticSink<'_>) -> bool {
    let raw::Job { env, mounts, resource, .. } = &document.defaults.job;
    let annotations = document.annotations.iter().chain(&resource.annotations);
    let labels: usize = annotations.map(|(key, value)| key.len() + value.len()).sum();
    let env: usize = env.iter().map(String::len).sum();
    let mounts: usize = mounts.iter().map(|(key, value)| key.len() + value.to_string().len()).sum();
    let devices: usize = resource.devices.keys().map(String::len).sum();
    let bytes = (env + mounts + devices + labels).saturating_mul(document.jobs.len());
    if bytes > MAX_MERGED_BYTES {
        let message = format!(
            "in all {} jobs the defaults come to {bytes} bytes; \
             at most {MAX_MERGED_BYTES} are taken",
            document.jobs.len()
        );
        notes.hint("defaults.job", &message, "put what is large into an entry of `files`");
        return false;
    }
    true
}

/// Names that must be there, and cycles.
pub(crate) fn whole(workflow: &Workflow, notes: &mut DiagnosticSink<'_>) {
    if workflow.jobs.is_empty() && !notes.has("jobs") && !notes.has("services") {
        notes.hint(
            "",
            "the document has no job",
            "such as `jobs: {hello: {image: …, command: […]}}`",
        );
    }
    let volumes = || workflow.volumes.iter().map(|volume| volume.name.as_str());
    let known: HashSet<&str> = volumes().collect();
    let jobs = numbers(workflow);
    // A job that is not there may be a service, and those are refused by themselves.
    let has_services = notes.has("services");
    for job in &workflow.jobs {
        let path = format!("jobs.{}", job.name);
        notes.count(1 + job.depends_on.len() + job.mounts.len());
        for (index, JobDependency { name, .. }) in job.depends_on.iter().enumerate() {
            if !jobs.contains_key(name.as_str()) && !has_services {
                let keys = ["depends-on", "requires"].map(|key| format!("{path}.{key}[{index}]"));
                let others = workflow.jobs.iter().map(|other| other.name.as_str());
                notes.unknown_at(
                    &keys,
                    &path,
                    "job",
                    name,
                    others.filter(|known| *known != job.name),
                );
            }
        }
        for mount in &job.mounts {
            if !known.contains(mount.volume.as_str()) {
                let keys =
                    [&mount.volume, &mount.location].map(|key| format!("{path}.mounts.{key}"));
                notes.unknown_at(&keys, &path, "volume", &mount.volume, volumes());
            }
        }
    }
    transfers_of_jobs(workflow, notes);
    if let Some(cycle) = cycle(workflow, &jobs) {
        let first = format!("jobs.{}", cycle.first().copied().unwrap_or_default());
        let message = format!("jobs wait for each other: {}", cycle.join(" → "));
        notes.unreadable(&first, &message, "take one edge out");
    }
}

/// The number of each job in the document; the first one of a name.
fn numbers(workflow: &Workflow) -> HashMap<&str, usize> {
    let mut numbers = HashMap::with_capacity(workflow.jobs.len());
    for (number, job) in workflow.jobs.iter().enumerate() {
        numbers.entry(job.name.as_str()).or_insert(number);
    }
    numbers
}

/// How often a job and a file of a volume that it mounts wait for each other: each is stored.
fn transfers_of_jobs(workflow: &Workflow, notes: &mut DiagnosticSink<'_>) {
    let files = workflow.volumes.iter().map(|volume| {
        let count = volume.ingress.len() + volume.egress.len();
        (volume.name.as_str(), count)
    });
    let files: BTreeMap<&str, usize> = files.collect();
    let mounts = workflow.jobs.iter().flat_map(|job| &job.mounts);
    let pairs = mounts.filter_map(|mount| files.get(mount.volume.as_str())).sum::<usize>();
    if pairs > MAX_TRANSFERS_OF_JOBS {
        let message = format!(
            "its jobs mount volumes with {pairs} files in or out, a file counted for each job; \
             at most {MAX_TRANSFERS_OF_JOBS} are taken"
        );
        notes.hint("volumes", &message, "take many files in as one archive");
    }
}

/// The first cycle among the jobs, from a job back to itself.
fn cycle<'a>(workflow: &'a Workflow, numbers: &HashMap<&str, usize>) -> Option<Vec<&'a str>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let edges: Vec<Vec<usize>> = workflow
        .jobs
        .iter()
        .map(|job| {
            let names = job.depends_on.iter().map(|dependency| dependency.name.as_str());
            names.filter_map(|name| numbers.get(name).copied()).collect()
        })
        .collect();
    let mut marks = vec![Mark::New; edges.len()];
    for start in 0..edges.len() {
        // Jobs on the way, each with the number of the edge that is looked at next.
        let mut way: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::Open;
            way.push((start, 0));
        }
        while let Some((job, edge)) = way.last_mut() {
            let Some(&next) = edges[*job].get(*edge) else {
                marks[*job] = Mark::Done;
                way.pop();
                continue;
            };
            *edge += 1;
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::Open;
                    way.push((next, 0));
                }
                Mark::Open => {
                    let from = way.iter().position(|(job, _)| *job == next)?;
                    let mut names: Vec<&str> = way[from..]
                        .iter()
                        .map(|(job, _)| workflow.jobs[*job].name.as_str())
                        .collect();
                    names.push(&workflow.jobs[next].name);
                    return Some(names);
                }
            }
        }
    }
    None
}
