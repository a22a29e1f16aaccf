//! How many lines of the log connections may cause that were not let in: anybody can open them.

use std::sync::{Mutex, PoisonError};

use api::ids::Timestamp;

/// Lines within a minute.
const MAX_LINES: u64 = 20;

/// Counts the lines of a minute.
#[derive(Debug, Default)]
pub(crate) struct LineBudget(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    since: Option<Timestamp>,
    lines: u64,
}

/// What may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// This line.
    pub(crate) line: bool,
    /// How many of the minute before had none, if there were some and that was not said yet.
    pub(crate) left_out: Option<u64>,
}

impl LineBudget {
    /// Counts one line.
    pub(crate) fn take(&self, now: Timestamp) -> Allowed {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |since: Timestamp| (since..since.plus_seconds(60)).contains(&now);
        let mut left_out = None;
        if !minute.since.is_some_and(goes_on) {
            left_out = minute.lines.checked_sub(MAX_LINES).filter(|more| *more > 0);
            *minute = Minute { since: Some(now), lines: 0 };
        }
        minute.lines = minute.lines.saturating_add(1);
        Allowed { line: minute.lines <= MAX_LINES, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_some_lines_a_minute_and_its_number_in_the_next() {
        let budget = LineBudget::default();
        let taken: Vec<Allowed> = (0..1_000).map(|_| budget.take(Timestamp(0))).collect();
        assert_eq!(taken.iter().filter(|allowed| allowed.line).count(), 20);
        assert!(taken.iter().all(|allowed| allowed.left_out.is_none()));
        let next = budget.take(Timestamp(0).plus_seconds(60));
        assert_eq!(next, Allowed { line: true, left_out: Some(980) });
        let later = budget.take(Timestamp(0).plus_seconds(600));
        assert_eq!(later, Allowed { line: true, left_out: None });
    }
}
