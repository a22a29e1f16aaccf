//! The real server program in its namespace: started, killed, started again, and what it costs.
//!
//! `sim_cluster` starts the `bedplate` that lies beside its own program, so both are of one build.

use std::{
    ffi::OsStr,
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, bail};
use client::{Client, Context};
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::{sleep, timeout};

use crate::{
    figures::{mebibytes, seconds},
    network::{Network, SERVER, SERVER_INTERFACE},
    power::Power,
    process,
    registry::ADDRESS as REGISTRY,
};

/// Ports of the server.
pub(crate) const API_PORT: u16 = 9470;
const HTTP_PORT: u16 = 9480;

/// How long the server may take until it answers; after a kill it reads what was left.
const START_LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(50);

/// Lines of the server's log that a failure shows.
const LOG_LINES: usize = 20;

/// The server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    network: PathBuf,
    program: PathBuf,
    directory: PathBuf,
    power: Option<Power>,
    child: Child,
    /// Cost of those that were killed.
    spent: Cost,
}

/// What a server took of its machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// Largest resident set (`VmHWM`), bytes.
    pub(crate) peak_memory_bytes: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CPU {}, peak memory {} MiB",
            seconds(self.cpu),
            mebibytes(self.peak_memory_bytes)
        )
    }
}

impl Server {
    /// Writes the configuration into `directory`, starts the server and waits until it answers.
    /// With `power` its writes are watched.
    ///
    /// # Errors
    /// If it does not answer in time; the last lines of its log are in the message.
    pub(crate) async fn start(
        network: &Network,
        directory: &Path,
        heartbeat: Duration,
        power: Option<Power>,
    ) -> anyhow::Result<(Self, Client)> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let program = own.with_file_name("bedplate");
        let text = configuration(directory, heartbeat)?;
        fs::write(config_of(directory), text).context("cannot write server.yaml")?;
        let child = launch(&network.path(), &program, directory, power.as_ref())?;
        let mut server = Self {
            network: network.path(),
            program,
            directory: directory.to_owned(),
            power,
            child,
            spent: Cost::default(),
        };
        let client = server.wait_until_up().await?;
        Ok((server, client))
    }

    /// Where machines boot from.
    pub(crate) fn boot_address() -> SocketAddr {
        (SERVER, HTTP_PORT).into()
    }

    /// A client with another token.
    ///
    /// # Errors
    /// If the server's context cannot be read.
    pub(crate) fn client_with(&self, token: String) -> anyhow::Result<Client> {
        Ok(Client::new(&Context { token, ..Context::read(&self.context())? })?)
    }

    /// A client of this server alone: one that has seen it die has connections to a dead one.
    ///
    /// # Errors
    /// If the server's context cannot be read.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&Context::read(&self.context())?)?)
    }

    /// The power of its machine, if its writes are watched.
    pub(crate) fn power(&self) -> Option<&Power> {
        self.power.as_ref()
    }

    /// What the command line prints, as the first admin, with this server's configuration for
    /// `server check`.
    ///
    /// # Errors
    /// If it ends with another status than 0.
    pub(crate) fn command_line(&self, arguments: &[&str]) -> anyhow::Result<String> {
        process::output(&self.network, &self.program, arguments, &self.context())
    }

    /// Where its configuration is.
    pub(crate) fn config(&self) -> PathBuf {
        config_of(&self.directory)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        self.spent = self.cost()?;
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Starts it again on the same state, from a thread that stays.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child = launch(&self.network, &self.program, &self.directory, self.power.as_ref())?;
        self.wait_until_up().await.map(drop)
    }

    /// What all servers of this run took up to now.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(crate) fn cost(&self) -> anyhow::Result<Cost> {
        let now = cost_of(self.child.id())?;
        let peak_memory_bytes = now.peak_memory_bytes.max(self.spent.peak_memory_bytes);
        Ok(Cost { cpu: now.cpu + self.spent.cpu, peak_memory_bytes })
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    /// Its exit status, with the last lines of its log.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("cannot look at the server")? {
            bail!("the server has ended: {status}; {}", self.log_tail());
        }
        Ok(())
    }

    /// The last lines of its log, for messages.
    pub(crate) fn log_tail(&self) -> String {
        let path = log_of(&self.directory);
        let text = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        format!("the last lines of {}:\n{}", path.display(), last.join("\n"))
    }

    async fn wait_until_up(&mut self) -> anyhow::Result<Client> {
        let path = self.context();
        let up = async {
            loop {
                self.check_alive()?;
                if let Ok(context) = Context::read(&path)
                    && let Ok(client) = Client::new(&context)
                    && client.version().await.is_ok()
                {
                    return Ok(client);
                }
                sleep(POLL).await;
            }
        };
        match timeout(START_LIMIT, up).await {
            Ok(client) => client,
            Err(_) => bail!("the server does not answer; {}", self.log_tail()),
        }
    }

    fn context(&self) -> PathBuf {
        self.directory.join("state/admin.yaml")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What this process took itself.
///
/// # Errors
/// If the kernel does not tell.
pub(crate) fn own_cost() -> anyhow::Result<Cost> {
    cost_of(std::process::id())
}

fn launch(
    network: &Path,
    program: &Path,
    directory: &Path,
    power: Option<&Power>,
) -> anyhow::Result<Child> {
    let config = config_of(directory);
    let arguments = [OsStr::new("server"), OsStr::new("--config"), config.as_os_str()];
    let environment = power.map(Power::environment).unwrap_or_default();
    process::start(network, program, &arguments, environment, &log_of(directory))
}

fn config_of(directory: &Path) -> PathBuf {
    directory.join("server.yaml")
}

fn log_of(directory: &Path) -> PathBuf {
    directory.join("server.log")
}

fn cost_of(process: u32) -> anyhow::Result<Cost> {
    let read = |file: &str| {
        let path = format!("/proc/{process}/{file}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    let ticks = ticks_of(&read("stat")?).context("/proc/PID/stat is not what it was")?;
    let status = read("status")?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    let kibibytes: u64 = peak.context("/proc/PID/status has no VmHWM")?.parse()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has no clock tick")?;
    let cpu = Duration::from_millis(ticks * 1_000 / u64::try_from(per_second)?);
    Ok(Cost { cpu, peak_memory_bytes: kibibytes << 10 })
}

/// User and system time of `/proc/PID/stat` (proc(5), fields 14 and 15). The name before them
/// may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn configuration(directory: &Path, heartbeat: Duration) -> anyhow::Result<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this crate lies in the workspace")?;
    let (source, directory) = (source.display(), directory.display());
    Ok(format!(
        "state-dir: {directory}/state
interfaces: [{SERVER_INTERFACE}]
api: {{listen: '{SERVER}:{API_PORT}'}}
fleet: {{heartbeat-seconds: {}}}
boot: {{http-port: {HTTP_PORT}, substrate: {directory}/substrate, templates: {source}/ipxe}}
overlays: {{shipped: {source}/overlays, site: {directory}/overlays}}
registries: {{allow: ['{REGISTRY}', '127.0.0.1:1']}}
",
        heartbeat.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 40 0 0 20 0 9 0 55";
        assert_eq!(ticks_of(stat), Some(290));
        assert_eq!(ticks_of("7 (a) S 1"), None);
        assert!(own_cost().unwrap().peak_memory_bytes > 1 << 20);
    }
}
