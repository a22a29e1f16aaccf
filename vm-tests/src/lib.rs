//! What the tests of this crate share with whoever wants a cluster without machines.

pub mod simulated_node;
