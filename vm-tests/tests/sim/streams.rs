//! Streams over the whole server: the user's WebSocket, the rendezvous, the node's WebSocket. Only
//! the programs are pretended.

use std::time::Duration;

use api::{
    run::Outcome,
    stream::{Channel, Control, MAX_STREAMS_PER_RUN, StreamRequest},
};
use client::{Client, ClientError, Line, StreamOf};
use sim_cluster::simulated_node::Agent;
use stream_line::Event;

use crate::{
    cluster::{Cluster, in_namespace},
    workflows::{cluster, document, start, user},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn program(words: &[&str]) -> StreamRequest {
    let command = words.iter().map(|&word| word.to_owned()).collect();
    StreamRequest::Exec { command, terminal: None, input: false }
}

async fn open(client: &Client, workflow: &str, words: &[&str]) -> Result<Line, ClientError> {
    let of = StreamOf { workflow: workflow.to_owned(), ..StreamOf::default() };
    client.open_stream(&of, &program(words)).await
}

fn refusal(opened: Result<Line, ClientError>) -> (u16, String) {
    let error = opened.map(drop).unwrap_err();
    (error.status().unwrap_or(0), error.to_string())
}

/// A job that runs until it is stopped; which node runs it.
async fn hanging(
    cluster: &Cluster,
    agents: &[Agent],
    ann: &Client,
) -> anyhow::Result<(String, usize)> {
    let id = start(ann, document(&[("job", "command: [hang]")])).await?;
    let ran = |agent: &Agent| {
        agent.state().borrow().started.iter().any(|subject| subject.contains("job job"))
    };
    cluster.until("the job runs", || agents.iter().any(ran)).await;
    // The server is told a little later.
    let node = agents.iter().position(ran).unwrap();
    let started = async {
        while ann.attempts(&id, None, 10).await?.iter().all(|attempt| attempt.started.is_none()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, started).await??;
    let job = async {
        while let Err(error) = open(ann, &id, &["echo"]).await {
            anyhow::ensure!(error.to_string().contains("does not run"), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, job).await??;
    Ok((id, node))
}

#[test]
fn a_user_hears_what_the_node_says() {
    in_namespace(async {
        let (cluster, agents, ann) = cluster().await?;
        let (id, _) = hanging(&cluster, &agents, &ann).await?;
        let mut line = open(&ann, &id, &["echo", "hello", "there"]).await?;
        let Event::Data(Channel::Output, bytes) = line.next().await? else { panic!("no output") };
        assert_eq!(bytes, "hello there");
        let ended = Control::Ended { outcome: Outcome::Exited { code: 7 } };
        assert_eq!(line.next().await?, Event::Control(ended.clone()));
        assert!(line.next().await.is_err());
        // One that is still sending hears the last word of a node that has closed.
        for _ in 0..30 {
            let mut line = open(&ann, &id, &["echo", "x"]).await?;
            let mut heard = Vec::new();
            while let Ok(event) = line.next().await {
                heard.push(event);
                let room = line.room().min(50_000);
                if room > 0 {
                    line.send(Channel::Input, &vec![0; room]);
                }
                // The node is closed by then, and its socket with it.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(heard.last(), Some(&Event::Control(ended.clone())), "{heard:?}");
        }
        // Who did what is in the audit log, with the job that was meant.
        let audit = cluster.client().audit(100).await?;
        let words = "exec echo hello there";
        let entries = audit.iter().filter(|entry| entry.action == words);
        let told = entries
            .map(|entry| [&entry.principal, &entry.outcome, &entry.subject].map(String::as_str));
        let subject = format!("/v1/workflows/{id} job job[0]");
        // The newest first. Before the node was told of the command it was on disk who sent it.
        let expected = [["ann", "101", subject.as_str()], ["ann", "begun", subject.as_str()]];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        Ok(())
    });
}

#[test]
fn both_sides_are_closed_when_one_goes() {
    in_namespace(async {
        let (mut cluster, agents, ann) = cluster().await?;
        let (id, node) = hanging(&cluster, &agents, &ann).await?;
        let open_streams = |count: u32| {
            let agents = &agents;
            move || agents[node].state().borrow().open_streams == count
        };
        let line = open(&ann, &id, &["hold"]).await?;
        cluster.until("the stream is open", open_streams(1)).await;
        drop(line);
        cluster.until("the node's side is closed", open_streams(0)).await;
        // The server's end.
        let mut line = open(&ann, &id, &["hold"]).await?;
        cluster.restart().await?;
        let ended = tokio::time::timeout(PATIENCE, line.next()).await?;
        assert!(ended.is_err(), "{ended:?}");
        cluster.until("the node's side is closed", open_streams(0)).await;
        Ok(())
    });
}

#[test]
fn a_stream_is_for_its_node_once_and_not_for_ever() {
    in_namespace(async {
        let (cluster, agents, ann) = cluster().await?;
        let (id, node) = hanging(&cluster, &agents, &ann).await?;
        let told = agents[node].state().borrow().streams.len();
        let opening = tokio::spawn({
            let (ann, id) = (ann.clone(), id.clone());
            async move { open(&ann, &id, &["not-dialled"]).await.map(drop) }
        });
        cluster
            .until("the node is told", || agents[node].state().borrow().streams.len() > told)
            .await;
        let stream = *agents[node].state().borrow().streams.last().unwrap();
        let refused = agents[1 - node].dial_stream(stream).await?.unwrap_err();
        assert!(
            refused.status == 404 && refused.words.contains("never made for this node"),
            "{refused}"
        );
        agents[node].dial_stream(stream).await?.unwrap();
        opening.await??;
        assert!(agents[node].dial_stream(stream).await?.unwrap_err().status == 404, "taken twice");
        // Nobody dials: the user is told who did not, and the stream is gone.
        let (status, words) = refusal(open(&ann, &id, &["not-dialled"]).await);
        assert!(status == 504 && words.contains("did not dial within 15 s"), "{status}: {words}");
        let stream = *agents[node].state().borrow().streams.last().unwrap();
        assert!(
            agents[node].dial_stream(stream).await?.unwrap_err().status == 404,
            "taken too late"
        );
        Ok(())
    });
}

#[test]
fn who_may_not_or_cannot_is_told_before_anything_is_opened() {
    in_namespace(async {
        let (cluster, agents, ann) = cluster().await?;
        let (id, node) = hanging(&cluster, &agents, &ann).await?;
        let bob = user(&cluster, "bob", 1002).await?;
        let (status, words) = refusal(open(&bob, &id, &["echo"]).await);
        assert!(status == 404 && words.contains("there is no workflow"), "{words}");
        open(cluster.client(), &id, &["echo"]).await?;
        let of = |job: &str, task| StreamOf {
            workflow: id.clone(),
            job: Some(job.to_owned()),
            task,
            ..StreamOf::default()
        };
        let ask = async |of: StreamOf| refusal(ann.open_stream(&of, &program(&["echo"])).await);
        let (status, words) = ask(of("other", None)).await;
        assert!(status == 404 && words.contains("its jobs are job"), "{words}");
        let (status, words) = ask(of("job", Some(9))).await;
        assert!(status == 409 && words.contains("job[9] does not run"), "{words}");
        let (status, words) = refusal(open(&ann, &id, &[]).await);
        assert!(status == 400 && words.contains("the command is empty"), "{words}");

        let mut open_lines = Vec::new();
        for _ in 0..MAX_STREAMS_PER_RUN {
            open_lines.push(open(&ann, &id, &["hold"]).await?);
        }
        let (status, words) = refusal(open(&ann, &id, &["hold"]).await);
        assert!(status == 429 && words.contains("128 streams open"), "{words}");
        drop(open_lines);

        agents.into_iter().nth(node).unwrap().power_off();
        cluster.until_phase(u8::try_from(node)? + 1, api::status::Phase::Lost).await;
        let (status, words) = refusal(open(&ann, &id, &["echo"]).await);
        assert!(status == 409 && words.contains("is not connected"), "{status}: {words}");
        ann.stop_workflow(&id).await?;
        Ok(())
    });
}
