//! What `bench`, `sim-cluster` and `vm-tests` have in common: the clock, the terminal, and their place in the checkout.

pub mod clock;
pub mod report;
pub mod workspace;
