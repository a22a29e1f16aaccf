//! What fuzz targets and their replay (`fuzz/`) see of what is private here. Nothing that
//! ships calls it.

pub use crate::query::fuzzing::{MAX_FILTER_STEPS, steps_of_filter};
