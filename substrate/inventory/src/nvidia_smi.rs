//! The one child process, `nvidia-smi` of the node's own image, and what it prints:
//!
//! | question | in a capture | parsed in |
//! |---|---|---|
//! | `-q -x` | `nvidia-smi.xml` | `report.rs` |
//! | `topo -m` | `nvidia-topo.txt` | `matrix.rs` |
//! | `-L` | `nvidia-list.txt` | `list.rs` |
//!
//! An unhealthy GPU can make it hang in the kernel, where no signal reaches it. So nothing waits
//! for it past [`DEADLINE`], and while one is still dying no second is started.

mod list;
mod matrix;
mod report;

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use api::inventory::GpuLink;

use self::report::ReportError;
use crate::{
    nvidia_report::Report,
    read::{Reader, chain},
};

/// How long the answers may take, all together. Eight idle GPUs without persistence mode need about
/// five seconds for the report.
pub const DEADLINE: Duration = Duration::from_secs(REPORT.as_secs() + 2 * DETAIL.as_secs());

/// How long the report may take.
const REPORT: Duration = Duration::from_secs(10);

/// How long an answer may take that is asked for after the report: the driver is awake then.
const DETAIL: Duration = Duration::from_secs(5);

/// Largest answer read, bytes: the report of eight GPUs with all their processes has 300 KiB.
const MAX_ANSWER_BYTES: u64 = 8 << 20;

/// Where drivers install it: distributions, the `.run` installer, the GPU operator, NixOS.
const PLACES: [&str; 4] = [
    "/usr/bin/nvidia-smi",
    "/usr/local/bin/nvidia-smi",
    "/run/nvidia/driver/usr/bin/nvidia-smi",
    "/run/current-system/sw/bin/nvidia-smi",
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SmiError {
    #[error("not installed")]
    NotInstalled,
    #[error(transparent)]
    Capture(io::Error),
    #[error("an earlier one hangs and cannot be ended")]
    Hangs,
    #[error("cannot start {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("no answer within {} s", .0.as_secs_f32())]
    Late(Duration),
    #[error("{program} failed: {status}: {first_line}")]
    Failed { program: String, status: ExitStatus, first_line: String },
    #[error("cannot wait for {program}")]
    Wait {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} does not end")]
    DoesNotEnd { program: String },
    #[error("the answer is larger than {MAX_ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the answer is not UTF-8 text")]
    NotText,
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Asks the driver for its report, and for what only other questions tell: the links between GPUs
/// where there are several, the UUIDs of MIG devices where there are some. Without these it is
/// still a report.
///
/// # Errors
/// Why there is no report.
pub(crate) fn ask(read: &Reader<'_>) -> Result<Report, SmiError> {
    let mut report = report::parse(&answer(read, &["-q", "-x"], "/nvidia-smi.xml", REPORT)?)?;
    if report.gpus.len() > 1 {
        match answer(read, &["topo", "-m"], "/nvidia-topo.txt", DETAIL) {
            Ok(text) => add_links(&mut report, &text),
            Err(error) => report.gaps.push(("nvidia-smi topo -m", chain(&error))),
        }
    }
    if report.gpus.values().any(|facts| !facts.mig.is_empty()) {
        match answer(read, &["-L"], "/nvidia-list.txt", DETAIL) {
            Ok(text) => add_mig_uuids(&mut report, &text),
            Err(error) => report.gaps.push(("nvidia-smi -L", chain(&error))),
        }
    }
    Ok(report)
}

fn answer(
    read: &Reader<'_>,
    question: &[&str],
    file: &str,
    deadline: Duration,
) -> Result<String, SmiError> {
    if !read.is_live() {
        return std::fs::read_to_string(read.at(file)).map_err(SmiError::Capture);
    }
    let program =
        PLACES.iter().find(|place| Path::new(place).exists()).ok_or(SmiError::NotInstalled)?;
    run(program, question, deadline)
}

fn add_links(report: &mut Report, text: &str) {
    let addresses: BTreeMap<u32, String> =
        report.gpus.iter().map(|(address, facts)| (facts.index, address.clone())).collect();
    for (from, to, lanes) in matrix::nvlinks(text) {
        let (Some(from), Some(peer)) = (addresses.get(&from), addresses.get(&to)) else { continue };
        if let Some(facts) = report.gpus.get_mut(from) {
            facts.links.push(GpuLink { peer: peer.clone(), kind: "nvlink".to_owned(), lanes });
        }
    }
}

/// Both number the MIG devices of a GPU alike, from 0.
fn add_mig_uuids(report: &mut Report, text: &str) {
    for (gpu, device, uuid) in list::mig_devices(text) {
        let facts = report.gpus.values_mut().find(|facts| facts.index == gpu);
        let device = usize::try_from(device).ok().and_then(|device| facts?.mig.get_mut(device));
        if let Some(device) = device {
            device.uuid.get_or_insert(uuid);
        }
    }
}

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Standard output of a program that must end within `deadline`.
fn run(program: &str, arguments: &[&str], deadline: Duration) -> Result<String, SmiError> {
    if RUNNING.swap(true, Ordering::AcqRel) {
        return Err(SmiError::Hangs);
    }
    let named = || program.to_owned();
    let result = spawn(program, arguments).map_err(|source| {
        RUNNING.store(false, Ordering::Release);
        SmiError::Start { program: named(), source }
    });
    let (mut child, answer) = result?;
    let bytes = answer.recv_timeout(deadline);
    if bytes.is_err() {
        // The reaper below waits for it, however long it takes to die.
        let _ = child.kill();
    }
    let (ended, end) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let status = child.wait();
        RUNNING.store(false, Ordering::Release);
        let _ = ended.send(status);
    });
    let bytes = bytes.map_err(|_| SmiError::Late(deadline))?;
    // It closed its output, so it is about to end.
    match end.recv_timeout(deadline) {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => {
            let first_line = first_line(&bytes);
            return Err(SmiError::Failed { program: named(), status, first_line });
        }
        Ok(Err(source)) => return Err(SmiError::Wait { program: named(), source }),
        Err(_) => return Err(SmiError::DoesNotEnd { program: named() }),
    }
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        return Err(SmiError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| SmiError::NotText)
}

#[expect(clippy::disallowed_methods, reason = "the home of this crate's only child process")]
fn spawn(program: &str, arguments: &[&str]) -> std::io::Result<(Child, mpsc::Receiver<Vec<u8>>)> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (answered, answer) = mpsc::sync_channel(1);
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is parsed like any other answer.
            let _ = output.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut bytes);
            let _ = answered.send(bytes);
        });
    }
    Ok((child, answer))
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since the guard is one per process: it must not run beside another.
    #[test]
    fn a_child_is_heard_and_never_waited_for_too_long() {
        let second = Duration::from_secs(1);
        let failed = |program: &str, arguments: &[&str], deadline| {
            chain(&run(program, arguments, deadline).unwrap_err())
        };
        assert_eq!(run("/bin/echo", &["hello"], DEADLINE).unwrap(), "hello\n");
        assert_eq!(
            failed("/bin/sh", &["-c", "echo no devices; exit 6"], DEADLINE),
            "/bin/sh failed: exit status: 6: no devices"
        );
        assert!(
            failed("/nonexistent", &[], DEADLINE)
                .starts_with("cannot start /nonexistent: No such file")
        );
        assert_eq!(failed("/bin/sleep", &["30"], second), "no answer within 1 s");
        // The sleeper was ended, so there is room for the next.
        thread::sleep(second);
        assert_eq!(run("/bin/echo", &["again"], DEADLINE).unwrap(), "again\n");
        // A grandchild holds the pipe open: given up at the deadline, too.
        assert_eq!(failed("/bin/sh", &["-c", "sleep 3 & sleep 3"], second), "no answer within 1 s");
        RUNNING.store(true, Ordering::Release);
        assert_eq!(failed("/bin/echo", &[], DEADLINE), "an earlier one hangs and cannot be ended");
        RUNNING.store(false, Ordering::Release);
    }
}
