//! What the person at the terminal reads.

use std::time::Duration;

pub use harness::report::{complain, say};
use indicatif::{ProgressBar, ProgressStyle};

/// How far something is: a bar on a terminal, nothing anywhere else.
const BAR: &str = "{msg:24} [{wide_bar:.cyan}] {pos:>7} of {len:>7} {per_sec:>12}";

/// How often a bar is drawn again.
const REDRAW: Duration = Duration::from_millis(200);

/// A bar that counts to `total`. Taken off the screen when it is finished.
pub(crate) fn bar(message: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(message);
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAW);
    bar
}
