//! What can go wrong with a statement or a transaction.

use std::time::Duration;

/// A failed statement, decoding or transaction. Nothing that its transaction wrote is kept.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The engine refused.
    #[error("the database could not {action}")]
    Statement {
        /// What was to be done: `add a user`.
        action: &'static str,
        /// The engine's own words.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what this release cannot read.
    #[error("the database could not {action}: the row of {row} is invalid")]
    Decode {
        /// What was to be done: `read the nodes`.
        action: &'static str,
        /// The row's first column as text: the key of every table.
        row: String,
        /// The column, and what is wrong with it.
        #[source]
        source: sqlx::Error,
    },
    /// A value that is to be written cannot be represented.
    #[error("the database could not {action}: a value cannot be encoded")]
    Encode {
        /// What was to be done.
        action: &'static str,
        /// The cause, for people.
        #[source]
        source: serde_json::Error,
    },
    /// An earlier statement of the transaction failed or was given up half way.
    #[error("the database could not {action}: the transaction failed before")]
    Failed {
        /// What was to be done.
        action: &'static str,
    },
    /// In the place of a row of the outbox stands another one: of another process.
    #[error(
        "the database could not {action}: another row has the number of the one that tells of it"
    )]
    RowTaken {
        /// What was to be done.
        action: &'static str,
    },
    /// The transaction holds the one writer's place for too long: see [`crate::MAX_TRANSACTION`].
    #[error("the database could not {action}: the transaction has run for more than {limit:?}")]
    TooLong {
        /// What was to be done.
        action: &'static str,
        /// The limit.
        limit: Duration,
    },
}

impl DatabaseError {
    /// Names the action of a failed call of the engine.
    pub(crate) fn of(action: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Statement { action, source }
    }
}
