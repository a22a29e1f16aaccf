//! What the server counts of itself, and the text in which Prometheus reads it.
//!
//! A role holds its instruments ([`Counter`], [`Counters`], [`Gauge`], [`Histogram`], [`Work`])
//! where the work is done, and writes them into an [`Exposition`] when somebody asks. Which metrics
//! there are: `docs/reference/metrics.md`.
//!
//! Invariants: an instrument is atomics alone, so that what it counts never waits for another one
//! or for a scrape; the values of a label are known when the program is built, or bounded by what
//! the caller keeps anyway (nodes, subnets, routes), and never what a client sent; a family has
//! HELP and TYPE even while it has no samples.

mod exposition;
mod instrument;

pub use exposition::{Exposition, Family, Labels, Number};
pub use instrument::{
    Begun, Counter, Counters, Entered, Gauge, Histogram, SECONDS, SLOW_SECONDS, Work,
};
