//! What the shape cannot say: rules of names, paths, programs and arrays here, and in modules of
//! their own:
//!
//! | module | has |
//! |---|---|
//! | `limits` | how much a job may have |
//! | `whole` | what only the whole document shows |
//! | `sink` | where the checks put what they find |

use api::device::DeviceKind;

use crate::{MAX_TASKS, TaskArray, raw, words};

mod limits;
mod sink;
mod whole;

pub(crate) use limits::{job as limits, volume_size};
pub(crate) use sink::{CollectedDiagnostics, DiagnosticSink};
pub(crate) use whole::{is_small_enough, whole};

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
        let hint = "use 1 to 63 lower-case letters, digits, `_`, `.` and inner hyphens, not `.` or \
                    `..` alone";
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

/// A path in a container at which a volume or a file may be: neither the root nor in what
/// the system fills.
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

/// `args` of one item, with no command before them: they are a command of one item where the image
/// has no entrypoint, which is known when it is pulled.
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
            "; no shell reads them, so {word:?} is passed as it is: for a shell write \
             [/bin/sh, -c, …]"
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
