//! GNU parallel: no queue and no server, but a list of jobs and a record of their ends.

use std::fs;

use anyhow::{Context as _, bail, ensure};

use super::systems::{BatchSystem, JOB, SLOTS};
use crate::process::{output, words};

const DIRECTORY: &str = "/state/parallel";

/// GNU parallel.
#[derive(Debug, Default)]
pub(super) struct Parallel {
    arrays: u32,
}

impl Parallel {
    fn record(&self) -> String {
        format!("{DIRECTORY}/{}", self.arrays)
    }
}

impl BatchSystem for Parallel {
    fn name(&self) -> &'static str {
        "GNU parallel"
    }

    fn start(&mut self) -> anyhow::Result<()> {
        fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn run_array(&mut self, jobs: u32) -> anyhow::Result<()> {
        self.arrays += 1;
        let (record, slots) = (self.record(), SLOTS.to_string());
        let numbers: String = (1..=jobs).map(|number| format!("{number}\n")).collect();
        let arguments = ["--will-cite", "--jobs", &slots, "--joblog", &record, JOB];
        let done = output("parallel", &arguments, numbers.as_bytes())?;
        ensure!(done.status.success(), "parallel: {}\n{}", done.status, words(&done));
        Ok(())
    }

    fn submit(&mut self) -> anyhow::Result<()> {
        bail!("GNU parallel has no queue")
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn take_finished(&mut self) -> anyhow::Result<u32> {
        let record = self.record();
        let text = fs::read_to_string(&record).with_context(|| format!("cannot read {record}"))?;
        // Seq, Host, Starttime, JobRuntime, Send, Receive, Exitval, Signal, Command.
        let ended_well = |line: &&str| line.split('\t').skip(6).take(2).eq(["0", "0"]);
        Ok(u32::try_from(text.lines().filter(ended_well).count())?)
    }

    fn units(&self) -> &'static [&'static str] {
        &[]
    }

    fn shrinks(&self) -> u32 {
        4
    }

    fn has_queue(&self) -> bool {
        false
    }
}
