//! The hardware of nodes: inventories and topologies, kept, compared, asked about and told to
//! Prometheus.
//!
//! `bedplate server` makes one [`Hardware`], gives it to the fleet, which hands it what agents
//! report ([`fleet::HardwareReports`]), and merges its REST routes. The controller asks it for
//! inventories.
//!
//! | module | |
//! |---|---|
//! | `inventories` | what agents reported: kept, and asked for |
//! | `changes`, `topology` | pure: what is new in an inventory; hwloc's XML, compressed |
//! | `pci_names` | names of PCI devices |
//! | `query` | pure: questions about the hardware of all nodes |
//! | `store` | the tables |
//! | `metrics` | what Prometheus is told |
//! | `rest` | what people ask for |
//! | `stored` | what of the database cannot be read, for a check |
//! | [`fuzzing`] | what fuzz targets see |
//!
//! Invariants: reads no clock; an expression of a user is bounded before it is evaluated; what
//! somebody may not read is taken out before it is asked about.

mod changes;
pub mod fuzzing;
mod inventories;
mod metrics;
mod pci_names;
mod query;
mod rest;
mod store;
mod stored;
mod topology;

use std::sync::Arc;

use database::Database;

pub use crate::metrics::HardwareMetrics;
pub use stored::problems;

use crate::metrics::KnownFacts;
use pci_names::PciNames;
use store::{Store, sql::SqlStore};

/// Handle to what is known of the hardware of all nodes. Clones share everything.
#[derive(Debug, Clone)]
pub struct Hardware {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    pci_names: PciNames,
    facts: KnownFacts,
}

impl Hardware {
    /// The hardware in this database, whose tables the fleet makes when it is opened: what is kept
    /// of a node goes with its row there. Reads the names of PCI devices from this machine's file.
    #[must_use]
    pub fn new(database: Database) -> Self {
        let store: Arc<dyn Store> = Arc::new(SqlStore::new(database));
        let pci_names = PciNames::of_this_machine();
        Self { inner: Arc::new(Inner { store, pci_names, facts: KnownFacts::default() }) }
    }
}
