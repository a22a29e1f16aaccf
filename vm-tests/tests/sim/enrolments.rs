//! A thief who enrols in the place of a node, against the whole server: what an admin sees, what
//! neither of the two gets, and that a revoked certificate is dead on every route.

use std::time::Duration;

use anyhow::Context as _;
use api::{
    enroll::AgentIdentity,
    status::{Phase, Severity},
};
use reqwest::{Certificate, Client, Identity, Method};
use serde_json::json;

use crate::cluster::{Cluster, in_namespace, name};

/// Every route that takes a node's certificate.
const ROUTES: [(&str, &str); 10] = [
    ("POST", "/node/v1/renew"),
    ("POST", "/node/v1/report"),
    ("GET", "/node/v1/channel"),
    ("GET", "/node/v1/agent"),
    ("GET", "/node/v1/overlays/boot"),
    ("GET", "/node/v1/overlays/runtime"),
    ("GET", "/node/v1/artifacts/sha256/00"),
    ("POST", "/node/v1/runs/3f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11/log?offset=0"),
    ("PUT", "/node/v1/runs/3f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11/file"),
    ("GET", "/node/v1/streams/3f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11"),
];

/// What a route answers to a certificate, over a connection of its own.
async fn ask(identity: &AgentIdentity, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let ca = Certificate::from_pem(identity.ca.as_bytes())?;
    let own = Identity::from_pem(format!("{}{}", identity.certificate, identity.key).as_bytes())?;
    let client = Client::builder().tls_certs_only([ca]).identity(own).no_proxy().build()?;
    let server = identity.fleet_servers.first().context("no server")?;
    let request =
        client.request(Method::from_bytes(method.as_bytes())?, format!("https://{server}{path}"));
    let answer = request.json(&json!({"phase": "stage1", "message": "here"})).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// The conflict is in the status, the history and the audit log, and who is connected stays so.
async fn is_alarmed(cluster: &Cluster) -> anyhow::Result<()> {
    let (client, n1) = (cluster.client(), name(1));
    let status = client.node(&n1).await?.status;
    let conflict = status.conflict.context("no alarm")?;
    assert!(conflict.cause.contains("the agent of enrolment 1 lives"), "{}", conflict.cause);
    assert_eq!((status.phase, conflict.channel), (Phase::Ready, Some(2)));
    let mut is_audited = false;
    // Both are on the disk soon after.
    for _ in 0..500 {
        is_audited = client.audit(100).await?.iter().any(|entry| entry.action == "node-conflict");
        if is_audited {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_audited);
    let history = client.history(&n1, 100).await?;
    let is_told = history
        .iter()
        .any(|event| event.severity == Severity::Security && event.message.contains("in conflict"));
    assert!(is_told, "{history:?}");
    Ok(())
}

/// Every route refuses the thief's certificate, and none the node's.
async fn is_dead(stolen: &AgentIdentity, own: &AgentIdentity) -> anyhow::Result<()> {
    for (method, path) in ROUTES {
        let (status, text) = ask(stolen, method, path).await?;
        let is_dead =
            status == 403 && text.contains("certificates of its enrolment 1 were revoked");
        assert!(is_dead, "{method} {path}: {status} {text}");
        let (status, text) = ask(own, method, path).await?;
        assert_ne!(status, 403, "{method} {path}: {text}");
    }
    Ok(())
}

#[test]
fn a_node_that_two_claim_to_be_gets_nothing_new_until_an_admin_decides() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(1).await?;
        let (client, n1) = (cluster.client(), name(1));
        // While n1 is off somebody enrols in its place, and has what a node has.
        let thief = cluster.node(1).boot().await?;
        let stolen = thief.identity.clone();
        assert!(!thief.boot_overlays.is_empty());
        client.arm(&n1).await?;
        let node = cluster.node(1).boot().await?;
        let own = node.identity.clone();
        let agent = node.start_agent();
        cluster.until_phase(1, Phase::Ready).await;
        cluster.until("it has its overlays", || agent.state().borrow().applied.is_some()).await;
        let applied = agent.state().borrow().applied;
        assert_eq!(client.node(&n1).await?.status.conflict, None);

        let pretender = thief.start_agent();
        cluster
            .until("the thief is refused", || pretender.state().borrow().refused.is_some())
            .await;
        let why = pretender.state().borrow().refused.clone().unwrap_or_default();
        assert!(why.contains("two claim to be n1"), "{why}");
        is_alarmed(&cluster).await?;

        // Neither gets a secret.
        for (identity, words) in
            [(&own, "no overlays until an admin decides"), (&stolen, "two claim to be n1")]
        {
            for set in ["boot", "runtime"] {
                let (status, text) =
                    ask(identity, "GET", &format!("/node/v1/overlays/{set}")).await?;
                assert!(status == 403 && text.contains(words), "{status} {text}");
            }
        }
        let overlay = "hosts".parse()?;
        client
            .put_overlay_file(&overlay, "/etc/motd", 0o644, false, b"a secret\n".to_vec())
            .await?;

        client.revoke(&n1, Some(1)).await?;
        assert_eq!(client.node(&n1).await?.status.conflict, None);
        is_dead(&stolen, &own).await?;
        cluster
            .until("it gets what was withheld", || agent.state().borrow().applied != applied)
            .await;

        // All of them: the agent that runs is let in no more, and the next boot is good.
        client.revoke(&n1, None).await?;
        cluster.until("it is refused", || agent.state().borrow().refused.is_some()).await;
        for (method, path) in ROUTES {
            assert_eq!(ask(&own, method, path).await?.0, 403, "{method} {path}");
        }
        let refused = cluster.node(1).stage1().await.unwrap_err().to_string();
        assert!(refused.contains("`bedplate node arm` arms it again"), "{refused}");
        client.arm(&n1).await?;
        let _again = cluster.node(1).boot().await?.start_agent();
        cluster.until_phase(1, Phase::Ready).await;
        // The numbers of certificates that the server may not know are left out.
        let epoch = client.node(&n1).await?.status.epoch;
        assert!(epoch > 1_000_000, "{epoch}");
        Ok(())
    });
}
