//! Requests that the boot servers refuse: the first one of each kind and sender is logged, and then the
//! tenth, the hundredth and so on, with its number. Firmware asks again every few seconds, and what
//! asks may be anybody on the network.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use api::ids::Timestamp;

/// Kinds and senders that are counted. Beyond it those that asked longest ago are forgotten, so that
/// invented senders neither fill the memory nor hide new ones.
const MAX_COUNTED: usize = 4096;

/// One that did not ask for so long is logged again when it does, seconds.
const FORGET_SECONDS: i64 = 86_400;

/// Lines within a minute at most: senders can be invented, at the speed of the network.
const MAX_LINES_PER_MINUTE: u32 = 60;

/// Counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_sender: HashMap<(&'static str, IpAddr), Count>,
    /// Lines of the log since `minute`.
    lines: u32,
    minute: Option<Timestamp>,
}

impl Counts {
    /// Whether there is room for one more line.
    fn may_log(&mut self, now: Timestamp) -> bool {
        let goes_on = |since: Timestamp| (since..since.plus_seconds(60)).contains(&now);
        if !self.minute.is_some_and(goes_on) {
            (self.minute, self.lines) = (Some(now), 0);
        }
        self.lines = self.lines.saturating_add(1);
        if self.lines == MAX_LINES_PER_MINUTE + 1 {
            tracing::warn!("more refused requests than can be logged: others of this minute are not");
        }
        self.lines <= MAX_LINES_PER_MINUTE
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    times: u64,
    last: Timestamp,
}

/// How often it was refused, as the end of a line of the log; nothing for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times(u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            times => write!(f, " ({times} times of this kind from there)"),
        }
    }
}

impl Refusals {
    /// Counts a request; the number, if this one is to be logged.
    pub(crate) fn count(&self, kind: &'static str, sender: IpAddr, now: Timestamp) -> Option<Times> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_sender = &mut counts.by_sender;
        let key = (kind, sender);
        if by_sender.len() >= MAX_COUNTED && !by_sender.contains_key(&key) {
            forget_oldest(by_sender);
        }
        let count = by_sender.entry(key).or_insert(Count { times: 0, last: now });
        if now > count.last.plus_seconds(FORGET_SECONDS) {
            count.times = 0;
        }
        count.last = now;
        count.times += 1;
        let times = count.times;
        (is_power_of_ten(times) && counts.may_log(now)).then_some(Times(times))
    }
}

/// Half of them: to look for the oldest one at each request would cost more than it saves.
fn forget_oldest(counts: &mut HashMap<(&'static str, IpAddr), Count>) {
    let mut times: Vec<Timestamp> = counts.values().map(|count| count.last).collect();
    let (_, middle, _) = times.select_nth_unstable(MAX_COUNTED / 2);
    let middle = *middle;
    counts.retain(|_, count| count.last > middle);
}

fn is_power_of_ten(times: u64) -> bool {
    times.checked_ilog10().is_some_and(|digits| 10_u64.pow(digits) == times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn the_first_is_logged_and_then_some_with_their_number() {
        let refusals = Refusals::default();
        let logged: Vec<String> = (0..1000)
            .filter_map(|_| refusals.count("mode", sender(1), Timestamp(0)))
            .map(|times| times.to_string())
            .collect();
        let of = |times: u32| format!(" ({times} times of this kind from there)");
        assert_eq!(logged, [String::new(), of(10), of(100), of(1000)]);
        assert_eq!(refusals.count("mode", sender(2), Timestamp(0)), Some(Times(1)), "another sender");
        assert_eq!(refusals.count("name", sender(1), Timestamp(0)), Some(Times(1)), "another kind");
        let days_later = Timestamp(0).plus_seconds(2 * FORGET_SECONDS);
        assert_eq!(refusals.count("mode", sender(1), days_later), Some(Times(1)), "after long silence");
    }

    #[test]
    fn invented_senders_neither_fill_the_memory_nor_hide_new_ones() {
        let refusals = Refusals::default();
        // A second apart: one line each minute's budget has room for.
        for number in 0..100_000 {
            let now = Timestamp(0).plus_seconds(i64::from(number));
            assert!(refusals.count("mode", sender(number), now).is_some());
        }
        assert!(refusals.0.lock().unwrap().by_sender.len() <= MAX_COUNTED);
        // All at one moment: the clock need not move, and the log has an end.
        let lines =
            (0..10_000).filter(|number| refusals.count("name", sender(*number), Timestamp(0)).is_some());
        assert_eq!(u32::try_from(lines.count()).unwrap(), MAX_LINES_PER_MINUTE);
        assert!(refusals.0.lock().unwrap().by_sender.len() <= MAX_COUNTED);
        let later = Timestamp(0).plus_seconds(61);
        assert!(refusals.count("name", sender(20_000), later).is_some(), "the next minute");
    }
}
