//! What the table of workflows says for quotas, and what was forgotten and is not removed yet.

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

    /// [`super::Store::forgotten`].
    pub(super) async fn each_forgotten(&self) -> Result<Vec<WorkflowId>, StoreError> {
        let text = "SELECT workflow FROM controller_forgotten ORDER BY workflow";
        let (rows, _): (Vec<(Parsed<WorkflowId>,)>, u32) =
            self.logged(statement("read which workflows were forgotten", text)).await?;
        Ok(rows.into_iter().map(|(id,)| id.0).collect())
    }

    /// [`super::Store::removed`].
    pub(super) async fn drop_forgotten(&self, workflows: &[WorkflowId]) -> Result<(), StoreError> {
        if workflows.is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.begin_long().await?;
        for id in workflows {
            let text = "DELETE FROM controller_forgotten WHERE workflow = $1";
            let delete = statement("note that a workflow is removed", text).bind(id.to_string());
            delete.execute(&mut transaction).await?;
        }
        transaction.commit("note that workflows are removed").await
    }
}
