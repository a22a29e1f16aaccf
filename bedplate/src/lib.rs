//! The library half of `bedplate`: the server and its configuration. The command line
//! is in `main.rs`.

pub mod config;
pub mod server;
