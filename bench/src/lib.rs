//! Benchmarks beside the peers. `vm-tests` uses [`outcome`] for those that need machines in QEMU.

pub mod outcome;
