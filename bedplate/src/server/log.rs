//! The server's own messages, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(log: &Log) {
    // The level was checked with the configuration.
    let filter = log.level.parse::<EnvFilter>().unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already_started = if log.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}
