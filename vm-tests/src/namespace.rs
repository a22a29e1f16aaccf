//! The cluster's own network: a namespace with a bridge, which the whole harness enters.
//!
//! Nothing of the machine's network is touched. `ip netns delete` removes all of it, also after a crash.

use std::{fs::File, path::Path};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use crate::process::run;

/// The namespace.
const NAME: &str = "bpvm";

/// The bridge that server and machines are on.
pub(crate) const BRIDGE: &str = "bp0";

/// The server's address on the bridge.
pub(crate) const SERVER: &str = "10.77.0.1";

/// The namespace; deleted when dropped.
#[derive(Debug)]
pub(crate) struct Namespace(());

impl Namespace {
    /// Removes the namespace of a crashed run.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn clear() -> anyhow::Result<()> {
        if Path::new("/run/netns").join(NAME).exists() {
            run("ip", &["netns", "delete", NAME])?;
        }
        Ok(())
    }

    /// Makes the namespace and moves the calling thread, and so all that it starts from now on, into it.
    ///
    /// # Errors
    /// If `ip` fails, or without the right to make namespaces.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        run("ip", &["netns", "add", NAME])?;
        let namespace = Self(());
        let path = format!("/run/netns/{NAME}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter namespace {NAME}"))?;
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "stp_state", "0"])?;
        run("ip", &["address", "add", &format!("{SERVER}/24"), "dev", BRIDGE])?;
        run("ip", &["link", "set", BRIDGE, "up"])?;
        Ok(namespace)
    }

    /// Makes a port of the bridge for one interface of a machine.
    ///
    /// # Errors
    /// If `ip` fails.
    pub(crate) fn add_port(&self, tap: &str) -> anyhow::Result<()> {
        run("ip", &["tuntap", "add", "dev", tap, "mode", "tap"])?;
        run("ip", &["link", "set", tap, "master", BRIDGE, "up"])?;
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "delete", NAME]) {
            crate::report::complain(format!("{error:#}"));
        }
    }
}
