//! Ready tasks are put on nodes: transfers and volumes where the volumes are, jobs where
//! the planner says.

use std::{collections::BTreeMap, sync::Arc};

use api::{
    ids::{NodeId, Timestamp},
    run::RunId,
    workflow::{EventKind, StageKind},
};
use document::plan::{AffinityPlan, ResourcePlan, StageAction, StageId, StagePlan, TaskId};
use planner::{Allowed, Placement, Request};

use super::{
    Effects, Engine, NodeFacts, View, WorkflowState, attempt::Attempt, task::RetryState,
    workflow_state::Run,
};
use crate::record::{Grant, VolumePlacement};

/// Runs that are placed in one pass: what is written to the database at once. The rest comes in the
/// next.
pub(super) const MAX_PLACED: usize = 8_192;

/// Volumes and transfers of one workflow under way at once: a node's disk and network are shared.
const MAX_TRANSFERS: usize = 8;

/// Different requests of one document that are looked at for how near they can be: the nodes are
/// gone through for each.
const MAX_SHAPES: usize = 100;

/// Jobs of one document that are told to be too large.
const MAX_TOO_LARGE: usize = 100;

/// Memory of a job that names none, bytes.
const DEFAULT_MEMORY_BYTES: u64 = 1 << 30;

/// A node as the planner sees it.
pub(super) fn node(facts: &NodeFacts) -> planner::Node {
    planner::Node {
        id: facts.id,
        name: facts.name.to_string(),
        labels: facts.labels.clone(),
        capacity: facts.capacity.clone(),
        unavailable: facts.unavailable(),
    }
}

/// When a run is over at the latest, in seconds: not known of one that stands still, or whose plan
/// cannot be read.
pub(super) fn ends(workflow_state: &WorkflowState, run: &Run) -> Option<i64> {
    let limit = workflow_state.plan.stages[run.stage].timeout_seconds;
    let begun = run.started.unwrap_or(run.placed).seconds();
    (limit > 0 && workflow_state.paused.is_none()).then(|| begun.saturating_add_unsigned(limit))
}

/// A grant as the planner sees it.
pub(super) fn placement(run: RunId, node: NodeId, grant: &Grant, ends: Option<i64>) -> Placement {
    Placement {
        run,
        node,
        cpus: grant.cpus.clone(),
        cores: grant.cores.clone(),
        memory: grant.memory.clone(),
        devices: grant.devices.clone(),
        exclusive: grant.exclusive,
        ends,
    }
}

/// A member of an attempt on its node.
struct PlacedMember {
    run: RunId,
    node: NodeId,
    grant: Option<Arc<Grant>>,
}

/// A task that begins.
pub(super) struct StartedTask {
    pub(super) sequence: u64,
    pub(super) stage: StageId,
    pub(super) task: TaskId,
    pub(super) retry: RetryState,
    /// One for each member.
    pub(super) placements: Vec<Placement>,
}

impl Engine {
    /// Puts what is ready where there is room. `true` if there was more than one pass takes.
    pub(super) fn schedule_all(&mut self, now: Timestamp) -> bool {
        for sequence in self.workflow_states.sequences() {
            self.schedule_transfers(sequence, now);
        }
        self.refresh_for_members();
        let begun = self.schedule_jobs(now);
        let is_full = begun.iter().map(|begun| begun.placements.len()).sum::<usize>() >= MAX_PLACED;
        for StartedTask { sequence, stage, task, retry, placements } in begun {
            let members = placements.into_iter().map(|placement| PlacedMember {
                run: placement.run,
                node: placement.node,
                grant: Some(Arc::new(Grant {
                    cpus: placement.cpus,
                    cores: placement.cores,
                    memory: placement.memory,
                    devices: placement.devices,
                    exclusive: placement.exclusive,
                })),
            });
            self.begin_attempt(sequence, stage, (task, retry), members.collect(), now);
        }
        is_full
    }

    /// Volumes and transfers need no cores; they go where the volumes are.
    fn schedule_transfers(&mut self, sequence: u64, now: Timestamp) {
        let Some(workflow_state) = self.workflow_states.get(sequence) else { return };
        let is_transfer = |stage: StageId| {
            matches!(
                workflow_state.plan.stages[stage].work.kind(),
                StageKind::Volume | StageKind::File
            )
        };
        let stages = StageId::first(workflow_state.stages.len());
        let under_way: usize = stages
            .clone()
            .filter(|&stage| is_transfer(stage))
            .map(|stage| workflow_state.stages[stage].tasks.running.size())
            .sum();
        let ready: Vec<(StageId, TaskId, RetryState)> = stages
            .filter(|&stage| is_transfer(stage) && workflow_state.may_begin(stage))
            .filter_map(|stage| {
                let book = &workflow_state.stages[stage].tasks;
                book.due(now).next().map(|(task, retry)| (stage, task, retry))
            })
            .take(MAX_TRANSFERS.saturating_sub(under_way))
            .collect();
        for (stage, task, retry) in ready {
            let Some(volume_placement) = self.volume_placement(sequence, stage, now) else {
                continue;
            };
            let member =
                PlacedMember { run: (self.new_run)(), node: volume_placement, grant: None };
            self.begin_attempt(sequence, stage, (task, retry), vec![member], now);
        }
    }

    /// The node of a stage's volumes, chosen when it is first asked for. `None` if
    /// there is none now.
    fn volume_placement(
        &mut self,
        sequence: u64,
        stage: StageId,
        now: Timestamp,
    ) -> Option<NodeId> {
        let workflow_state = self.workflow_states.get(sequence)?;
        let group = workflow_state.plan.stages[stage].group?;
        if let Some(volume_placement) = &workflow_state.volumes[group] {
            let can_begin = self
                .nodes
                .get(&volume_placement.node)
                .is_some_and(|node| node.facts.unavailable().is_none());
            return can_begin.then_some(volume_placement.node);
        }
        let (requests, cluster) = (workflow_state.requests_of_group(group), self.cluster.view());
        let fitting = |node: &&super::nodes::Node| {
            node.facts.unavailable().is_none()
                && requests
                    .iter()
                    .all(|request| cluster.fits(request, 1, Some(node.facts.id)).is_ok())
        };
        let free = |node: &&super::nodes::Node| self.cluster.free_cores(node.facts.id);
        let chosen = self.nodes.values().filter(fitting).max_by_key(free)?;
        let facts = chosen.facts.clone();
        let volume_placement =
            VolumePlacement { node: facts.id, name: facts.name, boot: facts.boot? };
        let mut effects = Effects::default();
        let workflow_state = self.workflow_states.get_mut(sequence)?;
        let message = format!("volumes go to {}", volume_placement.name);
        Arc::make_mut(&mut workflow_state.volumes)[group] = Some(volume_placement);
        workflow_state.event(&mut effects, now, EventKind::VolumeStorageInfo, Some(stage), message);
        workflow_state.save(&mut effects);
        self.take(effects);
        Some(facts.id)
    }

    /// Puts an attempt of a task on nodes: a run for each member.
    fn begin_attempt(
        &mut self,
        sequence: u64,
        stage: StageId,
        (task, retry): (TaskId, RetryState),
        members: Vec<PlacedMember>,
        now: Timestamp,
    ) {
        let Some(workflow_state) = self.workflow_states.get_mut(sequence) else { return };
        let mut effects = Effects::default();
        let runs: Vec<RunId> = members.iter().map(|member| member.run).collect();
        let attempt = Attempt::new(runs.clone(), retry, now);
        workflow_state.stages[stage].tasks.begin(task, attempt);
        workflow_state.begin_stage(&mut effects, stage, now);
        workflow_state.keep_attempt(&mut effects, stage, task);
        for (number, PlacedMember { run: id, node, grant }) in (0..).zip(members) {
            let Some(facts) = self.nodes.get(&node).map(|node| &node.facts) else { continue };
            let placed = (node, facts.name.clone());
            let run = Run::new(id, (stage, task), (retry.attempt, number), placed, now);
            let run = Run { boot: facts.boot.clone().unwrap_or_default(), grant, ..run };
            let message = granted(facts.name.as_str(), run.grant.as_deref());
            workflow_state.stages[stage].note_node(&facts.name);
            workflow_state.runs.insert_mut(id, run);
            workflow_state.save_run(&mut effects, id);
            let message = format!("{} {message}", workflow_state.subject(id));
            workflow_state.event(
                &mut effects,
                now,
                EventKind::ResourcesAllocated,
                Some(stage),
                message,
            );
            self.runs.insert(id, sequence);
        }
        self.take(effects);
        for run in runs {
            self.send_start(sequence, run);
        }
    }
}

impl View {
    /// Why a ready stage has tasks that wait.
    pub(super) fn why_not_placed(
        &self,
        workflow_state: &WorkflowState,
        stage: StageId,
        now: Timestamp,
    ) -> Vec<String> {
        let plan = &workflow_state.plan.stages[stage];
        let book = &workflow_state.stages[stage].tasks;
        let counts = book.counts();
        let mut reasons = Vec::new();
        for (node, runs) in self.silent_nodes(workflow_state, stage) {
            reasons.push(format!("{node} does not answer; {runs} of its tasks run there"));
        }
        reasons.extend(workflow_state.trouble(stage));
        reasons.extend(workflow_state.waits_for_members(stage));
        if counts.pending == 0 {
            return reasons;
        }
        if let Some(by) = &workflow_state.paused {
            reasons.push(format!("it is paused by {by}"));
            return reasons;
        }
        if let Some((task, retry)) = book.retries.iter().find(|(_, retry)| retry.retry_at > now) {
            let pause = retry.retry_at.seconds() - now.seconds();
            let task = plan.tasks.first.map(|_| format!(" of task {}", plan.tasks.number(*task)));
            let task = task.unwrap_or_default();
            reasons.push(format!("attempt {}{task} begins in {pause} s", retry.attempt));
        }
        if book.running.size() >= plan.tasks.concurrency as usize && plan.tasks.count > 1 {
            reasons.push(format!("its concurrency of {} is reached", plan.tasks.concurrency));
        } else if plan.work.kind() == StageKind::Job {
            if let Some(request) = workflow_state.request(stage, &self.for_members) {
                reasons.extend(self.cluster.why(&request, plan.members as usize));
            }
            if plan.members > 1 {
                reasons.extend(self.why_not_for_members());
            }
        } else if let Some(group) =
            plan.group.filter(|group| workflow_state.volumes[*group].is_none())
        {
            let requests = workflow_state.requests_of_group(group);
            let unfit =
                requests.iter().find_map(|request| self.cluster.fits(request, 1, None).err());
            reasons.push(match unfit {
                Some(unfit) => unfit.to_string(),
                None => "no node that is ready can run all jobs that mount its volumes".to_owned(),
            });
        } else {
            let volume_placement =
                plan.group.and_then(|group| workflow_state.volumes[group].as_ref());
            let node = volume_placement
                .and_then(|volume_placement| self.nodes.get(&volume_placement.node));
            let why = node
                .and_then(|node| node.facts.unavailable())
                .unwrap_or_else(|| "not ready".to_owned());
            reasons.push(format!("the node of its volumes is {why}"));
        }
        reasons
    }

    /// Nodes that run tasks of a stage and do not answer.
    fn silent_nodes(
        &self,
        workflow_state: &WorkflowState,
        stage: StageId,
    ) -> BTreeMap<String, usize> {
        let mut silent = BTreeMap::new();
        for run in
            workflow_state.runs.values().filter(|run| run.stage == stage && run.ended.is_none())
        {
            if !self.nodes.get(&run.node).is_some_and(|node| node.facts.is_ready) {
                *silent.entry(run.node_name.to_string()).or_default() += 1;
            }
        }
        silent
    }

    /// Why a request can begin on no node that is registered, if so. What a node has is known once
    /// it has reported its hardware; its labels are known before.
    fn why_never(&self, request: &Request) -> Option<String> {
        let is_unknown = |node: &super::nodes::Node| node.facts.capacity.cores.is_empty();
        let error = self.cluster.fits(request, 1, None).err()?;
        let has_labels = |node: &&super::nodes::Node| {
            request.labels.iter().all(|(key, value)| node.facts.labels.get(key) == Some(value))
        };
        let mut meant = self.nodes.values().filter(has_labels).peekable();
        // Where no node is registered nothing is known of any.
        let lacks_labels = meant.peek().is_none() && !self.nodes.is_empty();
        (lacks_labels || !meant.all(is_unknown)).then(|| error.to_string())
    }

    /// Why the cores of a request are not near to each other on any node that is known, if so.
    fn why_not_near(&self, request: &Request) -> Option<String> {
        let (count, node) = self.cluster.nearest(request).filter(|(count, _)| *count > 1)?;
        let (one, several) = match request.affinity {
            planner::Affinity::Socket => ("in one package", "packages"),
            planner::Affinity::Core | planner::Affinity::Numa => ("on one NUMA node", "NUMA nodes"),
        };
        let mib = request.memory_bytes.div_ceil(1 << 20);
        Some(format!(
            "no node that is known has {} cores and {mib} MiB of memory {one}: it is spread over {count} \
             {several}, as on {node}",
            request.cores
        ))
    }
}

/// What of a document is larger than every node that is known, by job.
pub(crate) fn too_large(view: &View, document: &document::Workflow) -> Vec<(usize, String)> {
    by_job(document, usize::MAX, |request| view.why_never(request)).take(MAX_TOO_LARGE).collect()
}

/// What of a document asks for cores near to each other and can be so near on no node that
/// is known, by job.
pub(crate) fn not_near(view: &View, document: &document::Workflow) -> Vec<(usize, String)> {
    by_job(document, MAX_SHAPES, |request| view.why_not_near(request)).collect()
}

/// What there is to say of the jobs of a document. Jobs that want the same are asked for once, at
/// most `most_shapes` times: the nodes are gone through for each.
fn by_job(
    document: &document::Workflow,
    most_shapes: usize,
    tell: impl Fn(&Request) -> Option<String>,
) -> impl Iterator<Item = (usize, String)> {
    let mut told_before: BTreeMap<_, Option<String>> = BTreeMap::new();
    document.jobs.iter().enumerate().filter_map(move |(index, job)| {
        let request = request(&(&job.resource).into(), job.timeout_seconds);
        let of_one = (request.cores, request.affinity, request.memory_bytes, request.exclusive);
        let shape = (of_one, request.devices.clone(), request.labels.clone());
        if told_before.len() >= most_shapes && !told_before.contains_key(&shape) {
            return None;
        }
        let told = told_before.entry(shape).or_insert_with(|| tell(&request));
        Some((index, told.clone()?))
    })
}

/// What a run got, for people.
fn granted(node: &str, grant: Option<&Grant>) -> String {
    let Some(grant) = grant else { return format!("goes to {node}") };
    let cpus: Vec<String> = grant.cpus.iter().map(u32::to_string).collect();
    let memory: u64 = grant.memory.iter().map(|(_, bytes)| bytes).sum();
    let devices: String = grant.devices.iter().map(|name| format!(", {name}")).collect();
    format!("goes to {node}, CPUs {}, {} MiB{devices}", cpus.join(","), memory >> 20)
}

impl WorkflowState {
    /// Nothing of it may begin.
    pub(super) fn is_held_back(&self) -> bool {
        self.stop.is_some() || self.paused.is_some() || self.blocked.is_some()
    }

    /// Ready, not over, neither to be stopped nor paused nor blocked.
    pub(super) fn may_begin(&self, stage: StageId) -> bool {
        let now = &self.stages[stage];
        now.is_ready && !now.state.is_ended() && !self.is_held_back()
    }

    /// What a member of one task of a job needs, on the node of its volumes if it mounts some.
    /// `for_members`: nodes for attempts of several members.
    pub(super) fn request(&self, stage: StageId, for_members: &Allowed) -> Option<Request> {
        let plan = &self.plan.stages[stage];
        let mut request = request_of(plan)?;
        if let Some(group) = plan.group {
            request.allowed = Allowed::Only(self.volumes[group].as_ref()?.node);
        } else if plan.members > 1 {
            request.allowed = for_members.clone();
        }
        Some(request)
    }

    /// What the jobs that mount volumes of a group need.
    fn requests_of_group(&self, group: usize) -> Vec<Request> {
        self.plan
            .stages
            .iter()
            .filter(|plan| plan.group == Some(group))
            .filter_map(request_of)
            .collect()
    }
}

/// What one task of a stage needs, if it is a job.
fn request_of(stage: &StagePlan) -> Option<Request> {
    let StageAction::Job(job) = &stage.work else { return None };
    Some(request(&job.resource, stage.timeout_seconds))
}

fn request(resource: &ResourcePlan, limit_seconds: u64) -> Request {
    let memory = resource.memory_bytes.unwrap_or(DEFAULT_MEMORY_BYTES);
    let by_core = if resource.memory_by_core { u64::from(resource.cores) } else { 1 };
    Request {
        cores: resource.cores,
        affinity: match resource.affinity {
            AffinityPlan::Core => planner::Affinity::Core,
            AffinityPlan::Socket => planner::Affinity::Socket,
            AffinityPlan::Numa => planner::Affinity::Numa,
        },
        threads: resource.threads,
        memory_bytes: memory.saturating_mul(by_core),
        devices: resource.devices.clone(),
        labels: resource.labels.clone(),
        exclusive: resource.exclusive,
        allowed: Allowed::Any,
        near: None,
        spread: false,
        limit_seconds: Some(limit_seconds),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn jobs_that_want_the_same_are_asked_for_once() {
        let job = |name: &str, cores: u32| {
            format!(
                "  {name}: {{image: docker://a, command: [b], \
                 resource: {{cpu: {{cores: {cores}}}, memory: {{size: 1MiB}}}}}}\n"
            )
        };
        let jobs = [job("a", 1), job("b", 2), job("c", 1), job("d", 3)].concat();
        let document = document::parse(&format!("version: v1\njobs:\n{jobs}")).unwrap().workflow;
        let asked = Cell::new(0);
        let ask = |most| {
            asked.set(0);
            let tell = |request: &Request| {
                asked.set(asked.get() + 1);
                Some(request.cores.to_string())
            };
            let told: Vec<_> = by_job(&document, most, tell).collect();
            (told.into_iter().map(|(index, _)| index).collect::<Vec<_>>(), asked.get())
        };
        assert_eq!(ask(10), (vec![0, 1, 2, 3], 3));
        assert_eq!(ask(2), (vec![0, 1, 2], 2), "no more are looked at");
    }
}
