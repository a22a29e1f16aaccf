//! The store in the shared [`Database`].
//!
//! The tables are made by the migrations of the roles that had them before this crate was there:
//! `provisioner_*` by the provisioner's, `controller_images` by the controller's. A step that a
//! database has done is never changed, and a table keeps its name for servers of before.

use api::{
    ids::{Digest, ImageName, Timestamp},
    image::{ImageVersion, ImportImage, Operation, OperationState},
    sources,
};
use async_trait::async_trait;
use database::{
    Database, DatabaseError, Json, Kept, Number, Parsed, Record, Statement, Transaction,
    Unreadable, json, statement,
};
use image_store::Layer;
use sqlx::FromRow;

use super::{
    ImageRecord, KeptImage, MAX_OPERATIONS, OperationRecord, Store, StoreError, StoredImages,
    UnreadableImage, Write,
};
use crate::jobs::JobImage;

/// Versions of OS images, operations and job images in the database.
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
        Ok(rows.into_iter().filter_map(logged).collect())
    }

    /// All job images; an error in place of one that cannot be read.
    pub(crate) async fn each_job_image(
        &self,
    ) -> Result<Vec<Result<KeptImage, DatabaseError>>, DatabaseError> {
        let text = "SELECT manifest, image, used FROM controller_images ORDER BY manifest";
        type Columns = (String, Json<JobImage>, i64);
        let rows: Vec<Result<Columns, DatabaseError>> =
            statement("read the job images", text).fetch_each(&self.database).await?;
        let kept = |(_, image, used): Columns| KeptImage { image: image.0, used: Timestamp(used) };
        Ok(rows.into_iter().map(|row| row.map(kept)).collect())
    }

    /// Changes rows past the store.
    #[cfg(test)]
    pub(crate) async fn damage(&self, text: &'static str) {
        assert_eq!(statement("damage", text).execute(&self.database).await.unwrap(), 1);
    }

    /// A store of its own in a new directory's database, with the tables of a server.
    #[cfg(test)]
    pub(crate) async fn in_directory(directory: &std::path::Path) -> Self {
        Self::new(tables::open(&directory.join("bedplate.db")).await)
    }
}

/// A row that can be read; else it is logged.
fn logged<T>(row: Result<T, DatabaseError>) -> Option<T> {
    row.inspect_err(|error| tracing::error!("{}; it is left out", rest::causes(error))).ok()
}

/// Title of an operation whose row cannot be read.
pub(crate) const UNREADABLE_OPERATION: &str = "an operation that cannot be read";

#[derive(FromRow)]
struct ImageRow {
    name: Parsed<ImageName>,
    version: Number<u32>,
    body: Kept<Json<ImageVersion>>,
    substrate: Kept<Parsed<Digest>>,
    layers: Kept<Json<Vec<Layer>>>,
}

impl ImageRow {
    fn record(self) -> Result<ImageRecord, UnreadableImage> {
        let (name, Number(version)) = (self.name.0, self.version);
        let read =
            || -> Result<_, Unreadable> { Ok((self.body.0?, self.substrate.0?, self.layers.0?)) };
        match read() {
            Ok((Json(mut body), Parsed(substrate), Json(layers))) => {
                // A release of before kept what people wrote.
                body.source = sources::shown(&body.source).into_owned();
                Ok(ImageRecord { name, version: body, substrate, layers })
            }
            Err(error) => Err(UnreadableImage { name, version, cause: error.to_string() }),
        }
    }
}

#[derive(FromRow)]
struct OperationRow {
    id: Number<u64>,
    request: Kept<Json<ImportImage>>,
    body: Kept<Json<Operation>>,
}

impl From<OperationRow> for OperationRecord {
    /// One that cannot be read has failed: nobody knows what is left to do.
    fn from(row: OperationRow) -> Self {
        let read = || -> Result<_, Unreadable> { Ok((row.body.0?, row.request.0?)) };
        match read() {
            Ok((Json(operation), Json(request))) => Self { operation, request },
            Err(error) => {
                let error = format!("its row in the database cannot be read: {error}");
                let operation = Operation {
                    id: row.id.0,
                    title: UNREADABLE_OPERATION.to_owned(),
                    created: Timestamp(0),
                    state: OperationState::Failed { error },
                };
                let request = ImportImage {
                    source: String::new(),
                    name: None,
                    insecure: false,
                    platform: None,
                    retry: false,
                };
                Self { operation, request }
            }
        }
    }
}

#[async_trait]
impl Store for SqlStore {
    async fn images(&self) -> Result<StoredImages, StoreError> {
        let text = "SELECT name, version, body, substrate, layers FROM provisioner_image_versions
                     ORDER BY name, version DESC";
        let rows =
            statement("read the images", text).fetch_each::<ImageRow>(&self.database).await?;
        let mut stored = StoredImages::default();
        for row in rows {
            match row.map(ImageRow::record) {
                Ok(Ok(image)) => stored.images.push(image),
                Ok(Err(error)) => stored.unreadable.push(error),
                Err(error) => {
                    let cause = rest::causes(&error);
                    tracing::error!("{cause}; it is left out");
                    stored.nameless.push(cause);
                }
            }
        }
        Ok(stored)
    }

    async fn next_image_version(&self, name: &ImageName) -> Result<u32, StoreError> {
        let text = "SELECT last_version FROM provisioner_image_names WHERE name = $1";
        let last: Option<(Number<u32>,)> = statement("read an image's last version", text)
            .bind(name.as_str())
            .fetch_optional(&self.database)
            .await?;
        Ok(last.map_or(0, |(last,)| last.0).saturating_add(1))
    }

    async fn operations(&self) -> Result<Vec<OperationRecord>, StoreError> {
        let text = "SELECT id, request, body FROM provisioner_operations ORDER BY id DESC";
        let rows: Vec<OperationRow> = self.readable(statement("read the operations", text)).await?;
        Ok(rows.into_iter().map(OperationRecord::from).collect())
    }

    async fn job_image(&self, manifest: Digest) -> Result<Option<JobImage>, StoreError> {
        let text = "SELECT manifest, image FROM controller_images WHERE manifest = $1";
        let image = statement("look up a job image", text).bind(manifest.to_string());
        let row: Option<(String, Json<JobImage>)> = image.fetch_optional(&self.database).await?;
        Ok(row.map(|(_, image)| image.0))
    }

    async fn job_images(&self) -> Result<Vec<KeptImage>, StoreError> {
        Ok(self.each_job_image().await?.into_iter().filter_map(logged).collect())
    }

    async fn commit(&self, writes: &[Write]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        for write in writes {
            if let Err(error) = write_one(&mut transaction, write).await {
                transaction.rollback().await?;
                return Err(error);
            }
        }
        Ok(transaction.commit("commit a change of images").await?)
    }
}

async fn write_one(transaction: &mut Transaction, write: &Write) -> Result<(), StoreError> {
    let written = match write {
        Write::PutImage(image) => put_image(transaction, image).await?,
        Write::DeleteImage { name, version } => {
            let text = "DELETE FROM provisioner_image_versions WHERE name = $1 AND version = $2";
            let delete = statement("delete an image version", text).bind(name.as_str());
            delete.bind(*version).execute(transaction).await?
        }
        Write::PutOperation(operation) => put_operation(transaction, operation).await?,
        Write::PutJobImage { image, used } => put_job_image(transaction, image, *used).await?,
        Write::ForgetJobImage(manifest) => {
            let text = "DELETE FROM controller_images WHERE manifest = $1";
            let delete = statement("forget a job image", text).bind(manifest.to_string());
            delete.execute(transaction).await?;
            return Ok(());
        }
    };
    // A write whose condition matched no row met somebody else's change.
    if written == 1 { Ok(()) } else { Err(StoreError::Conflict { subject: subject(write) }) }
}

fn subject(write: &Write) -> String {
    match write {
        Write::PutImage(image) => format!("image {}", image.name),
        Write::DeleteImage { name, version } => format!("image {name}@{version}"),
        Write::PutOperation(operation) => format!("operation {}", operation.operation.id),
        Write::PutJobImage { image, .. } => format!("job image {}", image.manifest),
        Write::ForgetJobImage(manifest) => format!("job image {manifest}"),
    }
}

async fn put_image(
    transaction: &mut Transaction,
    image: &ImageRecord,
) -> Result<u64, DatabaseError> {
    const ACTION: &str = "write an image version";
    let text = "INSERT INTO provisioner_image_names (name, last_version) VALUES ($1, $2)
                ON CONFLICT (name) DO UPDATE SET last_version = excluded.last_version
                 WHERE excluded.last_version > provisioner_image_names.last_version";
    statement("write an image", text)
        .bind(image.name.as_str())
        .bind(image.version.version)
        .execute(&mut *transaction)
        .await?;
    let text = "INSERT INTO provisioner_image_versions (name, version, body, substrate, layers)
                VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (name, version) DO UPDATE SET
                  body = excluded.body, substrate = excluded.substrate, layers = excluded.layers";
    statement(ACTION, text)
        .bind(image.name.as_str())
        .bind(image.version.version)
        .bind(json(ACTION, &image.version)?)
        .bind(image.substrate.to_string())
        .bind(json(ACTION, &image.layers)?)
        .execute(transaction)
        .await
}

async fn put_operation(
    transaction: &mut Transaction,
    record: &OperationRecord,
) -> Result<u64, DatabaseError> {
    const ACTION: &str = "write an operation";
    let operation = &record.operation;
    let text = "INSERT INTO provisioner_operations (id, request, body, ended)
                VALUES ($1, $2, $3, $4)
                ON CONFLICT (id) DO UPDATE SET
                  request = excluded.request, body = excluded.body, ended = excluded.ended";
    let written = statement(ACTION, text)
        .bind(operation.id)
        .bind(json(ACTION, &record.request)?)
        .bind(json(ACTION, operation)?)
        .bind(!matches!(operation.state, OperationState::Running { .. }))
        .execute(&mut *transaction)
        .await?;
    let oldest = operation.id.saturating_sub(u64::from(MAX_OPERATIONS));
    statement(
        "delete old operations",
        "DELETE FROM provisioner_operations WHERE ended AND id <= $1",
    )
    .bind(oldest)
    .execute(transaction)
    .await?;
    Ok(written)
}

async fn put_job_image(
    transaction: &mut Transaction,
    image: &JobImage,
    used: Timestamp,
) -> Result<u64, DatabaseError> {
    const ACTION: &str = "write a job image";
    let text = "INSERT INTO controller_images (manifest, image, used) VALUES ($1, $2, $3)
                ON CONFLICT (manifest) DO UPDATE SET image = excluded.image, used = excluded.used";
    let insert =
        statement(ACTION, text).bind(image.manifest.to_string()).bind(json(ACTION, image)?);
    insert.bind(used.0).execute(transaction).await
}

#[cfg(test)]
pub(crate) mod tables;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sqlite_conforms() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqlStore::in_directory(directory.path()).await;
        super::super::conformance::check(&store).await;
        // Opening again finds the rows in place.
        let again = SqlStore::in_directory(directory.path()).await;
        assert_eq!(again.images().await.unwrap(), store.images().await.unwrap());
        assert_eq!(again.job_images().await.unwrap(), store.job_images().await.unwrap());
    }
}
