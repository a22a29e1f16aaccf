//! A cluster in which anything may go wrong, and what must always hold: no attempt starts in part,
//! every task ends once, nothing is granted twice.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use api::workflow::{Waiting, Workflow};
use proptest::test_runner::{RngSeed, TestRunner};

use super::*;
use crate::record::{AttemptKey, AttemptRow, Rows, RunRow, StageRow, WorkflowRow};

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// The n-th run that a node holds goes on, and if it ends, this way.
    GoesOn(prop::sample::Index, u8),
    /// A node reboots and lists what it holds: nothing.
    Reboots(bool),
    /// A node reboots while no server is there.
    RebootsUnseen(bool),
    /// An agent restarts and lists what it holds. What is not released is prepared again.
    Lists(bool),
    Time(u8),
    /// Somebody pauses the workflow, or lets it go on.
    Pauses(bool),
    /// A node's connection is lost until it lists: it is told nothing, nothing is placed on it, and
    /// what its agent knows is not known.
    GoesAway(bool),
    /// The server is killed and starts again from what it wrote; perhaps as a release that cannot
    /// read the plan.
    ServerDies(bool),
    /// The server will be killed when it has written something and told nobody yet.
    DiesBeforeItTells,
    /// A node's agent is replaced by one that knows no attempts of several members, or by one that
    /// does. Nothing that it holds awaits a release.
    Agent(bool, bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        24 => (any::<prop::sample::Index>(), 0..12_u8).prop_map(|(which, how)| Happening::GoesOn(which, how)),
        1 => any::<bool>().prop_map(Happening::Reboots),
        1 => any::<bool>().prop_map(Happening::RebootsUnseen),
        2 => any::<bool>().prop_map(Happening::Lists),
        4 => (1..60_u8).prop_map(Happening::Time),
        2 => any::<bool>().prop_map(Happening::Pauses),
        1 => any::<bool>().prop_map(Happening::GoesAway),
        2 => any::<bool>().prop_map(Happening::ServerDies),
        2 => Just(Happening::DiesBeforeItTells),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(second, knows)| Happening::Agent(second, knows)),
    ]
}

/// How far a run is on its node.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Given,
    Preparing,
    Prepared,
    Running,
    Ended(Outcome),
}

/// A run on a node.
#[derive(Debug, Clone)]
struct Held {
    node: NodeId,
    phase: Phase,
    awaits_release: bool,
    is_released: bool,
    is_stopped: bool,
    has_run: bool,
}

impl Held {
    fn new(node: NodeId, phase: Phase, awaits_release: bool) -> Self {
        let (is_released, is_stopped, has_run) = (false, false, false);
        Self { node, phase, awaits_release, is_released, is_stopped, has_run }
    }

    /// What the node says of it.
    fn report(&self, run: RunId, now: i64) -> RunReport {
        let state = match &self.phase {
            Phase::Given | Phase::Preparing => RunState::Preparing {},
            Phase::Prepared => RunState::Prepared {},
            Phase::Running => RunState::Running { started: at(now) },
            Phase::Ended(outcome) => {
                let (started, outcome) = (self.has_run.then(|| at(now)), outcome.clone());
                let end = RunEnd {
                    started,
                    ended: at(now),
                    outcome,
                    log_bytes: 0,
                    usage: Usage::default(),
                };
                RunState::Ended(Box::new(end))
            }
        };
        RunReport { run, state }
    }
}

/// What a server would find after a crash, and what nodes hold.
struct World {
    engine: Engine,
    now: i64,
    boots: [u32; 2],
    held: BTreeMap<RunId, Held>,
    /// Those that the node was told to pause.
    paused: BTreeSet<RunId>,
    away: [bool; 2],
    knows_attempts: [bool; 2],
    /// Runs that were prepared at some time in the boot of their node, or have ended since.
    prepared: BTreeSet<RunId>,
    /// Runs whose processes began.
    begun: BTreeSet<RunId>,
    dies_before_it_tells: bool,
    /// What was written.
    rows: BTreeMap<RunId, RunRow>,
    attempts: BTreeMap<AttemptKey, AttemptRow>,
    stages: BTreeMap<StageId, StageRow>,
    workflow: Option<WorkflowRow>,
    events: u64,
    plan: Plan,
    next_run: Arc<AtomicU64>,
    /// A view of before, and what it told then.
    read: Option<(View, Told)>,
}

/// What a view tells of the workflow.
type Told = (Option<Workflow>, Option<Vec<Waiting>>);

const WORLD: &str = "version: v4
volumes: {d: {}}
jobs:
  array: {image: docker://a, command: [x], task-array: {start: 1, end: 6, concurrency: 3}, policy: {retry: {attempts: 2}}}
  with: {image: docker://a, command: [x], mounts: {/d: d}}
  beside: {image: docker://a, command: [x], depends-on: [{name: array, status: RUNNING}]}
  last: {image: docker://a, command: [x], depends-on: [{name: array}], policy: {retry: {attempts: 1}}}
";

/// Happenings between two views: more of them are slow.
const VIEW_EVERY: usize = 4;

/// Tasks of [`WORLD`] with its volume.
const TASKS: usize = 10;

fn index_of(node: NodeId) -> usize {
    usize::from(node == node_id(2))
}

impl World {
    fn fresh_engine(next_run: &Arc<AtomicU64>) -> Engine {
        let next = next_run.clone();
        let new_run =
            move || RunId(uuid::Uuid::from_u128(u128::from(next.fetch_add(1, Ordering::Relaxed))));
        Engine::new(Surroundings::default(), Box::new(new_run))
    }

    /// Attempts of the array have `members` members, those of the last job `of_last`.
    fn new(members: u32, of_last: u32) -> Self {
        let next_run = Arc::new(AtomicU64::new(1));
        let mut submission = submission(1, WORLD);
        for stage in &mut submission.plan.stages {
            match stage.name.as_str() {
                "array" => stage.members = members,
                "last" => stage.members = of_last,
                _ => {}
            }
        }
        let mut world = Self {
            engine: Self::fresh_engine(&next_run),
            now: 1,
            boots: [1, 1],
            held: BTreeMap::new(),
            paused: BTreeSet::new(),
            away: [false; 2],
            knows_attempts: [true; 2],
            prepared: BTreeSet::new(),
            begun: BTreeSet::new(),
            dies_before_it_tells: false,
            rows: BTreeMap::new(),
            attempts: BTreeMap::new(),
            stages: BTreeMap::new(),
            workflow: None,
            events: 0,
            plan: submission.plan.clone(),
            next_run,
            read: None,
        };
        world.nodes();
        world.engine.submit(submission, at(1));
        world.settle();
        world
    }

    fn nodes(&mut self) {
        for (index, number) in (0..).zip([1, 2]) {
            let boot = format!("boot{}", self.boots[index]);
            let is_ready = !self.away[index];
            let knows_attempts = is_ready.then_some(self.knows_attempts[index]);
            let facts = NodeFacts { is_ready, knows_attempts, ..facts(number, 2, &boot) };
            self.engine.node_is(facts, at(self.now));
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Attempt(row) => drop(self.attempts.insert(row.key(), *row)),
            Write::Run(row) => drop(self.rows.insert(row.run, *row)),
            Write::Stage(row) => drop(self.stages.insert(row.stage, *row)),
            Write::Submit(submitted) => self.workflow = Some(submitted.row),
            Write::Workflow(row) => self.workflow = Some(*row),
            Write::Event(_, event) => {
                assert_eq!(
                    event.number,
                    self.events + 1,
                    "a line of the history is lost or doubled"
                );
                self.events = event.number;
            }
            Write::Forget(_) | Write::Plan { .. } => {}
        }
    }

    fn hear(&mut self, node: NodeId, message: FromServer) {
        match message {
            FromServer::PauseRun { run } => drop(self.paused.insert(run)),
            FromServer::ResumeRun { run } => drop(self.paused.remove(&run)),
            FromServer::StartRun { spec } => {
                assert!(self.rows.contains_key(&spec.run), "told before it was written");
                if spec.awaits_release && !self.knows_attempts[index_of(node)] {
                    // The channel lets no such message through.
                    return;
                }
                let (awaits_release, phase) = (spec.awaits_release, Phase::Given);
                let held = Held::new(node, phase, awaits_release);
                self.held.entry(spec.run).or_insert(held);
            }
            FromServer::ReleaseRun { run } => {
                let is_released = self.attempts[&self.rows[&run].attempt_key()].released.is_some();
                assert!(is_released, "told before the release was written");
                let is_paused = self.workflow.as_ref().is_some_and(|row| row.paused.is_some());
                assert!(!is_paused, "it is released while its workflow is paused");
                if let Some(held) = self.held.get_mut(&run) {
                    held.is_released = true;
                }
            }
            FromServer::StopRun { run, .. } if !self.rows.contains_key(&run) => {
                self.held.remove(&run);
            }
            FromServer::StopRun { run, why, .. } => match self.held.get_mut(&run) {
                Some(held) => held.is_stopped = true,
                // It never came here: that is what the node says.
                None => {
                    let phase = Phase::Ended(Outcome::Stopped { why });
                    self.held.insert(run, Held::new(node, phase, true));
                }
            },
            _ => {}
        }
    }

    fn settle(&mut self) {
        loop {
            let effects = self.engine.proceed(at(self.now));
            effects.writes.into_iter().for_each(|write| self.write(write));
            if !effects.messages.is_empty() && std::mem::take(&mut self.dies_before_it_tells) {
                return self.server_dies(false);
            }
            for (node, message) in effects.messages {
                if !self.away[index_of(node)] {
                    self.hear(node, message);
                }
            }
            for (_, _, run) in &effects.forget {
                self.held.remove(run);
            }
            if effects.fetch.is_empty() {
                return;
            }
            for (workflow, stage, _) in effects.fetch {
                self.engine.image_fetched(workflow, stage, Ok(image()), at(self.now));
            }
        }
    }

    fn list(&mut self, index: usize) {
        self.away[index] = false;
        self.nodes();
        let id = node_id(index as u128 + 1);
        let listed: Vec<RunId> =
            self.held.iter().filter(|(_, held)| held.node == id).map(|(run, _)| *run).collect();
        for &run in &listed {
            let report = self.held[&run].report(run, self.now);
            self.engine.handle_report(id, &report, at(self.now));
        }
        let listed = listed.into_iter().map(|run| (run, self.paused.contains(&run))).collect();
        self.engine.runs_listed(id, &format!("boot{}", self.boots[index]), &listed, at(self.now));
        self.settle();
    }

    /// A run takes its next step. `how`: what becomes of it.
    fn step(&mut self, run: RunId, how: u8) {
        let Some(held) = self.held.get(&run).cloned() else { return };
        let next = match &held.phase {
            Phase::Ended(outcome) => Phase::Ended(outcome.clone()),
            _ if held.is_stopped => Phase::Ended(Outcome::Stopped { why: "told to".to_owned() }),
            Phase::Given if how == 2 => {
                Phase::Ended(Outcome::Refused { why: "no memory".to_owned() })
            }
            Phase::Given => Phase::Preparing,
            Phase::Preparing if how == 3 => {
                Phase::Ended(Outcome::Failed { why: "no such file".to_owned(), transient: true })
            }
            Phase::Preparing if held.awaits_release && !held.is_released => Phase::Prepared,
            Phase::Prepared if !held.is_released => return,
            Phase::Preparing | Phase::Prepared => Phase::Running,
            // Volumes and transfers go on.
            Phase::Running if self.paused.contains(&run) && self.rows[&run].grant.is_some() => {
                return;
            }
            Phase::Running => Phase::Ended(match how {
                0 => Outcome::Exited { code: 1 },
                1 => Outcome::Failed { why: "disk full".to_owned(), transient: true },
                _ => OK,
            }),
        };
        match next {
            Phase::Prepared => drop(self.prepared.insert(run)),
            Phase::Running => {
                assert!(self.begun.insert(run), "a process begins twice");
                if held.awaits_release {
                    self.hold_barrier(run);
                }
            }
            _ => {}
        }
        let has_run = held.has_run || next == Phase::Running;
        let held = Held { phase: next, has_run, ..held };
        self.engine.handle_report(held.node, &held.report(run, self.now), at(self.now));
        self.held.insert(run, held);
        self.settle();
    }

    /// The process of a member begins: the release is on disk, all were prepared, and none
    /// has ended badly.
    fn hold_barrier(&self, run: RunId) {
        let key = self.rows[&run].attempt_key();
        let attempt = &self.attempts[&key];
        assert!(attempt.released.is_some(), "it starts before the release is on disk");
        assert!(
            attempt.outcome.is_none(),
            "it starts though its attempt ends: {:?}",
            attempt.outcome
        );
        for row in self.rows.values().filter(|row| row.attempt_key() == key) {
            assert!(
                self.prepared.contains(&row.run),
                "it starts while {:?} was not prepared",
                row.run
            );
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match *happening {
            Happening::GoesOn(which, how) => {
                let run = match self.held.len() {
                    0 => return,
                    length => *self.held.keys().nth(which.index(length)).unwrap(),
                };
                if !self.away[index_of(self.held[&run].node)] {
                    self.step(run, how);
                }
            }
            Happening::Reboots(second) => {
                self.reboots(usize::from(second));
                self.list(usize::from(second));
            }
            Happening::RebootsUnseen(second) => {
                self.reboots(usize::from(second));
                self.server_dies(false);
            }
            Happening::Lists(second) => {
                let id = node_id(u128::from(second) + 1);
                for held in self.held.values_mut().filter(|held| held.node == id) {
                    if held.phase == Phase::Prepared {
                        held.phase = Phase::Preparing;
                    }
                }
                self.list(usize::from(second));
            }
            Happening::Pauses(paused) => {
                let id = WorkflowId(uuid::Uuid::from_u128(1));
                self.engine.pause(id, paused, "ann", at(self.now));
                self.settle();
            }
            Happening::GoesAway(second) => {
                self.away[usize::from(second)] = true;
                self.nodes();
                self.settle();
            }
            Happening::Time(seconds) => {
                self.now += i64::from(seconds);
                self.engine.tick(at(self.now), uptime(self.now));
                self.settle();
            }
            Happening::ServerDies(blocked) => self.server_dies(blocked),
            Happening::DiesBeforeItTells => self.dies_before_it_tells = true,
            Happening::Agent(second, knows) => {
                let (index, id) = (usize::from(second), node_id(u128::from(second) + 1));
                let awaits =
                    |held: &Held| held.awaits_release && !matches!(held.phase, Phase::Ended(_));
                if self.held.values().any(|held| held.node == id && awaits(held)) {
                    return;
                }
                self.knows_attempts[index] = knows;
                self.nodes();
                self.list(index);
            }
        }
    }

    /// What a node holds is gone with its memory.
    fn reboots(&mut self, index: usize) {
        self.boots[index] += 1;
        let id = node_id(index as u128 + 1);
        self.held.retain(|_, held| held.node != id);
        self.paused.retain(|run| self.held.contains_key(run));
        let rows = &self.rows;
        self.prepared
            .retain(|run| rows.get(run).is_some_and(|row| row.node != id || row.ended.is_some()));
    }

    fn server_dies(&mut self, blocked: bool) {
        self.dies_before_it_tells = false;
        self.engine = Self::fresh_engine(&self.next_run);
        let row = self.workflow.clone().unwrap();
        if row.ended.is_none() {
            let mut runs: Vec<_> = self.rows.values().cloned().collect();
            runs.sort_by_key(|row| (row.stage, row.task, row.attempt, row.member));
            let stages: Vec<_> = self.stages.values().cloned().collect();
            let known = if blocked {
                let names = self.plan.numbered().map(|(stage, plan)| (stage, plan.name.clone()));
                let stand_in = crate::restore::stand_in(&stages, &runs, &names.collect::<Vec<_>>());
                KnownPlan::Blocked { why: "its plan is of tomorrow".to_owned(), stand_in }
            } else {
                KnownPlan::Plan(self.plan.clone())
            };
            let attempts = self.attempts.values().cloned().collect();
            let rows = Rows { stages, attempts, runs, ..Rows::default() };
            self.engine.adopt(WorkflowState::restore(row, known, rows, self.events, |_| 0));
        }
        self.nodes();
        self.settle();
        self.list(0);
        self.list(1);
    }

    /// Nodes that are there let stand still what should, and nothing else.
    fn hold_pauses(&self) {
        let Some(row) = self.workflow.as_ref().filter(|row| row.ended.is_none()) else { return };
        for run in self.held.iter().filter(|(run, held)| {
            let row = self.rows.get(run).filter(|row| row.ended.is_none() && row.grant.is_some());
            let is_over = held.is_stopped || matches!(held.phase, Phase::Ended(_));
            row.is_some() && !is_over && !self.away[index_of(held.node)]
        }) {
            assert_eq!(self.paused.contains(run.0), row.paused.is_some(), "{:?}", run.0);
        }
    }

    /// A view is what was written, and stays as it was when it was made.
    fn hold_view(&mut self) {
        let id = WorkflowId(uuid::Uuid::from_u128(1));
        let told = |view: &View| -> Told {
            let why = view.why(id, None, &BTreeMap::new(), view.at);
            (view.workflow(id), why)
        };
        if let Some((view, before)) = &self.read {
            assert_eq!(told(view), *before, "a view has changed");
        }
        let view = self.engine.view(at(self.now));
        let shown: BTreeSet<RunId> = view.running_jobs(id).into_iter().map(|job| job.run).collect();
        let is_shown =
            |row: &&RunRow| row.started.is_some() && row.ended.is_none() && row.grant.is_some();
        let written: BTreeSet<RunId> =
            self.rows.values().filter(is_shown).map(|row| row.run).collect();
        assert_eq!(shown, written);
        if let (Some(workflow), Some(row)) = (view.workflow(id), &self.workflow) {
            assert_eq!(workflow.summary.state, row.state);
            assert_eq!(workflow.summary.paused, row.paused);
            for stage in &workflow.stages {
                let row = self.stages.get(&StageId(stage.index));
                assert_eq!(
                    stage.state,
                    row.map_or(State::Pending, |row| row.state),
                    "{}",
                    stage.name
                );
            }
        }
        let before = told(&view);
        self.read = Some((view, before));
    }

    /// What must hold at any time.
    fn hold(&self) {
        self.hold_pauses();
        let mut attempts: BTreeMap<(StageId, u32), u32> = BTreeMap::new();
        let mut cores: BTreeSet<(NodeId, u32)> = BTreeSet::new();
        for row in self.rows.values().filter(|row| row.ended.is_none()) {
            let attempt = attempts.entry((row.stage, row.task)).or_insert(row.attempt);
            assert_eq!(*attempt, row.attempt, "two attempts of a task at once");
            for cpu in row.grant.iter().flat_map(|grant| &grant.cpus) {
                assert!(cores.insert((row.node, *cpu)), "a core is granted twice");
            }
        }
        let mut per_stage: BTreeMap<StageId, u32> = BTreeMap::new();
        attempts.keys().for_each(|(stage, _)| *per_stage.entry(*stage).or_default() += 1);
        for (stage, count) in per_stage {
            assert!(
                count <= self.plan.stages[stage].tasks.concurrency,
                "more at once than allowed"
            );
        }
        let mut members: BTreeMap<AttemptKey, BTreeSet<u32>> = BTreeMap::new();
        for row in self.rows.values() {
            assert!(
                members.entry(row.attempt_key()).or_default().insert(row.member),
                "a member twice"
            );
        }
        for ((stage, ..), of) in members {
            assert_eq!(of.len(), self.plan.stages[stage].members as usize, "an attempt in part");
        }
        self.done();
    }

    /// Tasks that are done: each once.
    fn done(&self) -> BTreeSet<(StageId, u32)> {
        let mut ends: BTreeMap<AttemptKey, Vec<bool>> = BTreeMap::new();
        for row in self.rows.values() {
            let is_done = row.outcome.as_ref().is_some_and(Outcome::is_success);
            ends.entry(row.attempt_key()).or_default().push(is_done);
        }
        let mut done = BTreeSet::new();
        for ((stage, task, _), ends) in ends {
            if ends.iter().all(|is_done| *is_done) {
                assert!(done.insert((stage, task)), "a task was done twice");
            }
        }
        done
    }
}

/// Cases that are run, unless `PROPTEST_CASES` says how many.
const CASES: u32 = 2_000;

/// The seed is printed: with it in `PROPTEST_RNG_SEED` the same cases are drawn again.
#[test]
#[expect(clippy::print_stderr, reason = "the seed of a test that fails or hangs")]
fn every_task_ends_once_whatever_happens() {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(RandomState::new().hash_one(config.cases));
    }
    let seed = config.rng_seed;
    eprintln!("PROPTEST_RNG_SEED={seed}");
    let happenings = prop::collection::vec(happening(), 0..120);
    let drawn = (1..=4_u32, 1..=4_u32, happenings);
    let ended = TestRunner::new(config)
        .run(&drawn, |(members, of_last, happenings)| ends_once(members, of_last, &happenings));
    if let Err(error) = ended {
        panic!("PROPTEST_RNG_SEED={seed}: {error}");
    }
}

fn ends_once(members: u32, of_last: u32, happenings: &[Happening]) -> Result<(), TestCaseError> {
    let mut world = World::new(members, of_last);
    for (number, happening) in happenings.iter().enumerate() {
        world.happens(happening);
        world.hold();
        if number % VIEW_EVERY == 0 {
            world.hold_view();
        }
    }
    // From here on all goes well.
    world.dies_before_it_tells = false;
    world.knows_attempts = [true; 2];
    world.happens(&Happening::ServerDies(false));
    world.happens(&Happening::Lists(false));
    world.happens(&Happening::Lists(true));
    world.happens(&Happening::Pauses(false));
    for _ in 0..600 {
        if world.workflow.as_ref().is_some_and(|row| row.ended.is_some()) {
            break;
        }
        world.happens(&Happening::Time(30));
        for run in world.held.keys().copied().collect::<Vec<_>>() {
            world.step(run, u8::MAX);
        }
        world.hold();
    }
    let row = world.workflow.clone().unwrap();
    let why = world.engine.view(at(0)).why(row.id, None, &BTreeMap::new(), at(world.now));
    prop_assert!(row.ended.is_some(), "it does not end: {why:?}");
    let open = world.rows.values().filter(|row| row.ended.is_none()).count();
    prop_assert_eq!(open, 0, "a run is left open");
    let open = world.attempts.values().filter(|row| row.ended.is_none()).count();
    prop_assert_eq!(open, 0, "an attempt is left open");
    let view = row.view.unwrap();
    for stage in &view.stages {
        let counts = stage.tasks;
        prop_assert_eq!(counts.pending + counts.started, 0, "{}", stage.name);
    }
    if row.state == State::Finished {
        prop_assert_eq!(world.done().len(), TASKS);
    }
    Ok(())
}

#[test]
fn what_was_released_before_a_reboot_that_no_server_saw_is_not_begun_again() {
    let mut world = World::new(2, 1);
    let has_member = |world: &World| {
        world.begun.iter().any(|run| world.attempts.contains_key(&world.rows[run].attempt_key()))
    };
    while !has_member(&world) {
        for run in world.held.keys().copied().collect::<Vec<_>>() {
            world.step(run, u8::MAX);
        }
        world.happens(&Happening::Time(1));
    }
    world.happens(&Happening::RebootsUnseen(false));
    world.happens(&Happening::RebootsUnseen(true));
    for _ in 0..100 {
        world.happens(&Happening::Time(30));
        for run in world.held.keys().copied().collect::<Vec<_>>() {
            world.step(run, u8::MAX);
        }
        world.hold();
    }
}
