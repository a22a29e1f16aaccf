//! What `nvidia-smi` said, as it was parsed.

use std::collections::BTreeMap;

use api::inventory::{Ecc, GpuLink, MigDevice};

/// What `nvidia-smi` said of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GpuFacts {
    pub(crate) index: u32,
    pub(crate) model: Option<String>,
    pub(crate) uuid: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) firmware: Option<String>,
    pub(crate) power_limit_watts: Option<u32>,
    pub(crate) ecc: Option<Ecc>,
    pub(crate) mig_enabled: Option<bool>,
    pub(crate) mig: Vec<MigDevice>,
    pub(crate) links: Vec<GpuLink>,
}

/// All that `nvidia-smi` said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) driver_version: Option<String>,
    /// By PCI address as sysfs spells it.
    pub(crate) gpus: BTreeMap<String, GpuFacts>,
    /// Questions that it did not answer, and why.
    pub(crate) gaps: Vec<(&'static str, String)>,
}
