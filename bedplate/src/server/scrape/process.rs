//! The process as the kernel sees it (proc(5)), under the names that every exporter gives it.

use std::fs;

use metrics::Exposition;
use nix::unistd::{SysconfVar, sysconf};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// What is read of `/proc/self/status`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
}

impl Status {
    fn parse(text: &str) -> Self {
        let number = |key: &str| -> Option<u64> {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            value.split_whitespace().next()?.parse().ok()
        };
        let bytes = |key| number(key).map(|kibibytes| kibibytes.saturating_mul(1024));
        Self {
            resident_bytes: bytes("VmRSS"),
            virtual_bytes: bytes("VmSize"),
            threads: number("Threads"),
        }
    }
}

/// When a process was started, in ticks since the machine was: field 22 of its `stat`. Its name, in
/// brackets, may hold blanks and brackets.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19)?.parse().ok()
}

/// When the machine was started, seconds since 1970: `btime` of `/proc/stat`.
fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn start_seconds() -> Option<u64> {
    let ticks = start_ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let booted = boot_seconds(&fs::read_to_string("/proc/stat").ok()?)?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(booted + ticks.checked_div(per_second)?)
}

/// Open files: since Linux 6.2 the size of the directory is their number; before, they are counted.
fn open_files() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        0 => u64::try_from(fs::read_dir(directory).ok()?.count()).ok(),
        count => Some(count),
    }
}

/// Seconds of all processors that the process has used.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    std::time::Duration::try_from(used).unwrap_or_default().as_secs_f64()
}

/// Writes it. What the kernel does not tell is left out.
pub(super) fn expose(out: &mut Exposition) {
    let status = Status::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    let help = "Time of all processors that the server has used.";
    out.counter("process_cpu_seconds", help).value(cpu_seconds());
    let limit = getrlimit(Resource::Nofile).current;
    for (name, help, value) in [
        (
            "process_start_time_seconds",
            "When the server was started, seconds since 1970.",
            start_seconds(),
        ),
        (
            "process_resident_memory_bytes",
            "Memory of the server that is resident.",
            status.resident_bytes,
        ),
        ("process_virtual_memory_bytes", "Address space of the server.", status.virtual_bytes),
        ("process_threads", "Threads of the server.", status.threads),
        ("process_open_fds", "Files and sockets that the server has open.", open_files()),
        ("process_max_fds", "Files and sockets that the server may have open.", limit),
    ] {
        let mut family = out.gauge(name, help);
        if let Some(value) = value {
            family.value(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let status = "Name:\tbedplate\nVmSize:\t 1048576 kB\nVmRSS:\t   2048 kB\nRssAnon:\t 1 kB\nThreads:\t17\n";
        let expected = Status {
            resident_bytes: Some(2 << 20),
            virtual_bytes: Some(1 << 30),
            threads: Some(17),
        };
        assert_eq!(Status::parse(status), expected);
        assert_eq!(Status::parse("Name:\tx\nVmRSS: kB\n"), Status::default());
        let stat =
            "4242 (a b) c) S 1 4242 4242 0 -1 4194560 100 0 0 0 5 6 0 0 20 0 17 0 123456 99 88";
        assert_eq!(start_ticks(stat), Some(123_456));
        assert_eq!(start_ticks("4242 (x"), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1795464000\nprocesses 9\n"), Some(1_795_464_000));
    }

    #[test]
    fn of_this_process_all_is_told() {
        let mut out = Exposition::new();
        expose(&mut out);
        let text = out.finish();
        let samples: Vec<(&str, f64)> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        assert_eq!(samples.len(), 7, "{text}");
        assert!(samples.iter().all(|(_, value)| *value > 0.0), "{text}");
    }
}
