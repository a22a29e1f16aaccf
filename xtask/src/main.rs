//! Developer commands: `cargo xtask COMMAND`.

mod agent_build;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Developer commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the static substrate binary, target/substrate.
    Agent {
        /// Optimised, as it ships.
        #[arg(long)]
        release: bool,
    },
}

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Agent { release } => {
            let path = agent_build::build(release)?;
            let bytes = std::fs::metadata(&path)?.len();
            println!("{} ({} MiB, static-pie)", path.display(), bytes >> 20);
            Ok(())
        }
    }
}
