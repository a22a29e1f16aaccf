//! The Linux system calls that stage 1 and the agent need, blocking, without tokio (ring 1).
//!
//! Nearly all `unsafe` of the project lives here, each block with its `SAFETY:`; most calls go
//! through the safe wrappers of `nix` and `rustix`. One small file per thing, one
//! [`LinuxError`] that names the step, its subject and the errno. Nothing here decides
//! anything: callers say what to do.

#![allow(unsafe_code)]

mod error;

#[cfg(feature = "switches")]
pub mod attempts;
pub mod bpf;
pub mod cgroup;
pub mod clock;
pub mod console;
pub mod device_filter;
pub mod egress;
pub mod ethtool;
pub mod exec;
pub mod ipmi;
pub mod loop_device;
pub mod module;
pub mod mount;
pub mod namespace;
pub mod nvme;
pub mod power;
pub mod process;
pub mod root;
pub mod seccomp;
pub mod switch_root;
pub mod terminal;
pub mod udp;

pub use error::LinuxError;

/// What every call here returns.
pub type Result<T> = std::result::Result<T, LinuxError>;
