//! A check of the lane, and what checks tell later ones.

use crate::cluster::Cluster;

/// What checks tell later ones.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The machine-id that n1 had at its first boot.
    pub(crate) machine_id: Option<String>,
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    /// What holds if it passes.
    pub(crate) name: &'static str,
    /// Nodes that must be ready.
    pub(crate) needs: &'static [&'static str],
    /// Runs the check on the booted cluster; an error fails it.
    pub(crate) run: fn(&mut Cluster, &mut Memory) -> anyhow::Result<()>,
}
