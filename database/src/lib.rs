//! The one home of the database: how it is opened, migrated, asked and written.
//!
//! `bedplate server` opens one [`Database`]; every role (access, fleet, provisioner, controller)
//! keeps its tables in it, has a [`Schema`] of its own and a store that consists of [`statement`]s.
//!
//! | module | |
//! |---|---|
//! | `open` | the pool and its settings; the checks before the first change |
//! | `schema` | versions of each role's tables, and how a database gets from one to the next |
//! | `copies` | the copy of the database that is kept before its tables change |
//! | `statement` | SQL text with its values, run on the pool or in a transaction |
//! | `columns` | how columns are decoded: identifiers, numbers, JSON |
//! | `transaction` | one transaction over several roles |
//! | [`outbox`] | rows that are committed with the change that they tell of |
//! | `meter` | what the database tells of itself |
//!
//! The engine is SQLite. With the feature `postgres` it may be PostgreSQL too, under the same text:
//! placeholders are `$1`, columns are BIGINT, TEXT, BYTEA or BOOLEAN.
//!
//! Invariants: no role is known here; no other crate names an engine; a connection whose
//! transaction did not end well is never used again.

mod clock;
mod columns;
mod copies;
mod error;
mod meter;
mod open;
pub mod outbox;
mod schema;
mod statement;
mod transaction;

pub use columns::{Json, Kept, Number, Parsed, Unreadable, Word, json};
pub use copies::CopyError;
pub use error::DatabaseError;
pub use open::{Database, OpenError};
pub use schema::{CodeStep, MigrateError, Schema, Step};
pub use statement::{On, Record, Statement, Value, statement};
pub use transaction::{MAX_TRANSACTION, Transaction};

#[cfg(test)]
mod tests;
