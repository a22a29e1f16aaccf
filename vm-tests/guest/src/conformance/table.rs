//! Every check, in the order of the page.

mod files;
mod isolation;
mod lifecycle;
mod process;

use substrate::container::spec::ContainerSpec;

use super::Check;

/// An ordinary small job.
const ORDINARY: fn(&mut ContainerSpec) = |_| {};

/// Those that a job of the machine's own network has not.
const ISOLATED: fn(&mut ContainerSpec) = |spec| spec.isolated_network = true;

/// All of them.
pub(super) fn checks() -> impl Iterator<Item = &'static Check> {
    [files::CHECKS, isolation::CHECKS, process::CHECKS, lifecycle::CHECKS].into_iter().flatten()
}
