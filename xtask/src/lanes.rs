//! `cargo xtask test`: lints first, then the five lanes in the order of their cost.

use anyhow::bail;

use crate::{
    agent_build, deny,
    run::{run, timed},
    tidy,
};

/// A lane of tests. Which test is in which lane is told by names alone: see docs/testing.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Lane {
    /// No root, no network but loopback.
    Unit,
    /// The OpenAPI document held against a running server.
    Api,
    /// The whole server in one process, with simulated nodes.
    Sim,
    /// Root, in network namespaces of its own.
    Privileged,
    /// Machines in QEMU.
    Vm,
}

/// Started as built: `cargo run` for one package would build its dependencies again, with the
/// features of that one only.
const VM_TESTS: &str = "target/debug/vm-tests";

const PRIVILEGED: &str = "test(/(^|::)privileged_/)";

/// Runs one lane, or the lints and all lanes.
///
/// # Errors
/// The first thing that fails; what comes after it is not run.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
pub(crate) fn test(lane: Option<Lane>) -> anyhow::Result<()> {
    if let Some(lane) = lane {
        build()?;
        return run_lane(lane);
    }
    tidy::tidy()?;
    run("cargo", &["fmt", "--all", "--check"])?;
    deny::deny(false)?;
    let ((), built) = timed(build)?;
    println!("dev-profile build (server, agent and tests): {:.0} s", built.as_secs_f64());
    run("cargo", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // The test build of the substrate is in no other build, so neither are its lints.
    let guest =
        ["clippy", "--quiet", "--package", "guest", "--features", "switches", "--all-targets"];
    run(
        "cargo",
        &[&guest[..], &["--target-dir", "target/switches", "--", "-D", "warnings"]].concat(),
    )?;
    for lane in [Lane::Unit, Lane::Api, Lane::Sim, Lane::Privileged, Lane::Vm] {
        let ((), took) = timed(|| run_lane(lane))?;
        println!("lane {lane:?}: passed in {:.0} s", took.as_secs_f64());
    }
    Ok(())
}

/// Builds what a cluster needs and boots one.
///
/// # Errors
/// If the build fails or a node does not become ready.
pub(crate) fn demo() -> anyhow::Result<()> {
    run("cargo", &["build", "--quiet", "--package", "bedplate", "--package", "vm-tests"])?;
    agent_build::build(false)?;
    run(VM_TESTS, &["demo"])
}

/// Everything that the lanes run: programs, tests, and the static agent.
fn build() -> anyhow::Result<()> {
    run("cargo", &["build", "--quiet", "--workspace", "--all-targets"])?;
    agent_build::build(false)?;
    agent_build::build_guest(false)?;
    Ok(())
}

fn run_lane(lane: Lane) -> anyhow::Result<()> {
    match lane {
        Lane::Unit => nextest(&format!("not ({PRIVILEGED} or binary(sim))")),
        Lane::Api => run("bash", &["xtask/schemathesis.sh"]),
        Lane::Sim => {
            require_root("a network namespace with an address for every simulated node")?;
            nextest("binary(sim)")
        }
        Lane::Privileged => {
            require_root("network namespaces")?;
            nextest(PRIVILEGED)
        }
        Lane::Vm => {
            require_root("tap devices")?;
            run(VM_TESTS, &["lane"])
        }
    }
}

fn nextest(filter: &str) -> anyhow::Result<()> {
    run("cargo", &["nextest", "run", "--workspace", "--no-fail-fast", "--filterset", filter])
}

/// A lane that cannot run fails; it is never skipped.
///
/// # Errors
/// Without root; says what it is needed for.
pub(crate) fn require_root(what: &str) -> anyhow::Result<()> {
    let uid = std::fs::read_to_string("/proc/self/status")?.lines().find_map(|line| {
        line.strip_prefix("Uid:").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok())
    });
    if uid != Some(0) {
        bail!("this needs root for {what}: run it as root");
    }
    Ok(())
}
