//! What every benchmark of this program is given.

use crate::{checkout_paths::CheckoutPaths, network::Network};

/// Directories, networks, and how much is wanted.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Where everything is.
    pub(crate) checkout_paths: CheckoutPaths,
    /// The servers' side is entered.
    pub(crate) network: Network,
    /// A smoke test: small sizes, one or two rounds.
    pub(crate) quick: bool,
}

impl Frame {
    /// One of two sizes: the whole, and that of the smoke test.
    pub(crate) fn size<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}
