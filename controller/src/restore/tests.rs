//! Databases of before in; the same workflows, and nothing lost, out.
//!
//! `before_plans/database.sql` is what the programs of commit 244c59b left when they were killed at
//! work, and `shown.json` what they showed of each workflow just before; `before_plans/make.sh`
//! made both.

use std::{collections::BTreeMap, path::PathBuf};

use api::{
    channel::FromServer,
    ids::{NodeId, NodeName, Timestamp},
    run::{Outcome, RunEnd, RunId, RunReport, RunState, Usage, WorkflowId},
    workflow::{State, Workflow},
};
use database::Database;
use planner::{Capacity, Core, NumaMemory};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::*;
use crate::{
    engine::{Effects, NodeFacts, Surroundings, View},
    image_users::tests::job_images,
    store::{
        Listing,
        sql::{SCHEMA, SqlStore},
    },
};

mod attempts;

const BEFORE: &str = include_str!("before_plans/database.sql");
const SHOWN: &str = include_str!("before_plans/shown.json");

/// A document that this release cannot read.
const UNREADABLE: &str =
    "version: v1\njobs: {strange: {image: docker://a, command: [hang], balloon: red}}";

/// A server's state that outlives its runs.
struct Site {
    directory: tempfile::TempDir,
    nodes: Nodes,
}

/// One run of a server, before it has seen a node.
struct Server {
    engine: Engine,
    store: SqlStore,
    nodes: Nodes,
}

/// What the nodes had when the server was killed, whatever becomes of its database.
#[derive(Clone)]
struct Nodes {
    runs: Vec<OnNode>,
    volumes: Vec<WorkflowId>,
}

#[derive(Clone)]
struct OnNode {
    run: RunId,
    workflow: WorkflowId,
    node: NodeId,
    name: NodeName,
    boot: String,
    /// It has the run, which may be over if its log is not at the server.
    holds: bool,
    /// Since when it runs.
    runs_since: Option<Timestamp>,
}

impl Site {
    /// What 244c59b left.
    async fn before() -> Self {
        type Columns = (String, String, String, String, String, bool, Option<i64>);
        let nodes = Nodes { runs: Vec::new(), volumes: Vec::new() };
        let mut site = Self { directory: tempfile::tempdir().unwrap(), nodes };
        sqlx::raw_sql(BEFORE).execute(&mut site.connection().await).await.unwrap();
        let text = "SELECT run, workflow, node, node_name, boot,
                      accepted AND (ended IS NULL OR log_bytes > 0),
                      CASE WHEN ended IS NULL THEN placed END FROM controller_runs";
        let rows: Vec<Columns> =
            sqlx::query_as(text).fetch_all(&mut site.connection().await).await.unwrap();
        let on_node = |(run, workflow, node, name, boot, holds, since): Columns| OnNode {
            run: run.parse().unwrap(),
            workflow: workflow.parse().unwrap(),
            node: node.parse().unwrap(),
            name: name.parse().unwrap(),
            boot,
            holds,
            runs_since: since.map(Timestamp),
        };
        site.nodes.runs = rows.into_iter().map(on_node).collect();
        let live = site.texts("SELECT id FROM controller_workflows WHERE ended IS NULL").await;
        site.nodes.volumes = live.iter().map(|id| id.parse().unwrap()).collect();
        site
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("db")
    }

    /// A look at the database past the store, for one statement.
    async fn connection(&self) -> SqliteConnection {
        let file = SqliteConnectOptions::new().filename(self.file()).create_if_missing(true);
        SqliteConnection::connect_with(&file).await.unwrap()
    }

    async fn execute(&self, text: &'static str) {
        sqlx::query(text).execute(&mut self.connection().await).await.unwrap();
    }

    async fn texts(&self, text: &'static str) -> Vec<String> {
        sqlx::query_scalar(text).fetch_all(&mut self.connection().await).await.unwrap()
    }

    async fn number(&self, text: &'static str) -> i64 {
        sqlx::query_scalar(text).fetch_one(&mut self.connection().await).await.unwrap()
    }

    async fn store(&self) -> SqlStore {
        let database = Database::open(&self.file(), &[&SCHEMA]).await.unwrap();
        SqlStore::open(database).await.unwrap()
    }

    async fn start(&self) -> Server {
        let store = self.store().await;
        let database = Database::open(&self.file(), &[&SCHEMA]).await.unwrap();
        let images = job_images(database, self.directory.path());
        let results = Results::open(self.directory.path(), 1 << 20).unwrap();
        let mut number = 1 << 64;
        let new_run = move || {
            number += 1;
            RunId(uuid::Uuid::from_u128(number))
        };
        let mut engine = Engine::new(Surroundings::default(), Box::new(new_run));
        restore(&mut engine, &store, &images, &results).await.unwrap();
        Server { engine, store, nodes: self.nodes.clone() }
    }

    /// All that the tables have of stages, runs and workflows, but for the plans.
    async fn rows(&self) -> Vec<String> {
        let mut rows = self.texts("SELECT json_array(run, workflow, stage, task, attempt, node, boot, placement, placed, accepted, started, ended, outcome, used, log_bytes) FROM controller_runs ORDER BY run").await;
        rows.extend(self.texts("SELECT json_array(workflow, stage, state, reason, started, ended, result) FROM controller_stages ORDER BY workflow, stage").await);
        rows.extend(self.texts("SELECT json_array(id, place, name, owner, document, submitted, started, ended, state, reason, stop, homes, view, paused) FROM controller_workflows ORDER BY id").await);
        rows
    }
}

impl Server {
    /// What is shown of each workflow, as the routes find it.
    async fn shown(&mut self) -> BTreeMap<String, Workflow> {
        let mut shown: Vec<Workflow> = self
            .store
            .over(&Listing::default(), None, 100)
            .await
            .unwrap()
            .into_iter()
            .filter_map(|one| one.row.view)
            .collect();
        let view = self.live();
        shown.extend(view.summaries().filter_map(|summary| view.workflow(summary.id)));
        shown.into_iter().map(|workflow| (workflow.summary.name.clone(), workflow)).collect()
    }

    fn live(&mut self) -> View {
        self.engine.view(clock::now())
    }

    fn id(&mut self, name: &str) -> WorkflowId {
        self.live().summaries().find(|summary| summary.name == name).unwrap().id
    }

    fn view(&mut self, name: &str) -> Workflow {
        let id = self.id(name);
        self.live().workflow(id).unwrap()
    }

    fn holds(&mut self, run: RunId) -> bool {
        let view = self.live();
        view.summaries().any(|summary| view.holds(summary.id, run))
    }

    async fn runs(&mut self, name: &str) -> Vec<RunRow> {
        let id = self.id(name);
        self.store.runs(id, None, None, u32::MAX).await.unwrap()
    }

    /// The nodes of the three come back in the same boot with all that they had, and list it.
    async fn nodes_come_back(&mut self, now: Timestamp) -> Effects {
        let Nodes { runs, volumes } = self.nodes.clone();
        let mut held: BTreeMap<NodeId, (NodeName, String, Vec<OnNode>)> = BTreeMap::new();
        for run in runs {
            let (_, _, runs) =
                held.entry(run.node).or_insert((run.name.clone(), run.boot.clone(), Vec::new()));
            if run.holds {
                runs.push(run);
            }
        }
        assert_eq!(held.len(), 3);
        for (id, (name, boot, runs)) in held {
            self.engine.node_is(facts(id, name, &boot), now);
            let mut listed = BTreeMap::new();
            for OnNode { run, workflow, runs_since, .. } in runs {
                if let Some(started) = runs_since {
                    self.engine.handle_report(
                        id,
                        &RunReport { run, state: RunState::Running { started } },
                        now,
                    );
                }
                listed.insert(run, workflow == self.id("paused"));
            }
            self.engine.runs_listed(id, &boot, &listed, now);
            self.engine.volumes_listed(id, &volumes);
        }
        self.proceed(now).await
    }

    async fn proceed(&mut self, now: Timestamp) -> Effects {
        let effects = self.engine.proceed(now);
        self.store.commit(&effects.writes).await.unwrap();
        effects
    }

    /// The one run of a workflow that is not over ends.
    async fn end(&mut self, name: &str, outcome: Outcome, now: Timestamp) -> (RunId, Effects) {
        let row = self.runs(name).await.into_iter().find(|row| row.ended.is_none()).unwrap();
        let end = RunEnd {
            started: row.started,
            ended: now,
            outcome,
            log_bytes: 0,
            usage: Usage::default(),
        };
        let report = RunReport { run: row.run, state: RunState::Ended(Box::new(end)) };
        self.engine.handle_report(row.node, &report, now);
        (row.run, self.proceed(now).await)
    }
}

fn facts(id: NodeId, name: NodeName, boot: &str) -> NodeFacts {
    let capacity = Capacity {
        cores: (0..4).map(|core| Core { pus: vec![core], package: 0, numa: 0 }).collect(),
        memory: vec![NumaMemory { numa: 0, bytes: 512 << 20 }],
        devices: Vec::new(),
    };
    let boot = Some(boot.to_owned());
    let (is_ready, in_conflict, knows_attempts) = (true, false, Some(true));
    let (drained, refuses) = (None, None);
    let labels = api::labels::Labels::new();
    NodeFacts {
        id,
        name,
        boot,
        is_ready,
        drained,
        refuses,
        in_conflict,
        knows_attempts,
        labels,
        capacity,
    }
}

/// Orders to begin, by run, with what they are called.
fn started(effects: &Effects) -> BTreeMap<RunId, String> {
    let start = |(_, message): &(NodeId, FromServer)| match message {
        FromServer::StartRun { spec } => Some((spec.run, spec.subject.clone())),
        _ => None,
    };
    effects.messages.iter().filter_map(start).collect()
}

/// Nothing on a node is stopped or thrown away.
fn assert_nothing_is_stopped(effects: &Effects) {
    for (node, message) in &effects.messages {
        let ends = matches!(message, FromServer::StopRun { .. } | FromServer::RemoveVolumes { .. });
        assert!(!ends, "{node} is told {message:?}");
    }
}

/// Nor disowned or forgotten.
fn assert_nothing_is_ended(effects: &Effects) {
    assert_nothing_is_stopped(effects);
    assert_eq!(effects.forget, []);
}

#[tokio::test]
async fn a_database_of_before_plans_has_the_same_workflows_stages_and_runs() {
    let site = Site::before().await;
    let before = site.rows().await;
    let store = site.store().await;
    let bytes = site
        .number("SELECT SUM(OCTET_LENGTH(document)) FROM controller_workflows WHERE ended IS NULL")
        .await;
    assert_eq!(
        store.without_plan().await.unwrap(),
        (8, bytes.unsigned_abs()),
        "what the log tells"
    );
    let mut server = site.start().await;
    assert_eq!(site.rows().await, before, "the conversion adds plans and changes nothing else");
    let shown: BTreeMap<String, Workflow> = serde_json::from_str(SHOWN).unwrap();
    let now = server.shown().await;
    for (name, mut workflow) in shown.clone() {
        let mut now = now[&name].clone();
        // The programs of before had no word for it.
        assert!(now.summary.status.take().is_some(), "{name}");
        if name == "again" {
            // What failed and is tried again was not shown by that release.
            let reason = now.stages[1].reason.clone();
            assert!(
                reason.as_ref().is_some_and(|reason| reason.contains(" failed: ")),
                "{reason:?}"
            );
            workflow.stages[1].reason = reason;
        }
        assert_eq!(now, workflow, "{name}");
    }
    assert_eq!(now.len(), shown.len() + 1, "those of make.sh and of the simulation itself");
    let left: Vec<String> = site
        .texts("SELECT name FROM controller_workflows WHERE plan IS NULL AND ended IS NULL")
        .await;
    assert_eq!(left, [""; 0]);
    let over = site
        .texts("SELECT name FROM controller_workflows WHERE plan IS NOT NULL AND ended IS NOT NULL")
        .await;
    assert_eq!(over, [""; 0], "nobody needs the plan of what is over");

    let at = clock::now();
    let never_arrived: BTreeMap<RunId, String> = {
        let mut runs = server.runs("given").await;
        runs.extend(server.runs("array").await);
        let open = runs.into_iter().filter(|row| row.ended.is_none() && !row.accepted);
        open.map(|row| (row.run, format!("{}", row.task))).collect()
    };
    assert!(!never_arrived.is_empty());
    let effects = server.nodes_come_back(at).await;
    assert_nothing_is_ended(&effects);
    let begun = started(&effects);
    for run in never_arrived.keys() {
        assert!(begun.contains_key(run), "what never arrived is told again");
    }
    let others: Vec<&String> = begun
        .iter()
        .filter(|(run, _)| !never_arrived.contains_key(run))
        .map(|(_, subject)| subject)
        .collect();
    assert!(
        others.iter().all(|subject| *subject == "job fails"),
        "only what was due begins: {others:?}"
    );

    // The graph goes on where it stood: a job after the one that held it, a file after the jobs.
    let (_, effects) = server.end("data", Outcome::Exited { code: 0 }, at).await;
    let begun: Vec<String> = started(&effects).into_values().collect();
    assert!(begun.contains(&"file out/count".to_owned()), "{begun:?}");
    assert!(begun.contains(&"job after".to_owned()), "{begun:?}");
}

#[tokio::test]
async fn a_server_that_was_killed_while_it_converted_goes_on() {
    let site = Site::before().await;
    let whole = site.start().await.shown().await;
    let plans = site
        .texts("SELECT id || plan FROM controller_workflows WHERE plan IS NOT NULL ORDER BY id")
        .await;
    assert_eq!(plans.len(), 8);
    // Each is converted in a transaction of its own: a kill leaves some with a plan and some
    // without.
    site.execute("UPDATE controller_workflows SET plan = NULL WHERE place % 2 = 0").await;
    let again = site.start().await.shown().await;
    assert_eq!(again, whole);
    let same = site
        .texts("SELECT id || plan FROM controller_workflows WHERE plan IS NOT NULL ORDER BY id")
        .await;
    assert_eq!(same, plans);
}

#[tokio::test]
async fn a_stored_plan_is_read_and_its_document_never_again() {
    let site = Site::before().await;
    let whole = site.start().await.shown().await;
    site.execute("UPDATE controller_workflows SET document = 'no document at all: ['").await;
    assert_eq!(site.start().await.shown().await, whole);
}

#[tokio::test]
async fn a_rule_that_came_later_stops_nothing_that_was_accepted() {
    let site = Site::before().await;
    let document = "UPDATE controller_workflows SET document =
        'version: v1\njobs: {Ruled_Out: {image: \"docker://127.0.0.1:5000/tiny:1\", command: [hang]},
         next: {image: \"docker://127.0.0.1:5000/tiny:1\", command: [x], requires: [Ruled_Out]}}'
        WHERE name = 'ruled'";
    site.execute(document).await;
    let mut server = site.start().await;
    let view = server.view("ruled");
    assert_eq!(view.summary.blocked, None);
    assert_eq!((view.stages[1].name.as_str(), view.stages[1].state), ("Ruled_Out", State::Started));
    let at = clock::now();
    assert_nothing_is_ended(&server.nodes_come_back(at).await);
    server.end("ruled", Outcome::Exited { code: 0 }, at).await;
    assert_eq!(server.view("ruled").stages[1].state, State::Finished);
}

#[tokio::test]
async fn what_cannot_be_converted_is_blocked_and_followed_to_its_end() {
    let site = Site::before().await;
    let good = site.texts("SELECT document FROM controller_workflows WHERE name = 'strange'").await;
    let unreadable = "UPDATE controller_workflows SET document = $1 WHERE name = 'strange'";
    sqlx::query(unreadable).bind(UNREADABLE).execute(&mut site.connection().await).await.unwrap();
    let before = site.rows().await;
    let mut server = site.start().await;
    assert_eq!(site.rows().await, before, "a later release can still convert it");
    let view = server.view("strange");
    let why = view.summary.blocked.clone().unwrap();
    assert!(why.contains("cannot read its document") && why.contains("balloon"), "{why}");
    assert_eq!((view.summary.state, view.stages[1].name.as_str()), (State::Started, "strange"));
    assert_eq!((view.stages[1].state, view.stages[1].nodes.len()), (State::Started, 1));
    let waiting = server.live().why(view.summary.id, None, &BTreeMap::new(), clock::now()).unwrap();
    assert!(waiting[0].reasons[0].contains("balloon"), "{waiting:?}");
    assert_eq!(server.live().summaries().filter(|summary| summary.blocked.is_some()).count(), 1);

    let at = clock::now();
    assert_nothing_is_ended(&server.nodes_come_back(at).await);
    let (run, effects) = server.end("strange", Outcome::Exited { code: 0 }, at).await;
    let forgotten: Vec<RunId> = effects.forget.iter().map(|(_, _, run)| *run).collect();
    assert_eq!(forgotten, [run], "its node has told all, and needs its space");
    assert!(server.runs("strange").await[0].outcome.is_some(), "how it ended is stored");
    server.engine.tick(at.plus_seconds(1_000), std::time::Duration::from_secs(1_000));
    server.proceed(at.plus_seconds(1_000)).await;
    let view = server.view("strange");
    assert!(
        view.summary.blocked.is_some() && view.summary.ended.is_none(),
        "it waits for a release"
    );
    assert_eq!(view.stages[1].tasks.finished, 1);

    // That release comes.
    let mend = "UPDATE controller_workflows SET document = $1 WHERE name = 'strange'";
    sqlx::query(mend).bind(&good[0]).execute(&mut site.connection().await).await.unwrap();
    let mut server = site.start().await;
    server.nodes.runs.retain(|held| held.run != run);
    assert_eq!(server.view("strange").summary.blocked, None);
    let begun: Vec<String> = started(&server.nodes_come_back(at).await).into_values().collect();
    assert_eq!(server.view("strange").stages[1].state, State::Finished);
    assert!(begun.contains(&"job next".to_owned()), "{begun:?}");
}

#[tokio::test]
async fn what_is_blocked_can_be_stopped() {
    let site = Site::before().await;
    sqlx::query(
        "UPDATE controller_workflows SET document = $1 WHERE name IN ('strange', 'data', 'given', 'array')",
    )
    .bind(UNREADABLE)
    .execute(&mut site.connection().await)
    .await
    .unwrap();
    let mut server = site.start().await;
    let at = clock::now();
    assert_nothing_is_stopped(&server.nodes_come_back(at).await);
    // The tasks of `array` are numbered from 1.
    let ids = ["strange", "data", "given", "array"].map(|name| server.id(name));
    let row = server.runs("given").await.remove(0);
    assert!(
        matches!(row.outcome, Some(Outcome::Refused { .. })),
        "what never arrived is not begun, and takes no cores: {row:?}"
    );
    for id in ids {
        assert!(server.engine.stop(id, "stopped by ann", at));
    }
    let effects = server.proceed(at).await;
    let told = |ends: fn(&FromServer) -> bool| {
        effects.messages.iter().filter(|(_, message)| ends(message)).count()
    };
    assert_eq!(told(|message| matches!(message, FromServer::StopRun { .. })), 3);
    server.end("array", Outcome::Stopped { why: "stopped by ann".to_owned() }, at).await;
    for name in ["strange", "data"] {
        let (_, effects) =
            server.end(name, Outcome::Stopped { why: "stopped by ann".to_owned() }, at).await;
        let removes = |(_, message): &(NodeId, FromServer)| {
            matches!(message, FromServer::RemoveVolumes { .. })
        };
        assert_eq!(
            effects.messages.iter().filter(|told| removes(told)).count(),
            if name == "data" { 2 } else { 0 }
        );
    }
    for id in ids {
        let row = server.store.workflow(id).await.unwrap().unwrap();
        assert_eq!((row.state, row.reason.as_deref()), (State::Canceled, Some("stopped by ann")));
        let view = row.view.unwrap();
        assert!(view.summary.blocked.is_none(), "it is over: nothing stands in its way");
        assert!(view.stages.iter().all(|stage| stage.state.is_ended()), "{view:?}");
    }
}

#[tokio::test]
async fn plans_that_do_not_fit_their_rows_or_this_release_block() {
    let site = Site::before().await;
    site.start().await;
    for (name, plan, expected) in [
        ("strange", "{\"plan\":4}", "version 4, and this release reads up to 3"),
        ("ruled", "{\"plan\":1}", "damaged"),
        ("paused", "{\"plan\":1,\"groups\":0,\"stages\":[]}", "no stage 0"),
        (
            "data",
            "{\"plan\":1,\"groups\":0,\"stages\":[]}",
            "has 0 groups of volumes, and the database 2",
        ),
    ] {
        sqlx::query("UPDATE controller_workflows SET plan = $1 WHERE name = $2")
            .bind(plan)
            .bind(name)
            .execute(&mut site.connection().await)
            .await
            .unwrap();
        let mut server = site.start().await;
        let why = server.view(name).summary.blocked.unwrap();
        assert!(why.contains(expected), "{name}: {why}");
        assert_nothing_is_ended(&server.nodes_come_back(clock::now()).await);
    }
}

/// Runs that are over, in workflows that are over; the server keeps 10,000 workflows.
const MANY_RUNS: u32 = 1_000_000;

/// Bytes that the upgrade may add to a database of [`MANY_RUNS`] runs: the plans of some workflows,
/// and nothing for each run, each of which becomes the one member of its attempt.
const MOST_GROWTH_BYTES: i64 = 1 << 20;

#[tokio::test]
async fn an_upgrade_writes_nothing_for_a_million_runs_that_are_over() {
    let site = Site::before().await;
    let runs = format!(
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {MANY_RUNS}),
           one AS (SELECT * FROM controller_runs WHERE outcome IS NOT NULL AND placement IS NOT NULL LIMIT 1)
         INSERT INTO controller_runs (run, workflow, stage, task, attempt, node, node_name, boot, placement, placed,
           accepted, started, ended, outcome, log_bytes, used)
         SELECT printf('%032x', n), (SELECT id FROM controller_workflows WHERE name = 'hello'), 1, n, 1, node, node_name,
           boot, placement, placed, accepted, started, ended - 3600000000, outcome, log_bytes, used
         FROM number, one"
    );
    sqlx::query(sqlx::AssertSqlSafe(runs)).execute(&mut site.connection().await).await.unwrap();
    let all_runs = site.number("SELECT COUNT(*) FROM controller_runs").await;
    assert!(all_runs > i64::from(MANY_RUNS));
    let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes = site.number(pages).await;
    assert!(bytes > 100 << 20, "{bytes} bytes are not those of a million runs");
    let begun = clock::now();
    let mut server = site.start().await;
    let took = clock::now().seconds() - begun.seconds();
    let after = site.number(pages).await;
    assert!(after - bytes < MOST_GROWTH_BYTES, "{} bytes more", after - bytes);
    let view = server.live();
    let live = view.summaries().filter(|summary| summary.ended.is_none());
    assert_eq!(live.count(), 8);
    assert!(site.directory.path().join("db.before-9").exists(), "the way back");
    let members = "SELECT COUNT(*) FROM controller_runs WHERE member = 0";
    assert_eq!(site.number(members).await, all_runs, "none is lost");
    assert_eq!(site.number("SELECT COUNT(*) FROM controller_attempts").await, 0);
    // What grows with the runs is the copy of the database, at the speed of the disk.
    assert!(took < 60, "{took} s");
}

/// What of a workflow in the tables cannot be read, what is said of it, and how many columns are
/// damaged, which no write of the row mends.
const DAMAGES: [(&str, &str, &str); 9] = [
    (
        "UPDATE controller_workflows SET homes = '{' WHERE name = 'strange'",
        "(homes: ",
        "SELECT COUNT(*) FROM controller_workflows WHERE homes = '{'",
    ),
    (
        "UPDATE controller_workflows SET state = 'odd' WHERE name = 'strange'",
        "(state: ",
        "SELECT COUNT(*) FROM controller_workflows WHERE state = 'odd'",
    ),
    (
        "UPDATE controller_workflows SET owner = '{' WHERE name = 'strange'",
        "(owner: ",
        "SELECT COUNT(*) FROM controller_workflows WHERE owner = '{'",
    ),
    (
        "UPDATE controller_workflows SET owner = '{\"name\":\"\",\"uid\":4294967295,\"gid\":4294967295,\"groups\":[]}'
          WHERE name = 'strange'",
        "(owner: an earlier release could not read it",
        "SELECT COUNT(*) FROM controller_workflows WHERE owner LIKE '%4294967295%'",
    ),
    (
        "UPDATE controller_stages SET state = 'odd' WHERE stage = 0 AND workflow =
           (SELECT id FROM controller_workflows WHERE name = 'strange')",
        "could not read the stages of a workflow",
        "SELECT COUNT(*) FROM controller_stages WHERE state = 'odd'",
    ),
    (
        "UPDATE controller_stages SET started = 'odd' WHERE stage = 0 AND workflow =
           (SELECT id FROM controller_workflows WHERE name = 'strange')",
        "could not read the stages of a workflow",
        "SELECT COUNT(*) FROM controller_stages WHERE started = 'odd'",
    ),
    (
        "UPDATE controller_runs SET used = '{' WHERE run = (SELECT MIN(run) FROM controller_runs
           WHERE workflow = (SELECT id FROM controller_workflows WHERE name = 'strange'))",
        "could not read the runs of a workflow",
        "SELECT COUNT(*) FROM controller_runs WHERE used = '{'",
    ),
    (
        "UPDATE controller_runs SET run = 'odd' WHERE workflow =
           (SELECT id FROM controller_workflows WHERE name = 'strange')",
        "could not read the runs of a workflow",
        "SELECT COUNT(*) FROM controller_runs WHERE run = 'odd'",
    ),
    (
        "UPDATE controller_workflows SET plan = x'ff' WHERE name = 'strange'",
        "cannot read its document",
        "SELECT COUNT(*) FROM controller_workflows WHERE plan = x'ff'",
    ),
];

#[tokio::test]
async fn a_row_that_cannot_be_read_blocks_its_workflow_and_no_other() {
    for (damage, expected, damaged) in DAMAGES {
        let site = Site::before().await;
        site.start().await;
        site.execute(damage).await;
        // However often it is read and written.
        for by in ["", "ann", "ben"] {
            let mut server = site.start().await;
            let blocked: Vec<(String, String)> = server
                .live()
                .summaries()
                .filter_map(|summary| Some((summary.name, summary.blocked?)))
                .collect();
            assert!(
                matches!(blocked.as_slice(), [(name, why)] if name == "strange" && why.contains(expected)),
                "{damage}: {blocked:?}"
            );
            let at = clock::now();
            assert_nothing_is_ended(&server.nodes_come_back(at).await);
            let id = server.id("strange");
            server.engine.pause(id, !by.is_empty(), by, at);
            server.proceed(at).await;
            assert_eq!(site.number(damaged).await, 1, "{damage}");
        }
        let (mut server, at) = (site.start().await, clock::now());
        server.nodes_come_back(at).await;
        let id = server.id("strange");
        assert!(server.engine.stop(id, "stopped by ann", at), "{damage}");
        let effects = server.proceed(at).await;
        let stops = effects
            .messages
            .iter()
            .filter(|(_, told)| matches!(told, FromServer::StopRun { .. }))
            .count();
        // Of one without a readable id nobody knows whose it is.
        assert_eq!(stops, usize::from(!damage.contains("run = 'odd'")), "{damage}");
        assert_eq!(
            server.store.workflow(id).await.unwrap().unwrap().stop.as_deref(),
            Some("stopped by ann")
        );
        assert_eq!(site.number(damaged).await, 1, "{damage}");
        // What was stopped ends on the nodes after a restart too.
        let effects = site.start().await.nodes_come_back(at).await;
        let stops = effects
            .messages
            .iter()
            .filter(|(_, told)| matches!(told, FromServer::StopRun { .. }))
            .count();
        assert_eq!(stops, 1, "{damage}");
    }
}

#[tokio::test]
async fn what_runs_of_a_workflow_whose_key_cannot_be_read_goes_on() {
    let site = Site::before().await;
    site.start().await;
    site.execute("UPDATE controller_workflows SET place = 'odd' WHERE name = 'strange'").await;
    for _ in 0..2 {
        let mut server = site.start().await;
        assert!(server.live().summaries().all(|summary| summary.name != "strange"));
        assert_nothing_is_ended(&server.nodes_come_back(clock::now()).await);
        // The next workflow has a place behind those that can be read.
        let last =
            site.number("SELECT MAX(CAST(place AS INTEGER)) FROM controller_workflows").await;
        assert_eq!(server.store.next_sequence().await.unwrap(), last.unsigned_abs() + 1);
    }
    // What is not in the database at all is stopped all the same.
    let (mut server, at) = (site.start().await, clock::now());
    let (node, run) = (server.nodes.runs[0].node, RunId(uuid::Uuid::from_u128(1)));
    server.engine.handle_report(node, &RunReport { run, state: RunState::Preparing {} }, at);
    let told = server.proceed(at).await.messages;
    assert!(
        matches!(told.as_slice(), [(_, FromServer::StopRun { run: is, .. })] if *is == run),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_page_of_runs_is_full_though_one_of_them_cannot_be_read() {
    let site = Site::before().await;
    let mut server = site.start().await;
    let id = server.id("array");
    let store = &server.store;
    let whole = store.runs(id, None, None, u32::MAX).await.unwrap();
    assert!(whole.len() > 2, "{}", whole.len());
    let damage = "UPDATE controller_runs SET used = '{' WHERE run = $1";
    let first = sqlx::query(damage).bind(whole[0].run.to_string());
    first.execute(&mut site.connection().await).await.unwrap();
    assert_eq!(store.runs(id, None, None, 1).await.unwrap(), whole[1..2]);
    assert_eq!(store.runs(id, None, None, u32::MAX).await.unwrap(), whole[1..]);
}

#[tokio::test]
async fn a_list_has_what_is_over_though_one_of_them_cannot_be_read() {
    let site = Site::before().await;
    site.execute("UPDATE controller_workflows SET view = '{' WHERE ended IS NOT NULL").await;
    let store = site.store().await;
    let over = store.over(&Listing::default(), None, 100).await.unwrap();
    assert!(!over.is_empty());
    assert!(over.iter().all(|one| {
        one.row.unreadable.as_ref().is_some_and(|damage| damage.cause.starts_with("view: "))
    }));
}

/// However long ago that was: nothing could arrive since.
#[tokio::test]
async fn a_log_is_awaited_that_was_under_way_when_the_server_went_down() {
    let site = Site::before().await;
    let ended = "UPDATE controller_runs
           SET ended = (SELECT MAX(submitted) FROM controller_workflows) + 601000000, outcome = '{\"outcome\":\"exited\",\"code\":0}', log_bytes = 30
         WHERE workflow IN
           (SELECT id FROM controller_workflows WHERE name IN ('strange', 'ruled'))";
    site.execute(ended).await;
    let over = "UPDATE controller_workflows SET state = 'finished',
           ended = (SELECT MAX(submitted) FROM controller_workflows)
                   + CASE name WHEN 'ruled' THEN 0 ELSE 601000000 END
         WHERE name IN ('strange', 'ruled')";
    site.execute(over).await;
    let newest = site.number("SELECT MAX(ended) FROM controller_workflows").await;
    assert!(
        newest < clock::now().plus_seconds(-600).0,
        "the server was down for longer than it waits"
    );
    let runs = "SELECT run FROM controller_runs JOIN controller_workflows ON workflow = id
         WHERE log_bytes = 30 ORDER BY name";
    let [of_ruled, of_strange]: [RunId; 2] = site
        .texts(runs)
        .await
        .iter()
        .map(|run| run.parse().unwrap())
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();

    let mut server = site.start().await;
    assert!(server.holds(of_strange));
    assert!(!server.holds(of_ruled), "it was waited for long enough before");
    let uptime = std::time::Duration::from_secs;
    server.engine.tick(clock::now(), uptime(5));
    server.engine.tick(clock::now().plus_seconds(1_000_000), uptime(604));
    assert!(server.holds(of_strange), "a clock that somebody sets counts for nothing");
    server.engine.tick(clock::now(), uptime(605));
    assert!(!server.holds(of_strange));
}
