//! A node that loses its power when its jobs have ended and the rest of their logs has not come.

use std::{process::Output, thread, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use api::{machine::Node, status::Phase};
use fastrand::Rng;

use super::{CORES, reading::Reading, writer::Writer};
use crate::{cluster::Cluster, machine::Hardware};

/// Lines of each job: 45 MB, within the default of `jobs.log-mib`. All jobs together write 180 MB
/// in the time of one, and no node sends that within the moment from the end to the power cut.
const LINES: u32 = 5_000_000;

/// The workflow.
const NAME: &str = "last";

/// How long the server may take a node for ready that has no power.
const NOTICE: Duration = Duration::from_secs(30);

/// What came of one log.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// All of it, with status 0.
    Whole,
    /// So many bytes of its beginning, with another status and the word that it is not whole.
    Cut(usize),
}

/// Has as many jobs as the node takes at once write, and takes its power away when the last has
/// ended. Whoever reads then gets what there is and learns that it is not all; the same when the
/// node has come back without its memory. Says how many were cut.
///
/// # Errors
/// A log that is not whole was not told as that; or all were whole.
pub(super) fn before_the_rest_came(
    cluster: &mut Cluster,
    node: &'static Hardware,
    dice: &mut Rng,
) -> anyhow::Result<String> {
    let draw = Writer::draw_all(dice, u32::try_from(CORES)?, LINES);
    let jobs: Vec<(String, Writer)> =
        draw.into_iter().enumerate().map(|(index, job)| (format!("writer-{index}"), job)).collect();
    Reading::new(cluster).run(NAME, jobs.iter().map(|(name, job)| (name.as_str(), *job)))?;
    cluster.switch_off(node.name)?;

    let without_power = read_each(cluster, &jobs, "bytes are here");
    let without_power = without_power.context("while it has no power")?;
    let cut = without_power.iter().filter(|came| matches!(came, Came::Cut(_))).count();
    ensure!(cut > 0, "all logs were here before the power was cut: nothing was tried");

    cluster.power_cycle(node.name)?;
    let has_left = |node: &Node| node.status.phase != Phase::Ready;
    cluster.wait_for_node(node.name, "leave ready", NOTICE, has_left)?;
    cluster.wait_until_ready(node.name)?;
    let why = "the node was lost before the rest of the log arrived";
    let rebooted = read_each(cluster, &jobs, &format!("{why}: {} was rebooted", node.name));
    let rebooted = rebooted.context("when it has booted again")?;
    ensure!(rebooted == without_power, "{without_power:?} came, and after the boot {rebooted:?}");
    Ok(format!("{cut} of {} logs are not whole, and readers are told: {rebooted:?}", jobs.len()))
}

/// Reads all logs at once. `why` must be told of those that are not whole.
fn read_each(cluster: &Cluster, jobs: &[(String, Writer)], why: &str) -> anyhow::Result<Vec<Came>> {
    let reading = Reading::new(cluster);
    let read = |name: &str, job: Writer| {
        let output = reading.log(NAME, name)?;
        came(&job.log(), &output, why).with_context(|| format!("log of {name}"))
    };
    thread::scope(|scope| {
        let read = &read;
        let mut threads = Vec::new();
        for (name, job) in jobs {
            threads.push(scope.spawn(move || read(name, *job)));
        }
        let joined = |thread: thread::ScopedJoinHandle<'_, anyhow::Result<Came>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        threads.into_iter().map(joined).collect()
    })
}

fn came(log: &[u8], output: &Output, why: &str) -> anyhow::Result<Came> {
    let (got, all) = (output.stdout.len(), log.len());
    let told = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    ensure!(log.starts_with(&output.stdout), "{status}: {got} bytes that are not its beginning");
    if status.success() {
        ensure!(got == all, "status 0 with {got} of {all} bytes");
        return Ok(Came::Whole);
    }
    ensure!(status.code() == Some(1), "{status}: {told:?}");
    let counts = format!("{got} of {all} bytes are here");
    let is_told = told.contains(&counts) && told.contains(why);
    ensure!(is_told, "{got} of {all} bytes came, and told is {told:?}");
    Ok(Came::Cut(got))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    #[test]
    fn a_log_that_is_cut_says_so() {
        let judge = |stdout: &str, code: i32, stderr: &str| {
            let status = ExitStatus::from_raw(code << 8);
            let output = Output { status, stdout: stdout.into(), stderr: stderr.into() };
            came(b"12345678", &output, "n1 was rebooted").map_err(|error| error.to_string())
        };
        let told = "bedplate: the log is not whole: 4 of 8 bytes are here; n1 was rebooted\n";
        assert_eq!(judge("12345678", 0, ""), Ok(Came::Whole));
        assert_eq!(judge("1234", 1, told), Ok(Came::Cut(4)));
        // The fault itself: less than all, and nobody says so.
        assert_eq!(judge("1234", 0, "").unwrap_err(), "status 0 with 4 of 8 bytes");
        assert_eq!(judge("", 0, "").unwrap_err(), "status 0 with 0 of 8 bytes");
        // Another count, another reason, a command line that hung, other bytes.
        judge("123", 1, told).unwrap_err();
        judge("1234", 1, "4 of 8 bytes are here; nobody knows why").unwrap_err();
        judge("1234", 124, told).unwrap_err();
        judge("1235", 1, told).unwrap_err();
    }
}
