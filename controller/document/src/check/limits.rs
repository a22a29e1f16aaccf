//! What a node's kernel could not run: known when the document is handed in, so told then.

use crate::Job;

use super::DiagnosticSink;

/// Least memory of a task, bytes: less does not hold the first process of a container.
const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// Longest argument or environment variable, bytes: `MAX_ARG_STRLEN` of Linux, which counts the
/// zero byte at its end (execve(2)).
const MAX_WORD_BYTES: usize = (128 << 10) - 1;

/// Most bytes of all arguments and variables of a job. Linux takes a quarter of the stack's limit,
/// 2 MiB by default; the rest is for what the image and the substrate add.
const MAX_WORDS_BYTES: usize = 1 << 20;

/// Bytes of a word besides its text: its zero byte and its pointer.
const WORD_OVERHEAD: usize = 9;

/// Least size of a volume, bytes: with less somebody has forgotten the unit.
const MIN_VOLUME_BYTES: u64 = 1 << 20;

/// Holds the size of a volume against what is of use.
pub(crate) fn volume_size(bytes: u64, path: &str, notes: &mut DiagnosticSink<'_>) {
    if bytes < MIN_VOLUME_BYTES {
        let message = format!(
            "a volume of {bytes} bytes holds next to nothing; at least {MIN_VOLUME_BYTES} are taken"
        );
        notes.hint(path, &message, "write the unit too, such as 10GB");
    }
}

/// Holds a job against what Linux takes.
pub(crate) fn job(job: &Job, path: &str, notes: &mut DiagnosticSink<'_>) {
    memory(job, path, notes);
    words(job, path, notes);
}

fn memory(job: &Job, path: &str, notes: &mut DiagnosticSink<'_>) {
    let Some(bytes) = job.resource.memory_bytes else { return };
    let each = if job.resource.memory_by_core { u64::from(job.resource.cores) } else { 1 };
    if bytes.saturating_mul(each) < MIN_MEMORY_BYTES {
        let written = [path, "defaults.job"].map(|of| format!("{of}.resource.memory.size"));
        let place = written.iter().find(|path| notes.is_there(path)).unwrap_or(&written[0]);
        let message =
            format!("{bytes} bytes hold no program; at least {MIN_MEMORY_BYTES} are taken");
        notes.hint(&place.clone(), &message, "write the unit too, such as 4GiB");
    }
}

fn words(job: &Job, path: &str, notes: &mut DiagnosticSink<'_>) {
    let mut total = 0_usize;
    let hint = "put what is large into an entry of `files`, and name that file";
    for (key, words) in [("command", &job.command), ("args", &job.args)] {
        for (index, word) in words.iter().enumerate() {
            total += word.len() + WORD_OVERHEAD;
            if word.len() > MAX_WORD_BYTES {
                let message = format!(
                    "the argument has {} bytes; Linux passes at most {MAX_WORD_BYTES} to a program",
                    word.len()
                );
                notes.hint(&format!("{path}.{key}[{index}]"), &message, hint);
            }
        }
    }
    for (name, value) in &job.env {
        let bytes = name.len() + 1 + value.len();
        total += bytes + WORD_OVERHEAD;
        if bytes > MAX_WORD_BYTES {
            let message = format!(
                "the variable {name} has {bytes} bytes; Linux passes at most {MAX_WORD_BYTES} to a program"
            );
            notes.hint(&format!("{path}.env"), &message, hint);
        }
    }
    if total > MAX_WORDS_BYTES {
        let message = format!(
            "arguments and environment have {total} bytes together; at most {MAX_WORDS_BYTES} are taken"
        );
        notes.hint(path, &message, hint);
    }
}
