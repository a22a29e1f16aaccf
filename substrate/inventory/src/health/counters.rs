//! Counters of errors. One that grows is a fault until it stood still for [`STILL`] looks; where it
//! stood when it was first seen is nobody's business now.

use std::collections::BTreeMap;

/// Looks, which are about minutes.
const STILL: u32 = 10;

/// Most counters: a machine with a thousand DIMMs and devices has some thousands.
const MAX_COUNTERS: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Counters(BTreeMap<String, Counter>);

#[derive(Debug)]
struct Counter {
    value: u64,
    /// Looks since it grew.
    still: u32,
}

impl Counters {
    /// A look begins.
    pub(super) fn tick(&mut self) {
        for counter in self.0.values_mut() {
            counter.still = counter.still.saturating_add(1);
        }
    }

    /// What a counter says now. True if that is more than at the look before.
    pub(super) fn observe(&mut self, name: &str, value: u64) -> bool {
        let Some(counter) = self.0.get_mut(name) else {
            if self.0.len() < MAX_COUNTERS {
                self.0.insert(name.to_owned(), Counter { value, still: u32::MAX });
            }
            return false;
        };
        let has_grown = value > counter.value;
        if has_grown {
            counter.still = 0;
        }
        // A driver that is loaded again begins at 0.
        counter.value = value;
        has_grown
    }

    /// Whether it was seen before.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether it grew within the last looks.
    pub(super) fn grows(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|counter| counter.still < STILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_grew_is_a_fault_for_ten_looks() {
        let mut counters = Counters::default();
        assert!(!counters.observe("ce", 7) && !counters.grows("ce"));
        counters.tick();
        assert!(!counters.observe("ce", 7) && !counters.grows("ce"));
        counters.tick();
        assert!(counters.observe("ce", 8) && counters.grows("ce"));
        for look in 1..=STILL {
            counters.tick();
            // Looks between those that were asked for do not count.
            counters.observe("ce", 8);
            counters.observe("ce", 8);
            assert_eq!(counters.grows("ce"), look < STILL, "{look}");
        }
        counters.tick();
        assert!(!counters.observe("ce", 0), "the driver was loaded again");
        assert!(counters.observe("ce", 1) && counters.grows("ce"));
        assert!(!counters.grows("other"));
    }
}
