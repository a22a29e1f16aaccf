//! Bytes of a log on standard output: as they are, or each line behind the task that wrote it.

use super::super::super::output::{print_bytes, say};

/// Prints a log.
#[derive(Debug)]
pub(super) struct Printer {
    /// What each line begins with, and whether the next byte begins one.
    prefix: Option<(String, bool)>,
    /// What is said of it begins with this.
    label: String,
}

impl Printer {
    /// As it was written.
    pub(super) fn plain() -> Self {
        Self { prefix: None, label: "bedplate".to_owned() }
    }

    /// Each line behind a label: `frames[3] | `.
    pub(super) fn labeled(label: &str) -> Self {
        Self { prefix: Some((format!("{label} | "), true)), label: format!("bedplate: {label}") }
    }

    pub(super) fn print(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match &mut self.prefix {
            None => print_bytes(bytes),
            Some((prefix, is_at_begin)) => print_bytes(&with_prefix(prefix, is_at_begin, bytes)),
        }
    }

    /// Ends the last line, so that another log begins with a new one.
    pub(super) fn end_line(&mut self) -> anyhow::Result<()> {
        match &mut self.prefix {
            Some((_, is_at_begin)) if !*is_at_begin => {
                *is_at_begin = true;
                print_bytes(b"\n")
            }
            _ => Ok(()),
        }
    }

    /// Says something of the log beside it, on standard error.
    pub(super) fn say(&self, text: &str) {
        say(&format!("{}: {text}", self.label));
    }
}

fn with_prefix(prefix: &str, is_at_begin: &mut bool, bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + prefix.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if *is_at_begin {
            text.extend_from_slice(prefix.as_bytes());
        }
        text.extend_from_slice(line);
        *is_at_begin = line.ends_with(b"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_their_prefix_however_they_come() {
        let text = b"one\n\nthree\nhalf";
        for cut in 0..=text.len() {
            let mut is_at_begin = true;
            let (first, second) = text.split_at(cut);
            let mut lines = with_prefix("a[3] | ", &mut is_at_begin, first);
            lines.extend(with_prefix("a[3] | ", &mut is_at_begin, second));
            assert_eq!(String::from_utf8(lines).unwrap(), "a[3] | one\na[3] | \na[3] | three\na[3] | half");
            assert!(!is_at_begin);
        }
    }
}
