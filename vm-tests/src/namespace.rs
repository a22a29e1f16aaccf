//! The cluster's own network: a namespace with a bridge, which the whole harness enters.
//!
//! Nothing of the machine's network is touched. `ip netns delete` removes all of it,
//! also after a crash.

use std::{fs::File, path::Path};

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};

use sha2::{Digest as _, Sha256};

use crate::{checkout_paths::CheckoutPaths, process::run};

/// The bridge that server and machines are on.
pub(crate) const BRIDGE: &str = "bp0";

/// The server's address on the bridge.
pub(crate) const SERVER: &str = "10.77.0.1";

/// The namespace; deleted when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Removes the namespace of a crashed run.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(crate) fn clear(checkout_paths: &CheckoutPaths) -> anyhow::Result<()> {
        let name = name(checkout_paths);
        if Path::new("/run/netns").join(&name).exists() {
            run("ip", &["netns", "delete", &name])?;
        }
        Ok(())
    }

    /// Makes the namespace and moves the calling thread, and so all that it starts from
    /// now on, into it.
    ///
    /// # Errors
    /// If `ip` fails, or without the right to make namespaces.
    pub(crate) fn enter(checkout_paths: &CheckoutPaths) -> anyhow::Result<Self> {
        let namespace = Self { name: name(checkout_paths) };
        let name = &namespace.name;
        run("ip", &["netns", "add", name])?;
        let path = format!("/run/netns/{name}");
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        setns(file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter namespace {name}"))?;
        run("ip", &["link", "set", "lo", "up"])?;
        run(
            "ip",
            &["link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "stp_state", "0"],
        )?;
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

/// Each checkout has its own, so that two can run at once.
fn name(checkout_paths: &CheckoutPaths) -> String {
    let hash = Sha256::digest(checkout_paths.root().as_os_str().as_encoded_bytes());
    format!("bpvm-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &["netns", "delete", &self.name]) {
            crate::report::complain(format!("{error:#}"));
        }
    }
}
