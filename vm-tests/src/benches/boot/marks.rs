//! What a machine tells on its console when it has booted: the unit that does it, and
//! how it is read.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::Context as _;

use crate::console;

/// The unit, and what has it started. `multi-user.target` is reached before it begins.
pub(super) const FILES: [(&str, &str); 2] = [
    (
        "/etc/systemd/system/measured.service",
        r#"[Unit]
Description=Tells when the machine has booted, and what memory it has left
DefaultDependencies=no
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'exec >/dev/console; echo; read -r up rest </proc/uptime; echo "measured: multi-user: $up"; sleep 15; echo; while read -r name kib rest; do echo "measured: $name $kib"; done </proc/meminfo; echo "measured: end"'
"#,
    ),
    ("/etc/systemd/system/multi-user.target.d/measured.conf", "[Unit]\nWants=measured.service\n"),
];

/// What a boot told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BootMarks {
    /// From the start of the kernel to `multi-user.target`, s.
    pub(super) kernel_seconds: f64,
    /// Memory that is not available, MiB: the kernel's reserve counts too.
    pub(super) taken: f64,
    /// Memory that is neither free nor would be, if it were asked for, MiB.
    pub(super) held: f64,
}

/// What the next boot tells on a console.
#[derive(Debug)]
pub(super) struct Marks {
    console: PathBuf,
    /// Bytes of earlier boots.
    before: u64,
}

impl Marks {
    /// Of the boot that begins now.
    pub(super) fn from_now_on(console: PathBuf) -> Self {
        let before = fs::metadata(&console).map_or(0, |facts| facts.len());
        Self { console, before }
    }

    /// Whether `multi-user.target` was reached.
    pub(super) fn multi_user(&self) -> bool {
        self.text()
            .is_ok_and(|text| text.lines().any(|line| line.starts_with("measured: multi-user: ")))
    }

    /// What the unit tells, once it has told everything.
    ///
    /// # Errors
    /// If it is told otherwise than the unit does.
    pub(super) fn told(&self) -> anyhow::Result<Option<BootMarks>> {
        self.text().map_or(Ok(None), |text| told(&text))
    }

    fn text(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.console)?;
        file.seek(SeekFrom::Start(self.before))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(console::plain(&bytes))
    }
}

fn told(text: &str) -> anyhow::Result<Option<BootMarks>> {
    if !text.lines().any(|line| line == "measured: end") {
        return Ok(None);
    }
    let number = |name: &str| -> anyhow::Result<f64> {
        let told =
            text.lines().find_map(|line| line.strip_prefix("measured: ")?.strip_prefix(name));
        Ok(told.with_context(|| format!("the machine did not tell {name}"))?.trim().parse()?)
    };
    let mebibytes = |name: &str| Ok::<_, anyhow::Error>(number(name)? / 1024.0);
    let total = mebibytes("MemTotal:")?;
    let cached =
        mebibytes("Active(file):")? + mebibytes("Inactive(file):")? + mebibytes("SReclaimable:")?;
    Ok(Some(BootMarks {
        kernel_seconds: number("multi-user:")?,
        taken: total - mebibytes("MemAvailable:")?,
        held: total - mebibytes("MemFree:")? - cached,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_known_when_all_of_it_was_told() {
        let text = "boot
measured: multi-user: 23.5
measured: MemTotal: 4096000
measured: MemFree: 2048000
measured: MemAvailable: 3072000
measured: Active(file): 10240
measured: Inactive(file): 20480
measured: SReclaimable: 30720
";
        assert_eq!(told(text).unwrap(), None);
        let all = BootMarks { kernel_seconds: 23.5, taken: 1000.0, held: 1940.0 };
        assert_eq!(told(&format!("{text}measured: end\n")).unwrap(), Some(all));
        assert!(told("measured: end\n").is_err());
    }
}
