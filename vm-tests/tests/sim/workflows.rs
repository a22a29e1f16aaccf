//! Workflows over the whole server: real documents, a real registry, the real channel; only the
//! work is pretended.

use std::{collections::BTreeSet, time::Duration};

use api::{
    access::{Account, CreateToken, User},
    ids::Timestamp,
    run::{Outcome, RunEnd, RunId, RunReport, RunState, Usage},
    status::{DrainNode, Phase},
    workflow::{Attempt, StartWorkflow, State, Workflow},
};
use client::{Client, ClientError, LogOf};
use sim_cluster::simulated_node::Agent;

use crate::cluster::{Cluster, IMAGE, in_namespace};

/// What a workflow may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Jobs of one core each, in lines of their own.
pub(crate) fn document(jobs: &[(&str, &str)]) -> String {
    let head = "image: {uri: docker://".to_owned() + IMAGE;
    let job = |(name, rest): &(&str, &str)| {
        format!(
            "  {name}: {{{head}}}, resource: {{cpu: {{cores: 1}}, memory: {{size: 16MiB}}}}, {rest}}}\n"
        )
    };
    "version: v1\njobs:\n".to_owned() + &jobs.iter().map(job).collect::<String>()
}

/// A cluster of two nodes with a registry, and a user.
pub(crate) async fn cluster() -> anyhow::Result<(Cluster, Vec<Agent>, Client)> {
    cluster_configured("").await
}

/// As [`cluster`], with further lines of the server's configuration.
pub(crate) async fn cluster_configured(
    further: &str,
) -> anyhow::Result<(Cluster, Vec<Agent>, Client)> {
    let mut cluster = Cluster::configured(2, further).await?;
    cluster.serve_job_image().await?;
    let agents = cluster.run_all(2).await?;
    let ann = user(&cluster, "ann", 1001).await?;
    Ok((cluster, agents, ann))
}

pub(crate) async fn user(cluster: &Cluster, name: &str, uid: u32) -> anyhow::Result<Client> {
    let account = Some(Account { uid, gid: uid, groups: Vec::new() });
    let user = User { name: name.to_owned(), admin: false, account, comment: None };
    cluster.client().add_user(&user).await?;
    let create = CreateToken {
        name: "test".to_owned(),
        user: Some(name.to_owned()),
        ..CreateToken::default()
    };
    let token = cluster.client().create_token(&create).await?.token;
    cluster.client_with(token)
}

pub(crate) async fn start(client: &Client, document: String) -> Result<String, ClientError> {
    let started =
        client.start_workflow(&StartWorkflow { name: None, document, user: None }).await?;
    Ok(started.id.to_string())
}

pub(crate) async fn end(client: &Client, id: &str) -> anyhow::Result<Workflow> {
    let over = async {
        loop {
            // The server may be away for a moment.
            if let Ok(workflow) = client.workflow(id).await
                && workflow.summary.ended.is_some()
            {
                return workflow;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, over).await {
        Ok(workflow) => Ok(workflow),
        Err(_) => anyhow::bail!("not over after {PATIENCE:?}: {:?}", client.workflow(id).await?),
    }
}

/// The words of a refusal with all mistakes.
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    let error = answer.unwrap_err();
    assert!(error.status().is_some(), "{error}");
    error.to_string()
}

#[test]
fn an_array_reaches_its_concurrency_and_every_task_runs_once() {
    in_namespace(async {
        let (_cluster, agents, ann) = cluster().await?;
        let array = "command: [/bin/sleep, '20'], task-array: {start: 1, end: 32, concurrency: 6}";
        let id = start(&ann, document(&[("frames", array)])).await?;
        let workflow = end(&ann, &id).await?;
        assert_eq!(workflow.summary.state, State::Finished, "{workflow:?}");
        let states: Vec<_> = agents.iter().map(|agent| agent.state().borrow().clone()).collect();
        let most: usize = states.iter().map(|state| state.most_jobs).sum();
        assert!(most <= 8 && states.iter().any(|state| state.most_jobs >= 2), "{states:?}");
        let started = states
            .iter()
            .flat_map(|state| &state.started)
            .filter(|subject| subject.contains("frames"));
        assert_eq!(started.count(), 32);
        let attempts = ann.attempts(&id, None, 1000).await?;
        let tasks: Vec<u32> = attempts.iter().map(|attempt| attempt.task).collect();
        assert_eq!(tasks, (1..=32).collect::<Vec<_>>());
        // The server's own clock: a task is placed when another is known to be over.
        let mut content =
            ann.workflow_log(&id, &LogOf { task: Some(7), ..LogOf::default() }).await?;
        let log = String::from_utf8(content.next().await.unwrap()).unwrap();
        assert!(log.contains("frames") && log.contains("/bin/sleep"), "{log}");
        Ok(())
    });
}

#[test]
fn a_server_that_restarts_goes_on_and_starts_nothing_twice() {
    in_namespace(async {
        let (mut cluster, agents, ann) = cluster().await?;
        let sleep = "command: [/bin/sleep, '60']";
        let after = |job: &str| format!("{sleep}, requires: [{job}]");
        let jobs = [("a", sleep), ("b", &after("a")), ("c", &after("b")), ("d", &after("c"))];
        let id = start(&ann, document(&jobs)).await?;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            cluster.restart().await?;
        }
        let workflow = end(&ann, &id).await?;
        assert_eq!(workflow.summary.state, State::Finished, "{workflow:?}");
        let states: Vec<_> = agents.iter().map(|agent| agent.state().borrow().clone()).collect();
        let started: Vec<&String> = states.iter().flat_map(|state| &state.started).collect();
        let different: BTreeSet<&&String> = started.iter().collect();
        assert_eq!((started.len(), different.len()), (4, 4), "{started:?}");
        Ok(())
    });
}

#[test]
fn jobs_end_in_every_way_and_the_reason_is_told() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let timed_out = Outcome::TimedOut { seconds: 1, cause: None };
        let fails = [
            (
                "command: [exit, '3'], policy: {retry: {attempts: 1}}",
                "exit",
                Outcome::Exited { code: 3 },
                2,
            ),
            ("command: [hang], policy: {timeout: {execute: 1s}}", "1 s", timed_out, 1),
            ("command: [oom]", "memory", Outcome::OutOfMemory { limit_bytes: 16 << 20 }, 1),
        ];
        for (rest, words, outcome, tries) in fails {
            let id = start(&ann, document(&[("job", rest)])).await?;
            let workflow = end(&ann, &id).await?;
            assert_eq!(workflow.summary.state, State::Failed, "{workflow:?}");
            let reason = workflow.summary.reason.unwrap();
            assert!(reason.contains(words), "{reason}");
            let attempts = ann.attempts(&id, None, 10).await?;
            let outcomes: Vec<_> =
                attempts.into_iter().filter_map(|attempt| attempt.outcome).collect();
            assert_eq!(outcomes, vec![outcome; tries]);
        }
        let id = start(&ann, document(&[("job", "command: [/bin/sleep, '50']")])).await?;
        let mut content =
            ann.workflow_log(&id, &LogOf { follow: true, ..LogOf::default() }).await?;
        let mut log = Vec::new();
        while let Ok(bytes) = content.next().await {
            log.extend(bytes);
        }
        assert_eq!(String::from_utf8(log)?.matches("/bin/sleep 50").count(), 1);
        assert_eq!(
            end(&ann, &id).await?.summary.state,
            State::Finished,
            "the log ends with the job"
        );

        let id = start(&ann, document(&[("job", "command: [hang]")])).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ann.stop_workflow(&id).await?;
        let workflow = end(&ann, &id).await?;
        assert_eq!(workflow.summary.state, State::Canceled, "{workflow:?}");
        assert_eq!(refusal(ann.stop_workflow(&id).await).matches("canceled already").count(), 1);
        Ok(())
    });
}

#[test]
fn a_user_neither_sees_nor_stops_the_workflows_of_another() {
    in_namespace(async {
        let (cluster, _agents, ann) = cluster().await?;
        let ben = user(&cluster, "ben", 1002).await?;
        let id = start(&ann, document(&[("secret", "command: [hang]")])).await?;
        assert!(ben.workflows(100).await?.is_empty());
        let unknown = |answer: String| assert!(answer.contains("there is no workflow"), "{answer}");
        unknown(refusal(ben.workflow(&id).await));
        unknown(refusal(ben.stop_workflow(&id).await));
        unknown(refusal(ben.why_workflow(&id).await));
        unknown(refusal(ben.workflow_log(&id, &LogOf::default()).await));
        unknown(refusal(ben.watch_workflow(&id).await));
        let request = StartWorkflow {
            name: None,
            document: document(&[("job", "command: [exit, '0']")]),
            user: Some("ann".to_owned()),
        };
        assert!(
            refusal(ben.start_workflow(&request).await)
                .contains("`workflow-start` is refused to ben (user)")
        );
        assert_eq!(cluster.client().workflows(100).await?.len(), 1, "the admin sees it");
        // The admin has no uid: nothing runs as root.
        let request = StartWorkflow { user: None, ..request };
        assert!(
            refusal(cluster.client().start_workflow(&request).await).contains("has no uid and gid")
        );
        cluster.client().stop_workflow(&id).await?;
        Ok(())
    });
}

#[test]
fn bad_documents_are_refused_and_start_nothing() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let run = "command: [exit, '0']";
        let wrong = [
            (
                document(&[
                    ("a", "command: [x], requires: [b]"),
                    ("b", "command: [x], requires: [a]"),
                ]),
                "jobs wait for each other",
            ),
            (document(&[("a", "command: [x], requires: [nowhere]")]), "nowhere"),
            (document(&[("a", run)]).replace("cores: 1", "cores: 64"), "64 cores"),
            (document(&[(&"x".repeat(300), run)]), "name"),
            ("jobs: [".to_owned(), "unclosed bracket"),
        ];
        for (document, words) in wrong {
            let refused = refusal(start(&ann, document.clone()).await);
            assert!(refused.contains(words), "{words} is not in: {refused}");
        }
        let huge = format!("{}# {}\n", document(&[("a", run)]), "x".repeat(50 << 20));
        match start(&ann, huge).await.unwrap_err() {
            // A server that refuses before it has read all of it closes the connection.
            ClientError::Unreachable { .. } => {}
            error => assert_eq!(error.status(), Some(413), "{error}"),
        }
        assert!(ann.workflows(100).await?.is_empty());

        let missing = document(&[("a", run)]).replace(IMAGE, &IMAGE.replace("tiny", "nothing"));
        let id = start(&ann, missing).await?;
        let workflow = end(&ann, &id).await?;
        assert_eq!(workflow.summary.state, State::Failed);
        assert!(workflow.summary.reason.clone().unwrap().contains("nothing"), "{workflow:?}");
        Ok(())
    });
}

#[test]
fn an_array_of_a_hundred_thousand_tasks_is_one_record() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        let array = "command: [hang], task-array: {start: 1, end: 100000, concurrency: 4}";
        let id = start(&ann, document(&[("many", array)])).await?;
        let workflow = ann.workflow(&id).await?;
        let job = workflow.stages.last().unwrap();
        let tasks = job.tasks;
        assert_eq!(tasks.pending + tasks.started, 100_000);
        assert!(serde_json::to_string(&workflow)?.len() < 4096);
        ann.stop_workflow(&id).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Canceled);
        assert!(ann.attempts(&id, None, 1000).await?.len() <= 8);
        Ok(())
    });
}

#[test]
fn a_run_that_nobody_ordered_is_not_believed() {
    in_namespace(async {
        let (cluster, agents, ann) = cluster().await?;
        let id = start(&ann, document(&[("job", "command: [/bin/sleep, '100']")])).await?;
        let end_of = RunEnd {
            started: None,
            ended: Timestamp(1),
            outcome: Outcome::Exited { code: 9 },
            log_bytes: 1 << 40,
            usage: Usage::default(),
        };
        let run: RunId = format!("{:032x}", 0xbad).parse()?;
        agents[0]
            .claim(RunReport { run, state: RunState::Ended(Box::new(end_of.clone())) })
            .await?;
        // One node tells of the run of another.
        let ours = loop {
            if let Some(attempt) = ann.attempts(&id, None, 1).await?.pop() {
                break attempt;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(ours.outcome.is_none());
        let workflow = end(&ann, &id).await?;
        assert_eq!(workflow.summary.state, State::Finished, "{workflow:?}");
        assert_eq!(cluster.phase(1).await, Phase::Ready);
        Ok(())
    });
}

/// A workflow whose one job runs until it is stopped and may be tried twice, and the node of its
/// first attempt.
async fn hanging(client: &Client) -> anyhow::Result<(String, String)> {
    let id = start(client, document(&[("job", "command: [hang], policy: {retry: {attempts: 1}}")]))
        .await?;
    loop {
        let attempts = client.attempts(&id, None, 1).await?;
        if let Some(attempt) = attempts.into_iter().find(|attempt| attempt.started.is_some()) {
            return Ok((id, attempt.node.to_string()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How the first attempt was lost, when the second runs.
async fn lost_and_begun_again(client: &Client, id: &str) -> anyhow::Result<(String, Attempt)> {
    let second = async {
        loop {
            let mut attempts = client.attempts(id, None, 10).await?;
            if attempts.len() == 2 && attempts[1].started.is_some() {
                return anyhow::Ok((attempts.remove(0), attempts.remove(0)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (first, second) = tokio::time::timeout(PATIENCE, second).await??;
    let Some(Outcome::Lost { why, .. }) = first.outcome else { panic!("{first:?}") };
    Ok((why, second))
}

#[test]
fn what_runs_on_a_deleted_node_runs_again_on_another() {
    in_namespace(async {
        let (cluster, _agents, ann) = cluster().await?;
        let (id, node) = hanging(&ann).await?;
        cluster.client().delete_node(&node.parse()?).await?;
        let (why, second) = lost_and_begun_again(&ann, &id).await?;
        assert!(why.contains(&format!("{node} was deleted")), "{why}");
        assert_ne!(second.node.to_string(), node);
        ann.stop_workflow(&id).await?;
        end(&ann, &id).await?;
        Ok(())
    });
}

#[test]
fn a_node_that_reboots_in_mid_job_loses_it_and_the_job_runs_again() {
    in_namespace(async {
        let (cluster, mut agents, ann) = cluster().await?;
        let (id, node) = hanging(&ann).await?;
        let number: u8 = node.trim_start_matches('n').parse()?;
        agents.remove(usize::from(number - 1)).power_off();
        cluster.until_phase(number, Phase::Lost).await;
        agents.push(cluster.node(number).boot().await?.start_agent());
        cluster.until_phase(number, Phase::Ready).await;
        let (why, _) = lost_and_begun_again(&ann, &id).await?;
        assert!(why.contains(&node), "{why}");
        ann.stop_workflow(&id).await?;
        end(&ann, &id).await?;
        Ok(())
    });
}

/// From start to end, without a pause between two looks: known all the time, and over only when
/// all is written.
#[test]
fn a_workflow_is_never_unknown_and_never_over_too_early() {
    in_namespace(async {
        let (_cluster, _agents, ann) = cluster().await?;
        for _ in 0..20 {
            let id = start(&ann, document(&[("bad", "command: [exit, '3']")])).await?;
            let workflow = loop {
                let workflow = ann.workflow(&id).await?;
                if workflow.summary.ended.is_some() {
                    break workflow;
                }
                let listed = ann.workflows(100).await?;
                assert!(
                    listed.iter().any(|summary| summary.id.to_string() == id),
                    "{id} is not listed"
                );
            };
            assert_eq!(workflow.summary.state, State::Failed);
            let attempts = ann.attempts(&id, None, 100).await?;
            assert!(attempts.iter().all(|attempt| attempt.outcome.is_some()), "{attempts:?}");
        }
        Ok(())
    });
}

/// What runs on a drained node goes on; what waits for it is told why, and begins when it may.
#[test]
fn nothing_new_begins_on_drained_nodes() {
    in_namespace(async {
        let (cluster, _agents, ann) = cluster().await?;
        let running = start(&ann, document(&[("runs", "command: [/bin/sleep, '3']")])).await?;
        let begun = async {
            while ann
                .attempts(&running, None, 10)
                .await?
                .iter()
                .all(|attempt| attempt.started.is_none())
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, begun).await??;
        let nodes = ["n1", "n2"].map(|name| name.parse().unwrap());
        let drain = DrainNode { reason: "new memory".to_owned() };
        for name in &nodes {
            cluster.client().drain(name, &drain).await?;
        }
        let waiting = start(&ann, document(&[("waits", "command: [/bin/sleep, '0']")])).await?;
        let told = async {
            loop {
                let why = ann.why_workflow(&waiting).await?;
                if why
                    .iter()
                    .flat_map(|stage| &stage.reasons)
                    .any(|reason| reason.contains("drained (new memory)"))
                {
                    return anyhow::Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await??;
        assert_eq!(
            end(&ann, &running).await?.summary.state,
            State::Finished,
            "what ran was let go on"
        );
        assert!(ann.workflow(&waiting).await?.summary.ended.is_none());
        assert!(
            refusal(ann.drain(&nodes[0], &drain).await).contains("admin"),
            "a user drains no node"
        );
        let two_lines = DrainNode { reason: "a\nb".to_owned() };
        assert!(refusal(cluster.client().drain(&nodes[0], &two_lines).await).contains("one line"));
        cluster.client().undrain(&nodes[0]).await?;
        assert_eq!(end(&ann, &waiting).await?.summary.state, State::Finished);
        Ok(())
    });
}

#[test]
fn what_is_paused_stands_still_over_restarts_and_can_be_watched() {
    in_namespace(async {
        let (mut cluster, _agents, ann) = cluster().await?;
        let sleep = "command: [/bin/sleep, '50'], task-array: {start: 1, end: 3, concurrency: 2}";
        let id = start(&ann, document(&[("naps", sleep)])).await?;
        let usage = loop {
            let usage = ann.workflow_usage(&id).await?;
            if usage.len() == 2 && usage.iter().all(|task| task.usage.is_some()) {
                break usage;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((usage[0].task, usage[1].task, usage[0].cpus), (1, 2, 1));
        assert_eq!(usage[0].usage.as_ref().unwrap().total.memory_peak_bytes, 1 << 20);
        assert_eq!(ann.pause_workflow(&id, true).await?.paused.as_deref(), Some("ann"));
        assert!(refusal(ann.pause_workflow(&id, true).await).contains("paused already"));
        let bob = user(&cluster, "bob", 1002).await?;
        assert!(refusal(bob.pause_workflow(&id, false).await).contains("no workflow"));
        cluster.restart().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let workflow = ann.workflow(&id).await?;
        let tasks = workflow.stages.last().unwrap().tasks;
        assert_eq!((tasks.started, tasks.finished, tasks.pending), (2, 0, 1), "{workflow:?}");
        assert_eq!(ann.pause_workflow(&id, false).await?.paused, None);
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        assert!(refusal(ann.pause_workflow(&id, true).await).contains("is finished"));
        Ok(())
    });
}
