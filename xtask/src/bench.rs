//! `cargo xtask bench NAME…|all` and `cargo xtask peers`: builds, then lets the program
//! `bench` measure.

use std::path::PathBuf;

use crate::{
    agent_build,
    lanes::require_root,
    run::{build_optimised, run},
};

/// Names, as the program `bench` has them; `all` is all of them.
pub(crate) const NAMES: [&str; 13] = [
    "dhcp",
    "tftp",
    "http",
    "import",
    "rebuild",
    "overlays",
    "register",
    "planner",
    "container",
    "inventory",
    "boot",
    "throughput",
    ALL,
];

const ALL: &str = "all";

/// Those that `vm-tests` measures in machines of QEMU.
const IN_MACHINES: [&str; 5] = ["container", "inventory", "boot", "throughput", ALL];

/// Started as built.
const BENCH: &str = "target/release/bench";

/// What is measured, and what becomes of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// What.
    #[arg(required = true, value_parser = NAMES)]
    names: Vec<String>,
    /// A smoke test: small sizes, one or two rounds.
    #[arg(long)]
    quick: bool,
    /// Also write the outcomes to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also put the tables into docs/benchmarks.md.
    #[arg(long)]
    write: bool,
}

/// Builds what the benchmarks need and runs them. The last line of each is
/// `NAME: ratio R (ours A unit, PEER B unit)`.
///
/// # Errors
/// If the build fails, or a benchmark has not measured our side.
pub(crate) fn bench(bench: &Bench) -> anyhow::Result<()> {
    require_root("network namespaces and machines")?;
    build_optimised()?;
    agent_build::build(true)?;
    if bench.names.iter().any(|name| IN_MACHINES.contains(&name.as_str())) {
        run("cargo", &["build", "--quiet", "--workspace", "--all-targets"])?;
        agent_build::build_guest(true)?;
    }
    let json = bench.json.as_ref().map(|path| path.display().to_string());
    let is_all = bench.names.iter().any(|name| name == ALL);
    let mut arguments = vec!["run"];
    arguments.extend(bench.names.iter().map(String::as_str).filter(|_| !is_all));
    arguments.extend(bench.quick.then_some("--quick"));
    arguments.extend(bench.write.then_some("--write"));
    arguments.extend(json.iter().flat_map(|path| ["--json", path.as_str()]));
    run(BENCH, &arguments)
}

/// Gets the peers.
///
/// # Errors
/// If one could not be had.
pub(crate) fn peers() -> anyhow::Result<()> {
    run("bash", &["xtask/peers.sh"])
}
