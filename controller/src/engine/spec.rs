//! What a node is told of a run: the document, the image and the grant put together.

use std::collections::BTreeMap;

use api::run::{Destination, JobFile, JobSpec, Mount, RunId, RunSpec, RunUser, Source, Work};
use document::Job;

use super::{Flow, Surroundings};
use crate::{
    graph::Planned,
    images::JobImage,
    store::{Grant, RunRow},
};

/// Processes and threads of a job: generous for OpenMP and JVMs, far below what a node can have.
const MAX_PIDS: u32 = 16_384;

/// Where the script of a job is in its container.
pub(crate) const SCRIPT_PATH: &str = "/run/bedplate/script";

/// `PATH` where neither image nor document sets one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Flow {
    /// The order for a run; `None` if it is none of this workflow, or its image is not known.
    pub(super) fn spec(&self, run: RunId, surroundings: &Surroundings) -> Option<RunSpec> {
        let row = &self.runs.get(&run)?.row;
        let plan = &self.graph.stages[row.stage as usize];
        let work = match &plan.work {
            Planned::Image { .. } => return None,
            Planned::Volume { volume } => Work::Volume { volume: volume.clone() },
            Planned::Ingress { volume, path, source } => {
                let source = match source {
                    document::Source::Http { url } => Source::Http { url: url.clone() },
                    document::Source::File { name } => {
                        let &(digest, size) = self.inline.get(name)?;
                        Source::Artifact { digest, size }
                    }
                };
                Work::Ingress { volume: volume.clone(), path: path.clone(), source }
            }
            Planned::Egress { volume, path, destination } => {
                let destination = match destination {
                    document::Destination::Http { url } => Destination::Http { url: url.clone() },
                    document::Destination::Local { .. } => Destination::Client {},
                };
                Work::Egress { volume: volume.clone(), path: path.clone(), destination }
            }
            Planned::Job { job, image } => {
                let image = self.stages[*image as usize].image.as_ref()?;
                Work::Job(Box::new(self.job_spec(&self.document.jobs[*job], image, row)?))
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
            timeout_seconds: plan.timeout_seconds,
            forbidden: surroundings.forbidden.clone(),
        })
    }

    fn job_spec(&self, job: &Job, image: &JobImage, row: &RunRow) -> Option<JobSpec> {
        let Grant { cpus, memory, devices, .. } = row.grant.clone()?;
        let env = self.environment(job, image, row);
        let lookup = |name: &str| env.get(name).cloned();
        let expand =
            |words: &[String]| words.iter().map(|word| document::expand(word, lookup)).collect::<Vec<_>>();
        let mut files = Vec::new();
        let mut command = match &job.script {
            Some(_) => {
                let &(digest, size) = self.inline.get(&script_key(&job.name))?;
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
        for (path, _) in &job.files {
            let &(digest, size) = self.inline.get(&file_key(&job.name, path))?;
            files.push(JobFile { path: path.clone(), digest, size, executable: false });
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
            hostname: job.name.clone(),
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

    /// Image, document and ours; later ones win.
    fn environment(&self, job: &Job, image: &JobImage, row: &RunRow) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        let of_image = image.run.env.iter().filter_map(|pair| pair.split_once('='));
        env.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
        env.extend(job.env.iter().cloned());
        let mut ours = |name: &str, value: String| env.insert(name.to_owned(), value);
        ours("FB_WORKFLOW_ID", self.row.id.to_string());
        ours("FB_JOB_NAME", job.name.clone());
        ours("FB_ACCOUNT_ID", self.row.owner.name.clone());
        if job.task_array.is_some() {
            ours("FB_TASK_ID", row.task.to_string());
        }
        env
    }
}

/// Name of a job's script among the inline files.
pub(crate) fn script_key(job: &str) -> String {
    format!("job {job} script")
}

/// Name of a job's own file among the inline files.
pub(crate) fn file_key(job: &str, path: &str) -> String {
    format!("job {job} file {path}")
}
