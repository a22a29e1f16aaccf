//! Progress bars of an operation on standard error: drawn on a terminal, else a line
//! at every quarter.

use std::io::{self, IsTerminal as _};

use api::{image::Bar, visible};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::{output::print_note, words::size};

/// A bar whose size is known.
const BAR: &str =
    "{msg:28} [{wide_bar:.cyan}] {bytes:>10} of {total_bytes:>10} {bytes_per_sec:>12}";

/// One whose size is not.
const SPINNER: &str = "{msg:28} {spinner} {bytes:>10} {bytes_per_sec:>12}";

/// What the work waits for, cut to the terminal's width.
const NOTE: &str = "{wide_msg}";

/// Draws bars.
#[derive(Debug)]
pub(in crate::cli) enum Progress {
    /// On a terminal.
    Bars(MultiProgress, Vec<ProgressBar>),
    /// Anywhere else.
    Lines(PrintedLines),
}

/// What was said where there is no terminal.
#[derive(Debug, Default)]
pub(in crate::cli) struct PrintedLines {
    /// The last line of each bar.
    bars: Vec<String>,
    /// What the work waits for.
    waiting: Option<String>,
}

impl Progress {
    pub(in crate::cli) fn new() -> Self {
        if io::stderr().is_terminal() {
            Self::Bars(MultiProgress::new(), Vec::new())
        } else {
            Self::Lines(PrintedLines::default())
        }
    }

    /// Shows how the parts stand now, and below them what the work waits for.
    pub(in crate::cli) fn draw(&mut self, bars: &[Bar], waiting: Option<&str>) {
        match self {
            Self::Bars(screen, drawn) => {
                let lines = bars.len() + usize::from(waiting.is_some());
                while drawn.len() > lines {
                    drawn.pop().inspect(ProgressBar::finish_and_clear);
                }
                while drawn.len() < lines {
                    drawn.push(screen.add(ProgressBar::new(0)));
                }
                for (line, bar) in drawn.iter().zip(bars) {
                    redraw(line, bar);
                }
                if let (Some(why), Some(last)) = (waiting, drawn.last()) {
                    last.set_style(style(NOTE));
                    last.set_message(visible::line(why).into_owned());
                }
            }
            Self::Lines(printed) => {
                new_lines(printed, bars, waiting).iter().for_each(|line| print_note(line))
            }
        }
    }

    /// Takes the bars off the screen.
    pub(in crate::cli) fn clear(&self) {
        if let Self::Bars(screen, _) = self {
            // A terminal that is gone needs no clearing.
            let _ = screen.clear();
        }
    }
}

fn redraw(drawn: &ProgressBar, bar: &Bar) {
    let template = if bar.total == 0 { SPINNER } else { BAR };
    drawn.set_style(style(template));
    drawn.set_length(bar.total);
    drawn.set_message(visible::line(&bar.label).into_owned());
    drawn.set_position(bar.done);
}

/// All templates are constants that a test reads.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Lines for what is new since the last time.
fn new_lines(printed: &mut PrintedLines, bars: &[Bar], waiting: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    printed.bars.truncate(bars.len());
    for (index, bar) in bars.iter().enumerate() {
        let line = quarter(bar);
        match printed.bars.get_mut(index) {
            Some(last) if *last == line => continue,
            Some(last) => last.clone_from(&line),
            None => printed.bars.push(line.clone()),
        }
        lines.push(line);
    }
    if printed.waiting.as_deref() != waiting {
        printed.waiting = waiting.map(str::to_owned);
        lines.extend(printed.waiting.clone());
    }
    lines
}

/// A bar, rounded down to a quarter.
fn quarter(bar: &Bar) -> String {
    if bar.total == 0 {
        return bar.label.clone();
    }
    let quarter = u128::from(bar.done) * 4 / u128::from(bar.total) * 25;
    format!("{}: {}% of {}", bar.label, quarter.min(100), size(bar.total))
}

/// All bars in one: `50 B of 200 B`.
pub(super) fn sum(bars: &[Bar]) -> String {
    let known = || bars.iter().filter(|bar| bar.total > 0);
    let total: u64 = known().map(|bar| bar.total).sum();
    let done: u64 = known().map(|bar| bar.done).sum();
    if total == 0 { String::new() } else { format!("{} of {}", size(done), size(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_understood() {
        for template in [BAR, SPINNER, NOTE] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn a_line_at_every_quarter() {
        let mut printed = PrintedLines::default();
        let bar = |label: &str, done, total| Bar { label: label.to_owned(), done, total };
        let mut lines = |bars: &[Bar]| new_lines(&mut printed, bars, None).join("|");
        assert_eq!(lines(&[bar("a", 0, 1000)]), "a: 0% of 1000 B");
        assert_eq!(lines(&[bar("a", 249, 1000)]), "");
        assert_eq!(lines(&[bar("a", 250, 1000), bar("b", 0, 0)]), "a: 25% of 1000 B|b");
        assert_eq!(lines(&[bar("squashfs", 1, 2)]), "squashfs: 50% of 2 B");
        assert_eq!(lines(&[bar("squashfs", 3, 2)]), "squashfs: 100% of 2 B");
    }

    #[test]
    fn what_is_waited_for_is_said_once() {
        let mut printed = PrintedLines::default();
        let bar = [Bar { label: "a".to_owned(), done: 0, total: 0 }];
        let mut lines = |waiting| new_lines(&mut printed, &bar, waiting).join("|");
        assert_eq!(lines(None), "a");
        assert_eq!(
            lines(Some("waiting for r: timed out; next try in 1 s")),
            "waiting for r: timed out; next try in 1 s"
        );
        assert_eq!(lines(Some("waiting for r: timed out; next try in 1 s")), "");
        assert_eq!(
            lines(Some("waiting for r: timed out; next try in 2 s")),
            "waiting for r: timed out; next try in 2 s"
        );
        assert_eq!(lines(None), "");
    }
}
