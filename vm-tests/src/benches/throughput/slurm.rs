//! Slurm of Debian 12, on one node, with settings that let it start jobs as soon as it can.

use std::{fs, time::Duration};

use anyhow::Context as _;

use super::systems::{BatchSystem, JOB, START_LIMIT, start_unit, stop_units, wait_for_command};
use crate::{clock, process::run};

const CONFIGURATION: &str = "/run/measure/slurm.conf";

const UNITS: [&str; 3] = ["measured-munged", "measured-slurmctld", "measured-slurmd"];

/// How long a batch may take.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Slurm.
#[derive(Debug, Default)]
pub(super) struct Slurm {
    starts: u32,
    counted: usize,
}

impl BatchSystem for Slurm {
    fn name(&self) -> &'static str {
        "Slurm"
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        self.counted = 0;
        let directory = format!("/state/slurm-{}", self.starts);
        for directory in
            [format!("{directory}/state"), format!("{directory}/spool"), "/run/measure".to_owned()]
        {
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {directory}"))?;
        }
        fs::write(CONFIGURATION, configuration(&directory))
            .with_context(|| format!("cannot write {CONFIGURATION}"))?;
        let munge = [
            "--property=User=munge",
            "--property=RuntimeDirectory=munge",
            "--property=RuntimeDirectoryMode=0755",
        ];
        start_unit(UNITS[0], &munge, &["/usr/sbin/munged", "--foreground"])?;
        wait_for_command("munged to answer", "munge", &["--no-input"])?;
        start_unit(UNITS[1], &[], &["/usr/sbin/slurmctld", "-D", "-f", CONFIGURATION])?;
        wait_for_command("slurmctld to answer", "env", &[&environment(), "scontrol", "ping"])?;
        start_unit(
            UNITS[2],
            &["--property=Delegate=yes"],
            &["/usr/sbin/slurmd", "-D", "-f", CONFIGURATION, "-N", "node"],
        )?;
        clock::wait_for("Slurm's node to be idle", START_LIMIT, || {
            Ok(slurm(&["sinfo", "--noheader", "--format=%T"])?.contains("idle").then_some(()))
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        stop_units(&UNITS)
    }

    fn run_array(&mut self, jobs: u32) -> anyhow::Result<()> {
        sbatch(&[&format!("--array=1-{jobs}")])?;
        self.wait()
    }

    fn submit(&mut self) -> anyhow::Result<()> {
        sbatch(&[])
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        clock::wait_for("Slurm's jobs to be over", LIMIT, || {
            Ok(slurm(&["squeue", "--noheader", "--states=PD,R,CG,CF"])?.is_empty().then_some(()))
        })
    }

    fn take_finished(&mut self) -> anyhow::Result<u32> {
        let all = slurm(&["squeue", "--noheader", "--array", "--states=CD", "--format=%i"])?
            .lines()
            .count();
        let since = all - self.counted;
        self.counted = all;
        Ok(u32::try_from(since)?)
    }

    fn units(&self) -> &'static [&'static str] {
        &UNITS
    }

    fn shrinks(&self) -> u32 {
        20
    }
}

fn environment() -> String {
    format!("SLURM_CONF={CONFIGURATION}")
}

fn slurm(command: &[&str]) -> anyhow::Result<String> {
    run("env", &[&[environment().as_str()], command].concat())
}

fn sbatch(options: &[&str]) -> anyhow::Result<()> {
    let common = [
        "sbatch",
        "--quiet",
        "--ntasks=1",
        "--output=/dev/null",
        "--error=/dev/null",
        "--wrap",
        JOB,
    ];
    slurm(&[&common[..1], options, &common[1..]].concat()).map(drop)
}

fn configuration(directory: &str) -> String {
    format!(
        "ClusterName=measured
SlurmctldHost=node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile=/run/measure/slurmctld.pid
SlurmdPidFile=/run/measure/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
MaxJobCount=20000
MinJobAge=86400
ReturnToService=2
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,default_queue_depth=10000,sched_max_job_start=0,bf_interval=1
NodeName=node NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=p Nodes=node Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"
    )
}
