//! From a document to stages: images, volumes, transfers and jobs, and which waits for which. Pure.
//!
//! | stage | waits for |
//! |---|---|
//! | image, one for each reference | nothing |
//! | volume | nothing |
//! | file into a volume | the volume |
//! | job | its image, its volumes with all that goes into them, the jobs that it depends on |
//! | file out of a volume | the volume, and all jobs that mount it |
//!
//! Volumes that one job mounts together are a *group*: they are on one node, and so are all jobs that mount one of them.

use std::collections::BTreeMap;

use api::workflow::StageKind;
use document::{Destination, Job, Source, Workflow};

/// The stages of a workflow: images, volumes and what goes into them, jobs in the order written, what goes out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graph {
    pub(crate) stages: Vec<StagePlan>,
    /// Count of groups of volumes.
    pub(crate) groups: usize,
}

/// A stage as the document alone makes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StagePlan {
    pub(crate) name: String,
    /// Stages that must have finished.
    pub(crate) after: Vec<u32>,
    /// Group of volumes that it needs.
    pub(crate) group: Option<usize>,
    pub(crate) work: Planned,
    /// Further attempts after a failed one.
    pub(crate) retries: u32,
    pub(crate) timeout_seconds: u64,
    pub(crate) tasks: Tasks,
}

/// The tasks of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// `FB_TASK_ID` of the first; `None` if it is no array.
    pub(crate) first: Option<u32>,
    pub(crate) count: u32,
    /// Most that run at once.
    pub(crate) concurrency: u32,
}

/// What a stage does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Planned {
    Image {
        reference: String,
    },
    Volume {
        volume: String,
    },
    Ingress {
        volume: String,
        path: String,
        source: Source,
    },
    Egress {
        volume: String,
        path: String,
        destination: Destination,
    },
    /// Number of the job in the document, and of the stage of its image.
    Job {
        job: usize,
        image: u32,
    },
}

impl Planned {
    pub(crate) fn kind(&self) -> StageKind {
        match self {
            Self::Image { .. } => StageKind::Image,
            Self::Volume { .. } => StageKind::Volume,
            Self::Ingress { .. } | Self::Egress { .. } => StageKind::File,
            Self::Job { .. } => StageKind::Job,
        }
    }
}

/// Volumes of a document in groups: those that one job mounts together.
struct Groups {
    /// Of each volume, in the order of the document.
    of: Vec<usize>,
    count: usize,
}

impl Groups {
    fn new(workflow: &Workflow) -> Self {
        let mut of: Vec<usize> = (0..workflow.volumes.len()).collect();
        let place = |name: &str| workflow.volumes.iter().position(|volume| volume.name == name);
        for job in &workflow.jobs {
            let mut mounted = job.mounts.iter().filter_map(|mount| place(&mount.volume));
            let Some(first) = mounted.next() else { continue };
            for other in mounted {
                let (from, to) = (of[other], of[first]);
                of.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
        let mut names: Vec<usize> = of.clone();
        names.sort_unstable();
        names.dedup();
        let number = |group: usize| names.binary_search(&group).unwrap_or(0);
        Self { of: of.into_iter().map(number).collect(), count: names.len() }
    }
}

impl Graph {
    /// The stages of a document.
    pub(crate) fn of(workflow: &Workflow) -> Self {
        let groups = Groups::new(workflow);
        let mut graph = Self { stages: Vec::new(), groups: groups.count };
        let images = graph.images(workflow);
        let volumes: Vec<u32> = (0..workflow.volumes.len())
            .map(|place| {
                let volume = workflow.volumes[place].name.clone();
                let work = Planned::Volume { volume: volume.clone() };
                graph.push(volume, Vec::new(), Some(groups.of[place]), work)
            })
            .collect();
        // Of each volume: itself and all that goes into it.
        let filled: Vec<Vec<u32>> =
            (0..volumes.len()).map(|place| graph.ingress(workflow, place, volumes[place], &groups)).collect();
        let first_job = graph.next();
        for (number, job) in workflow.jobs.iter().enumerate() {
            let image = images[job.image.as_str()];
            let mut after = vec![image];
            let mounted = |name: &str| workflow.volumes.iter().position(|volume| volume.name == name);
            let places: Vec<usize> = job.mounts.iter().filter_map(|mount| mounted(&mount.volume)).collect();
            after.extend(places.iter().flat_map(|&place| filled[place].iter().copied()));
            let place = |name: &String| workflow.jobs.iter().position(|job| job.name == *name);
            let jobs = job.depends_on.iter().filter_map(place);
            after.extend(jobs.map(|place| first_job + count(place)));
            after.sort_unstable();
            after.dedup();
            let group = places.first().map(|&place| groups.of[place]);
            let index = graph.push(job.name.clone(), after, group, Planned::Job { job: number, image });
            let plan = &mut graph.stages[index as usize];
            plan.retries = job.retries;
            plan.timeout_seconds = job.timeout_seconds;
            if let Some(array) = job.task_array {
                let count = array.end - array.start + 1;
                let concurrency = array.concurrency.unwrap_or(count);
                plan.tasks = Tasks { first: Some(array.start), count, concurrency };
            }
        }
        for (place, &volume) in volumes.iter().enumerate() {
            graph.egress(workflow, place, volume, first_job, &groups);
        }
        graph
    }

    /// One stage for each image.
    fn images(&mut self, workflow: &Workflow) -> BTreeMap<String, u32> {
        let mut images = BTreeMap::new();
        for job in &workflow.jobs {
            if !images.contains_key(&job.image) {
                let work = Planned::Image { reference: job.image.clone() };
                let index = self.push(format!("docker://{}", job.image), Vec::new(), None, work);
                images.insert(job.image.clone(), index);
            }
        }
        images
    }

    fn ingress(&mut self, workflow: &Workflow, place: usize, volume: u32, groups: &Groups) -> Vec<u32> {
        let mut filled = vec![volume];
        let name = &workflow.volumes[place].name;
        for ingress in &workflow.volumes[place].ingress {
            let work = Planned::Ingress {
                volume: name.clone(),
                path: ingress.path.clone(),
                source: ingress.source.clone(),
            };
            let label = format!("{name}/{}", ingress.path);
            let index = self.push(label, vec![volume], Some(groups.of[place]), work);
            let plan = &mut self.stages[index as usize];
            (plan.retries, plan.timeout_seconds) = (ingress.retries, ingress.timeout_seconds);
            filled.push(index);
        }
        filled
    }

    fn egress(&mut self, workflow: &Workflow, place: usize, volume: u32, first_job: u32, groups: &Groups) {
        let name = &workflow.volumes[place].name;
        let mounts = |job: &Job| job.mounts.iter().any(|mount| mount.volume == *name);
        let jobs = workflow.jobs.iter().enumerate().filter(|(_, job)| mounts(job));
        let mut after: Vec<u32> = jobs.map(|(number, _)| first_job + count(number)).collect();
        after.insert(0, volume);
        for egress in &workflow.volumes[place].egress {
            let work = Planned::Egress {
                volume: name.clone(),
                path: egress.path.clone(),
                destination: egress.destination.clone(),
            };
            let label = format!("{name}/{}", egress.path);
            let index = self.push(label, after.clone(), Some(groups.of[place]), work);
            let plan = &mut self.stages[index as usize];
            (plan.retries, plan.timeout_seconds) = (egress.retries, egress.timeout_seconds);
        }
    }

    fn next(&self) -> u32 {
        count(self.stages.len())
    }

    fn push(&mut self, name: String, after: Vec<u32>, group: Option<usize>, work: Planned) -> u32 {
        let index = self.next();
        self.stages.push(StagePlan {
            name,
            after,
            group,
            work,
            retries: 0,
            timeout_seconds: document::DEFAULT_TIMEOUT_SECONDS,
            tasks: Tasks { first: None, count: 1, concurrency: 1 },
        });
        index
    }
}

/// A document has far fewer than 2^32 of anything.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_diamond_with_data() {
        let text = "version: v4
volumes:
  in: { ingress: [{source: http://example.org/a, destination: file://a}] }
  out: { egress: [{source: file://b, destination: local:///tmp/b}] }
  apart: {}
jobs:
  d: { image: docker://busybox, command: [x], depends-on: [{name: b}, {name: c}], mounts: {/out: out} }
  a: { image: docker://busybox, command: [x], mounts: {/in: in, /out: out} }
  b: { image: docker://debian, command: [x], requires: [a], mounts: {/in: in} }
  c: { image: docker://busybox, command: [x], requires: [a], task-array: {start: 3, end: 5, concurrency: 2} }
";
        let graph = Graph::of(&document::parse(text).unwrap().workflow);
        let mut lines = String::new();
        for (index, plan) in graph.stages.iter().enumerate() {
            let group = plan.group.map(|group| format!(" group {group}")).unwrap_or_default();
            let tasks = match plan.tasks {
                Tasks { first: Some(first), count, concurrency } => {
                    format!(" {count} tasks from {first}, {concurrency} at once")
                }
                _ => String::new(),
            };
            let kind = plan.work.kind().as_str();
            lines += &format!("{index} {kind} {} after {:?}{group}{tasks}\n", plan.name, plan.after);
        }
        expect![[r#"
            0 image docker://busybox after []
            1 image docker://debian after []
            2 volume in after [] group 0
            3 volume out after [] group 0
            4 volume apart after [] group 1
            5 file in/a after [2] group 0
            6 job d after [0, 3, 8, 9] group 0
            7 job a after [0, 2, 3, 5] group 0
            8 job b after [1, 2, 5, 7] group 0
            9 job c after [0, 7] 3 tasks from 3, 2 at once
            10 file out/b after [3, 6, 7] group 0
        "#]]
        .assert_eq(&lines);
    }
}
