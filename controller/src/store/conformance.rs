//! What every engine must do, run against each.

use std::path::Path;

use api::{
    ids::NodeId,
    run::{Outcome, Usage},
    workflow::{EventKind, State, WorkflowSort, WorkflowStatus},
};
use database::Database;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{
    sql::{SCHEMA, SqlStore},
    *,
};
use crate::record::{AttemptRow, Grant, Owner, StageRow, SubmittedRow, VolumePlacement};

async fn sqlite(directory: &Path) -> SqlStore {
    let database = Database::open(&directory.join("db"), &[&SCHEMA]).await.unwrap();
    SqlStore::open(database.clone()).await.unwrap();
    // Opening twice is what every restart does.
    SqlStore::open(database).await.unwrap()
}

fn workflow(number: u128) -> WorkflowRow {
    WorkflowRow {
        id: WorkflowId(uuid::Uuid::from_u128(number)),
        sequence: u64::try_from(number).unwrap(),
        name: format!("w{number}"),
        owner: Owner { name: "ann".into(), uid: 1001, gid: 4_000_000_000, groups: vec![7] },
        submitted: Timestamp(1),
        started: None,
        ended: None,
        state: State::Pending,
        reason: None,
        stop: None,
        paused: None,
        volume_placements: vec![None],
        view: None,
        unreadable: None,
    }
}

/// All of a user, the newest first.
fn of(owner: &str) -> Listing {
    Listing { owner: Some(owner.to_owned()), ..Listing::default() }
}

fn submit(row: &WorkflowRow) -> Write {
    let (document, plan) = ("version: v4".to_owned(), format!("the plan of {}", row.name));
    Write::Submit(Box::new(SubmittedRow { row: row.clone(), document, plan, key: None }))
}

fn run(number: u128, task: u32) -> RunRow {
    RunRow {
        run: RunId(uuid::Uuid::from_u128(number)),
        workflow: workflow(1).id,
        stage: StageId(2),
        task,
        attempt: 1,
        member: 0,
        node: NodeId(uuid::Uuid::from_u128(9)),
        node_name: "n1".parse().unwrap(),
        boot: "boot1".into(),
        grant: Some(Grant {
            cpus: vec![0, 4],
            cores: vec![0],
            memory: vec![(0, 1 << 40)],
            ..Grant::default()
        }),
        placed: Timestamp(3),
        accepted: false,
        started: None,
        ended: None,
        outcome: None,
        usage: Usage::default(),
        log_bytes: 0,
    }
}

async fn workflows(store: impl Store) {
    assert_eq!(store.next_sequence().await.unwrap(), 1);
    let (first, second) = (workflow(1), workflow(2));
    let writes = [&second, &first].map(submit);
    store.commit(&writes).await.unwrap();
    assert_eq!(store.next_sequence().await.unwrap(), 3);
    assert_eq!(store.unfinished(Timestamp(6)).await.unwrap().0, [first.clone(), second.clone()]);
    assert_eq!(store.newest_end().await.unwrap(), None);

    let over = WorkflowRow {
        started: Some(Timestamp(2)),
        ended: Some(Timestamp(5)),
        state: State::Failed,
        reason: Some("job a: exited with status 1".into()),
        stop: Some("stopped by ann".into()),
        volume_placements: vec![Some(VolumePlacement {
            node: NodeId(uuid::Uuid::nil()),
            name: "n1".parse().unwrap(),
            boot: "b".into(),
        })],
        ..first
    };
    store.commit(&[Write::Workflow(Box::new(over.clone()))]).await.unwrap();
    let held = |id, is_over| {
        let documents = "version: v4".len() as u64 + "the plan of w1".len() as u64;
        HeldWorkflow { id, owner: Some("ann".to_owned()), documents, is_over }
    };
    let (mut all, is_all) = store.held().await.unwrap();
    assert!(is_all);
    all.sort_unstable_by_key(|one| one.id);
    assert_eq!(all, [held(over.id, true), held(second.id, false)]);
    assert_eq!(store.unfinished(Timestamp(6)).await.unwrap().0, std::slice::from_ref(&second));
    assert_eq!(store.unfinished(Timestamp(5)).await.unwrap().0, [over.clone(), second.clone()]);
    assert_eq!(store.newest_end().await.unwrap(), Some(Timestamp(5)));
    let listed = Listed { key: String::new(), row: over.clone() };
    assert_eq!(
        store.over(&Listing::default(), None, 10).await.unwrap(),
        std::slice::from_ref(&listed)
    );
    assert_eq!(store.over(&of("ann"), None, 10).await.unwrap(), [listed]);
    assert_eq!(store.over(&of("bob"), None, 10).await.unwrap(), []);
    assert_eq!(store.over(&Listing::default(), None, 0).await.unwrap(), []);
    assert_eq!(store.newest(&second.name, None).await.unwrap(), Some(second.id));
    assert_eq!(store.newest(&second.name, Some("ann")).await.unwrap(), Some(second.id));
    assert_eq!(store.newest(&second.name, Some("bob")).await.unwrap(), None);
    assert_eq!(store.newest("another", None).await.unwrap(), None);
    let of_ann = |id| (id, Some("ann".to_owned()));
    assert_eq!(store.named(&second.name, None, 9).await.unwrap(), [of_ann(second.id)]);
    assert_eq!(store.named(&second.name, Some("bob"), 9).await.unwrap(), []);
    let third = WorkflowRow { name: second.name.clone(), ..workflow(3) };
    store.commit(&[submit(&third)]).await.unwrap();
    let both = [of_ann(third.id), of_ann(second.id)];
    assert_eq!(store.named(&second.name, Some("ann"), 9).await.unwrap(), both);
    assert_eq!(store.named(&second.name, None, 1).await.unwrap(), [of_ann(third.id)]);
    assert_eq!(store.workflow(over.id).await.unwrap(), Some(over.clone()));
    assert_eq!(store.document(over.id).await.unwrap().as_deref(), Some("version: v4"));
    assert_eq!(store.document(workflow(9).id).await.unwrap(), None);
    assert_eq!(store.outdated(None, 1).await.unwrap(), []);
    assert_eq!(store.outdated(None, 0).await.unwrap(), [over.id]);
    assert_eq!(store.outdated(Some("ann"), 0).await.unwrap(), [over.id]);
    assert_eq!(store.outdated(Some("ann"), 1).await.unwrap(), []);
    assert_eq!(store.outdated(Some("bob"), 0).await.unwrap(), []);

    store.commit(&[Write::Forget(second.id), Write::Forget(over.id)]).await.unwrap();
    assert_eq!(store.workflow(over.id).await.unwrap(), None);
    assert!(store.workflow(second.id).await.unwrap().is_some(), "it is not over");
    store.commit(&[Write::Forget(over.id)]).await.unwrap();
    assert_eq!(store.forgotten().await.unwrap(), [over.id], "what is not over is not forgotten");
    store.removed(&[over.id, second.id]).await.unwrap();
    store.removed(&[]).await.unwrap();
    assert_eq!(store.forgotten().await.unwrap(), []);
}

async fn stages_runs_and_events(store: impl Store) {
    let id = workflow(1).id;
    let stage = StageRow {
        workflow: id,
        stage: StageId(2),
        state: State::Started,
        reason: None,
        started: Some(Timestamp(4)),
        ended: None,
        result: None,
    };
    let event = |number| {
        let (event, message) = (EventKind::StageStarted, "started".to_owned());
        let event =
            WorkflowEvent { number, at: Timestamp(4), event, stage: Some(2), name: None, message };
        Write::Event(id, Box::new(event))
    };
    assert_eq!(store.last_event(id).await.unwrap(), 0);
    let runs = [run(1, 0), run(2, 1)];
    let mut writes = vec![submit(&workflow(1)), Write::Stage(Box::new(stage.clone()))];
    writes.extend(runs.iter().map(|row| Write::Run(Box::new(row.clone()))));
    writes.extend([event(1), event(2)]);
    store.commit(&writes).await.unwrap();

    let stage = StageRow {
        state: State::Failed,
        reason: Some("why".into()),
        ended: Some(Timestamp(6)),
        ..stage
    };
    let over = RunRow {
        accepted: true,
        started: Some(Timestamp(5)),
        ended: Some(Timestamp(6)),
        outcome: Some(Outcome::OutOfMemory { limit_bytes: 7 }),
        usage: Usage {
            cpu_micros: 8,
            memory_peak_bytes: 9,
            read_bytes: 10,
            written_bytes: 11,
            cpu_wait_micros: 12,
            memory_wait_micros: 13,
            io_wait_micros: 14,
        },
        log_bytes: 10,
        ..runs[0].clone()
    };
    store
        .commit(&[Write::Stage(Box::new(stage.clone())), Write::Run(Box::new(over.clone()))])
        .await
        .unwrap();
    let rows = store.rows(id, None).await.unwrap();
    assert_eq!((rows.stages, rows.unreadable), (vec![stage], None));
    assert_eq!(store.runs(id, None, None, 10).await.unwrap(), [over.clone(), runs[1].clone()]);
    assert_eq!(
        store.runs(id, Some(StageId(2)), None, 1).await.unwrap(),
        std::slice::from_ref(&over)
    );
    assert_eq!(store.runs(id, Some(StageId(1)), None, 10).await.unwrap(), []);
    let behind_first = store.runs(id, None, Some(over.key()), 10).await.unwrap();
    assert_eq!(behind_first, std::slice::from_ref(&runs[1]));
    assert_eq!(store.runs(id, Some(StageId(2)), Some(runs[1].key()), 10).await.unwrap(), []);
    assert_eq!(store.rows(id, Some(Timestamp(6))).await.unwrap().runs, std::slice::from_ref(&over));
    assert_eq!(store.rows(id, Some(Timestamp(7))).await.unwrap().runs, []);
    assert_eq!(store.run(over.run).await.unwrap(), Some(over));
    assert_eq!(store.last_event(id).await.unwrap(), 2);
    assert_eq!(store.events(id, 1, 10).await.unwrap().len(), 1);

    // All or nothing: the second line has a number that is taken.
    let twice = [event(3), event(2)];
    assert!(store.commit(&twice).await.is_err());
    assert_eq!(store.last_event(id).await.unwrap(), 2);
}

/// Members of an attempt are read in their order, and so are pages of them.
async fn attempts_of_several_members(store: impl Store) {
    let id = workflow(1).id;
    let attempt = AttemptRow {
        workflow: id,
        stage: StageId(2),
        task: 0,
        attempt: 1,
        members: 2,
        placed: Timestamp(3),
        released: None,
        ended: None,
        outcome: None,
    };
    let second = RunRow { member: 1, ..run(2, 0) };
    let runs = [run(1, 0), second, run(3, 1)];
    let mut writes = vec![submit(&workflow(1)), Write::Attempt(Box::new(attempt.clone()))];
    writes.extend(runs.iter().rev().map(|row| Write::Run(Box::new(row.clone()))));
    store.commit(&writes).await.unwrap();
    assert_eq!(store.runs(id, None, None, 10).await.unwrap(), runs);
    assert_eq!(store.runs(id, None, Some(runs[0].key()), 1).await.unwrap(), runs[1..2]);
    assert_eq!(store.runs(id, None, Some(runs[1].key()), 9).await.unwrap(), runs[2..]);
    let over = AttemptRow {
        released: Some(Timestamp(4)),
        ended: Some(Timestamp(5)),
        outcome: Some(Outcome::Exited { code: 3 }),
        ..attempt.clone()
    };
    store
        .commit(&[Write::Attempt(Box::new(over.clone())), Write::Attempt(Box::new(attempt))])
        .await
        .unwrap();
    store.commit(&[Write::Attempt(Box::new(over.clone()))]).await.unwrap();
    let rows = store.rows(id, None).await.unwrap();
    assert_eq!((rows.attempts, rows.runs.len(), rows.unreadable), (vec![over], 3, None));
    let ended = WorkflowRow { ended: Some(Timestamp(6)), ..workflow(1) };
    store.commit(&[Write::Workflow(Box::new(ended)), Write::Forget(id)]).await.unwrap();
    assert_eq!(store.rows(id, None).await.unwrap(), Rows::default(), "they go with their workflow");
}

/// What is written at once belongs together in any order.
async fn history_before_its_workflow(store: impl Store) {
    let event = WorkflowEvent {
        number: 1,
        at: Timestamp(1),
        event: EventKind::Other("WORKFLOW_SUBMITTED".to_owned()),
        stage: None,
        name: None,
        message: String::new(),
    };
    let writes = [Write::Event(workflow(1).id, Box::new(event.clone())), submit(&workflow(1))];
    store.commit(&writes).await.unwrap();
    assert_eq!(store.events(workflow(1).id, 0, 10).await.unwrap(), std::slice::from_ref(&event));
    assert!(
        store.commit(&[Write::Event(workflow(2).id, Box::new(event))]).await.is_err(),
        "a history of nothing"
    );
}

/// A plan is written once, with its workflow or by a conversion, and by nothing that follows.
async fn plans(store: impl Store) {
    let row = workflow(1);
    let (id, stored) = (row.id, Some(StoredPlan::Plan("the plan of w1".to_owned())));
    assert_eq!(store.plan(id).await.unwrap(), None);
    // What becomes of it in the same batch is what is stored.
    let later = WorkflowRow { state: State::Started, started: Some(Timestamp(2)), ..row.clone() };
    store.commit(&[Write::Workflow(Box::new(later.clone())), submit(&row)]).await.unwrap();
    assert_eq!(store.workflow(id).await.unwrap(), Some(later.clone()));
    assert_eq!(store.plan(id).await.unwrap(), stored);
    store.commit(&[Write::Workflow(Box::new(row.clone()))]).await.unwrap();
    store.commit(&[Write::Plan { workflow: id, plan: "another".to_owned() }]).await.unwrap();
    assert_eq!(store.plan(id).await.unwrap(), stored);
    assert_eq!(store.without_plan().await.unwrap(), (0, 0));
    assert!(store.commit(&[submit(&row)]).await.is_err(), "it is there already");
    // Of a workflow that was forgotten meanwhile nothing is kept.
    store.commit(&[Write::Workflow(Box::new(workflow(9)))]).await.unwrap();
    assert_eq!(store.workflow(workflow(9).id).await.unwrap(), None);
}

/// What was not over when the first page was read is on none of those behind it.
async fn pages_of_what_is_over(store: impl Store) {
    let rows: Vec<WorkflowRow> = (1..=4).map(workflow).collect();
    store.commit(&rows.iter().map(submit).collect::<Vec<_>>()).await.unwrap();
    let end = |row: &WorkflowRow, at| {
        let state = State::Finished;
        Write::Workflow(Box::new(WorkflowRow { ended: Some(Timestamp(at)), state, ..row.clone() }))
    };
    store.commit(&[end(&rows[3], 5), end(&rows[2], 10), end(&rows[0], 7)]).await.unwrap();
    let sequences = |rows: Vec<Listed>| rows.iter().map(|one| one.row.sequence).collect::<Vec<_>>();
    let all = Listing::default();
    assert_eq!(sequences(store.over(&all, None, 2).await.unwrap()), [4, 3]);
    let behind = PageCursor { sequence: 3, at: Timestamp(10), key: String::new() };
    store.commit(&[end(&rows[1], 11)]).await.unwrap();
    assert_eq!(sequences(store.over(&all, Some(&behind), 10).await.unwrap()), [1]);
    assert_eq!(sequences(store.over(&of("ann"), Some(&behind), 10).await.unwrap()), [1]);
    assert_eq!(sequences(store.over(&all, None, 10).await.unwrap()), [4, 3, 2, 1]);
}

/// Names, states and times of submission of eight workflows that are over, by place from 1.
const OVER: [(&str, &str, State, i64); 8] = [
    ("night", "ann", State::Finished, 10),
    ("day", "bob", State::Failed, 20),
    ("night", "cat", State::Canceled, 30),
    ("n[1]", "ann", State::Finished, 40),
    ("n1", "ann", State::Failed, 50),
    ("Night", "bob", State::Finished, 60),
    ("night", "ann", State::Failed, 70),
    ("é", "ann", State::Finished, 80),
];

fn filters() -> [Listing; 9] {
    [
        of("ann"),
        Listing {
            statuses: vec![WorkflowStatus::Failed, WorkflowStatus::Waiting],
            ..Listing::default()
        },
        Listing { statuses: vec![WorkflowStatus::Waiting], ..Listing::default() },
        Listing {
            name: Some(NamePattern::new("night")),
            sort: WorkflowSort::User,
            ..Listing::default()
        },
        Listing { name: Some(NamePattern::new("n?")), ..Listing::default() },
        Listing { name: Some(NamePattern::new("[1]")), ..Listing::default() },
        Listing { name: Some(NamePattern::new("?")), ..Listing::default() },
        Listing { since: Some(Timestamp(20)), until: Some(Timestamp(40)), ..Listing::default() },
        Listing {
            statuses: vec![WorkflowStatus::Finished],
            name: Some(NamePattern::new("*t")),
            ..of("ann")
        },
    ]
}

/// A list in every order and with every filter, in pages of every length: what is
/// wanted, each once.
async fn lists_of_what_is_over(store: impl Store) {
    let rows = (1..).zip(OVER).map(|(sequence, (name, user, state, submitted))| WorkflowRow {
        name: name.to_owned(),
        owner: Owner { name: user.to_owned(), ..workflow(sequence).owner },
        state,
        submitted: Timestamp(submitted),
        ended: Some(Timestamp(100)),
        ..workflow(sequence)
    });
    store.commit(&rows.map(|row| submit(&row)).collect::<Vec<_>>()).await.unwrap();
    let pages = async |listing: &Listing, limit: u32| {
        let (mut sequences, mut behind) = (Vec::new(), None);
        loop {
            let page = store.over(listing, behind.as_ref(), limit).await.unwrap();
            sequences.extend(page.iter().map(|one| one.row.sequence));
            let Some(Listed { key, row }) = page.into_iter().last() else { return sequences };
            behind = Some(PageCursor { sequence: row.sequence, at: Timestamp(100), key });
        }
    };
    let mut lines = String::new();
    let sorts = WorkflowSort::ALL.map(|sort| Listing { sort, ..Listing::default() });
    for mut listing in sorts.into_iter().chain(filters()) {
        for is_reversed in [false, true] {
            listing.is_reversed = is_reversed;
            let whole = pages(&listing, 100).await;
            for limit in 1..5 {
                assert_eq!(pages(&listing, limit).await, whole, "{limit} {listing:?}");
            }
            let whole: Vec<String> = whole.iter().map(u64::to_string).collect();
            lines += &format!("{}\n", whole.join(" "));
        }
    }
    expect_test::expect![[r#"
        8 7 6 5 4 3 2 1
        1 2 3 4 5 6 7 8
        6 2 5 4 7 3 1 8
        8 1 3 7 4 5 2 6
        3 7 5 2 8 6 4 1
        1 4 6 8 2 5 7 3
        8 7 5 4 1 6 2 3
        3 2 6 1 4 5 7 8
        8 7 5 4 1
        1 4 5 7 8
        7 5 2
        2 5 7


        7 1 3
        3 1 7
        5
        5
        4
        4
        8
        8
        4 3 2
        2 3 4
        1
        1
    "#]]
    .assert_eq(&lines);
}

/// A key is there with its workflow or not at all, is its user's, and counts for a day.
async fn keys_of_submissions(store: impl Store) {
    let key =
        |principal: &str, key: &str| SubmissionKey { principal: principal.into(), key: key.into() };
    let keyed = |number, at, of: &SubmissionKey| {
        let row = WorkflowRow { submitted: Timestamp(at), ..workflow(number) };
        let key = Some((of.clone(), Digest([u8::try_from(number).unwrap(); 32])));
        let (document, plan) = (String::new(), String::new());
        Write::Submit(Box::new(SubmittedRow { row, document, plan, key }))
    };
    let (ann, ben) = (key("ann", "k"), key("ben", "k"));
    let submission = |number: u8| KeyedSubmission {
        request: Digest([number; 32]),
        workflow: workflow(number.into()).id,
    };
    let day = KEY_LIFE_SECONDS * 1_000_000;
    assert_eq!(store.submission(&ann, Timestamp(0)).await.unwrap(), None);
    store.commit(&[keyed(1, 10, &ann), keyed(2, 11, &ben)]).await.unwrap();
    assert_eq!(store.submission(&ann, Timestamp(10)).await.unwrap(), Some(submission(1)));
    assert_eq!(store.submission(&ben, Timestamp(10)).await.unwrap(), Some(submission(2)));
    assert_eq!(store.submission(&ann, Timestamp(11)).await.unwrap(), None, "it is too old");
    assert_eq!(store.submission(&key("ann", "K"), Timestamp(0)).await.unwrap(), None);
    assert_eq!(store.keys_of("ann", Timestamp(10)).await.unwrap(), 1);
    assert_eq!(store.keys_of("ann", Timestamp(11)).await.unwrap(), 0);

    // The workflow is refused, and its key with it.
    assert!(store.commit(&[keyed(1, 12, &key("ann", "other"))]).await.is_err());
    assert_eq!(store.submission(&key("ann", "other"), Timestamp(0)).await.unwrap(), None);

    // A new one drops what is older than a day, and a clock that was set back is no error.
    store.commit(&[keyed(3, day + 11, &key("ann", "next"))]).await.unwrap();
    assert_eq!(store.submission(&ann, Timestamp(0)).await.unwrap(), None);
    assert_eq!(store.submission(&ben, Timestamp(0)).await.unwrap(), Some(submission(2)));
    store.commit(&[keyed(4, 5, &ben)]).await.unwrap();
    assert_eq!(store.submission(&ben, Timestamp(0)).await.unwrap(), Some(submission(4)));
}

async fn names_of_stages(store: impl Store) {
    let event = |number, stage, name: Option<&str>| {
        let (event, message) = (EventKind::StageStarted, "started".to_owned());
        let name = name.map(str::to_owned);
        let event = WorkflowEvent { number, at: Timestamp(4), event, stage, name, message };
        Write::Event(workflow(1).id, Box::new(event))
    };
    let events = [event(1, None, None), event(2, Some(7), Some("b")), event(3, Some(0), Some("a"))];
    let again = [event(4, Some(7), Some("b")), submit(&workflow(1))];
    store.commit(&[events.as_slice(), again.as_slice()].concat()).await.unwrap();
    let names = store.stage_names(workflow(1).id).await.unwrap();
    assert_eq!(names, [(StageId(0), "a".to_owned()), (StageId(7), "b".to_owned())]);
}

#[tokio::test]
async fn sqlite_has_pages_of_what_is_over() {
    let directory = tempfile::tempdir().unwrap();
    pages_of_what_is_over(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_keys_of_submissions() {
    let directory = tempfile::tempdir().unwrap();
    keys_of_submissions(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_plans() {
    let directory = tempfile::tempdir().unwrap();
    plans(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_knows_the_names_of_stages() {
    let directory = tempfile::tempdir().unwrap();
    names_of_stages(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_lists_what_is_over() {
    let directory = tempfile::tempdir().unwrap();
    lists_of_what_is_over(sqlite(directory.path()).await).await;
}

/// No list reads the rows that it does not show: their documents may be megabytes.
#[tokio::test]
async fn sqlite_lists_by_an_index_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(sqlite(directory.path()).await);
    let file = SqliteConnectOptions::new().filename(directory.path().join("db"));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(file).await.unwrap();
    let name = Some(NamePattern::new("x"));
    for sort in WorkflowSort::ALL {
        for (name, owner) in
            [(None, None), (name.clone(), None), (name.clone(), Some("ann".to_owned()))]
        {
            let listing = Listing { sort, name, owner, ..Listing::default() };
            let text = format!("EXPLAIN QUERY PLAN {}", sql::lists::text(&listing));
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sqlx::AssertSqlSafe(text)).fetch_all(&pool).await.unwrap();
            let index =
                plan.iter().filter(|line| line.3.contains("INDEX controller_workflows_over"));
            assert_eq!(index.count(), 1, "{listing:?}: {plan:#?}");
        }
    }
}

#[tokio::test]
async fn sqlite_keeps_workflows() {
    let directory = tempfile::tempdir().unwrap();
    workflows(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_stages_runs_and_events() {
    let directory = tempfile::tempdir().unwrap();
    stages_runs_and_events(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_attempts_of_several_members() {
    let directory = tempfile::tempdir().unwrap();
    attempts_of_several_members(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn sqlite_keeps_a_history_before_its_workflow() {
    let directory = tempfile::tempdir().unwrap();
    history_before_its_workflow(sqlite(directory.path()).await).await;
}

#[tokio::test]
async fn runs_of_the_first_version_keep_what_they_used() {
    let memory = "sqlite::memory:".parse().unwrap();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(memory).await.unwrap();
    sqlx::raw_sql(include_str!("../../migrations/0001_first.sql")).execute(&pool).await.unwrap();
    let rows = "INSERT INTO controller_workflows VALUES
          ('00000000-0000-0000-0000-000000000001', 1, 'w', '{\"name\":\"ann\",\"uid\":1,\"gid\":1,\"groups\":[]}', '', 1, NULL,
           NULL, 'started', NULL, NULL, '[]', NULL);
        INSERT INTO controller_runs VALUES
          ('00000000000000000000000000000007', '00000000-0000-0000-0000-000000000001', 0, 0, 1,
           '00000000-0000-0000-0000-000000000009', 'n1', 'b', NULL, 1, TRUE, NULL, NULL, NULL, 8, 9, 0)";
    sqlx::raw_sql(rows).execute(&pool).await.unwrap();
    sqlx::raw_sql(include_str!("../../migrations/0002_usage_and_pause.sql"))
        .execute(&pool)
        .await
        .unwrap();
    let used: String =
        sqlx::query_scalar("SELECT used FROM controller_runs").fetch_one(&pool).await.unwrap();
    let usage: Usage = serde_json::from_str(&used).unwrap();
    assert_eq!(usage, Usage { cpu_micros: 8, memory_peak_bytes: 9, ..Usage::default() });
}
