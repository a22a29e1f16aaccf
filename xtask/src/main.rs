//! Developer commands: `cargo xtask COMMAND`.

mod agent_build;
mod bench;
mod deny;
mod fuzz;
mod lanes;
mod rename;
mod run;
mod simulate;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Developer commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build everything, boot a virtual cluster of two nodes, and show it.
    Demo,
    /// Lints and all lanes of tests, or one lane.
    Test {
        /// Only this lane.
        lane: Option<lanes::Lane>,
    },
    /// Measure beside the peers, with optimised programs.
    Bench(bench::Bench),
    /// Install or build the peers of the benchmarks.
    Peers,
    /// Boot simulated machines, all at once, from the real server.
    SimBoot(simulate::Options),
    /// Let simulated nodes work for the real server, and account for every task.
    SimCluster(simulate::Options),
    /// Fuzz a parser of strangers' input for a while.
    Fuzz(fuzz::Fuzz),
    /// Kill the real server again and again while it writes, and hold what it acknowledged
    /// against what is left.
    SimKills(simulate::Options),
    /// Attack the real server, and measure how long clients that behave wait meanwhile.
    SimAttack(simulate::Options),
    /// Check what the lints cannot: edges between crates, sizes, paths in documents, removed words.
    Tidy,
    /// Rename identifiers, phrases and files as xtask/renames.toml says.
    Rename(rename::Rename),
    /// Check licences, bans and sources of all dependencies, as deny.toml says.
    Deny {
        /// Also look for known vulnerabilities: fetches their database from GitHub.
        #[arg(long)]
        advisories: bool,
    },
    /// Build the static substrate binary, target/substrate.
    Agent {
        /// Optimised, as it ships.
        #[arg(long)]
        release: bool,
    },
}

fn main() -> ExitCode {
    match run_command(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn run_command(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo => lanes::demo(),
        Command::Test { lane } => lanes::test(lane),
        Command::Bench(wanted) => bench::bench(&wanted),
        Command::Peers => bench::peers(),
        Command::SimBoot(wanted) => simulate::simulate("boot", &wanted),
        Command::SimCluster(wanted) => simulate::simulate("work", &wanted),
        Command::Fuzz(wanted) => fuzz::fuzz(&wanted),
        Command::SimKills(wanted) => simulate::simulate("kills", &wanted),
        Command::SimAttack(wanted) => simulate::simulate("attack", &wanted),
        Command::Tidy => tidy::tidy(),
        Command::Rename(options) => rename::rename(&options),
        Command::Deny { advisories } => deny::deny(advisories),
        Command::Agent { release } => {
            let path = agent_build::build(release)?;
            let bytes = std::fs::metadata(&path)?.len();
            println!("{} ({} MiB, static-pie)", path.display(), bytes >> 20);
            Ok(())
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program for the terminal")]
fn complain(error: &anyhow::Error) {
    eprintln!("xtask: {error:#}");
}
