//! When a session goes on over the next connection.

use api::channel::{FromAgent, FromServer, Offer};

use crate::{
    NODE, Port,
    agent::{Agent, hello},
    enrolled,
};

async fn connect(port: &Port, identity: &str) -> (Agent, bool) {
    let mut agent = Agent::dial(port, identity).await;
    agent.send(0, hello(Offer::ours())).await;
    let Some(FromServer::Welcome { resumed, .. }) = agent.receive().await.unwrap().message else {
        panic!("no welcome");
    };
    (agent, resumed)
}

#[tokio::test]
async fn a_session_of_which_the_agent_may_not_know_does_not_go_on() {
    let port = Port::open().await;
    let identity = enrolled(&port, NODE).await;
    let (first, resumed) = connect(&port, &identity).await;
    assert!(!resumed, "the first");
    drop(first);
    let (mut second, resumed) = connect(&port, &identity).await;
    assert!(!resumed, "it may have left before the welcome, and has listed no runs");
    second.say(FromAgent::Heartbeat { uptime_seconds: 1, volumes: None }).await;
    drop(second);
    let (_third, resumed) = connect(&port, &identity).await;
    assert!(resumed, "it has sent something in the session");
    port.close().await;
}
