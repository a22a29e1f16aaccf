//! The program `sim-cluster`: `boot` is started by `cargo xtask sim-boot`, `work` by
//! `cargo xtask sim-cluster`, `kills` by `cargo xtask sim-kills`, `attack` by
//! `cargo xtask sim-attack`. It needs root, and the program `bedplate` beside it.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use sim_cluster::{
    attack::{self, Attack},
    boot, kills,
    report::complain,
    work,
};

#[derive(Debug, Parser)]
#[command(name = "sim-cluster", about = "Simulated nodes against the real server")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Power so many machines on at once, and wait until each is ready.
    Boot {
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        nodes: u32,
        /// Of the machines' chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Let so many nodes work on so many tasks, and draw up the account.
    Work {
        /// How many nodes.
        #[arg(long, default_value_t = 2_000)]
        nodes: u32,
        /// How many tasks, in arrays of some hundred.
        #[arg(long, default_value_t = 100_000)]
        tasks: u32,
        /// Cut connections, kill agents, cut the power of nodes, kill the server.
        #[arg(long)]
        faults: bool,
        /// Longest time between two faults of a node, seconds.
        #[arg(long, default_value_t = 60, requires = "faults", value_name = "SECONDS")]
        peace: u64,
        /// Of the faults' chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Kill the server again and again while it writes, and hold what it acknowledged
    /// against what is left.
    Kills {
        /// How often.
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        /// Take back what the server had not synced, as a cut of the power would.
        #[arg(long)]
        drop_unsynced: bool,
        /// Of the kills' chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Attack the server, and measure how long clients that behave wait meanwhile.
    Attack {
        /// What is done to it, one after the other [default: everything].
        attacks: Vec<Attack>,
        /// How long each lasts.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Of the attackers' chance.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Boot { nodes, seed } => boot::run(nodes, seed),
        Command::Work { nodes, tasks, faults, peace, seed } => {
            let peace = Duration::from_secs(peace);
            work::run(&work::Options { nodes, tasks, faults, peace, seed })
        }
        Command::Kills { rounds, drop_unsynced, seed } => {
            kills::run(&kills::Options { rounds, drop_unsynced, seed })
        }
        Command::Attack { attacks, seconds, seed } => {
            attack::run(&attack::Options { attacks, seconds, seed })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format!("sim-cluster: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
