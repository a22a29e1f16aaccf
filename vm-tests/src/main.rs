//! The virtual cluster: `vm-tests demo` boots one and shows it, `vm-tests lane` boots one and tests
//! it; `vm-tests lane WORD…` boots it and runs only the checks with a word in their names.
//! `vm-tests campaign ROUNDS` kills at random under load. `vm-tests logs JOBS [SEED]` reads the
//! logs of so many jobs at the moment at which they end. `vm-tests boots ROUNDS [VARIANT…]` counts
//! how often the emulator holds up the machine with eight processors.
//! `vm-tests bench NAME [--quick] [--out FILE]` measures, `vm-tests escapes` tries to break out of
//! containers, `vm-tests conformance` holds them against what the public suites ask; each of these
//! has a small machine of its own.
//!
//! Started by `cargo xtask demo` and `cargo xtask test vm`, as root, after the build of
//! server and agent.

mod accelerator;
mod benches;
mod boot_watch;
mod boots;
mod campaign;
mod check;
mod checkout_paths;
mod checks;
mod clock;
mod cluster;
mod console;
mod demo;
mod file_server;
mod lane;
mod logs;
mod machine;
mod monitor;
mod namespace;
mod os_image;
mod process;
mod registry;
mod server;
mod small_machine;
mod ssh;
mod workflow;

use std::process::ExitCode;

use anyhow::Context as _;
use harness::report;

fn campaign(rounds: &str, seed: &str) -> anyhow::Result<bool> {
    campaign::by_hand(rounds.parse()?, seed.parse()?).map(|()| true)
}

fn logs(jobs: &str, seed: &str) -> anyhow::Result<bool> {
    let jobs = jobs.parse().context("logs: JOBS is a number")?;
    logs::by_hand(jobs, seed.parse().context("logs: SEED is a number")?).map(|()| true)
}

fn boots(rounds: &str, variants: &[&str]) -> anyhow::Result<bool> {
    boots::by_hand(rounds.parse().context("boots: ROUNDS is a number")?, variants)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["bench", name, options @ ..] => benches::run(name, options).map(|()| true),
        ["inside", "throughput", options @ ..] => {
            benches::inside_throughput(options.first().copied()).map(|()| true)
        }
        ["boots", rounds, variants @ ..] => boots(rounds, variants),
        ["campaign", rounds] => campaign(rounds, &clock::unix_seconds().to_string()),
        ["campaign", rounds, seed] => campaign(rounds, seed),
        ["logs", jobs] => logs(jobs, &clock::unix_seconds().to_string()),
        ["logs", jobs, seed] => logs(jobs, seed),
        ["escapes"] => checks::escapes::without_cluster().map(|()| true),
        ["conformance"] => checks::conformance::without_cluster().map(|()| true),
        ["demo"] => demo::demo().map(|()| true),
        ["lane", only @ ..] => lane::lane(only),
        _ => {
            report::complain(
                "usage: vm-tests demo | lane [WORD…] | escapes | conformance | campaign ROUNDS [SEED] | \
                 logs JOBS [SEED] | boots ROUNDS [VARIANT…] | bench NAME [--quick] [--out FILE]",
            );
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(format!("vm-tests: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
