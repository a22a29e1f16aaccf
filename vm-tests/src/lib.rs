//! What the tests of this crate share with whoever wants a cluster without machines.

pub use sim_cluster::simulated_node;
