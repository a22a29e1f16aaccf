//! What a node is told of a run: the plan, the image and the grant put together.

use std::collections::BTreeMap;

use api::run::{Destination, JobFile, JobSpec, Mount, RunId, RunSpec, RunUser, Source, Work};
use document::plan::{self, JobPlan, Planned, StoredFile};

use super::{Flow, Surroundings};
use crate::{
    images::JobImage,
    store::{Grant, RunRow},
};

/// Processes and threads of a job: generous for OpenMP and JVMs, far below what a node can have.
const MAX_PIDS: u32 = 16_384;

/// Where the script of a job is in its container.
pub(crate) const SCRIPT_PATH: &str = "/run/bedplate/script";

/// `PATH` where neither image nor plan sets one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Flow {
    /// The order for a run; `None` if it is none of this workflow, or its image is not known.
    pub(super) fn spec(&self, run: RunId, surroundings: &Surroundings) -> Option<RunSpec> {
        let row = &self.runs.get(&run)?.row;
        let stage = &self.plan.stages[row.stage as usize];
        let work = match &stage.work {
            Planned::Image { .. } | Planned::Unknown { .. } => return None,
            Planned::Volume { volume } => Work::Volume { volume: volume.clone() },
            Planned::Ingress { volume, path, source } => {
                let source = match source {
                    plan::Source::Http { url } => Source::Http { url: url.clone() },
                    &plan::Source::File(StoredFile { digest, size }) => Source::Artifact { digest, size },
                };
                Work::Ingress { volume: volume.clone(), path: path.clone(), source }
            }
            Planned::Egress { volume, path, destination } => {
                let destination = match destination {
                    plan::Destination::Http { url } => Destination::Http { url: url.clone() },
                    plan::Destination::Local { .. } => Destination::Client {},
                };
                Work::Egress { volume: volume.clone(), path: path.clone(), destination }
            }
            Planned::Job(job) => {
                let image = self.stages[job.image as usize].image.as_ref()?;
                Work::Job(Box::new(self.job_spec(job, image, row)?))
            }
        };
        let owner = &self.row.owner;
        Some(RunSpec {
            run,
            workflow: self.row.id,
            subject: self.subject(run),
            user: RunUser {
                name: owner.name.clone(),
                uid: owner.uid,
                gid: owner.gid,
                groups: owner.groups.clone(),
            },
            work,
            timeout_seconds: stage.timeout_seconds,
            forbidden: surroundings.forbidden.clone(),
        })
    }

    fn job_spec(&self, job: &JobPlan, image: &JobImage, row: &RunRow) -> Option<JobSpec> {
        let Grant { cpus, memory, devices, .. } = row.grant.clone()?;
        let env = self.environment(job, image, row);
        let lookup = |name: &str| env.get(name).cloned();
        let expand =
            |words: &[String]| words.iter().map(|word| document::expand(word, lookup)).collect::<Vec<_>>();
        let mut files = Vec::new();
        let mut command = match job.script {
            Some(StoredFile { digest, size }) => {
                files.push(JobFile { path: SCRIPT_PATH.to_owned(), digest, size, executable: true });
                vec![SCRIPT_PATH.to_owned()]
            }
            None => expand(&job.command),
        };
        command.extend(expand(&job.args));
        if job.script.is_none() && job.command.is_empty() {
            let mut own = image.run.entrypoint.clone();
            own.extend(if job.args.is_empty() { image.run.cmd.clone() } else { Vec::new() });
            own.append(&mut command);
            command = own;
        }
        for file in &job.files {
            let StoredFile { digest, size } = file.contents;
            files.push(JobFile { path: file.path.clone(), digest, size, executable: false });
        }
        // The planner knows them as text; what a node offers is a name.
        let devices = devices.iter().map(|name| name.parse().ok()).collect::<Option<Vec<_>>>()?;
        let cwd = job.cwd.clone().or_else(|| image.run.working_dir.clone());
        Some(JobSpec {
            image: image.root.digest,
            image_size: image.root.size,
            command,
            env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            cwd: cwd.unwrap_or_else(|| "/".to_owned()),
            hostname: self.plan.stages[row.stage as usize].name.clone(),
            mounts: job
                .mounts
                .iter()
                .map(|mount| Mount { volume: mount.volume.clone(), location: mount.location.clone() })
                .collect(),
            files,
            cpus,
            mems: memory.iter().map(|(numa, _)| *numa).collect(),
            memory_bytes: memory.iter().map(|(_, bytes)| bytes).sum(),
            pids: MAX_PIDS,
            devices,
            isolated_network: job.isolated,
        })
    }

    /// Image, plan and ours; later ones win.
    fn environment(&self, job: &JobPlan, image: &JobImage, row: &RunRow) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        let of_image = image.run.env.iter().filter_map(|pair| pair.split_once('='));
        env.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
        env.extend(job.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        let stage = &self.plan.stages[row.stage as usize];
        let mut ours = |name: &str, value: String| env.insert(name.to_owned(), value);
        ours("FB_WORKFLOW_ID", self.row.id.to_string());
        ours("FB_JOB_NAME", stage.name.clone());
        ours("FB_ACCOUNT_ID", self.row.owner.name.clone());
        if stage.tasks.first.is_some() {
            ours("FB_TASK_ID", row.task.to_string());
        }
        env
    }
}
