//! Which requests that changed nothing have a row of their own. Each row is synced to the disk and
//! kept for years, and requests cost who sends them nothing: so of each kind the first few of a
//! minute have rows, and when the minute is over one row says how many others there were.
//!
//! Users are counted each by itself, and strangers all together, so that nobody's requests leave
//! somebody else's without a row.

use std::{cmp::Reverse, collections::BTreeMap, net::IpAddr};

use api::ids::Timestamp;

/// Rows of one kind (an action and how it ended) of one user within a minute.
const MAX_ROWS_OF_KIND: u32 = 3;

/// Rows of one user within a minute, and of all strangers together.
const MAX_ROWS: u32 = 20;

/// Kinds that are counted by themselves: of strangers the addresses. There are some
/// hundred actions.
const MAX_KINDS: usize = 256;

/// Kinds that a row that sums up names.
const MAX_NAMED: usize = 20;

/// How the kinds end of which a user is always told: what was wanted was not permitted.
const FORBIDDEN: &str = " 403";

/// How long requests are counted together, seconds.
const MINUTE_SECONDS: i64 = 60;

/// The principal of who proved to be nobody. No user can be called that.
pub(crate) const STRANGER: &str = "-";

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Requester<'a> {
    /// A user, by name.
    User(&'a str),
    /// Whoever is at this address.
    Stranger(Option<IpAddr>),
}

/// What is summed up of one principal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) principal: String,
    pub(crate) outcome: String,
}

/// The requests of this minute that changed nothing.
#[derive(Debug, Default)]
pub(crate) struct Unchanged {
    since: Option<Timestamp>,
    by_principal: BTreeMap<String, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    rows: u32,
    kinds: BTreeMap<String, Kind>,
    /// Of kinds that are not counted by themselves.
    others: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Kind {
    rows: u32,
    left_out: u64,
}

impl Unchanged {
    /// Counts a request. `true`: it has a row of its own.
    pub(crate) fn take(&mut self, who: Requester<'_>, action: &str, outcome: &str) -> bool {
        let (principal, kind) = match who {
            Requester::User(name) => (name, format!("{action} {outcome}")),
            Requester::Stranger(source) => (
                STRANGER,
                source.map_or_else(|| "nowhere".to_owned(), |source| network(source).to_string()),
            ),
        };
        self.by_principal.entry(principal.to_owned()).or_default().take(kind)
    }

    /// Ends the minute if it is over, and says what it left out.
    pub(crate) fn rotate(&mut self, now: Timestamp) -> Vec<Summary> {
        let goes_on = |since: Timestamp| (since..since.plus_seconds(MINUTE_SECONDS)).contains(&now);
        if self.since.is_some_and(goes_on) {
            return Vec::new();
        }
        let summaries = self.finish();
        self.since = Some(now);
        summaries
    }

    /// Ends the minute: the server stops, and no other row comes.
    pub(crate) fn finish(&mut self) -> Vec<Summary> {
        let ended = std::mem::take(self);
        let summary = |(principal, counts): (String, Counts)| {
            let outcome = counts.summary()?;
            Some(Summary { principal, outcome })
        };
        ended.by_principal.into_iter().filter_map(summary).collect()
    }
}

impl Counts {
    fn take(&mut self, kind: String) -> bool {
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= MAX_KINDS {
            self.others += 1;
            return false;
        }
        let kind = self.kinds.entry(kind).or_default();
        let has_row = kind.rows < MAX_ROWS_OF_KIND && self.rows < MAX_ROWS;
        if has_row {
            kind.rows += 1;
            self.rows += 1;
        } else {
            kind.left_out += 1;
        }
        has_row
    }

    fn summary(&self) -> Option<String> {
        let mut kinds: Vec<(&String, u64)> = self
            .kinds
            .iter()
            .filter(|(_, kind)| kind.left_out > 0)
            .map(|(k, v)| (k, v.left_out))
            .collect();
        let all = kinds.iter().map(|(_, left_out)| left_out).sum::<u64>() + self.others;
        if all == 0 {
            return None;
        }
        // What was not permitted comes first, and then what was most; equal ones keep the order
        // of their names.
        kinds.sort_by_key(|(kind, left_out)| (!kind.ends_with(FORBIDDEN), Reverse(*left_out)));
        let named = kinds.iter().take(MAX_NAMED);
        let mut named: Vec<String> =
            named.map(|(kind, left_out)| format!("{kind} ({left_out})")).collect();
        let unnamed =
            kinds.iter().skip(MAX_NAMED).map(|(_, left_out)| left_out).sum::<u64>() + self.others;
        if unnamed > 0 {
            named.push(format!("others ({unnamed})"));
        }
        Some(format!("{all} more within a minute that changed nothing: {}", named.join(", ")))
    }
}

/// Who has one address of IPv6 has 2^64 of them (RFC 4291, section 2.5.1).
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp(0).plus_seconds(second)
    }

    #[test]
    fn a_users_flood_has_a_few_rows_and_a_sum() {
        let mut unchanged = Unchanged::default();
        assert!(unchanged.rotate(second(0)).is_empty());
        let take = |unchanged: &mut Unchanged, who, action: &str| {
            unchanged.take(Requester::User(who), action, "403")
        };
        let rows = (0..10_000).filter(|_| take(&mut unchanged, "ann", "node-edit")).count();
        assert_eq!(rows, 3);
        assert!(take(&mut unchanged, "ann", "user-add"), "another kind has rows of its own");
        assert!(take(&mut unchanged, "ben", "node-edit"), "and so has another user");
        assert!(unchanged.rotate(second(59)).is_empty());
        let summary = |principal: &str, outcome: &str| Summary {
            principal: principal.to_owned(),
            outcome: outcome.to_owned(),
        };
        let expected = [summary(
            "ann",
            "9997 more within a minute that changed nothing: node-edit 403 (9997)",
        )];
        assert_eq!(unchanged.rotate(second(60)), expected);
        assert!(unchanged.rotate(second(130)).is_empty(), "nothing is summed up of nothing");
    }

    #[test]
    fn a_flood_of_many_kinds_is_bounded_too() {
        let mut unchanged = Unchanged::default();
        let take = |unchanged: &mut Unchanged, n: u32| {
            unchanged.take(Requester::User("ann"), &n.to_string(), "404")
        };
        let rows = (0..10_000).filter(|n| take(&mut unchanged, *n)).count();
        assert_eq!(rows, 20);
        assert_eq!(unchanged.by_principal["ann"].kinds.len(), MAX_KINDS);
        let summary = unchanged.finish().pop().unwrap().outcome;
        assert!(
            summary.starts_with("9980 more within a minute that changed nothing: 100 404 (1), "),
            "{summary}"
        );
        assert!(summary.ends_with(", others (9960)"), "{summary}");
    }

    #[test]
    fn what_was_not_permitted_is_told_among_whatever_else() {
        let mut unchanged = Unchanged::default();
        for n in 0..100 {
            for _ in 0..9 {
                unchanged.take(Requester::User("ann"), &n.to_string(), "404");
            }
        }
        assert!(
            !unchanged.take(Requester::User("ann"), "user-delete", "403"),
            "her rows are used up"
        );
        let summary = unchanged.finish().pop().unwrap().outcome;
        assert!(summary.contains("changed nothing: user-delete 403 (1), "), "{summary}");
    }

    #[test]
    fn strangers_share_their_rows_and_leave_those_of_users_alone() {
        let mut unchanged = Unchanged::default();
        let take = |unchanged: &mut Unchanged, n: u32| {
            let source = IpAddr::from(n.to_be_bytes());
            unchanged.take(Requester::Stranger(Some(source)), "POST", "401")
        };
        assert_eq!((0..10_000).filter(|n| take(&mut unchanged, *n)).count(), 20);
        assert!(unchanged.take(Requester::User("ann"), "node-edit", "403"));
        // One machine has many addresses of IPv6, and is one.
        let mut unchanged = Unchanged::default();
        let of_one =
            |n: u16| Requester::Stranger(Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])));
        assert_eq!((0..1_000).filter(|n| unchanged.take(of_one(*n), "POST", "401")).count(), 3);
        let summary = unchanged.finish().pop().unwrap();
        assert_eq!(
            summary.outcome,
            "997 more within a minute that changed nothing: 2001:db8:: (997)"
        );
    }
}
