//! The machine's going down: how the agent finds out that it does, and how it makes it. The home of
//! the agent's child processes.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::process::Command;

/// Exists while systemd is PID 1 (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Where OpenRC keeps the runlevel that it is in or goes to.
const OPENRC_LEVEL: &str = "/run/openrc/softlevel";

/// Most time to ask systemd: at shutdown the agent has only seconds left.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

/// Most time for the init system to take an order; the going down itself comes after.
const ORDER_DEADLINE: Duration = Duration::from_secs(20);

/// Why a program of the init system did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Start(#[from] io::Error),
    #[error("{0}")]
    Failed(ExitStatus),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
}

/// `Some(true)` if the machine is on its way to a reboot, `Some(false)` if to a power-off,
/// `None` if it stays.
pub async fn going_down() -> Option<bool> {
    if Path::new(SYSTEMD).exists() {
        let arguments = ["list-jobs", "--no-legend", "--no-pager", "--plain", "--full"];
        match output("systemctl", &arguments).await {
            Ok(jobs) => going_down_by_jobs(&jobs),
            Err(error) => {
                tracing::warn!("cannot ask systemd whether the machine goes down: {error}");
                None
            }
        }
    } else {
        tokio::fs::read_to_string(OPENRC_LEVEL)
            .await
            .ok()
            .and_then(|level| going_down_by_level(&level))
    }
}

/// A queued job of systemd's targets (bootup(7)). A soft reboot keeps kernel and `/run`, so the
/// node stays itself.
fn going_down_by_jobs(jobs: &str) -> Option<bool> {
    jobs.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (unit, kind) = (words.nth(1)?, words.next()?);
        match (unit, kind) {
            ("reboot.target" | "kexec.target", "start") => Some(true),
            ("poweroff.target" | "halt.target", "start") => Some(false),
            _ => None,
        }
    })
}

/// OpenRC's runlevels.
fn going_down_by_level(level: &str) -> Option<bool> {
    match level.trim() {
        "reboot" => Some(true),
        "shutdown" => Some(false),
        _ => None,
    }
}

/// Reboots by whatever works: systemd in order, another init in order, systemd by force,
/// the kernel. Returns when the order was taken; the agent is then told to stop like
/// every other service.
pub async fn reboot() {
    let orders: &[(&str, &[&str])] = if Path::new(SYSTEMD).exists() {
        &[
            ("systemctl", &["reboot", "--no-wall"]),
            ("systemctl", &["reboot", "--no-wall", "--force"]),
        ]
    } else {
        &[("reboot", &[])]
    };
    for (program, arguments) in orders {
        match order(program, arguments).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!("cannot reboot by {program} {}: {error}", arguments.join(" "))
            }
        }
    }
    let Err(error) = linux::power::restart_now();
    tracing::error!("cannot reboot: {:#}", anyhow::Error::from(error));
}

async fn order(program: &str, arguments: &[&str]) -> Result<(), CommandError> {
    let mut child = command(program, arguments).stdout(Stdio::null()).spawn()?;
    let ended = tokio::time::timeout(ORDER_DEADLINE, child.wait()).await;
    let status = ended.map_err(|_| CommandError::Late(ORDER_DEADLINE))??;
    if status.success() { Ok(()) } else { Err(CommandError::Failed(status)) }
}

async fn output(program: &str, arguments: &[&str]) -> Result<String, CommandError> {
    let output = tokio::time::timeout(ASK_DEADLINE, command(program, arguments).output()).await;
    let output = output.map_err(|_| CommandError::Late(ASK_DEADLINE))??;
    if !output.status.success() {
        return Err(CommandError::Failed(output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[expect(clippy::disallowed_methods, reason = "the home of the agent's child processes")]
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_systemd_tell_where_the_machine_goes() {
        let reboot = "8 bedplate-substrate.service stop running\n12 reboot.target start waiting\n";
        let off =
            "700 systemd-poweroff.service start waiting\n701 poweroff.target     start waiting\n";
        assert_eq!(going_down_by_jobs(reboot), Some(true));
        assert_eq!(going_down_by_jobs(off), Some(false));
        assert_eq!(going_down_by_jobs("3 bedplate-substrate.service restart running\n"), None);
        assert_eq!(going_down_by_jobs("5 soft-reboot.target start waiting\n"), None);
        assert_eq!(going_down_by_jobs("5 reboot.target stop waiting\n\nNo jobs running.\n"), None);
    }

    #[test]
    fn levels_of_openrc() {
        assert_eq!(going_down_by_level("reboot\n"), Some(true));
        assert_eq!(going_down_by_level("shutdown\n"), Some(false));
        assert_eq!(going_down_by_level("default\n"), None);
    }

    #[tokio::test]
    async fn children_are_heard_and_ended() {
        assert_eq!(output("echo", &["x"]).await.unwrap(), "x\n");
        assert_eq!(output("false", &[]).await.unwrap_err().to_string(), "exit status: 1");
        assert_eq!(output("sleep", &["60"]).await.unwrap_err().to_string(), "no answer within 2 s");
        let missing = order("nonexistent-program", &[]).await.unwrap_err();
        assert!(
            matches!(missing, CommandError::Start(error) if error.kind() == io::ErrorKind::NotFound)
        );
    }
}
