//! The benchmarks, in the order in which `all` runs them.

use std::time::Duration;

use anyhow::Context as _;
use bench::outcome::Outcome;

use crate::{
    checkout_paths::CheckoutPaths, dhcp, frame::Frame, http, import, network::Network, overlays,
    planner_rate, register, tftp,
};

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// Exchanges of four packets, beside Kea and dnsmasq.
    Dhcp,
    /// Boot files, beside atftpd, tftpd-hpa and dnsmasq.
    Tftp,
    /// Images and boot scripts, beside nginx.
    Http,
    /// From a registry to what boots, beside skopeo, umoci, cpio with zstd and gzip.
    Import,
    /// The same after one small layer has changed.
    Rebuild,
    /// Rendered files of 1,000 nodes, beside cpio with gzip.
    Overlays,
    /// 10,000 nodes with profiles, beside a YAML file and a script.
    Register,
    /// Placements on 10,000 nodes.
    Planner,
    /// From the request to the end of a container, beside crun and runc.
    Container,
    /// What a first look at a node's hardware costs it, beside lstopo.
    Inventory,
    /// From power-on to ready, beside dnsmasq, nginx and one large initramfs.
    Boot,
    /// Jobs of `/bin/true`, beside HyperQueue, Slurm and GNU parallel.
    Throughput,
}

/// What measures, inside this program.
pub(crate) type Measure = fn(&Frame) -> anyhow::Result<Outcome>;

impl Name {
    /// As people write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Tftp => "tftp",
            Self::Http => "http",
            Self::Import => "import",
            Self::Rebuild => "rebuild",
            Self::Overlays => "overlays",
            Self::Register => "register",
            Self::Planner => "planner",
            Self::Container => "container",
            Self::Inventory => "inventory",
            Self::Boot => "boot",
            Self::Throughput => "throughput",
        }
    }

    /// What measures it; `None` if that is `vm-tests`, in machines of QEMU.
    pub(crate) fn measure(self) -> Option<Measure> {
        match self {
            Self::Dhcp => Some(dhcp::measure),
            Self::Tftp => Some(tftp::measure),
            Self::Http => Some(http::measure),
            Self::Import => Some(import::measure),
            Self::Rebuild => Some(import::measure_rebuild),
            Self::Overlays => Some(overlays::measure),
            Self::Register => Some(register::measure),
            Self::Planner => Some(planner_rate::measure),
            Self::Container | Self::Inventory | Self::Boot | Self::Throughput => None,
        }
    }

    /// Lets the benchmark measure, and clears up behind it. `quick`: a smoke test. Must be called
    /// from the main thread before there are others.
    ///
    /// # Errors
    /// Those of the benchmark, or of making directories and networks.
    pub(crate) fn run(self, quick: bool) -> anyhow::Result<Outcome> {
        let checkout_paths = CheckoutPaths::new()?;
        checkout_paths.clear()?;
        let measure =
            self.measure().with_context(|| format!("{} is measured by vm-tests", self.as_str()))?;
        if matches!(self, Self::Import | Self::Rebuild) {
            // Packages come over the machine's own network.
            import::image::prepare(&checkout_paths)?;
        }
        let frame = Frame { network: Network::enter(&checkout_paths)?, checkout_paths, quick };
        let outcome = measure(&frame);
        frame.checkout_paths.remove()?;
        outcome
    }

    /// After this it hangs. Machines without KVM are slow; the first import makes its image.
    pub(crate) fn limit(self) -> Duration {
        let minutes = match self {
            Self::Import | Self::Rebuild => 25,
            Self::Inventory | Self::Boot | Self::Throughput => 30,
            Self::Container => 15,
            _ => 10,
        };
        Duration::from_secs(minutes * 60)
    }
}
