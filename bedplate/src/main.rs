//! The program `bedplate`: the command line, and `bedplate server`.
//!
//! Exit status: 0 done, 1 failed, 2 used wrongly, 130 left by Ctrl-C.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::complete::answer_the_shell();
    cli::run()
}
