//! `cargo xtask sim-boot`, `sim-cluster`, `sim-kills` and `sim-attack`: optimised server and
//! simulation, then the simulation.

use crate::{
    lanes::require_root,
    run::{build_optimised, run},
};

/// Started as built: see [`crate::lanes`].
const SIM_CLUSTER: &str = "target/release/sim-cluster";

/// What the simulation is told.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Its own options; `--help` tells them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Builds server and simulation, and runs one: `boot`, `work`, `kills` or `attack`.
///
/// # Errors
/// If the build fails, or something is not accounted for.
pub(crate) fn simulate(what: &str, Options { options }: &Options) -> anyhow::Result<()> {
    require_root("network namespaces")?;
    build_optimised()?;
    let arguments: Vec<&str> =
        std::iter::once(what).chain(options.iter().map(String::as_str)).collect();
    run(SIM_CLUSTER, &arguments)
}
