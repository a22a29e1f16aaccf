//! What the harness runs inside its machines, one static program: `/init` of a machine that is only
//! for benchmarks of containers, and a tool with commands on a node.

mod agent;
#[cfg(feature = "switches")]
mod attempt;
mod bench;
mod conformance;
mod containers;
#[cfg(feature = "switches")]
mod escape;
mod files;
mod machine;
mod peers;
mod program;
mod usage;

use std::{io::Write as _, process::ExitCode};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        machine::live();
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["in-group", group, program, arguments @ ..] => {
            machine::become_in_group(group, program, arguments)
        }
        ["spawn-containers"] => substrate::container::spawner::serve().map_err(Into::into),
        ["conform", name, otherwise, arguments @ ..] => {
            conformance::look(name, otherwise, arguments)
        }
        #[cfg(feature = "switches")]
        ["attempt", name] => attempt::make(name, None),
        #[cfg(feature = "switches")]
        ["attempt", name, argument] => attempt::make(name, Some(argument)),
        _ => Err(anyhow::anyhow!("usage: guest in-group GROUP PROGRAM [ARGUMENT…]")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("guest: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to the console, which the harness reads.
fn say(line: impl std::fmt::Display) {
    // Nobody reads it if the machine is being switched off.
    let _ = writeln!(std::io::stdout(), "{line}");
}
