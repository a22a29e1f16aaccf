//! What a node is told of a run: the plan, the image and the grant put together.

use std::{cell::Cell, collections::BTreeMap};

use api::run::{Destination, JobFile, JobSpec, Mount, RunId, RunSpec, RunUser, Source, Work};
use document::{
    plan::{self, JobPlan, StageAction, StoredFile},
    words,
};
use image_catalog::JobImage;
use image_store::RunConfig;

use super::{Surroundings, WorkflowState, attempt::Attempt, workflow_state::Run};
use crate::record::Grant;

/// Processes and threads of a job: generous for OpenMP and JVMs, far below what a node can have.
const MAX_PIDS: u32 = 16_384;

/// Where the script of a job is in its container.
pub(crate) const SCRIPT_PATH: &str = "/run/bedplate/script";

/// Bytes that values put into a job's command and environment may come to: more than the kernel
/// takes as both (a quarter of the limit of the stack, execve(2)). Past it nothing is put in.
const MAX_PUT_IN_BYTES: usize = 4 << 20;

/// `PATH` where neither image nor plan sets one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl WorkflowState {
    /// The order for a run; `None` if it is none of this workflow, or its image is not known.
    pub(super) fn spec(&self, id: RunId, surroundings: &Surroundings) -> Option<RunSpec> {
        let run = self.runs.get(&id)?;
        let stage = &self.plan.stages[run.stage];
        let work = match &stage.work {
            StageAction::Image { .. } | StageAction::Unknown { .. } => return None,
            StageAction::Volume { volume, size_bytes } => {
                Work::Volume { volume: volume.clone(), limit_bytes: *size_bytes }
            }
            StageAction::Ingress { volume, path, source } => {
                let source = match source {
                    plan::Source::Http { url } => Source::Http { url: url.clone() },
                    &plan::Source::File(StoredFile { digest, size }) => {
                        Source::Artifact { digest, size }
                    }
                };
                Work::Ingress { volume: volume.clone(), path: path.clone(), source }
            }
            StageAction::Egress { volume, path, destination } => {
                let destination = match destination {
                    plan::Destination::Http { url } => Destination::Http { url: url.clone() },
                    plan::Destination::Local { .. } => {
                        Destination::Client { takes_directories: true }
                    }
                };
                Work::Egress { volume: volume.clone(), path: path.clone(), destination }
            }
            StageAction::Job(job) => {
                let image = self.stages[job.image].image.as_ref()?;
                let log_limit_bytes = surroundings.log_limit_bytes;
                Work::Job(Box::new(JobSpec { log_limit_bytes, ..self.job_spec(job, image, run)? }))
            }
        };
        let forbidden = match &work {
            Work::Ingress { .. } | Work::Egress { .. } => &surroundings.transfers_forbidden,
            Work::Volume { .. } | Work::Job(_) | Work::Unknown => &surroundings.forbidden,
        };
        let owner = &self.owner;
        Some(RunSpec {
            run: id,
            workflow: self.id,
            subject: self.subject(id),
            user: RunUser {
                name: owner.name.clone(),
                uid: owner.uid,
                gid: owner.gid,
                groups: owner.groups.clone(),
            },
            work,
            timeout_seconds: stage.timeout_seconds,
            forbidden: forbidden.clone(),
            awaits_release: self.attempt_of(run).is_some_and(Attempt::has_barrier),
        })
    }

    fn job_spec(&self, job: &JobPlan, image: &JobImage, run: &Run) -> Option<JobSpec> {
        let Grant { cpus, memory, devices, .. } = run.grant.as_deref().cloned()?;
        let env = self.environment(job, image, run);
        let budget = Budget::default();
        let known = |name: &str| env.get(name).filter(|_| is_included(job, name));
        let (command, program_words) = command(job, &image.run, |name| budget.take(known(name)));
        let mut files = Vec::new();
        if let Some(StoredFile { digest, size }) = job.script {
            files.push(JobFile { path: SCRIPT_PATH.to_owned(), digest, size, executable: true });
        }
        for file in &job.files {
            let StoredFile { digest, size } = file.contents;
            files.push(JobFile { path: file.path.clone(), digest, size, executable: false });
        }
        // The planner knows them as text; what a node offers is a name.
        let devices = devices.iter().map(|name| name.parse().ok()).collect::<Option<Vec<_>>>()?;
        let of_image = image.run.working_dir.as_deref().map(absolute);
        Some(JobSpec {
            image: image.root.digest,
            image_size: image.root.size,
            command,
            program_words,
            sets_home: job.env.contains_key("HOME"),
            env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            makes_cwd: job.cwd.is_none() && of_image.is_some(),
            cwd: job.cwd.clone().or(of_image).unwrap_or_else(|| "/".to_owned()),
            hostname: host_name(&self.plan.stages[run.stage].name),
            mounts: job
                .mounts
                .iter()
                .map(|mount| Mount {
                    volume: mount.volume.clone(),
                    location: mount.location.clone(),
                })
                .collect(),
            files,
            cpus,
            mems: memory.iter().map(|(numa, _)| *numa).collect(),
            memory_bytes: memory.iter().map(|(_, bytes)| bytes).sum(),
            pids: MAX_PIDS,
            devices,
            isolated_network: job.isolated,
            log_limit_bytes: None,
            log_times: true,
        })
    }

    /// Image, plan and ours; later ones win. In values of the plan stand those of the others.
    fn environment(&self, job: &JobPlan, image: &JobImage, run: &Run) -> BTreeMap<String, String> {
        let stage = &self.plan.stages[run.stage];
        let mut ours = BTreeMap::from([
            ("FB_WORKFLOW_ID".to_owned(), self.id.to_string()),
            ("FB_JOB_NAME".to_owned(), stage.name.clone()),
            ("FB_ACCOUNT_ID".to_owned(), self.owner.name.clone()),
        ]);
        if stage.tasks.first.is_some() {
            ours.insert("FB_TASK_ID".to_owned(), stage.tasks.number(run.task).to_string());
        }
        let mut env = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        let of_image = image.run.env.iter().filter_map(|pair| pair.split_once('='));
        env.extend(of_image.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let budget = Budget::default();
        let known = |name: &str| env.get(name).filter(|_| is_included(job, name));
        let lookup = |name: &str| budget.take(ours.get(name).or_else(|| known(name)));
        let expand = |value: &String| document::expand_known(value, lookup);
        let of_plan: Vec<_> =
            job.env.iter().map(|(name, value)| (name.clone(), expand(value))).collect();
        env.extend(of_plan);
        env.append(&mut ours);
        env
    }
}

/// Whether a name of the environment is put in here. The agent chooses `HOME` unless the document
/// does: what the image says of it need not be what the job gets.
fn is_included(job: &JobPlan, name: &str) -> bool {
    name != "HOME" || job.env.contains_key(name)
}

/// Program and arguments, and the words that the program is if the image has none of exactly its
/// name: where it is the only item of the list that it stands in, whoever wrote the list.
fn command(
    job: &JobPlan,
    image: &RunConfig,
    lookup: impl Fn(&str) -> Option<String>,
) -> (Vec<String>, Vec<String>) {
    let expand = |list: &[String]| {
        list.iter().map(|word| document::expand(word, &lookup)).collect::<Vec<_>>()
    };
    let args = expand(&job.args);
    if job.script.is_some() {
        return ([vec![SCRIPT_PATH.to_owned()], args].concat(), Vec::new());
    }
    let split = |list: &[String]| match list {
        [text] if words::has_blanks(text) => words::split(text).unwrap_or_default(),
        _ => Vec::new(),
    };
    if !job.command.is_empty() {
        return ([expand(&job.command), args].concat(), expand(&split(&job.command)));
    }
    if image.entrypoint.is_empty() && !args.is_empty() {
        return (args, expand(&split(&job.args)));
    }
    // What an image says is not the document's: nothing is put in.
    let (program, rest) = match image.entrypoint.is_empty() {
        true => (&image.cmd, Vec::new()),
        false => (&image.entrypoint, if args.is_empty() { image.cmd.clone() } else { args }),
    };
    let words = split(program).into_iter().map(|word| word.replace("$$", "$"));
    ([program.clone(), rest].concat(), words.collect())
}

/// Bytes that may still be put in.
#[derive(Debug)]
struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Cell::new(MAX_PUT_IN_BYTES))
    }
}

impl Budget {
    fn take(&self, value: Option<&String>) -> Option<String> {
        let value = value?;
        self.0.set(self.0.get().checked_sub(value.len())?);
        Some(value.clone())
    }
}

/// The working directory of an image as runc takes it: from the root, without `.` and `..`.
fn absolute(working_dir: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in working_dir.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A host name (RFC 1123 label) for a job: its name may have `_` and `.`.
fn host_name(job: &str) -> String {
    let name: String = job.chars().map(|c| if matches!(c, '_' | '.') { '-' } else { c }).collect();
    match name.trim_matches('-') {
        "" => "job".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// `command`, `args`, entrypoint and default command of the image.
    fn of(parts: [&[&str]; 4]) -> (Vec<String>, Vec<String>) {
        let [own, args, entrypoint, cmd] = parts.map(list);
        let job = JobPlan { command: own, args, ..JobPlan::default() };
        let image = RunConfig { entrypoint, cmd, ..RunConfig::default() };
        command(&job, &image, |name| (name == "A").then(|| "one two".to_owned()))
    }

    #[test]
    fn a_program_that_is_one_text_is_words_too() {
        for (parts, command, words) in [
            (
                [&["ncl $A '$A'"][..], &["-x $A"], &["e"], &["c"]],
                &["ncl one two 'one two'", "-x one two"][..],
                &["ncl", "one two", "$A"][..],
            ),
            ([&["ncl", "a b"], &[], &[], &[]], &["ncl", "a b"], &[]),
            ([&["ncl"], &["a b"], &[], &[]], &["ncl", "a b"], &[]),
            ([&["it's me"], &[], &[], &[]], &["it's me"], &[]),
            ([&[], &["a b"], &["e f"], &["c"]], &["e f", "a b"], &["e", "f"]),
            ([&[], &["a $A"], &[], &["c"]], &["a one two"], &["a", "one two"]),
            ([&[], &[], &["e"], &["c d"]], &["e", "c d"], &[]),
            ([&[], &[], &[], &["c $A '$$'"]], &["c $A '$$'"], &["c", "$A", "$$"]),
            ([&[], &[], &[], &[]], &[], &[]),
        ] {
            assert_eq!(of(parts), (list(command), list(words)), "{parts:?}");
        }
        let script = Some(StoredFile { digest: api::ids::Digest([1; 32]), size: 1 });
        let job = JobPlan { script, args: list(&["a b"]), ..JobPlan::default() };
        let expected = (list(&[SCRIPT_PATH, "a b"]), Vec::new());
        assert_eq!(command(&job, &RunConfig::default(), |_| None), expected);
    }

    #[test]
    fn what_is_put_in_is_bounded() {
        let (budget, value) = (Budget::default(), "x".repeat(1 << 20));
        let taken = (0..9).filter_map(|_| budget.take(Some(&value))).count();
        assert_eq!(taken, 4);
    }

    #[test]
    fn the_working_directory_of_an_image_is_absolute() {
        for (given, expected) in [
            ("/run_dir", "/run_dir"),
            ("app/", "/app"),
            ("/a/./b/../c//", "/a/c"),
            ("../..", "/"),
            ("", "/"),
        ] {
            assert_eq!(absolute(given), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn every_name_of_a_job_makes_a_host_name(name in "[a-z0-9_.-]{1,63}") {
            prop_assert!(host_name(&name).parse::<api::ids::NodeName>().is_ok(), "{}", host_name(&name));
        }

        #[test]
        fn a_label_stays_as_it_is(name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            prop_assert_eq!(host_name(&name), name);
        }
    }
}
