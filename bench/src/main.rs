//! `bench run NAME…|all`: benchmarks beside the peers, started by `cargo xtask bench`.
//! `bench measure NAME --out FILE` is one of them, started by the former.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | one run: children, limits, what becomes of results |
//! | [`catalog`] | which benchmarks there are |
//! | [`turns`] | rounds |
//! | [`network`], [`ours`], [`process`], [`memory`], [`peers`], [`checkout_paths`] | what they stand on |
//! | all others | a benchmark each |

mod arguments;
mod catalog;
mod checkout_paths;
mod clock;
mod dhcp;
mod document;
mod frame;
mod host;
mod http;
mod import;
mod memory;
mod network;
mod nodes;
mod ours;
mod overlays;
mod peers;
mod planner_rate;
mod process;
mod register;
mod session;
mod tftp;
mod turns;

use std::process::ExitCode;

use clap::Parser as _;
use harness::report;

fn main() -> ExitCode {
    match arguments::Command::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::complain(format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
