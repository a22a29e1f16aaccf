//! The tables as a server has them, for tests: the steps of the roles that make them.

use std::path::Path;

use database::{Database, Schema, Step};

/// Of the provisioner's steps the first makes tables of this crate.
static PROVISIONER: Schema = Schema::new(
    "provisioner",
    "provisioner_migrations",
    &[Step::sql("first", include_str!("../../../../provisioner/migrations/0001_first.sql"))],
);

/// Of the controller's steps the first makes the table of this crate.
static CONTROLLER: Schema = Schema::new(
    "controller",
    "controller_migrations",
    &[Step::sql("first", include_str!("../../../../controller/migrations/0001_first.sql"))],
);

/// Opens a database with these tables.
pub(crate) async fn open(path: &Path) -> Database {
    let schemas: [&Schema; 2] = [&PROVISIONER, &CONTROLLER];
    let database = Database::open(path, &schemas).await.unwrap();
    for schema in schemas {
        database.migrate(schema).await.unwrap();
    }
    database
}
