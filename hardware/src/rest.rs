//! The REST routes of hardware, each with its action. `bedplate server` merges them with those of
//! the other roles.

mod nodes;
mod query;

use access::Routes;
use fleet::{Fleet, StoreError};

use crate::Hardware;

/// What the routes work on.
#[derive(Debug, Clone)]
struct Roles {
    hardware: Hardware,
    /// It knows the nodes by their names.
    fleet: Fleet,
}

impl Hardware {
    /// The routes, over the nodes of a fleet.
    #[must_use]
    pub fn rest(&self, fleet: &Fleet) -> Routes {
        let roles = Roles { hardware: self.clone(), fleet: fleet.clone() };
        nodes::routes().merge(query::routes()).with_state(roles)
    }
}

/// What the database has of one node's hardware cannot be read. Its agent sends it again.
fn is_damaged(error: &StoreError) -> bool {
    matches!(error, StoreError::Decode { .. })
}
