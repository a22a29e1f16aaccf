//! YAML documents that people write, as trees whose every node knows its line and column, and the
//! hint for a mistyped word. Used by all who read such documents: `provisioner`, `document`, and
//! the configuration in `bedplate`.
//!
//! Pure (ring 0). Why not `serde` alone: `docs/decisions/0004-yaml-locations.md`.

mod diagnostics;
mod places;
mod shape;
mod suggest;
mod tree;

pub use diagnostics::{Diagnostics, MAX_DIAGNOSTICS};
pub use places::IndexedTree;
pub use shape::{EXTENSION, Field, LATER, Shape, field, find, required, walk};
pub use suggest::did_you_mean;
pub use tree::{Key, Kind, Location, Tree, Unreadable, parse};
