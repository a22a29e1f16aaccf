//! What a machine tells on its console when it has booted: the unit that does it, and how it is read.

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
ExecStart=/bin/sh -c 'exec >/dev/console; echo; echo "measured: multi-user"; sleep 15; echo; while read -r name kib rest; do echo "measured: $name $kib"; done </proc/meminfo; echo "measured: end"'
"#,
    ),
    ("/etc/systemd/system/multi-user.target.d/measured.conf", "[Unit]\nWants=measured.service\n"),
];

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
        self.text().is_ok_and(|text| text.lines().any(|line| line == "measured: multi-user"))
    }

    /// Memory taken, MiB, once it was told.
    ///
    /// # Errors
    /// If it is told otherwise than the unit does.
    pub(super) fn memory_mebibytes(&self) -> anyhow::Result<Option<f64>> {
        self.text().map_or(Ok(None), |text| taken(&text))
    }

    fn text(&self) -> std::io::Result<String> {
        let mut file = File::open(&self.console)?;
        file.seek(SeekFrom::Start(self.before))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(console::plain(&bytes))
    }
}

fn taken(text: &str) -> anyhow::Result<Option<f64>> {
    if !text.lines().any(|line| line == "measured: end") {
        return Ok(None);
    }
    let kibibytes = |name: &str| -> anyhow::Result<f64> {
        let told = text.lines().find_map(|line| line.strip_prefix("measured: ")?.strip_prefix(name));
        Ok(told.with_context(|| format!("the machine did not tell {name}"))?.trim().parse()?)
    };
    Ok(Some((kibibytes("MemTotal:")? - kibibytes("MemAvailable:")?) / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known_when_all_of_it_was_told() {
        let text =
            "boot\nmeasured: multi-user\nmeasured: MemTotal: 4096000\nmeasured: MemAvailable: 3072000\n";
        assert_eq!(taken(text).unwrap(), None);
        assert_eq!(taken(&format!("{text}measured: end\n")).unwrap(), Some(1000.0));
        assert!(taken("measured: end\n").is_err());
    }
}
