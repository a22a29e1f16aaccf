//! What every benchmark of this program is given.

use anyhow::Context as _;
use bench::outcome::Outcome;

use crate::{catalog::Name, import, network::Network, places::Places};

/// Folders, networks, and how much is wanted.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Where everything is.
    pub(crate) places: Places,
    /// The servers' side is entered.
    pub(crate) network: Network,
    /// A smoke test: small sizes, one or two rounds.
    pub(crate) quick: bool,
}

impl Frame {
    /// Lets a benchmark measure, and clears up behind it. Must be called from the main thread before there are others.
    ///
    /// # Errors
    /// Those of the benchmark, or of making folders and networks.
    pub(crate) fn with(quick: bool, name: Name) -> anyhow::Result<Outcome> {
        let places = Places::new()?;
        places.clear()?;
        let measure = name.measure().with_context(|| format!("{} is measured by vm-tests", name.as_str()))?;
        if matches!(name, Name::Import | Name::Rebuild) {
            // Packages come over the machine's own network.
            import::image::prepare(&places)?;
        }
        let frame = Self { network: Network::enter(&places)?, places, quick };
        let outcome = measure(&frame);
        frame.places.remove()?;
        outcome
    }

    /// One of two sizes: the whole, and that of the smoke test.
    pub(crate) fn size<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }
}
