//! What `bench`, `sim-cluster` and `vm-tests` have in common: the clock, the terminal, and their
//! place in the checkout. And for the conformance suites of stores: a PostgreSQL server of a test's
//! own; for kills: what a power cut takes.

pub mod clock;
pub mod postgres;
pub mod report;
pub mod workspace;
pub mod write_journal;
