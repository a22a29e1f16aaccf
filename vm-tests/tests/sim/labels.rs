//! Labels, from the register of nodes to where jobs run: provisioner, fleet and
//! controller together.

use std::time::Duration;

use api::{machine::PatchNodes, status::DrainNode, workflow::State};
use client::Client;
use serde_json::json;

use crate::workflows::{cluster, document, end, start};

/// How long something may take that is to come about.
const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// A job that wants a node of a rack.
fn on_rack(rack: &str) -> String {
    document(&[("job", "command: [/bin/true]")])
        .replace("version: v1\n", &format!("version: v1\nannotations: {{rack: {rack}}}\n"))
}

async fn label(admin: &Client, node: &str, rack: serde_json::Value) -> anyhow::Result<()> {
    let patch = json!({"labels": {"rack": rack}});
    admin.patch_nodes(&PatchNodes { names: node.to_owned(), patch }).await?;
    Ok(())
}

/// What `validate` says of a document until it says something else.
async fn until_told(client: &Client, document: &str, expected: &str) -> anyhow::Result<()> {
    let told = async {
        loop {
            let diagnostics = client.validate_workflow(document.to_owned()).await?.diagnostics;
            let words: String =
                diagnostics.iter().map(|diagnostic| format!("{}\n", diagnostic.message)).collect();
            if words.trim_end() == expected {
                return anyhow::Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .map_err(|_| anyhow::anyhow!("never told: {expected}"))?
}

async fn ran_on(client: &Client, id: &str) -> anyhow::Result<Vec<String>> {
    let attempts = client.attempts(id, None, 10).await?;
    Ok(attempts.iter().map(|attempt| attempt.node.to_string()).collect())
}

#[test]
fn a_job_runs_where_its_labels_are_and_waits_for_them() {
    crate::cluster::in_namespace(async {
        let (mut cluster, _agents, ann) = cluster().await?;
        label(cluster.client(), "n1", json!("a1")).await?;
        label(cluster.client(), "n2", json!("a2")).await?;
        until_told(&ann, &on_rack("a3"), "no node has rack=a3; nodes have rack=a1, rack=a2")
            .await?;
        until_told(&ann, &on_rack("a2"), "").await?;

        let id = start(&ann, on_rack("a2")).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        assert_eq!(ran_on(&ann, &id).await?, ["n2"]);

        // A restart of the server forgets no label.
        cluster.restart().await?;
        until_told(&ann, &on_rack("a3"), "no node has rack=a3; nodes have rack=a1, rack=a2")
            .await?;

        // What waits for a node goes to another that gets its label.
        let drain = DrainNode { reason: "new memory".to_owned() };
        cluster.client().drain(&crate::cluster::name(2), &drain).await?;
        let id = start(&ann, on_rack("a2")).await?;
        label(cluster.client(), "n1", json!("a2")).await?;
        assert_eq!(end(&ann, &id).await?.summary.state, State::Finished);
        assert_eq!(ran_on(&ann, &id).await?, ["n1"]);
        Ok(())
    });
}
