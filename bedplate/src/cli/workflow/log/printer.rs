//! Bytes of a log on standard output: as they are, or each line behind the task that wrote it.

use super::super::super::output::{print_bytes, print_note};

/// Longest part of a line that waits for its end, bytes: what a longer one has more is printed as a
/// line of its own.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Prints a log.
#[derive(Debug)]
pub(super) struct Printer {
    lines: Lines,
    /// What is said of it begins with this.
    label: String,
}

#[derive(Debug)]
enum Lines {
    /// As they were written.
    Plain,
    /// Behind a prefix, as they come.
    Labeled { prefix: String, is_at_begin: bool },
    /// Behind a prefix, and only when they are whole: others print meanwhile.
    Whole { prefix: String, begun: Vec<u8> },
}

impl Printer {
    /// As it was written.
    pub(super) fn plain() -> Self {
        Self { lines: Lines::Plain, label: "bedplate".to_owned() }
    }

    /// Each line behind a label: `frames[3] | `.
    pub(super) fn labeled(label: &str) -> Self {
        let lines = Lines::Labeled { prefix: prefix(label), is_at_begin: true };
        Self { lines, label: format!("bedplate: {label}") }
    }

    /// The same, beside others that print at the same time: no line is torn.
    pub(super) fn labeled_among_others(label: &str) -> Self {
        let lines = Lines::Whole { prefix: prefix(label), begun: Vec::new() };
        Self { lines, label: format!("bedplate: {label}") }
    }

    pub(super) fn print(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match &mut self.lines {
            Lines::Plain => print_bytes(bytes),
            Lines::Labeled { prefix, is_at_begin } => {
                print_bytes(&with_prefix(prefix, is_at_begin, bytes))
            }
            Lines::Whole { prefix, begun } => print_some(&whole_lines(prefix, begun, bytes)),
        }
    }

    /// Ends the last line, so that another log begins with a new one.
    pub(super) fn end_line(&mut self) -> anyhow::Result<()> {
        match &mut self.lines {
            Lines::Labeled { is_at_begin, .. } if !*is_at_begin => {
                *is_at_begin = true;
                print_bytes(b"\n")
            }
            Lines::Whole { prefix, begun } if !begun.is_empty() => {
                print_some(&whole_lines(prefix, begun, b"\n"))
            }
            _ => Ok(()),
        }
    }

    /// Says something of the log beside it, on standard error.
    pub(super) fn print_note(&self, text: &str) {
        print_note(&format!("{}: {text}", self.label));
    }
}

fn prefix(label: &str) -> String {
    format!("{label} | ")
}

fn print_some(text: &[u8]) -> anyhow::Result<()> {
    if text.is_empty() { Ok(()) } else { print_bytes(text) }
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

/// The lines that are whole with these bytes, each with its end. `begun`: what there is of the next
/// one, less than [`MAX_LINE_BYTES`].
fn whole_lines(prefix: &str, begun: &mut Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let mut rest = line;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(MAX_LINE_BYTES - begun.len()));
            begun.extend_from_slice(now);
            rest = later;
            let is_whole = begun.ends_with(b"\n");
            if is_whole || begun.len() == MAX_LINE_BYTES {
                text.extend_from_slice(prefix.as_bytes());
                text.append(begun);
                if !is_whole {
                    text.push(b'\n');
                }
            }
        }
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
            assert_eq!(
                String::from_utf8(lines).unwrap(),
                "a[3] | one\na[3] | \na[3] | three\na[3] | half"
            );
            assert!(!is_at_begin);
        }
    }

    #[test]
    fn lines_among_those_of_others_are_whole_however_they_come() {
        let text = b"one\n\nthree\nhalf";
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let mut begun = Vec::new();
            let mut lines = whole_lines("a[3] | ", &mut begun, first);
            assert!(lines.is_empty() || lines.ends_with(b"\n"));
            lines.extend(whole_lines("a[3] | ", &mut begun, second));
            assert_eq!(String::from_utf8(lines).unwrap(), "a[3] | one\na[3] | \na[3] | three\n");
            assert_eq!(begun, b"half");
        }
    }

    #[test]
    fn a_line_without_an_end_does_not_wait_for_it_for_ever() {
        let (mut begun, mut lines) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            lines.extend(whole_lines("a | ", &mut begun, &[b'x'; MAX_LINE_BYTES / 2]));
            assert!(begun.len() < MAX_LINE_BYTES);
        }
        lines.extend(whole_lines("a | ", &mut begun, b"\nshort\n"));
        let lines = String::from_utf8(lines).unwrap();
        let lengths: Vec<usize> =
            lines.lines().map(|line| line.strip_prefix("a | ").unwrap().len()).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, MAX_LINE_BYTES / 2, 5]);
        // One that is just as long has one end.
        let mut long = vec![b'x'; MAX_LINE_BYTES - 1];
        long.push(b'\n');
        assert_eq!(whole_lines("", &mut begun, &long), long);
    }
}
