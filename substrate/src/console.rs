//! What stage 1 tells whoever looks at the machine's screen or serial line.
//!
//! Every line starts with `bedplate: `. It goes to the kernel log, from where the kernel prints it
//! on every console and the image's journal takes it over. Where the kernel is told to be quiet it
//! goes to `/dev/console` as well.

use std::{fs, fs::File, io::Write};

/// `on`, `off` or `ratelimit`: what the kernel takes from `/dev/kmsg`. By default ten lines
/// in five seconds.
const PRINTK_DEVKMSG: &str = "/proc/sys/kernel/printk_devkmsg";

/// Four numbers; messages of a level below the first reach the consoles.
const PRINTK: &str = "/proc/sys/kernel/printk";

/// Our lines have level notice.
const NOTICE: u32 = 5;

/// Longest text of one record, bytes: the kernel refuses what is longer than 992 with its level,
/// and a failure with all its causes may be.
const MAX_RECORD_BYTES: usize = 900;

/// The console.
#[derive(Debug, Default)]
pub struct Console {
    kmsg: Option<File>,
    console: Option<File>,
    /// What [`PRINTK_DEVKMSG`] was before.
    rate_limit: Option<String>,
}

impl Console {
    /// Opens what there is; needs `/dev` and `/proc`. Without either, lines are lost and
    /// the boot goes on.
    #[must_use]
    pub fn open() -> Self {
        let rate_limit = fs::read_to_string(PRINTK_DEVKMSG).ok();
        // Where the command line fixed it (printk.devkmsg=), the kernel refuses, and the admin gets
        // what he asked for.
        let rate_limit = rate_limit.filter(|_| fs::write(PRINTK_DEVKMSG, "on\n").is_ok());
        let kmsg = linux::console::open_kmsg().ok();
        let shown = fs::read_to_string(PRINTK).is_ok_and(|text| kernel_shows_notices(&text));
        let console = if shown && kmsg.is_some() { None } else { linux::console::open().ok() };
        Self { kmsg, console, rate_limit }
    }

    /// Prints one line.
    pub fn say(&mut self, line: &str) {
        let line = line.replace('\n', " ");
        for record in records(&line) {
            let record = format!("bedplate: {record}");
            // There is nobody to tell that telling failed.
            if let Some(kmsg) = &mut self.kmsg {
                let _ = linux::console::log(kmsg, &record);
            }
            if let Some(console) = &mut self.console {
                let _ = writeln!(console, "{record}\r");
            }
        }
    }

    /// Gives the kernel log back as it was found.
    pub fn close(self) {
        if let Some(rate_limit) = self.rate_limit {
            let _ = fs::write(PRINTK_DEVKMSG, rate_limit);
        }
    }
}

/// A line in pieces that the kernel takes.
fn records(line: &str) -> Vec<&str> {
    let mut records = Vec::new();
    let mut rest = line;
    while rest.len() > MAX_RECORD_BYTES {
        let (record, next) = rest.split_at(rest.floor_char_boundary(MAX_RECORD_BYTES));
        records.push(record);
        rest = next;
    }
    records.push(rest);
    records
}

fn kernel_shows_notices(printk: &str) -> bool {
    printk
        .split_whitespace()
        .next()
        .and_then(|level| level.parse::<u32>().ok())
        .is_some_and(|level| level > NOTICE)
}

/// An error and all its causes in one line: `cannot x: because y`.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their source in their own text.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_kernels_are_seen() {
        assert!(kernel_shows_notices("7\t4\t1\t7\n"));
        assert!(!kernel_shows_notices("4\t4\t1\t7\n"));
        assert!(!kernel_shows_notices(""));
    }

    #[test]
    fn long_lines_go_in_pieces() {
        assert_eq!(records("short"), ["short"]);
        assert_eq!(records(""), [""]);
        let long = "\u{20ac}".repeat(1000);
        let pieces = records(&long);
        assert_eq!((pieces.concat(), pieces.len()), (long.clone(), 4));
        assert!(pieces.iter().all(|piece| piece.len() <= MAX_RECORD_BYTES));
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = linux::LinuxError::new("mount", "tmpfs", std::io::Error::from_raw_os_error(12));
        assert_eq!(chain(&error), "cannot mount tmpfs: Cannot allocate memory (os error 12)");
    }
}
