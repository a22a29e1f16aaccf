//! Why the ledger refuses a submission.

use access::QuotaExceeded;

/// Why a submission is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubmissionRefused {
    /// A quota is used up.
    #[error(transparent)]
    Exceeded(QuotaExceeded),
    /// Its owner is being removed, or is gone.
    #[error("{user} is being removed, or is removed already; nothing was started")]
    Leaving {
        /// The user.
        user: String,
    },
}
