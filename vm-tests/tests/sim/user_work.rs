//! What a user sends that costs the server: others are served beside it.

use api::status::Phase;
use futures_util::future::try_join_all;

use crate::{
    cluster::{Cluster, in_namespace},
    workflows::user,
};

/// It once stopped REST and boot HTTP for half a minute.
#[test]
fn a_node_boots_while_documents_full_of_diagnostics_are_checked() {
    in_namespace(async {
        let cluster = Cluster::with_nodes(1).await?;
        let ann = user(&cluster, "ann", 1001).await?;
        let jobs: String = (0..40_000).map(|job| format!("  j{job}: {{x: 1}}\n")).collect();
        let text = format!("version: v1\njobs:\n{jobs}");
        let checking = try_join_all((0..4).map(|_| ann.validate_workflow(text.clone())));
        let node = cluster.node(1);
        let (checked, booted) = tokio::join!(checking, node.boot());
        let _agent = booted?.start_agent();
        cluster.until_phase(1, Phase::Ready).await;
        for checked in checked? {
            assert_eq!(checked.diagnostics.len(), 201);
            let last = &checked.diagnostics[200];
            assert_eq!(last.message, "and 39801 mistakes more");
        }
        Ok(())
    });
}
