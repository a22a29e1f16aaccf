//! What the table of workflows says for quotas.

use api::run::WorkflowId;
use database::{Number, Parsed, statement};

use super::{HeldWorkflow, SqlStore, StoreError};

impl SqlStore {
    /// [`super::Store::held`]. Lengths are in the heads of rows: no document is read.
    pub(super) async fn each_held(&self) -> Result<(Vec<HeldWorkflow>, bool), StoreError> {
        let text = "SELECT id, owner_name,
                      CAST(OCTET_LENGTH(document) + COALESCE(OCTET_LENGTH(plan), 0) AS BIGINT) AS bytes,
                      ended
                      FROM controller_workflows";
        type Columns = (Parsed<WorkflowId>, Option<String>, Number<u64>, Option<i64>);
        let (rows, count): (Vec<Columns>, u32) =
            self.logged(statement("count what workflows hold", text)).await?;
        let held = |(id, owner, documents, ended): Columns| HeldWorkflow {
            id: id.0,
            owner,
            documents: documents.0,
            is_over: ended.is_some(),
        };
        let is_all = rows.len() == count as usize;
        Ok((rows.into_iter().map(held).collect(), is_all))
    }
}
