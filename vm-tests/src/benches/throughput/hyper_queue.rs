//! HyperQueue: a server with its journal, and one worker with all processors.

use std::fs;

use anyhow::Context as _;
use serde_json::Value;

use super::systems::{BatchSystem, JOB, SLOTS, start_unit, stop_units};
use crate::process::run;

const HQ: &str = "/programs/hq";

const UNITS: [&str; 2] = ["hq-server", "hq-worker"];

/// HyperQueue as it comes, but with a journal.
#[derive(Debug, Default)]
pub(super) struct HyperQueue {
    starts: u32,
    directory: String,
    counted: u64,
}

impl HyperQueue {
    fn hq(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(HQ, &[&["--server-dir", self.directory.as_str()], arguments].concat())
    }
}

impl BatchSystem for HyperQueue {
    fn name(&self) -> &'static str {
        "HyperQueue"
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        self.counted = 0;
        self.directory = format!("/state/hyper-queue-{}", self.starts);
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory))?;
        let (journal, slots) = (format!("{}/journal", self.directory), SLOTS.to_string());
        let server = ["server", "start", "--host", "localhost", "--journal", &journal];
        let common = [HQ, "--server-dir", &self.directory];
        start_unit(UNITS[0], &[], &[&common[..], &server].concat())?;
        self.hq(&["server", "wait"])?;
        start_unit(UNITS[1], &[], &[&common[..], &["worker", "start", "--cpus", &slots]].concat())?;
        self.hq(&["worker", "wait", "1"]).map(drop)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        // A worker that loses its server ends by itself, in the middle of being stopped.
        let [server, worker] = UNITS;
        stop_units(&[worker])?;
        stop_units(&[server])
    }

    fn run_array(&mut self, jobs: u32) -> anyhow::Result<()> {
        let array = format!("1-{jobs}");
        let submit = [
            "submit", "--array", &array, "--stdout", "none", "--stderr", "none", "--wait", "--",
            JOB,
        ];
        self.hq(&submit).map(drop)
    }

    fn submit(&mut self) -> anyhow::Result<()> {
        self.hq(&["submit", "--stdout", "none", "--stderr", "none", "--", JOB]).map(drop)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        self.hq(&["job", "wait", "all"]).map(drop)
    }

    fn take_finished(&mut self) -> anyhow::Result<u32> {
        let text = self.hq(&["--output-mode", "json", "job", "list", "--all"])?;
        let jobs: Vec<Value> = serde_json::from_str(&text).context("hq prints no list of jobs")?;
        let all: u64 = jobs.iter().filter_map(|job| job["task_stats"]["finished"].as_u64()).sum();
        let since = all - self.counted;
        self.counted = all;
        Ok(u32::try_from(since)?)
    }

    fn units(&self) -> &'static [&'static str] {
        &UNITS
    }
}
