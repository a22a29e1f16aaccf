//! Lines of the log that anybody on the network can cause: one place decides how many there are.
//!
//! | what | logged |
//! |---|---|
//! | a request that is refused ([`Refusals::count`]) | the first of its kind and sender, then the tenth, the hundredth and so on, with its number; [`MAX_LINES_PER_MINUTE`] in all |
//! | what happens in a boot ([`Refusals::may_log`]) | [`MAX_SAME_PER_MINUTE`] of its kind and machine in each minute; of machines that are known by their address alone [`MAX_ADDRESS_LINES_PER_MINUTE`] in all |
//! | all others | one line when the minute is over, with their number by kind |
//!
//! Firmware asks again every few seconds, and what asks may be anybody.

mod audit;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::ids::{MacAddr, Timestamp};

use self::audit::RefusedAudit;
use crate::clock;

/// Kinds and senders that are counted. Beyond it those that asked longest ago are forgotten, so
/// that invented senders neither fill the memory nor hide new ones.
const MAX_COUNTED: usize = 4096;

/// One that did not ask for so long is logged again when it does, seconds.
const FORGET_SECONDS: i64 = 86_400;

/// Lines about refused requests within a minute at most: senders can be invented, at the speed
/// of the network.
const MAX_LINES_PER_MINUTE: u32 = 60;

/// Lines about the same thing at the same machine within a minute: a boot has an offer for
/// firmware, iPXE and stage 1, and firmware repeats itself once or twice.
const MAX_SAME_PER_MINUTE: u32 = 6;

/// Lines about machines that are known by their address alone, within a minute: a few racks
/// that boot at once.
const MAX_ADDRESS_LINES_PER_MINUTE: u32 = 600;

/// Kinds and machines that are told apart within a minute: more nodes than one server boots.
const MAX_TOLD_PER_MINUTE: usize = 65_536;

/// How often it is looked whether there is something to sum up.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// Who sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sender {
    /// By its IP address.
    Address(IpAddr),
    /// By its MAC address.
    Machine(MacAddr),
}

impl From<IpAddr> for Sender {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

/// Counts of one server.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: Mutex<Counts>,
    /// Those that are in the audit log.
    pub(crate) audit: RefusedAudit,
}

#[derive(Debug, Default)]
struct Counts {
    by_sender: HashMap<(&'static str, Sender), Count>,
    minute: Minute,
}

/// What was and was not logged in the minute that runs.
#[derive(Debug, Default)]
struct Minute {
    since: Option<Timestamp>,
    refusal_lines: u32,
    address_lines: u32,
    told: HashMap<(&'static str, Sender), u32>,
    left_out: BTreeMap<&'static str, u64>,
}

impl Minute {
    /// Begins the next minute if this one is over, and says what it left out.
    fn turn(&mut self, now: Timestamp) {
        let goes_on = |since: Timestamp| (since..since.plus_seconds(60)).contains(&now);
        if self.since.is_some_and(goes_on) {
            return;
        }
        let ended = std::mem::replace(self, Self { since: Some(now), ..Self::default() });
        if let Some(summary) = ended.summary() {
            tracing::warn!("{summary}");
        }
    }

    fn summary(&self) -> Option<String> {
        let of_kinds: Vec<String> =
            self.left_out.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
        let all: u64 = self.left_out.values().sum();
        let of_kinds = of_kinds.join(", ");
        (all > 0).then(|| {
            format!("{all} more packets and requests within a minute without a line: {of_kinds}")
        })
    }

    fn leave_out(&mut self, kind: &'static str) {
        *self.left_out.entry(kind).or_default() += 1;
    }

    fn may_refuse(&mut self) -> bool {
        self.refusal_lines = self.refusal_lines.saturating_add(1);
        self.refusal_lines <= MAX_LINES_PER_MINUTE
    }

    fn may_log(&mut self, kind: &'static str, sender: Sender) -> bool {
        let key = (kind, sender);
        if self.told.len() >= MAX_TOLD_PER_MINUTE && !self.told.contains_key(&key) {
            return false;
        }
        let times = self.told.entry(key).or_default();
        *times = times.saturating_add(1);
        if *times > MAX_SAME_PER_MINUTE {
            return false;
        }
        if let Sender::Address(_) = sender {
            self.address_lines = self.address_lines.saturating_add(1);
            return self.address_lines <= MAX_ADDRESS_LINES_PER_MINUTE;
        }
        true
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    times: u64,
    last: Timestamp,
}

/// How often it was refused, as the end of a line of the log; nothing for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusalCount(u64);

impl fmt::Display for RefusalCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            times => write!(f, " ({times} times of this kind from there)"),
        }
    }
}

impl Refusals {
    /// Counts a refused request; the number, if this one is to be logged.
    pub(crate) fn count(
        &self,
        kind: &'static str,
        sender: impl Into<Sender>,
        now: Timestamp,
    ) -> Option<RefusalCount> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.minute.turn(now);
        let times = counts.times(kind, sender.into(), now);
        if is_power_of_ten(times) && counts.minute.may_refuse() {
            return Some(RefusalCount(times));
        }
        counts.minute.leave_out(kind);
        None
    }

    /// Counts what happened at a machine; whether it is to be logged.
    pub(crate) fn may_log(
        &self,
        kind: &'static str,
        sender: impl Into<Sender>,
        now: Timestamp,
    ) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.minute.turn(now);
        let may = counts.minute.may_log(kind, sender.into());
        if !may {
            counts.minute.leave_out(kind);
        }
        may
    }

    /// Says what was left out once its minute is over, though nothing comes after it. Runs
    /// until it is dropped.
    pub(crate) async fn sum_up(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SUMMARY_INTERVAL).await;
            self.counts.lock().unwrap_or_else(PoisonError::into_inner).minute.turn(clock::now());
        }
    }
}

impl Counts {
    /// How often this sender asked for this kind, this time included.
    fn times(&mut self, kind: &'static str, sender: Sender, now: Timestamp) -> u64 {
        let key = (kind, sender);
        if self.by_sender.len() >= MAX_COUNTED && !self.by_sender.contains_key(&key) {
            forget_oldest(&mut self.by_sender);
        }
        let count = self.by_sender.entry(key).or_insert(Count { times: 0, last: now });
        if now > count.last.plus_seconds(FORGET_SECONDS) {
            count.times = 0;
        }
        count.last = now;
        count.times += 1;
        count.times
    }
}

/// Half of them: to look for the oldest one at each request would cost more than it saves.
fn forget_oldest(counts: &mut HashMap<(&'static str, Sender), Count>) {
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
        assert_eq!(
            refusals.count("mode", sender(2), Timestamp(0)),
            Some(RefusalCount(1)),
            "another sender"
        );
        assert_eq!(
            refusals.count("name", sender(1), Timestamp(0)),
            Some(RefusalCount(1)),
            "another kind"
        );
        let days_later = Timestamp(0).plus_seconds(2 * FORGET_SECONDS);
        assert_eq!(
            refusals.count("mode", sender(1), days_later),
            Some(RefusalCount(1)),
            "after long silence"
        );
    }

    #[test]
    fn invented_senders_neither_fill_the_memory_nor_hide_new_ones() {
        let refusals = Refusals::default();
        // A second apart: one line each minute's budget has room for.
        for number in 0..100_000 {
            let now = Timestamp(0).plus_seconds(i64::from(number));
            assert!(refusals.count("mode", sender(number), now).is_some());
        }
        assert!(refusals.counts.lock().unwrap().by_sender.len() <= MAX_COUNTED);
        // All at one moment: the clock need not move, and the log has an end.
        let lines = (0..10_000)
            .filter(|number| refusals.count("name", sender(*number), Timestamp(0)).is_some());
        assert_eq!(u32::try_from(lines.count()).unwrap(), MAX_LINES_PER_MINUTE);
        assert!(refusals.counts.lock().unwrap().by_sender.len() <= MAX_COUNTED);
        let later = Timestamp(0).plus_seconds(61);
        assert!(refusals.count("name", sender(20_000), later).is_some(), "the next minute");
    }

    #[test]
    fn what_happens_at_a_machine_is_told_some_times_a_minute_and_the_rest_is_summed_up() {
        let refusals = Refusals::default();
        let machine = Sender::Machine(MacAddr([2, 0, 0, 0, 0, 1]));
        let told = |kind, sender: Sender, second: i64| {
            let now = Timestamp(0).plus_seconds(second);
            (0..1_000).filter(|_| refusals.may_log(kind, sender, now)).count()
        };
        assert_eq!((told("offered", machine, 0), told("leased", machine, 1)), (6, 6));
        assert_eq!(told("offered", Sender::Machine(MacAddr([2, 0, 0, 0, 0, 2])), 2), 6);
        let summary = refusals.counts.lock().unwrap().minute.summary();
        let expected = "2982 more packets and requests within a minute without a line: 994 × leased, \
                        1988 × offered";
        assert_eq!(summary.as_deref(), Some(expected));
        assert_eq!(told("offered", machine, 61), 6, "the next minute");
        let one_each = (0..10_000).filter(|n| refusals.may_log("sent", sender(*n), Timestamp(0)));
        assert_eq!(u32::try_from(one_each.count()).unwrap(), MAX_ADDRESS_LINES_PER_MINUTE);
    }
}
