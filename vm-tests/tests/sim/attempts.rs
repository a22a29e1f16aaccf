//! Attempts of several members over the whole server. No document asks for them yet: the tests stop
//! the server, and put them into the stored plan.

use std::time::Duration;

use anyhow::Context as _;
use api::{
    run::Outcome,
    status::Phase,
    workflow::{Attempt, EventKind, State},
};
use client::{Client, LogOf};
use database::statement;
use serde_json::Value;
use sim_cluster::simulated_node::Agent;

use crate::{
    cluster::{Cluster, IMAGE, in_namespace},
    workflows::{end, start, user},
};

/// What the members of an attempt may take to come to where they are waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A job that has its node for itself, so that its members are on different ones.
fn pair(rest: &str) -> String {
    format!(
        "version: v1\njobs:\n  pair: {{image: {{uri: docker://{IMAGE}}}, resource: {{cpu: {{cores: 1}}, \
         memory: {{size: 16MiB}}, exclusive: true}}, {rest}}}\n"
    )
}

/// Two nodes on which an attempt of two members of this job begins.
async fn begun(rest: &str) -> anyhow::Result<(Cluster, Vec<Agent>, Client, String)> {
    let mut cluster = Cluster::configured(2, "").await?;
    cluster.serve_job_image().await?;
    let ann = user(&cluster, "ann", 1001).await?;
    let id = start(&ann, pair(rest)).await?;
    cluster
        .restart_changed(async |database| {
            let text = "SELECT plan FROM controller_workflows WHERE id = $1";
            let (plan,): (String,) = statement("read the plan of a workflow", text)
                .bind(&id)
                .fetch_one(database)
                .await?;
            let mut plan: Value = serde_json::from_str(&plan)?;
            plan["plan"] = 3.into();
            for stage in plan["stages"].as_array_mut().context("a plan without stages")? {
                if stage["work"].get("job").is_some() {
                    stage["members"] = 2.into();
                }
            }
            let text = "UPDATE controller_workflows SET plan = $2 WHERE id = $1";
            let update =
                statement("change the plan of a workflow", text).bind(&id).bind(plan.to_string());
            anyhow::ensure!(update.execute(database).await? == 1, "there is no workflow {id}");
            Ok(())
        })
        .await?;
    let agents = cluster.run_all(2).await?;
    Ok((cluster, agents, ann, id))
}

/// The members of an attempt, once all of them are as wanted.
async fn members(
    client: &Client,
    id: &str,
    number: u32,
    are: fn(&Attempt) -> bool,
) -> anyhow::Result<[Attempt; 2]> {
    let both = async {
        loop {
            let mut members = client.attempts(id, None, 100).await.unwrap_or_default();
            members.retain(|member| member.attempt == number && are(member));
            if let Ok(members) = <[Attempt; 2]>::try_from(members) {
                return members;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.with_context(|| format!("attempt {number}"))
}

async fn events(client: &Client, id: &str) -> anyhow::Result<Vec<EventKind>> {
    Ok(client.workflow_events(id, 0, 1_000).await?.into_iter().map(|event| event.event).collect())
}

#[test]
fn members_start_together_though_the_server_was_away_when_they_were_prepared() {
    in_namespace(async {
        let (mut cluster, agents, ann, id) = begun("command: [late, '3000', '200']").await?;
        let placed = members(&ann, &id, 1, |_| true).await?;
        assert_ne!(placed[0].node, placed[1].node, "{placed:?}");
        let why = ann.why_workflow(&id).await?;
        let told: Vec<&String> = why.iter().flat_map(|waiting| &waiting.reasons).collect();
        assert!(
            told.iter().any(|reason| reason.contains("0 of 2 members are prepared")),
            "{told:?}"
        );
        // They are prepared while nobody is there who could release them.
        cluster
            .restart_changed(async |database| {
                let text = "SELECT COUNT(*) FROM controller_attempts WHERE released IS NULL";
                let (held,): (i64,) =
                    statement("count the attempts that wait", text).fetch_one(database).await?;
                anyhow::ensure!(held == 1, "it was released before the server stopped");
                tokio::time::sleep(Duration::from_millis(4_000)).await;
                Ok(())
            })
            .await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        let members = members(&ann, &id, 1, |member| member.outcome.is_some()).await?;
        assert_eq!([members[0].member, members[1].member], [0, 1]);
        assert_eq!(ann.attempts(&id, None, 100).await?.len(), 2, "nothing was tried again");
        let events = events(&ann, &id).await?;
        let released: Vec<usize> = places(&events, &EventKind::AttemptReleased);
        let started = places(&events, &EventKind::ContainerStarted);
        assert!(
            matches!((&*released, &*started), ([released], [first, _]) if released < first),
            "{events:?}"
        );
        let states: Vec<_> = agents.iter().map(|agent| agent.state().borrow().clone()).collect();
        let mut given: Vec<&String> = states.iter().flat_map(|state| &state.started).collect();
        given.sort();
        assert_eq!(given, ["job pair member 0", "job pair member 1"], "each was given once");
        Ok(())
    });
}

fn places(events: &[EventKind], wanted: &EventKind) -> Vec<usize> {
    (0..events.len()).filter(|place| events[*place] == *wanted).collect()
}

#[test]
fn a_member_that_dies_ends_the_attempt_which_is_tried_again_as_a_whole() {
    in_namespace(async {
        let (cluster, mut agents, ann, id) =
            begun("command: [hang], policy: {retry: {attempts: 1}}").await?;
        let [_, second] = members(&ann, &id, 1, |member| member.started.is_some()).await?;
        let usage = ann.workflow_usage(&id).await?;
        assert_eq!(usage.iter().map(|task| task.member).collect::<Vec<_>>(), [0, 1]);
        let number: u8 = second.node.as_str().trim_start_matches('n').parse()?;
        agents.remove(usize::from(number - 1)).power_off();
        cluster.until_phase(number, Phase::Lost).await;
        agents.push(cluster.node(number).boot().await?.start_agent());
        cluster.until_phase(number, Phase::Ready).await;

        let [first, second] = members(&ann, &id, 1, |member| member.outcome.is_some()).await?;
        assert!(matches!(second.outcome, Some(Outcome::Lost { .. })), "{second:?}");
        let Some(Outcome::Stopped { why }) = &first.outcome else { panic!("{first:?}") };
        assert!(why.starts_with("member 1 of its attempt: lost: "), "{why}");
        members(&ann, &id, 2, |member| member.started.is_some()).await?;
        let of = LogOf { attempt: Some(1), member: Some(0), ..LogOf::default() };
        let log = String::from_utf8(ann.workflow_log(&id, &of).await?.next().await.unwrap())?;
        assert_eq!(log, "job pair member 0: hang\n");
        ann.stop_workflow(&id).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Canceled);
        Ok(())
    });
}
