//! What on the server holds a node, as the node's status and history have it: pure.
//!
//! Whoever makes what nodes boot says so again and again; a line of the history is written when the
//! cause is another one, and for a cause that comes and goes no more than [`MAX_LINES`] an hour. It
//! is not kept over a restart: whoever said it says it again.

use api::{ids::Timestamp, status::Severity};

/// Lines of the history within [`WINDOW_SECONDS`]: a history has 1,000 lines, of some 40 boots.
const MAX_LINES: u8 = 10;

/// Length of the window, seconds.
const WINDOW_SECONDS: i64 = 3_600;

/// What holds a node now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    cause: Option<String>,
    /// When the first of `lines` was written.
    since: Option<Timestamp>,
    lines: u8,
}

impl Holding {
    /// What holds it.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Takes what holds it now. Returns the line for its history, if there is to be one.
    pub(crate) fn set(
        &mut self,
        cause: Option<String>,
        now: Timestamp,
    ) -> Option<(Severity, String)> {
        if cause == self.cause {
            return None;
        }
        self.cause = cause;
        if self.since.is_none_or(|since| now >= since.plus_seconds(WINDOW_SECONDS)) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines >= MAX_LINES {
            return None;
        }
        self.lines += 1;
        Some(match &self.cause {
            Some(cause) => (Severity::Warning, format!("held: {cause}")),
            None => (Severity::Info, "no longer held".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_a_line_once() {
        let mut holding = Holding::default();
        let mut lines = Vec::new();
        for second in 0..100 {
            lines.extend(
                holding.set(Some("the image is missing".to_owned()), Timestamp(second * 1_000_000)),
            );
        }
        assert_eq!(lines, [(Severity::Warning, "held: the image is missing".to_owned())]);
        assert_eq!(holding.cause(), Some("the image is missing"));
        let gone = holding.set(None, Timestamp(0));
        assert_eq!(gone, Some((Severity::Info, "no longer held".to_owned())));
        assert_eq!((holding.set(None, Timestamp(0)), holding.cause()), (None, None));
    }

    #[test]
    fn what_comes_and_goes_each_second_does_not_fill_the_history() {
        let mut holding = Holding::default();
        let mut count = 0;
        for second in 0..7_200 {
            let cause = (second % 2 == 0).then(|| "it comes and goes".to_owned());
            count += u32::from(holding.set(cause, Timestamp(second * 1_000_000)).is_some());
        }
        assert_eq!(count, 2 * u32::from(MAX_LINES));
    }
}
