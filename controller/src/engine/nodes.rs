//! Nodes as the engine sees them: what they have, whether they are there, and which
//! boot they are in.

use std::{collections::BTreeSet, sync::Arc};

use api::{
    channel::FromServer,
    ids::{NodeId, NodeName, Timestamp},
    labels::Labels,
    run::{RunId, WorkflowId},
    workflow::State,
};
use document::plan::StageId;
use rpds::RedBlackTreeMapSync;

use super::{Effects, Engine, LOST_AFTER_SECONDS, WorkflowState};
use crate::record::VolumePlacement;

/// What is known of a node now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeFacts {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    /// Its boot (`/proc/sys/kernel/random/boot_id`).
    pub(crate) boot: Option<String>,
    /// Its agent is connected and has sent its inventory.
    pub(crate) is_ready: bool,
    /// Why nothing new may begin on it.
    pub(crate) drained: Option<String>,
    /// What its agent says that it lacks for jobs.
    pub(crate) refuses: Option<String>,
    /// Two claim to be this node, and no admin has decided yet.
    pub(crate) in_conflict: bool,
    /// Its agent knows attempts of several members ([`api::channel::Capability::Attempts`]).
    /// Unknown while it is not connected: then it counts as what it was, and as one that does if it
    /// was never heard.
    pub(crate) knows_attempts: Option<bool>,
    /// Its labels.
    pub(crate) labels: Labels,
    /// What jobs may use of it.
    pub(crate) capacity: planner::Capacity,
}

impl NodeFacts {
    /// Its agent is known to know no attempts of several members.
    pub(super) fn is_of_before(&self) -> bool {
        self.knows_attempts == Some(false)
    }

    /// Why nothing can begin on it now.
    pub(super) fn unavailable(&self) -> Option<String> {
        if !self.is_ready {
            return Some("not ready".to_owned());
        }
        if self.in_conflict {
            return Some("in conflict (two claim to be it)".to_owned());
        }
        let drained = self.drained.as_ref().map(|reason| format!("drained ({reason})"));
        drained.or_else(|| self.refuses.as_ref().map(|reason| format!("refusing jobs ({reason})")))
    }
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) facts: NodeFacts,
    /// Since when it is not there.
    pub(super) away: Option<Timestamp>,
}

/// All nodes. Clones share them.
pub(super) type Nodes = RedBlackTreeMapSync<NodeId, Node>;

impl Engine {
    /// A node came, went, or changed.
    pub(crate) fn node_is(&mut self, mut facts: NodeFacts, now: Timestamp) {
        let id = facts.id;
        let before = self.nodes.get(&id);
        facts.knows_attempts = facts.knows_attempts.or_else(|| before?.facts.knows_attempts);
        if before.is_some_and(|before| before.facts == facts) {
            return;
        }
        let away = match (facts.is_ready, before.and_then(|before| before.away)) {
            (true, _) => None,
            (false, since) => Some(since.unwrap_or(now)),
        };
        let forgot_attempts = facts.is_ready && facts.is_of_before();
        let is_new_boot = before.is_some_and(|before| before.facts.boot != facts.boot);
        self.cluster.put_node(super::schedule::node(&facts));
        let boot = facts.boot.clone();
        self.nodes.insert_mut(id, Node { facts, away });
        self.stale = true;
        self.see_agent(id);
        if forgot_attempts {
            self.refuse_members(id, now);
        }
        if is_new_boot && let Some(boot) = boot {
            self.volumes_lost(id, &boot, now);
            self.abandon_logs_of_other_boots(id, &boot);
        }
    }

    /// A node was deleted.
    pub(crate) fn node_removed(&mut self, id: NodeId, now: Timestamp) {
        let Some(name) = self.nodes.get(&id).map(|node| node.facts.name.clone()) else { return };
        self.nodes.remove_mut(&id);
        self.give_up(id, &format!("{name} was deleted"), now);
        self.abandon_logs_of(id);
        self.cluster.remove_node(id);
        self.see_agent(id);
        self.stale = true;
    }

    /// Gives up what is on nodes that are not among these: they were deleted when nobody here was
    /// told, while the server was down.
    pub(crate) fn abandon_all_but(&mut self, known: &BTreeSet<NodeId>, now: Timestamp) {
        let used = self.workflow_states.values().flat_map(|workflow_state| {
            let runs = workflow_state.runs.values();
            // Volumes of what is over are nobody's.
            let volume_placements =
                workflow_state.volumes.iter().flatten().filter(|_| workflow_state.ended.is_none());
            runs.map(|run| run.node)
                .chain(volume_placements.map(|volume_placement| volume_placement.node))
        });
        let gone: BTreeSet<NodeId> = used.filter(|node| !known.contains(node)).collect();
        for id in gone {
            self.give_up(id, "its node was deleted", now);
            self.abandon_logs_of(id);
        }
    }

    /// Nodes known.
    pub(crate) fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Nodes that have not answered for too long.
    pub(super) fn abandon_nodes(&mut self, now: Timestamp) {
        let late = |node: &&Node| {
            node.away.is_some_and(|since| now >= since.plus_seconds(LOST_AFTER_SECONDS))
        };
        let late: Vec<(NodeId, NodeName)> = self
            .nodes
            .values()
            .filter(late)
            .map(|node| (node.facts.id, node.facts.name.clone()))
            .collect();
        for (id, name) in late {
            self.give_up(id, &format!("{name} has not answered for {LOST_AFTER_SECONDS} s"), now);
        }
    }

    /// All runs and volumes of a node are lost.
    fn give_up(&mut self, id: NodeId, why: &str, now: Timestamp) {
        let runs: Vec<RunId> = self
            .workflow_states
            .values()
            .flat_map(|workflow_state| workflow_state.runs.values())
            .filter(|run| run.node == id && run.ended.is_none())
            .map(|run| run.id)
            .collect();
        for run in runs {
            self.lose(run, why, false, now);
        }
        self.fail_volume_placements(now, |volume_placement| {
            (volume_placement.node == id).then(|| why.to_owned())
        });
    }

    /// The volumes of a node's earlier boots are gone with its memory. Where nothing was in them
    /// yet, they are made in this one.
    pub(super) fn volumes_lost(&mut self, id: NodeId, boot: &str, now: Timestamp) {
        // What is in the volumes of a blocked workflow is not known: their placement stays as
        // it is, and the first list of the node's runs after it is read again tells that the
        // boot is another.
        let is_lost = |volume_placement: &VolumePlacement| {
            volume_placement.node == id && volume_placement.boot != boot
        };
        let concerns = |workflow_state: &WorkflowState| {
            let goes_on = workflow_state.ended.is_none() && workflow_state.blocked.is_none();
            goes_on && workflow_state.volumes.iter().flatten().any(is_lost)
        };
        for sequence in self.workflow_states.sequences_where(concerns) {
            let Some(workflow_state) = self.workflow_states.get_mut(sequence) else { continue };
            let mut effects = Effects::default();
            for group in 0..workflow_state.volumes.len() {
                let is_empty = workflow_state.has_finished_none_of(group);
                let volume_placement = Arc::make_mut(&mut workflow_state.volumes)[group].as_mut();
                if let Some(volume_placement) = volume_placement
                    .filter(|volume_placement| is_empty && is_lost(volume_placement))
                {
                    boot.clone_into(&mut volume_placement.boot);
                    workflow_state.save(&mut effects);
                }
            }
            self.effects.writes.extend(effects.writes);
            self.effects.changed.extend(effects.changed);
        }
        self.fail_volume_placements(now, |volume_placement| {
            is_lost(volume_placement).then(|| format!("{} was rebooted", volume_placement.name))
        });
    }

    /// Workflows that have volumes on a node: what is over was not told to it, or it
    /// could not hear.
    pub(crate) fn volumes_listed(&mut self, node: NodeId, workflows: &[WorkflowId]) {
        let going: BTreeSet<WorkflowId> = self
            .workflow_states
            .values()
            .filter(|workflow_state| workflow_state.ended.is_none())
            .map(|workflow_state| workflow_state.id)
            .collect();
        let is_over = |id: &&WorkflowId| !going.contains(id) && !self.spared.has_volumes(**id);
        for &workflow in workflows.iter().filter(is_over) {
            self.effects.send(node, FromServer::RemoveVolumes { workflow });
        }
    }

    /// Fails what needs volumes that are gone.
    fn fail_volume_placements(
        &mut self,
        now: Timestamp,
        gone: impl Fn(&VolumePlacement) -> Option<String>,
    ) {
        // A node that is away for long is given up at each tick: what failed then is
        // not touched again.
        let is_open = |state: &WorkflowState, group: usize| {
            state.stages_of(group).into_iter().any(|stage| !state.stages[stage].state.is_ended())
        };
        let concerns = |state: &WorkflowState| {
            let mut placed = state.volumes.iter().enumerate();
            let is_gone =
                |placement: &Option<VolumePlacement>| placement.as_ref().and_then(&gone).is_some();
            state.ended.is_none()
                && placed.any(|(group, volume)| is_gone(volume) && is_open(state, group))
        };
        for sequence in self.workflow_states.sequences_where(concerns) {
            let Some(workflow_state) = self.workflow_states.get_mut(sequence) else { continue };
            let mut effects = Effects::default();
            for group in 0..workflow_state.volumes.len() {
                let Some(why) = workflow_state.volumes[group].as_ref().and_then(&gone) else {
                    continue;
                };
                for stage in workflow_state.stages_of(group) {
                    workflow_state.fail_stage(
                        &mut effects,
                        stage,
                        &format!("its volume is lost: {why}"),
                        now,
                    );
                }
            }
            if !effects.writes.is_empty() {
                self.take(effects);
                self.stale = true;
                self.advance_workflow(sequence, now);
            }
        }
    }
}

impl WorkflowState {
    /// Stages that need volumes of a group.
    fn stages_of(&self, group: usize) -> Vec<StageId> {
        let needing = self.plan.numbered().filter(|(_, plan)| plan.group == Some(group));
        needing.map(|(stage, _)| stage).collect()
    }

    /// Nothing is in the volumes of a group: they are not even made.
    fn has_finished_none_of(&self, group: usize) -> bool {
        self.stages_of(group).iter().all(|&stage| self.stages[stage].state != State::Finished)
    }
}
