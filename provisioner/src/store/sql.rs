//! The store in the shared [`Database`].

use api::{
    ids::{NodeId, NodeName, ProfileName},
    machine::MachineSpec,
};
use async_trait::async_trait;
use database::{
    Database, DatabaseError, Json, Kept, Number, Parsed, Record, Schema, Statement, Step,
    Transaction, Value, json, statement,
};
use sqlx::FromRow;

use super::{NodeRecord, ProfileRecord, Store, StoreError, Write};

/// The step of [`SCHEMA`] in which the fleet learns once of all nodes: see [`crate::register`].
pub(crate) const ONE_REGISTER: &str = "one register of nodes";

/// The tables of this crate, and those of OS images and operations, which `image-catalog` reads and
/// writes: they were made in one step with the others.
pub static SCHEMA: Schema = Schema::new(
    "provisioner",
    "provisioner_migrations",
    &[
        Step::sql("first", include_str!("../../migrations/0001_first.sql")),
        Step::sql("removed nodes", include_str!("../../migrations/0002_removed_nodes.sql")),
        Step::code(ONE_REGISTER),
    ],
);

/// Rows in one statement: a node has 4 values, and SQLite takes 32,766.
const ROWS_PER_STATEMENT: usize = 1_000;

/// Nodes and profiles in the database.
#[derive(Debug, Clone)]
pub(crate) struct SqlStore {
    database: Database,
}

impl SqlStore {
    /// The store, whose tables are up to date.
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// The rows of a statement whose keys can be read. The others are logged, and stay as they are
    /// for a release that knows more.
    async fn readable<T: Record>(&self, rows: Statement) -> Result<Vec<T>, StoreError> {
        let rows = rows.fetch_each(&self.database).await?;
        let logged = |row: Result<T, DatabaseError>| {
            row.inspect_err(|error| tracing::error!("{}; it is left out", rest::causes(error))).ok()
        };
        Ok(rows.into_iter().filter_map(logged).collect())
    }

    /// A store of its own in a new directory's database, without a fleet.
    #[cfg(test)]
    pub(crate) async fn in_directory(directory: &std::path::Path) -> Self {
        let path = directory.join("bedplate.db");
        let database = Database::open(&path, &[&SCHEMA]).await.unwrap();
        while let Some(step) = database.migrate_to_code(&SCHEMA).await.unwrap() {
            let mut transaction = database.begin_long().await.unwrap();
            transaction.step_done(&SCHEMA, &step).await.unwrap();
            transaction.commit("migrate").await.unwrap();
        }
        Self::new(database)
    }
}

#[derive(FromRow)]
struct NodeRow {
    name: Parsed<NodeName>,
    id: Parsed<NodeId>,
    spec: Kept<Json<MachineSpec>>,
    version: Number<u64>,
}

impl From<NodeRow> for NodeRecord {
    fn from(row: NodeRow) -> Self {
        let (spec, unreadable) = spec_of(row.spec);
        Self { id: row.id.0, name: row.name.0, spec, version: row.version.0, unreadable }
    }
}

/// A specification, or an empty one and why it cannot be read.
fn spec_of(column: Kept<Json<MachineSpec>>) -> (MachineSpec, Option<String>) {
    match column.0 {
        Ok(Json(spec)) => (spec, None),
        Err(error) => (MachineSpec::default(), Some(error.to_string())),
    }
}

#[derive(FromRow)]
struct ProfileRow {
    name: Parsed<ProfileName>,
    spec: Kept<Json<MachineSpec>>,
    version: Number<u64>,
}

impl From<ProfileRow> for ProfileRecord {
    fn from(row: ProfileRow) -> Self {
        let (spec, unreadable) = spec_of(row.spec);
        Self { name: row.name.0, spec, version: row.version.0, unreadable }
    }
}

/// The nodes that are declared, for the step [`ONE_REGISTER`].
pub(crate) async fn declared(
    transaction: &mut Transaction,
) -> Result<Vec<(NodeId, NodeName)>, DatabaseError> {
    let nodes = statement("read the nodes", "SELECT id, name FROM provisioner_nodes");
    let rows: Vec<(Parsed<NodeId>, Parsed<NodeName>)> = nodes.fetch_all(transaction).await?;
    Ok(rows.into_iter().map(|(id, name)| (id.0, name.0)).collect())
}

/// Notes that files of deleted nodes are to be removed.
pub(crate) async fn note_removed(
    transaction: &mut Transaction,
    nodes: &[NodeId],
) -> Result<(), DatabaseError> {
    for chunk in nodes.chunks(ROWS_PER_STATEMENT) {
        let rows = chunk.iter().map(|id| [Value::from(id.to_string())]);
        statement("note deleted nodes", "INSERT INTO provisioner_removed_nodes (id)")
            .rows(rows, "ON CONFLICT DO NOTHING")
            .execute(&mut *transaction)
            .await?;
    }
    Ok(())
}

#[async_trait]
impl Store for SqlStore {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let text = "SELECT name, id, spec, version FROM provisioner_nodes ORDER BY name";
        let rows: Vec<NodeRow> = self.readable(statement("read the nodes", text)).await?;
        Ok(rows.into_iter().map(NodeRecord::from).collect())
    }

    async fn profiles(&self) -> Result<Vec<ProfileRecord>, StoreError> {
        let text = "SELECT name, spec, version FROM provisioner_profiles ORDER BY name";
        let rows: Vec<ProfileRow> = self.readable(statement("read the profiles", text)).await?;
        Ok(rows.into_iter().map(ProfileRecord::from).collect())
    }

    async fn removed_nodes(&self) -> Result<Vec<NodeId>, StoreError> {
        let nodes = statement("read deleted nodes", "SELECT id FROM provisioner_removed_nodes");
        let rows: Vec<(Parsed<NodeId>,)> = self.readable(nodes).await?;
        Ok(rows.into_iter().map(|(id,)| id.0).collect())
    }

    async fn forget_removed(&self, nodes: &[NodeId]) -> Result<(), StoreError> {
        for chunk in nodes.chunks(ROWS_PER_STATEMENT) {
            let rows = chunk.iter().map(|id| [Value::from(id.to_string())]);
            let text = "DELETE FROM provisioner_removed_nodes WHERE id IN (";
            statement("forget deleted nodes", text).rows(rows, ")").execute(&self.database).await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        transaction: &mut Transaction,
        writes: &[Write],
    ) -> Result<(), StoreError> {
        // Neighbours of one kind are written together, in the order of the list.
        for writes in writes.chunk_by(|one, next| kind(one) == kind(next)) {
            for writes in writes.chunks(ROWS_PER_STATEMENT) {
                write_some(transaction, writes).await?;
            }
        }
        Ok(())
    }

    #[cfg(test)]
    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        if let Err(error) = self.write(&mut transaction, writes).await {
            transaction.rollback().await?;
            return Err(error);
        }
        Ok(transaction.commit("commit a change").await?)
    }
}

/// What may be written by one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AddNode,
    ChangeNode,
    DeleteNode,
    Other,
}

fn kind(write: &Write) -> Kind {
    match write {
        Write::PutNode(node) if node.version == 1 => Kind::AddNode,
        Write::PutNode(_) => Kind::ChangeNode,
        Write::DeleteNode { .. } => Kind::DeleteNode,
        _ => Kind::Other,
    }
}

/// Writes of one kind.
async fn write_some(transaction: &mut Transaction, writes: &[Write]) -> Result<(), StoreError> {
    let Some(first) = writes.first() else { return Ok(()) };
    match kind(first) {
        Kind::Other => {
            for write in writes {
                write_one(transaction, write).await?;
            }
            Ok(())
        }
        kind => {
            let written = write_nodes(transaction, kind, writes).await?;
            let expected = u64::try_from(writes.len()).unwrap_or(u64::MAX);
            if written == expected {
                return Ok(());
            }
            // Which of them it was is not worth a statement for each: nobody else writes while the
            // state directory is locked.
            let others = if writes.len() > 1 { " or a node changed with it" } else { "" };
            Err(StoreError::Conflict { subject: format!("{}{others}", subject(first)) })
        }
    }
}

fn subject(write: &Write) -> String {
    match write {
        Write::PutNode(node) => format!("node {}", node.name),
        Write::DeleteNode { id, .. } => format!("node {id}"),
        Write::PutProfile(profile) => format!("profile {}", profile.name),
        Write::DeleteProfile { name, .. } => format!("profile {name}"),
    }
}

/// Adds, changes or deletes nodes. Returns how many it did: a node that has another version than
/// the change was made on is left.
async fn write_nodes(
    transaction: &mut Transaction,
    kind: Kind,
    writes: &[Write],
) -> Result<u64, DatabaseError> {
    let (mut put, mut deleted) = (Vec::new(), Vec::new());
    for write in writes {
        match write {
            Write::PutNode(node) => put.push([
                Value::from(node.id.to_string()),
                node.name.as_str().into(),
                json("write nodes", &node.spec)?.into(),
                node.version.into(),
            ]),
            Write::DeleteNode { id, version } => {
                deleted.push(([Value::from(id.to_string()), (*version).into()], *id));
            }
            _ => {}
        }
    }
    match kind {
        Kind::AddNode => {
            let text = "INSERT INTO provisioner_nodes (id, name, spec, version)";
            let add = statement("add nodes", text).rows(put, "ON CONFLICT DO NOTHING");
            add.execute(transaction).await
        }
        Kind::ChangeNode => {
            // The columns of bare VALUES have these names in both engines.
            let text = "UPDATE provisioner_nodes
                           SET name = v.column2, spec = v.column3, version = v.column4
                          FROM (";
            let rest = ") AS v WHERE provisioner_nodes.id = v.column1
                          AND provisioner_nodes.version = v.column4 - 1";
            statement("change nodes", text).rows(put, rest).execute(transaction).await
        }
        Kind::DeleteNode | Kind::Other => {
            let ids: Vec<NodeId> = deleted.iter().map(|(_, id)| *id).collect();
            note_removed(transaction, &ids).await?;
            let rows = deleted.into_iter().map(|(row, _)| row);
            let text = "DELETE FROM provisioner_nodes WHERE (id, version) IN (";
            statement("delete nodes", text).rows(rows, ")").execute(transaction).await
        }
    }
}

async fn write_one(transaction: &mut Transaction, write: &Write) -> Result<(), StoreError> {
    let written = match write {
        Write::PutProfile(profile) => {
            let text = if profile.version == 1 {
                "INSERT INTO provisioner_profiles (name, spec, version) VALUES ($1, $2, $3)
                 ON CONFLICT DO NOTHING"
            } else {
                "UPDATE provisioner_profiles SET spec = $2, version = $3
                  WHERE name = $1 AND version = $3 - 1"
            };
            statement("write a profile", text)
                .bind(profile.name.as_str())
                .bind(json("write a profile", &profile.spec)?)
                .bind(profile.version)
                .execute(transaction)
                .await?
        }
        Write::DeleteProfile { name, version } => {
            let text = "DELETE FROM provisioner_profiles WHERE name = $1 AND version = $2";
            let delete = statement("delete a profile", text).bind(name.as_str()).bind(*version);
            delete.execute(transaction).await?
        }
        Write::PutNode(_) | Write::DeleteNode { .. } => {
            let one = std::slice::from_ref(write);
            write_nodes(transaction, kind(write), one).await?
        }
    };
    // A write whose condition matched no row met somebody else's change.
    if written == 1 { Ok(()) } else { Err(StoreError::Conflict { subject: subject(write) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sqlite_conforms() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqlStore::in_directory(directory.path()).await;
        super::super::conformance::check(&store).await;
        // Opening again finds the tables up to date and the rows in place.
        let again = SqlStore::in_directory(directory.path()).await;
        assert_eq!(again.nodes().await.unwrap(), store.nodes().await.unwrap());
    }
}
