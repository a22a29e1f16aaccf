//! The one binary of a node: `/init` of the stage-1 initramfs when it is PID 1, else a
//! program with commands.

use std::{io::Write as _, path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;

/// The node's side of Bedplate.
#[derive(Debug, Parser)]
#[command(name = "substrate", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Runs the agent; started by bedplate-substrate.service.
    Agent,
    /// Collects the inventory of this machine and prints it as JSON.
    Inventory {
        /// Prints the topology in hwloc's XML, which lstopo opens, instead.
        #[arg(long)]
        topology_xml: bool,
    },
    /// Starts containers; started by the agent.
    #[command(hide = true)]
    SpawnContainers,
    /// Keeps the cgroup of all jobs; started by bedplate-jobs.service.
    #[command(hide = true)]
    JobsHolder,
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        substrate::stage1::run();
    }
    let result = match Arguments::parse().command {
        Command::Agent => run_agent(),
        Command::Inventory { topology_xml } => print_inventory(topology_xml),
        Command::SpawnContainers => with_log(|| Ok(substrate::container::spawner::serve()?)),
        Command::JobsHolder => with_log(|| {
            let Err(error) = substrate::container::holder::hold();
            Err(error.into())
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_agent() -> anyhow::Result<()> {
    // Two threads do all that an agent does, and eight what blocks; by default there would be one
    // per core and hundreds more, beside the jobs.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()?;
    // As a task: what came for the main thread would wake a worker first, and then it.
    let successor =
        runtime.block_on(runtime.spawn(substrate::agent::run())).context("the agent broke")??;
    // Ends every task, and with them the agent's children.
    drop(runtime);
    if let Some(program) = successor {
        let Err(error) = linux::exec::replace_process(&program, &[c"agent".into()]);
        return Err(error.into());
    }
    Ok(())
}

fn print_inventory(topology_xml: bool) -> anyhow::Result<()> {
    let kernel = Box::new(substrate::agent::hardware::ioctls::Kernel);
    let mut collector = inventory::Collector::new(Path::new("/"), kernel);
    let text = if topology_xml {
        collector.collect(inventory::Parts::TOPOLOGY);
        collector.topology_xml().context("hwloc tells no topology of this machine")?.to_string()
    } else {
        serde_json::to_string_pretty(&collector.collect(inventory::Parts::ALL))? + "\n"
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the inventory")
}

/// The agent logs by itself; the small commands beside it log in the same form.
fn with_log(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    substrate::agent::log::start();
    work()
}
