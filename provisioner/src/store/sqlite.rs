//! The store on SQLite. The pool's owner sets WAL and `synchronous = FULL`.

use sqlx::{
    Row, Sqlite, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::SqliteRow,
};

use api::ids::ImageName;

use super::{
    ImageRecord, MAX_OPERATIONS, NodeRecord, OperationRecord, ProfileRecord, Store, StoreError, Write,
};

/// Name of the table that counts this crate's migrations; the database is shared with other owners.
const MIGRATIONS_TABLE: &str = "provisioner_migrations";

/// Nodes, profiles, images and operations in SQLite.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens the store and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError::Migrate`].
    pub async fn open(pool: SqlitePool) -> Result<Self, StoreError> {
        let first = Migration::new(
            1,
            "first".into(),
            MigrationType::Simple,
            sqlx::SqlStr::from_static(include_str!("../../migrations/0001_first.sql")),
            false,
        );
        let mut migrator = Migrator::with_migrations(vec![first]);
        migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
        let migrated = migrator.run(&pool).await;
        migrated.map_err(|source| StoreError::Migrate { source: Box::new(source) })?;
        Ok(Self { pool })
    }
}

/// Names the action of a failed statement.
fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source }
}

fn text(row: &SqliteRow, column: usize) -> Result<String, StoreError> {
    row.try_get(column).map_err(failed("read a row"))
}

fn number<T: TryFrom<i64>>(row: &SqliteRow, column: usize, subject: &str) -> Result<T, StoreError> {
    let value: i64 = row.try_get(column).map_err(failed("read a row"))?;
    T::try_from(value).map_err(|_| StoreError::Decode {
        subject: subject.to_owned(),
        source: format!("{value} is out of range").into(),
    })
}

fn parsed<T>(text: &str, subject: &str) -> Result<T, StoreError>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse()
        .map_err(|source: T::Err| StoreError::Decode { subject: subject.to_owned(), source: source.into() })
}

fn decoded<T: serde::de::DeserializeOwned>(json: &str, subject: &str) -> Result<T, StoreError> {
    serde_json::from_str(json)
        .map_err(|source| StoreError::Decode { subject: subject.to_owned(), source: source.into() })
}

fn encoded<T: serde::Serialize>(value: &T, subject: &str) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|source| StoreError::Decode { subject: subject.to_owned(), source: source.into() })
}

/// SQLite has signed integers only; a version counter never gets near the sign.
fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

impl Store for SqliteStore {
    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        let rows = sqlx::query("SELECT id, name, spec, version FROM provisioner_nodes ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the nodes"))?;
        rows.iter()
            .map(|row| {
                let name = text(row, 1)?;
                let subject = format!("node {name}");
                Ok(NodeRecord {
                    id: parsed(&text(row, 0)?, &subject)?,
                    spec: decoded(&text(row, 2)?, &subject)?,
                    version: number(row, 3, &subject)?,
                    name: parsed(&name, &subject)?,
                })
            })
            .collect()
    }

    async fn profiles(&self) -> Result<Vec<ProfileRecord>, StoreError> {
        let rows = sqlx::query("SELECT name, spec, version FROM provisioner_profiles ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the profiles"))?;
        rows.iter()
            .map(|row| {
                let name = text(row, 0)?;
                let subject = format!("profile {name}");
                Ok(ProfileRecord {
                    spec: decoded(&text(row, 1)?, &subject)?,
                    version: number(row, 2, &subject)?,
                    name: parsed(&name, &subject)?,
                })
            })
            .collect()
    }

    async fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let statement = "SELECT name, body, substrate, layers FROM provisioner_image_versions ORDER BY name, version DESC";
        let rows = sqlx::query(statement).fetch_all(&self.pool).await.map_err(failed("read the images"))?;
        rows.iter()
            .map(|row| {
                let name = text(row, 0)?;
                let subject = format!("image {name}");
                Ok(ImageRecord {
                    version: decoded(&text(row, 1)?, &subject)?,
                    substrate: parsed(&text(row, 2)?, &subject)?,
                    layers: decoded(&text(row, 3)?, &subject)?,
                    name: parsed(&name, &subject)?,
                })
            })
            .collect()
    }

    async fn next_image_version(&self, name: &ImageName) -> Result<u32, StoreError> {
        let row = sqlx::query("SELECT last_version FROM provisioner_image_names WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read an image's last version"))?;
        let last: u32 = row.map_or(Ok(0), |row| number(&row, 0, &format!("image {name}")))?;
        Ok(last.saturating_add(1))
    }

    async fn operations(&self) -> Result<Vec<OperationRecord>, StoreError> {
        let rows = sqlx::query("SELECT id, request, body FROM provisioner_operations ORDER BY id DESC")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the operations"))?;
        rows.iter()
            .map(|row| {
                let id: u64 = number(row, 0, "an operation")?;
                let subject = format!("operation {id}");
                Ok(OperationRecord {
                    request: decoded(&text(row, 1)?, &subject)?,
                    operation: decoded(&text(row, 2)?, &subject)?,
                })
            })
            .collect()
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        // IMMEDIATE: the versions read by the conditions below cannot change before the commit.
        let mut transaction =
            self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a transaction"))?;
        for write in writes {
            apply(&mut transaction, write).await?;
        }
        transaction.commit().await.map_err(failed("commit a transaction"))
    }
}

async fn apply(transaction: &mut Transaction<'_, Sqlite>, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::PutNode(node) => put_node(transaction, node).await,
        Write::DeleteNode { id, version } => {
            let deleted = sqlx::query("DELETE FROM provisioner_nodes WHERE id = $1 AND version = $2")
                .bind(id.to_string())
                .bind(signed(*version))
                .execute(&mut **transaction)
                .await
                .map_err(failed("delete a node"))?;
            one(deleted.rows_affected(), || format!("node {id}"))
        }
        Write::PutProfile(profile) => put_profile(transaction, profile).await,
        Write::DeleteProfile { name, version } => {
            let deleted = sqlx::query("DELETE FROM provisioner_profiles WHERE name = $1 AND version = $2")
                .bind(name.as_str())
                .bind(signed(*version))
                .execute(&mut **transaction)
                .await
                .map_err(failed("delete a profile"))?;
            one(deleted.rows_affected(), || format!("profile {name}"))
        }
        Write::PutImage(image) => put_image(transaction, image).await,
        Write::DeleteImage { name, version } => {
            let deleted =
                sqlx::query("DELETE FROM provisioner_image_versions WHERE name = $1 AND version = $2")
                    .bind(name.as_str())
                    .bind(i64::from(*version))
                    .execute(&mut **transaction)
                    .await
                    .map_err(failed("delete an image version"))?;
            one(deleted.rows_affected(), || format!("image {name}@{version}"))
        }
        Write::PutOperation(operation) => put_operation(transaction, operation).await,
    }
}

/// A write whose condition matched no row met somebody else's change.
fn one(rows: u64, subject: impl FnOnce() -> String) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Conflict { subject: subject() }) }
}

async fn put_node(transaction: &mut Transaction<'_, Sqlite>, node: &NodeRecord) -> Result<(), StoreError> {
    let subject = format!("node {}", node.name);
    let spec = encoded(&node.spec, &subject)?;
    let statement = if node.version == 1 {
        "INSERT INTO provisioner_nodes (id, name, spec, version) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    } else {
        "UPDATE provisioner_nodes SET name = $2, spec = $3, version = $4 WHERE id = $1 AND version = $4 - 1"
    };
    let put = sqlx::query(statement)
        .bind(node.id.to_string())
        .bind(node.name.as_str())
        .bind(spec)
        .bind(signed(node.version))
        .execute(&mut **transaction)
        .await
        .map_err(failed("write a node"))?;
    one(put.rows_affected(), || subject)
}

async fn put_profile(
    transaction: &mut Transaction<'_, Sqlite>,
    profile: &ProfileRecord,
) -> Result<(), StoreError> {
    let subject = format!("profile {}", profile.name);
    let spec = encoded(&profile.spec, &subject)?;
    let statement = if profile.version == 1 {
        "INSERT INTO provisioner_profiles (name, spec, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
    } else {
        "UPDATE provisioner_profiles SET spec = $2, version = $3 WHERE name = $1 AND version = $3 - 1"
    };
    let put = sqlx::query(statement)
        .bind(profile.name.as_str())
        .bind(spec)
        .bind(signed(profile.version))
        .execute(&mut **transaction)
        .await
        .map_err(failed("write a profile"))?;
    one(put.rows_affected(), || subject)
}

async fn put_image(transaction: &mut Transaction<'_, Sqlite>, image: &ImageRecord) -> Result<(), StoreError> {
    let subject = format!("image {}", image.name);
    sqlx::query(
        "INSERT INTO provisioner_image_names (name, last_version) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET \
         last_version = excluded.last_version WHERE excluded.last_version > provisioner_image_names.last_version",
    )
    .bind(image.name.as_str())
    .bind(i64::from(image.version.version))
    .execute(&mut **transaction)
    .await
    .map_err(failed("write an image"))?;
    sqlx::query(
        "INSERT INTO provisioner_image_versions (name, version, body, substrate, layers) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name, version) DO UPDATE SET body = excluded.body, substrate = excluded.substrate, layers = \
         excluded.layers",
    )
    .bind(image.name.as_str())
    .bind(i64::from(image.version.version))
    .bind(encoded(&image.version, &subject)?)
    .bind(image.substrate.to_string())
    .bind(encoded(&image.layers, &subject)?)
    .execute(&mut **transaction)
    .await
    .map_err(failed("write an image version"))?;
    Ok(())
}

async fn put_operation(
    transaction: &mut Transaction<'_, Sqlite>,
    record: &OperationRecord,
) -> Result<(), StoreError> {
    let operation = &record.operation;
    let subject = format!("operation {}", operation.id);
    let ended = !matches!(operation.state, api::image::OperationState::Running { .. });
    sqlx::query(
        "INSERT INTO provisioner_operations (id, request, body, ended) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO \
         UPDATE SET request = excluded.request, body = excluded.body, ended = excluded.ended",
    )
    .bind(signed(operation.id))
    .bind(encoded(&record.request, &subject)?)
    .bind(encoded(operation, &subject)?)
    .bind(ended)
    .execute(&mut **transaction)
    .await
    .map_err(failed("write an operation"))?;
    sqlx::query("DELETE FROM provisioner_operations WHERE ended AND id <= $1")
        .bind(signed(operation.id).saturating_sub(i64::from(MAX_OPERATIONS)))
        .execute(&mut **transaction)
        .await
        .map_err(failed("delete old operations"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

    use super::*;

    #[tokio::test]
    async fn sqlite_conforms() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(folder.path().join("db")).create_if_missing(true);
        let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
        let store = SqliteStore::open(pool.clone()).await.unwrap();
        super::super::conformance::check(&store).await;
        // Opening again finds the tables up to date and the rows in place.
        let again = SqliteStore::open(pool).await.unwrap();
        assert_eq!(again.nodes().await.unwrap(), store.nodes().await.unwrap());
    }
}
