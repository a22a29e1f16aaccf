//! The program `bedplate`: the command line, and `bedplate server`.
//!
//! Exit status: 0 done, 1 failed, 2 used wrongly, 130 left by Ctrl-C.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Started by the server: one thread, no runtime, nothing that the jail would have to allow.
    if std::env::args_os().nth(1).is_some_and(|word| word == bedplate::server::CONVERTER) {
        return image_store::converter::main(|_| Vec::new());
    }
    cli::complete::answer_the_shell();
    cli::run()
}
