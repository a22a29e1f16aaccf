//! What the shape cannot say: rules of names and paths, and what only the whole document shows.

use std::collections::{BTreeMap, HashMap, HashSet};

use api::device::DeviceKind;
use yaml_tree::{Diagnostics, IndexedTree, Location, Tree, did_you_mean};

use crate::{
    JobDependency, MAX_JOBS, MAX_MERGED_BYTES, MAX_TASKS, MAX_TRANSFERS_OF_JOBS, TaskArray,
    Workflow, raw, words,
};

mod limits;

pub(crate) use limits::{job as limits, volume_size};

/// Longest name of a job or a volume with which a document is looked at closely: that of a path.
const MAX_NAME_BYTES: usize = 4_096;

/// Collects mistakes and warnings, each at the place of its path.
///
/// There are two kinds of mistakes, and a document is handed to them at two times:
///
/// | kind | means | refuses |
/// |---|---|---|
/// | [`Self::refuse`], [`Self::hint`] | it can be read, and is not accepted | at submission alone |
/// | [`Self::unreadable`], [`Self::unknown`] | what it says is not known, and was left out | always |
///
/// A document that an earlier release accepted and stored is read again without the first kind
/// (docs/decisions/0007-stored-plans.md). So a new rule is a `refuse`; never a narrower reading.
///
/// What is past the limit of mistakes is counted, and its place is not looked up.
#[derive(Debug)]
pub(crate) struct DiagnosticSink<'a> {
    places: IndexedTree<'a>,
    /// What is not accepted though it can be read.
    refused: Diagnostics,
    /// What could not be read.
    unreadable: Diagnostics,
    warnings: Diagnostics,
}

/// All that was noted, by kind.
#[derive(Debug)]
pub(crate) struct CollectedDiagnostics {
    pub(crate) refused: Diagnostics,
    pub(crate) unreadable: Diagnostics,
    pub(crate) warnings: Diagnostics,
    /// Steps of looking places up. Those of each kind are in itself.
    pub(crate) steps: u64,
}

impl<'a> DiagnosticSink<'a> {
    /// `unreadable`: what the walk over the tree could not read.
    pub(crate) fn new(tree: &'a Tree, unreadable: Diagnostics) -> Self {
        let (refused, warnings) = (Diagnostics::default(), Diagnostics::default());
        Self { places: IndexedTree::new(tree), refused, unreadable, warnings }
    }

    /// Refuses what can be read. Counts at submission alone.
    pub(crate) fn refuse(&mut self, path: &str, message: &str) {
        note(&mut self.refused, &self.places, path, || (message.to_owned(), None));
    }

    /// [`Self::refuse`] with a way to mend it.
    pub(crate) fn hint(&mut self, path: &str, message: &str, hint: &str) {
        note(&mut self.refused, &self.places, path, || (message.to_owned(), Some(hint.to_owned())));
    }

    /// Notes what is left out because nobody knows what it means. Counts whenever the document is
    /// read.
    pub(crate) fn unreadable(&mut self, path: &str, message: &str, hint: &str) {
        note(&mut self.unreadable, &self.places, path, || {
            (message.to_owned(), Some(hint.to_owned()))
        });
    }

    pub(crate) fn warn(&mut self, path: &str, message: &str) {
        note(&mut self.warnings, &self.places, path, || (message.to_owned(), None));
    }

    /// A name that is not there, with the nearest one that is: what refers to it cannot be read.
    pub(crate) fn unknown<'b>(
        &mut self,
        path: &str,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'b str>,
    ) {
        note(&mut self.unreadable, &self.places, path, || {
            (format!("there is no {what} {name:?}"), did_you_mean(name, known))
        });
    }

    /// A mistake was noted at this path or below. Of those that are only counted nothing is known: the
    /// answer then matters for their number alone.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_below =
            |rest: &str| rest.is_empty() || path.is_empty() || rest.starts_with(['.', '[']);
        let mut diagnostics = self.unreadable.iter().chain(self.refused.iter());
        diagnostics.any(|diagnostic| diagnostic.path.strip_prefix(path).is_some_and(is_below))
    }

    /// Counts what a loop looked at.
    pub(crate) fn count(&mut self, steps: usize) {
        self.warnings.count(steps);
    }

    pub(crate) fn into_noted(self) -> CollectedDiagnostics {
        let Self { places, refused, unreadable, warnings } = self;
        CollectedDiagnostics { refused, unreadable, warnings, steps: places.steps() }
    }
}

/// Notes a mistake at the place of a path.
fn note(
    diagnostics: &mut Diagnostics,
    places: &IndexedTree<'_>,
    path: &str,
    told: impl FnOnce() -> (String, Option<String>),
) {
    let at = match diagnostics.is_full() {
        true => places.start(),
        false => places.find(path).unwrap_or(places.start()),
    };
    diagnostics.add_with(at, path, told);
}

/// RFC 1034 labels, and `_` and `.` as people's documents have them. It becomes a part of paths,
/// here and on nodes, so `.` and `..` are none; the host name is made of it where it is needed.
pub(crate) fn name(what: &str, name: &str, path: &str, notes: &mut DiagnosticSink<'_>) {
    let is_good = !matches!(name, "" | "." | "..")
        && name.len() <= 63
        && name
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c))
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_good {
        let hint = "use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or `..` alone";
        notes.hint(path, &format!("{name:?} cannot name a {what}"), hint);
    }
}

/// The name that a job gives itself, as the public catalog has it.
pub(crate) fn own_name(own: Option<&str>, key: &str, path: &str, notes: &mut DiagnosticSink<'_>) {
    if own.is_some_and(|own| own != key) {
        let hint = format!("leave it out, or make it {key:?}: a job has the name of its key");
        notes.hint(&format!("{path}.name"), "it is not the key of the job", &hint);
    }
}

/// A path in a container.
pub(crate) fn absolute(value: &str, path: &str, notes: &mut DiagnosticSink<'_>) {
    let is_good = value.starts_with('/')
        && !value.contains('\0')
        && value.split('/').all(|part| part != "..");
    if !is_good {
        let message = format!("{value:?} is no absolute path");
        notes.hint(path, &message, "begin with / and leave `..` out");
    }
}

/// Directories of a container that the system itself fills.
const OF_THE_SYSTEM: [&str; 3] = ["dev", "proc", "sys"];

/// A path in a container at which a volume or a file may be: neither the root nor in what the system fills.
pub(crate) fn mount_path(value: &str, path: &str, notes: &mut DiagnosticSink<'_>) {
    absolute(value, path, notes);
    let first = value.split('/').find(|part| !part.is_empty() && *part != ".");
    if first.is_none_or(|first| OF_THE_SYSTEM.contains(&first)) {
        let message = format!("nothing can be put at {value:?}");
        notes.hint(path, &message, "choose a path outside of /dev, /proc and /sys");
    }
}

/// What sort of device a job wants.
pub(crate) fn device_kind(kind: &str, path: &str, notes: &mut DiagnosticSink<'_>) {
    // That of the defaults is looked at with every job.
    if kind.parse::<DeviceKind>().is_err() && !notes.has(path) {
        notes.hint(
            path,
            &format!("{kind:?} is no kind of devices"),
            "use VENDOR/CLASS, such as nvidia.com/gpu: 1",
        );
    }
}

/// There is one program to run.
pub(crate) fn program(job: &raw::Job, path: &str, notes: &mut DiagnosticSink<'_>) {
    match &job.script {
        Some(_) if !job.command.is_empty() => {
            notes.hint(
                &format!("{path}.script"),
                "the job has a command and a script",
                "choose one; `args` go to either",
            );
        }
        Some(script) if !script.starts_with("#!") => {
            let hint = "begin it with its interpreter, such as #!/bin/sh";
            notes.hint(&format!("{path}.script"), "the script has no #! line", hint);
        }
        None if job.command.is_empty()
            && job.args.is_empty()
            && !notes.has(&format!("{path}.command")) =>
        {
            notes.hint(
                path,
                "the job has no command and no script",
                "such as `command: [/bin/true]`",
            );
        }
        Some(script) if script.lines().next().is_some_and(|line| line[2..].trim().is_empty()) => {
            let hint = "such as #!/bin/sh";
            notes.hint(&format!("{path}.script"), "the #! line names no interpreter", hint);
        }
        _ => {}
    }
    one_text(&job.command, path, notes);
    if job.command.is_empty() && job.script.is_none() {
        args_of_one_text(&job.args, path, notes);
    }
    for (key, words) in [("command", &job.command), ("args", &job.args)] {
        for (index, _) in words.iter().enumerate().filter(|(_, word)| word.contains('\0')) {
            notes.refuse(
                &format!("{path}.{key}[{index}]"),
                "a NUL character cannot be passed to a program",
            );
        }
    }
}

/// A command of one item: with blanks in it, it is words, unless the image has a program of exactly
/// that name.
fn one_text(command: &[String], path: &str, notes: &mut DiagnosticSink<'_>) {
    let path = format!("{path}.command[0]");
    if command.first().is_some_and(|program| program.trim().is_empty()) {
        notes.hint(&path, "the command names no program", "such as `command: [/bin/true]`");
        return;
    }
    let [text] = command else { return };
    if !words::has_blanks(text) {
        return;
    }
    match words::split(text) {
        Ok(words) => notes.warn(&path, &run_as(&words)),
        Err(why) => {
            let hint = "close or escape it, or write each word as an item of its own";
            notes.hint(
                &path,
                &format!("a command of one item is split into words, and {why}"),
                hint,
            );
        }
    }
}

/// `args` of one item, with no command before them: they are a command of one item where the image has
/// no entrypoint, which is known when it is pulled.
fn args_of_one_text(args: &[String], path: &str, notes: &mut DiagnosticSink<'_>) {
    let [text] = args else { return };
    if !words::has_blanks(text) {
        return;
    }
    let told = match words::split(text) {
        Ok(words) => run_as(&words),
        Err(why) => format!("it is the name of the program, since {why}"),
    };
    notes.warn(&format!("{path}.args[0]"), &format!("where the image has no entrypoint, {told}"));
}

fn run_as(words: &[String]) -> String {
    let list = words::list(words);
    let mut told = format!(
        "it is run as the words {list}, unless the image has a program of exactly that name"
    );
    if let Some(word) = words::of_a_shell(words) {
        told += &format!(
            "; no shell reads them, so {word:?} is passed as it is: for a shell write [/bin/sh, -c, …]"
        );
    }
    told
}

/// The bounds of an array. One that cannot be counted is left out.
pub(crate) fn array(
    array: raw::TaskArray,
    path: &str,
    notes: &mut DiagnosticSink<'_>,
) -> Option<TaskArray> {
    let path = format!("{path}.task-array");
    let raw::TaskArray { start, end, concurrency } = array;
    if concurrency == Some(0) {
        let hint = "leave it out to run as many as there is room for";
        let path = format!("{path}.concurrency");
        notes.unreadable(&path, "at least one task must run at a time", hint);
    }
    if end < start {
        let message = format!("the array ends at {end}, before its start {start}");
        notes.unreadable(&format!("{path}.end"), &message, "both are included");
        return None;
    }
    let count = u64::from(end - start) + 1;
    let message = || format!("the array has {count} tasks; at most {MAX_TASKS} are taken");
    let (path, hint) = (format!("{path}.end"), "make it several jobs");
    if u32::try_from(count).is_err() {
        // A plan counts tasks in 32 bits.
        notes.unreadable(&path, &message(), hint);
        return None;
    }
    if count > u64::from(MAX_TASKS) {
        notes.hint(&path, &message(), hint);
    }
    Some(TaskArray { start, end, concurrency })
}

/// Whether the document is of a size that is looked at closely; a mistake if it is not. Nothing is made
/// of its jobs before.
pub(crate) fn is_small_enough(document: &raw::Document, notes: &mut DiagnosticSink<'_>) -> bool {
    let names = document.jobs.keys().chain(document.volumes.keys());
    // The name is a part of every path below it. What is wrong with one the checks of names tell; this
    // is so long that there is none.
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
            "in all {} jobs the defaults come to {bytes} bytes; at most {MAX_MERGED_BYTES} are taken",
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
            "its jobs mount volumes with {pairs} files in or out, a file counted for each job; at most \
             {MAX_TRANSFERS_OF_JOBS} are taken"
        );
        notes.hint("volumes", &message, "take many files in as one archive");
    }
}

impl DiagnosticSink<'_> {
    /// The document has something at exactly this path.
    pub(crate) fn is_there(&self, path: &str) -> bool {
        let parent = path.rsplit_once(['.', '[']).map_or("", |(parent, _)| parent);
        let place = |path: &str| -> Option<Location> { self.places.find(path) };
        let (at, parent) = (place(path), place(parent));
        at.is_some() && at != parent && parent.is_some()
    }

    /// [`Self::unknown`] at the first of some paths that the document has, or else at another.
    fn unknown_at<'b>(
        &mut self,
        written: &[String],
        or_else: &str,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'b str>,
    ) {
        let place = match self.unreadable.is_full() {
            true => None,
            false => written.iter().find(|path| self.is_there(path)),
        };
        self.unknown(place.map_or(or_else, String::as_str), what, name, known);
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
