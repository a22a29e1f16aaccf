//! The server's own messages, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::Log;

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(log: &Log) {
    // The level was checked with the configuration.
    let registry = tracing_subscriber::registry().with(log.level.parse::<Targets>().unwrap_or_default());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _already_started = if log.json {
        registry.with(lines.json().flatten_event(true)).try_init()
    } else {
        registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()
    };
}
