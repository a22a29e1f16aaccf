//! `workflow watch` and `start --watch`: to the end of a workflow, over restarts of the server.

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use api::workflow::{State, Workflow};
use client::{Client, ClientError};

use super::{
    super::{
        clock,
        context::Session,
        operation::LEFT,
        output::{Format, print_note},
    },
    files::{self, Destination},
    live::Live,
    show,
};

/// How long to wait before the server is asked again after it went away.
const RETRY: Duration = Duration::from_secs(1);

/// How often in a row: a server that restarts is back within this many seconds.
const MAX_RETRIES: u32 = 60;

/// How often the times on the screen go on.
const TICK: Duration = Duration::from_secs(1);

pub(super) async fn run(
    session: &Session,
    client: &Client,
    id: &str,
    destination: &Destination,
) -> anyhow::Result<ExitCode> {
    // A name may mean another workflow by the time of the next request.
    let workflow = client.workflow(id).await?;
    let id = workflow.summary.id.to_string();
    let mut live = Live::new();
    let followed = tokio::select! {
        followed = follow(session, client, &id, &mut live) => Some(followed),
        _ = tokio::signal::ctrl_c() => None,
    };
    live.clear();
    let Some(followed) = followed else {
        print_note(&format!(
            "the workflow goes on: `bedplate workflow watch {id}` follows it, `bedplate workflow stop {id}` ends it"
        ));
        return Ok(LEFT.into());
    };
    let workflow = followed?;
    if live.is_screen() && session.out.format() == Format::Table {
        session.out.show(&workflow, |look| show::status(*look, &workflow))?;
    }
    let state = workflow.summary.state;
    if state != State::Finished {
        let reason = workflow.summary.reason.clone().unwrap_or_else(|| state.as_str().to_owned());
        bail!("workflow {} {}: {reason}", workflow.summary.name, state.as_str());
    }
    let fetched = files::fetch(client, &workflow, destination).await?;
    for path in &fetched.written {
        print_note(&format!("wrote {path}"));
    }
    fetched.require_all(&workflow)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows it until it is over.
async fn follow(
    session: &Session,
    client: &Client,
    id: &str,
    live: &mut Live,
) -> anyhow::Result<Workflow> {
    let mut retries = 0;
    let mut told = false;
    loop {
        match client.watch_workflow(id).await {
            Err(ClientError::Unreachable { .. }) if retries < MAX_RETRIES => {}
            Err(error) => return Err(error.into()),
            Ok(mut events) => {
                retries = 0;
                let mut shown: Option<Workflow> = None;
                loop {
                    let next = tokio::time::timeout(TICK, events.next()).await;
                    if let Ok(event) = next {
                        let Ok(workflow) = event? else { break };
                        if session.out.format() != Format::Table {
                            session.out.stream(&workflow, |_| String::new())?;
                        }
                        shown = Some(workflow);
                    }
                    let Some(workflow) = &shown else { continue };
                    if session.out.format() == Format::Table {
                        live.draw(workflow, clock::now())?;
                    }
                    if workflow.summary.ended.is_some() {
                        return Ok(workflow.clone());
                    }
                }
            }
        }
        if !told {
            print_note("the server has gone away: asking again; the workflow goes on");
            told = true;
        }
        retries += 1;
        tokio::time::sleep(RETRY).await;
    }
}
