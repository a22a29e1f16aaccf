//! What the figures were measured on.

use std::{fs, path::Path};

use crate::{peers, process};

/// The machine, and the versions of the peers that it has, as Markdown.
pub(crate) fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (name, cores) = processor(&read("/proc/cpuinfo"));
    let gib = memory_gib(&read("/proc/meminfo"));
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let virtual_machine =
        if read("/proc/cpuinfo").contains(" hypervisor ") { ", a virtual machine" } else { "" };
    let system = field(&read("/etc/os-release"), "PRETTY_NAME=").trim_matches('"').to_owned();
    format!(
        "{cores} processors ({name}{virtual_machine}), {gib} GiB of memory, Linux {kernel}, {system}. Client and server share it.\n\nPeers: {}.\n",
        versions().join(", ")
    )
}

/// The commit, with a mark if files differ from it other than what this program writes.
pub(crate) fn commit(workspace: &Path, written: &str) -> String {
    let git = |arguments: &[&str]| {
        let directory = workspace.display().to_string();
        process::run("git", &[&["-C", directory.as_str()], arguments].concat())
    };
    let Ok(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown commit".to_owned();
    };
    let others = format!(":(exclude){written}");
    let is_clean =
        git(&["status", "--porcelain", "--", ".", &others]).is_ok_and(|changes| changes.is_empty());
    format!("{}{}", commit.trim(), if is_clean { "" } else { " with changes" })
}

/// A date (UTC) from seconds since 1970, as `2026-11-28`. Days of Hinnant's `civil_from_days`.
pub(crate) fn date(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!("{:04}-{month:02}-{day:02}", year + era * 400)
}

/// Name of the processor and how many there are.
fn processor(cpuinfo: &str) -> (String, usize) {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    (name.map_or("unknown", |(_, name)| name.trim()).to_owned(), count)
}

fn memory_gib(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal:")
        .split_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok());
    // What the kernel keeps for itself is not in MemTotal.
    kib.unwrap_or(0).div_ceil(1 << 20)
}

fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
}

fn versions() -> Vec<String> {
    let installed = peers::PACKAGES.iter().filter_map(|package| {
        let version = process::run("dpkg-query", &["-W", "-f", "${Version}", package]).ok()?;
        (!version.trim().is_empty()).then(|| format!("{package} {}", version.trim()))
    });
    installed.chain(peers::unpacked()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [0, 951_782_400, 1_709_164_800, 1_795_910_399].map(date);
        assert_eq!(dates, ["1970-01-01", "2000-02-29", "2024-02-29", "2026-11-28"]);
    }

    #[test]
    fn a_machine_is_read_from_proc() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n";
        assert_eq!(processor(cpuinfo), ("AMD EPYC".to_owned(), 2));
        assert_eq!(memory_gib("MemTotal:       24601212 kB\nMemFree: 1 kB\n"), 24);
    }
}
