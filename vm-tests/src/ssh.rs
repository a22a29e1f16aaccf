//! Logging in to nodes as a person would: with a key that an overlay authorised and a host key that
//! is known before.

use std::{fs, path::PathBuf, process::Output};

use anyhow::{Context as _, bail};

use crate::{
    checkout_paths::CheckoutPaths,
    process::{output, run, words},
};

/// A key pair and the hosts that are known.
#[derive(Debug, Clone)]
pub(crate) struct Ssh {
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Ssh {
    /// Makes a key pair.
    ///
    /// # Errors
    /// If `ssh-keygen` fails.
    pub(crate) fn new(checkout_paths: &CheckoutPaths) -> anyhow::Result<Self> {
        let key = checkout_paths.of_run("ssh/key");
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", "vm-tests", "-f", &key.display().to_string()],
        )?;
        Ok(Self { key, known_hosts: checkout_paths.of_run("ssh/known_hosts") })
    }

    /// The public key, one line.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn public_key(&self) -> anyhow::Result<String> {
        let path = self.key.with_extension("pub");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// From now on, the host at `address` must show this key.
    ///
    /// # Errors
    /// If the list cannot be written.
    pub(crate) fn trust(&self, address: &str, host_key: &str) -> anyhow::Result<()> {
        let mut lines = fs::read_to_string(&self.known_hosts).unwrap_or_default();
        lines += &format!("{address} {}\n", host_key.trim());
        fs::write(&self.known_hosts, lines)
            .with_context(|| format!("cannot write {}", self.known_hosts.display()))
    }

    /// Runs a shell script as root; it must succeed.
    ///
    /// # Errors
    /// If the node cannot be reached, shows another host key, or the script fails.
    pub(crate) fn run(&self, address: &str, script: &str) -> anyhow::Result<String> {
        let output = self.try_run(address, script)?;
        if !output.status.success() {
            let first = script.lines().next().unwrap_or_default();
            bail!("ssh root@{address} {first:?}: {}\n{}", output.status, words(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a shell script as root, whatever comes of it. ssh itself ends with 255.
    ///
    /// # Errors
    /// If ssh cannot be started.
    pub(crate) fn try_run(&self, address: &str, script: &str) -> anyhow::Result<Output> {
        let known = format!("UserKnownHostsFile={}", self.known_hosts.display());
        let key = self.key.display().to_string();
        let login = format!("root@{address}");
        let mut arguments =
            vec!["-F", "none", "-i", &key, "-o", &known, "-o", "GlobalKnownHostsFile=none"];
        for option in [
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "ConnectTimeout=20",
            "LogLevel=ERROR",
        ] {
            arguments.extend(["-o", option]);
        }
        arguments.extend([login.as_str(), "sh -s"]);
        output("ssh", &arguments, script.as_bytes())
    }
}
