//! QEMU's monitor of a machine: what a hand does at its slots. QEMU Machine Protocol, one JSON
//! object a line (`docs/interop/qmp-spec.txt` of QEMU).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// How long QEMU may take for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects to the socket of a machine's monitor.
    ///
    /// # Errors
    /// If QEMU does not answer.
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .context("cannot set the limit of QEMU's monitor")?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.read().context("no greeting of QEMU's monitor")?;
        monitor.command("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Has QEMU do something; returns what it answers.
    ///
    /// # Errors
    /// What QEMU says of why not.
    pub(crate) fn command(&mut self, command: &str, arguments: Value) -> anyhow::Result<Value> {
        let line = json!({"execute": command, "arguments": arguments}).to_string();
        writeln!(self.0.get_mut(), "{line}").context("cannot write to QEMU's monitor")?;
        loop {
            let mut answer = self.read()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {line}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).context("cannot read from QEMU's monitor")?;
        anyhow::ensure!(length > 0, "QEMU has closed its monitor");
        serde_json::from_str(&line).with_context(|| format!("QEMU's monitor says {line:?}"))
    }
}
