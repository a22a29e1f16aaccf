//! What a person does with one workflow: start it, watch it to its end, and read its logs at once.
//! All by the real command line, each call of which must end in time.

use std::{process::Output, time::Duration};

use anyhow::{Context as _, bail, ensure};

use super::writer::{Writer, document};
use crate::{cluster::Cluster, process, server::Server, workflow::USER};

/// How long one call may take, where the processor itself runs the node: the job may wait for a
/// core, and the first one for its image.
const LIMIT: Duration = Duration::from_secs(60);

/// A pipe fails as its first part does.
const HASH: &str = "set -o pipefail; \"$0\" \"$@\" | sha256sum";

/// The command line, for several threads at once.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    server: &'a Server,
    limit_seconds: String,
}

impl<'a> Reading<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let limit = cluster.accelerator().stretch(LIMIT);
        Self { server: &cluster.server, limit_seconds: limit.as_secs().to_string() }
    }

    /// Starts a workflow of a name that was not there before, and returns when it has finished.
    ///
    /// # Errors
    /// It did not finish.
    pub(super) fn run<'b>(
        &self,
        name: &str,
        jobs: impl IntoIterator<Item = (&'b str, Writer)>,
    ) -> anyhow::Result<()> {
        let words = self.within_limit(&["workflow", "start", name, "-", "--as", USER, "--watch"]);
        let started = process::output("timeout", &words, document(jobs).as_bytes())?;
        let status = started.status;
        ensure!(status.success(), "start: {status}: {}", process::words(&started));
        Ok(())
    }

    /// Runs one job to its end, and reads its log.
    ///
    /// # Errors
    /// The log is not what the job wrote; or something failed.
    pub(super) fn run_and_hash(&self, name: &str, job: &Writer) -> anyhow::Result<()> {
        let expected = job.sha256();
        self.run(name, [("writer", *job)])?;
        let shell = ["-c", HASH, "timeout"].map(str::to_owned).to_vec();
        let words = [shell, self.within_limit(&["workflow", "log", name])].concat();
        let hashed = process::output("bash", &words, b"")?;
        let said = String::from_utf8_lossy(&hashed.stdout);
        let sum = said.split_whitespace().next().unwrap_or_default();
        if hashed.status.success() && sum == expected {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&hashed.stderr);
        let again = self.log(name, "writer").context("reading it again")?;
        let (status, again) = (hashed.status, compared(&job.log(), &again));
        bail!("log: {status}, SHA-256 {sum}, told {told:?}; read again: {again}");
    }

    /// What `workflow log` gives, whatever comes of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn log(&self, name: &str, job: &str) -> anyhow::Result<Output> {
        process::output("timeout", &self.within_limit(&["workflow", "log", name, job]), b"")
    }

    /// Words for timeout(1): the command line with its limit, after which it ends with status 124.
    fn within_limit(&self, arguments: &[&str]) -> Vec<String> {
        [vec![self.limit_seconds.clone()], self.server.command_line(arguments)].concat()
    }
}

/// How what was read differs from the log, for people.
fn compared(log: &[u8], read: &Output) -> String {
    let bytes = read.stdout.as_slice();
    let alike = log.iter().zip(bytes).take_while(|(one, other)| one == other).count();
    let (status, got, all) = (read.status, bytes.len(), log.len());
    match () {
        () if bytes == log => format!("{status}, all {all} bytes"),
        () if alike == got => format!("{status}, the first {got} of {all} bytes"),
        () => format!("{status}, {got} bytes of {all}, others from offset {alike} on"),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    #[test]
    fn it_is_said_how_bytes_differ() {
        let read = |bytes: &[u8], code: i32| {
            let status = ExitStatus::from_raw(code << 8);
            compared(b"12345678", &Output { status, stdout: bytes.to_vec(), stderr: Vec::new() })
        };
        assert_eq!(read(b"12345678", 0), "exit status: 0, all 8 bytes");
        assert_eq!(read(b"", 1), "exit status: 1, the first 0 of 8 bytes");
        assert_eq!(read(b"1234", 0), "exit status: 0, the first 4 of 8 bytes");
        assert_eq!(read(b"1278", 0), "exit status: 0, 4 bytes of 8, others from offset 2 on");
        assert_eq!(read(b"123456789", 0), "exit status: 0, 9 bytes of 8, others from offset 8 on");
    }

    /// The status is that of who writes into the pipe.
    #[test]
    fn a_pipe_ends_as_the_log_does() {
        let piped = |script: &str| {
            let words = ["-c", HASH, "bash", "-c", script];
            process::output("bash", &words, b"").unwrap()
        };
        let whole = piped("seq 98 101");
        assert!(whole.status.success());
        let sum = "bb26a821a9a0fc2b1a70d2f18f1af005f01bb7b59da986d121befe38979bee54";
        assert!(whole.stdout.starts_with(sum.as_bytes()));
        let cut = piped("seq 98 101; exit 3");
        assert_eq!((cut.status.code(), cut.stdout), (Some(3), whole.stdout));
    }
}
