//! From a document to stages: images, volumes, transfers and jobs, and which waits for which.
//!
//! | stage | waits for |
//! |---|---|
//! | image, one for each reference | nothing |
//! | volume | nothing |
//! | file into a volume | the volume |
//! | job | its image, its volumes with all that goes into them, the jobs that it depends on |
//! | file out of a volume | the volume, and all jobs that mount it |
//!
//! Volumes that one job mounts together are a *group*: they are on one node, and so are all jobs
//! that mount one of them.
//!
//! The order of stages is what rows of running workflows are read by: for a document that was
//! accepted before plans were stored it must never change (`plan/tests/accepted`).

use std::collections::BTreeMap;

use super::{
    AffinityPlan, Dependency, Destination, FileKey, FilePlan, JobPlan, MountPlan, Plan, PlanError,
    ResourcePlan, Source, StageAction, StageId, StagePlan, StoredFile, StoredFiles, Tasks,
};
use crate::{DEFAULT_TIMEOUT_SECONDS, Job, JobDependency, TaskArray, Workflow, workflow};

/// See [`Plan::of`].
pub(super) fn build(workflow: &Workflow, files: &StoredFiles) -> Result<Plan, PlanError> {
    let mut builder = Builder {
        workflow,
        files,
        volumes: by_name(workflow.volumes.iter().map(|volume| volume.name.as_str())),
        jobs: by_name(workflow.jobs.iter().map(|job| job.name.as_str())),
        groups: Groups::default(),
        stages: Vec::new(),
    };
    builder.groups = builder.groups();
    let images = builder.add_images();
    let volumes = builder.add_volumes();
    let filled = builder.add_ingress(&volumes)?;
    let first_job = builder.next();
    builder.add_jobs(&images, &filled)?;
    builder.add_egress(&volumes, first_job);
    Ok(Plan { groups: builder.groups.count, stages: builder.stages })
}

fn by_name<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    names.enumerate().map(|(number, name)| (name, number)).collect()
}

struct Builder<'a> {
    workflow: &'a Workflow,
    files: &'a StoredFiles,
    /// Number of a volume in the document.
    volumes: BTreeMap<&'a str, usize>,
    /// Number of a job in the document.
    jobs: BTreeMap<&'a str, usize>,
    groups: Groups,
    stages: Vec<StagePlan>,
}

/// Volumes of a document in groups: those that one job mounts together.
#[derive(Default)]
struct Groups {
    /// Of each volume, in the order of the document.
    of: Vec<usize>,
    count: usize,
}

/// Volumes that are joined to groups, as a forest: many volumes and many jobs cost no
/// more than they are.
struct VolumeSets {
    /// The next volume on the way to the root of its group.
    parents: Vec<usize>,
    /// Volumes of the group, at its root.
    sizes: Vec<usize>,
    /// Name of the group, at its root: one of its volumes.
    names: Vec<usize>,
}

impl Plan {
    /// Gives a size, bytes, to volumes of which the document says none.
    pub fn limit_volumes(&mut self, default: u64) {
        for stage in &mut self.stages {
            if let StageAction::Volume { size_bytes, .. } = &mut stage.work {
                size_bytes.get_or_insert(default);
            }
        }
    }
}

impl VolumeSets {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect(), sizes: vec![1; count], names: (0..count).collect() }
    }

    fn root(&mut self, mut volume: usize) -> usize {
        while self.parents[volume] != volume {
            self.parents[volume] = self.parents[self.parents[volume]];
            volume = self.parents[volume];
        }
        volume
    }

    /// Makes one group of two, which has the name of the first one: plans that are
    /// stored depend on it.
    fn join(&mut self, first: usize, other: usize) {
        let (first, other) = (self.root(first), self.root(other));
        if first == other {
            return;
        }
        let name = self.names[first];
        let (large, small) =
            if self.sizes[first] < self.sizes[other] { (other, first) } else { (first, other) };
        self.parents[small] = large;
        self.sizes[large] += self.sizes[small];
        self.names[large] = name;
    }

    fn name(&mut self, volume: usize) -> usize {
        let root = self.root(volume);
        self.names[root]
    }
}

impl<'a> Builder<'a> {
    fn groups(&self) -> Groups {
        let mut joined = VolumeSets::new(self.workflow.volumes.len());
        for job in &self.workflow.jobs {
            let mut mounted = self.mounted(job);
            let Some(first) = mounted.next() else { continue };
            mounted.for_each(|other| joined.join(first, other));
        }
        let of: Vec<usize> =
            (0..self.workflow.volumes.len()).map(|volume| joined.name(volume)).collect();
        let mut names: Vec<usize> = of.clone();
        names.sort_unstable();
        names.dedup();
        let number = |group: usize| names.binary_search(&group).unwrap_or(0);
        Groups { of: of.into_iter().map(number).collect(), count: names.len() }
    }

    /// Numbers of the volumes that a job mounts.
    fn mounted(&self, job: &'a Job) -> impl Iterator<Item = usize> {
        job.mounts.iter().filter_map(|mount| self.volumes.get(mount.volume.as_str()).copied())
    }

    /// One stage for each image, in the order of first use.
    fn add_images(&mut self) -> BTreeMap<&'a str, StageId> {
        let mut images = BTreeMap::new();
        for job in &self.workflow.jobs {
            if !images.contains_key(job.image.as_str()) {
                let work = StageAction::Image { reference: job.image.clone() };
                let index = self.push(format!("docker://{}", job.image), Vec::new(), None, work);
                images.insert(job.image.as_str(), index);
            }
        }
        images
    }

    fn add_volumes(&mut self) -> Vec<StageId> {
        let mut stages = Vec::with_capacity(self.workflow.volumes.len());
        for (number, volume) in self.workflow.volumes.iter().enumerate() {
            let work =
                StageAction::Volume { volume: volume.name.clone(), size_bytes: volume.size_bytes };
            let group = Some(self.groups.of[number]);
            stages.push(self.push(volume.name.clone(), Vec::new(), group, work));
        }
        stages
    }

    /// Of each volume: itself and all that goes into it.
    fn add_ingress(&mut self, volumes: &[StageId]) -> Result<Vec<Vec<StageId>>, PlanError> {
        let mut filled = Vec::with_capacity(volumes.len());
        for (number, volume) in self.workflow.volumes.iter().enumerate() {
            let mut stages = vec![volumes[number]];
            for ingress in &volume.ingress {
                let source = match &ingress.source {
                    workflow::Source::Http { url } => Source::Http { url: url.clone() },
                    workflow::Source::File { name } => {
                        Source::File(self.stored(FileKey::Named(name.clone()))?)
                    }
                };
                let (volume, path) = (volume.name.clone(), ingress.path.clone());
                let name = format!("{volume}/{path}");
                let work = StageAction::Ingress { volume, path, source };
                let after = vec![Dependency::finished(volumes[number])];
                let index = self.push(name, after, Some(self.groups.of[number]), work);
                let stage = &mut self.stages[index];
                (stage.retries, stage.timeout_seconds) = (ingress.retries, ingress.timeout_seconds);
                stages.push(index);
            }
            filled.push(stages);
        }
        Ok(filled)
    }

    fn add_jobs(
        &mut self,
        images: &BTreeMap<&str, StageId>,
        filled: &[Vec<StageId>],
    ) -> Result<(), PlanError> {
        let first_job = self.next();
        for job in &self.workflow.jobs {
            let image = images[job.image.as_str()];
            let volumes: Vec<usize> = self.mounted(job).collect();
            let mut after = vec![Dependency::finished(image)];
            let filled = volumes.iter().flat_map(|&volume| &filled[volume]);
            after.extend(filled.map(|stage| Dependency::finished(*stage)));
            after.extend(job.depends_on.iter().filter_map(|JobDependency { name, until }| {
                let number = *self.jobs.get(name.as_str())?;
                Some(Dependency { stage: StageId(first_job.0 + count(number)), until: *until })
            }));
            after.sort_unstable();
            after.dedup();
            let group = volumes.first().map(|&volume| self.groups.of[volume]);
            let work = StageAction::Job(Box::new(self.job(job, image)?));
            let index = self.push(job.name.clone(), after, group, work);
            let stage = &mut self.stages[index];
            (stage.retries, stage.timeout_seconds) = (job.retries, job.timeout_seconds);
            stage.tasks = job.task_array.map(tasks).unwrap_or_default();
        }
        Ok(())
    }

    fn job(&self, job: &Job, image: StageId) -> Result<JobPlan, PlanError> {
        let script = job.script.as_ref();
        let script =
            script.map(|_| self.stored(FileKey::Script { job: job.name.clone() })).transpose()?;
        let file = |(path, _): &(String, String)| {
            let contents =
                self.stored(FileKey::OfJob { job: job.name.clone(), path: path.clone() })?;
            Ok(FilePlan { path: path.clone(), contents })
        };
        let mounts = job.mounts.iter().map(|mount| {
            let workflow::Mount { volume, location } = mount.clone();
            MountPlan { volume, location }
        });
        Ok(JobPlan {
            image,
            command: job.command.clone(),
            args: job.args.clone(),
            script,
            env: job.env.iter().cloned().collect(),
            cwd: job.cwd.clone(),
            mounts: mounts.collect(),
            files: job.files.iter().map(file).collect::<Result<_, PlanError>>()?,
            isolated: job.isolated,
            resource: (&job.resource).into(),
        })
    }

    fn add_egress(&mut self, volumes: &[StageId], first_job: StageId) {
        // Jobs that mount a volume, in the order of the document.
        let mut mounting: Vec<Vec<StageId>> = volumes.iter().map(|&volume| vec![volume]).collect();
        for (number, job) in self.workflow.jobs.iter().enumerate() {
            let stage = StageId(first_job.0 + count(number));
            for volume in self.mounted(job) {
                if mounting[volume].last() != Some(&stage) {
                    mounting[volume].push(stage);
                }
            }
        }
        for (number, volume) in self.workflow.volumes.iter().enumerate() {
            for egress in &volume.egress {
                let destination = match egress.destination.clone() {
                    workflow::Destination::Http { url } => Destination::Http { url },
                    workflow::Destination::Local { path } => Destination::Local { path },
                };
                let (volume, path) = (volume.name.clone(), egress.path.clone());
                let name = format!("{volume}/{path}");
                let work = StageAction::Egress { volume, path, destination };
                let group = Some(self.groups.of[number]);
                let after = mounting[number].iter().map(|stage| Dependency::finished(*stage));
                let index = self.push(name, after.collect(), group, work);
                let stage = &mut self.stages[index];
                (stage.retries, stage.timeout_seconds) = (egress.retries, egress.timeout_seconds);
            }
        }
    }

    fn stored(&self, key: FileKey) -> Result<StoredFile, PlanError> {
        self.files.get(&key).copied().ok_or(PlanError::FileMissing(key))
    }

    fn next(&self) -> StageId {
        StageId::of_index(self.stages.len())
    }

    fn push(
        &mut self,
        name: String,
        after: Vec<Dependency>,
        group: Option<usize>,
        work: StageAction,
    ) -> StageId {
        let index = self.next();
        let (retries, timeout_seconds) = (0, DEFAULT_TIMEOUT_SECONDS);
        self.stages.push(StagePlan {
            name,
            after,
            group,
            retries,
            timeout_seconds,
            tasks: Tasks::default(),
            members: 1,
            work,
        });
        index
    }
}

fn tasks(array: TaskArray) -> Tasks {
    // The document's bounds were held in order, and to what fits in 32 bits.
    let count = array.end.saturating_sub(array.start).saturating_add(1);
    Tasks { first: Some(array.start), count, concurrency: array.concurrency.unwrap_or(count) }
}

impl From<&workflow::Resource> for ResourcePlan {
    fn from(resource: &workflow::Resource) -> Self {
        let resource = resource.clone();
        let workflow::Resource { cores, affinity, threads, memory_bytes, memory_by_core, .. } =
            resource;
        let workflow::Resource { devices, labels, exclusive, .. } = resource;
        let affinity = match affinity {
            workflow::Affinity::Core => AffinityPlan::Core,
            workflow::Affinity::Socket => AffinityPlan::Socket,
            workflow::Affinity::Numa => AffinityPlan::Numa,
        };
        Self { cores, affinity, threads, memory_bytes, memory_by_core, devices, labels, exclusive }
    }
}

/// A document has far fewer than 2^32 of anything.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
