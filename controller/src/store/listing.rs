//! Which workflows a list has, and in which order: the same for those in memory and those in the
//! store.

use api::{
    ids::Timestamp,
    workflow::{State, WorkflowSort, WorkflowStatus, WorkflowSummary},
};
use serde::{Deserialize, Serialize};

use crate::record::WorkflowRow;

/// Which workflows, in which order. The default: all, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Only those of this user.
    pub(crate) owner: Option<String>,
    /// Only those with one of these; all, if there is none.
    pub(crate) statuses: Vec<WorkflowStatus>,
    /// Only those with such a name.
    pub(crate) name: Option<NamePattern>,
    /// Only those that were handed in then or later.
    pub(crate) since: Option<Timestamp>,
    /// Only those that were handed in then or before.
    pub(crate) until: Option<Timestamp>,
    /// What they are sorted by.
    pub(crate) sort: WorkflowSort,
    /// The other way round.
    pub(crate) is_reversed: bool,
}

/// A workflow that is over, in its place in a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed {
    /// What it is sorted by before its place; empty where that is its place alone. As the store has
    /// it, which is not what is shown of a row that is damaged.
    pub(crate) key: String,
    pub(crate) row: WorkflowRow,
}

/// Where a page of workflows that are over begins: behind a place, among those that were over when
/// the first page was read. The others were on that page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageCursor {
    #[serde(rename = "place")]
    pub(crate) sequence: u64,
    pub(crate) at: Timestamp,
    /// [`Listed::key`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) key: String,
}

impl Listing {
    /// Whether any filter but that of the owner is set.
    pub(crate) fn has_filters(&self) -> bool {
        !self.statuses.is_empty()
            || self.name.is_some()
            || self.since.is_some()
            || self.until.is_some()
    }

    /// The final states of what is wanted; `None`: any.
    pub(crate) fn final_states(&self) -> Option<Vec<State>> {
        let wanted = self.statuses.iter().filter_map(|status| status.final_state());
        (!self.statuses.is_empty()).then(|| wanted.collect())
    }

    fn matches(&self, one: &WorkflowSummary) -> bool {
        self.owner.as_ref().is_none_or(|owner| *owner == one.user)
            && (self.statuses.is_empty() || self.statuses.contains(&one.status()))
            && self.name.as_ref().is_none_or(|pattern| pattern.matches(&one.name))
            && self.since.is_none_or(|since| since <= one.submitted)
            && self.until.is_none_or(|until| one.submitted <= until)
    }

    /// Those of the list among workflows that are not over, which come newest first.
    pub(crate) fn pick(
        &self,
        newest_first: impl Iterator<Item = WorkflowSummary>,
    ) -> Vec<WorkflowSummary> {
        let mut picked: Vec<WorkflowSummary> =
            newest_first.filter(|one| !one.state.is_ended() && self.matches(one)).collect();
        // Sorting is stable: equals stay the newest first.
        match self.sort {
            WorkflowSort::Created => {}
            WorkflowSort::Name => picked.sort_by(|one, other| one.name.cmp(&other.name)),
            WorkflowSort::State => picked.sort_by_key(|one| one.status().as_str()),
            WorkflowSort::User => picked.sort_by(|one, other| one.user.cmp(&other.user)),
        }
        if self.is_reversed {
            picked.reverse();
        }
        picked
    }
}

/// What names look like: `*` stands for any characters, `?` for one. Text with neither of them is
/// looked for anywhere in the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePattern(String);

impl NamePattern {
    pub(crate) fn new(text: &str) -> Self {
        let is_part = !text.contains(['*', '?']);
        Self(if is_part { format!("*{text}*") } else { text.to_owned() })
    }

    /// Steps on; at a mismatch the last `*` takes one more character. So it takes no longer than
    /// the length of the one times that of the other.
    fn matches(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut seen, mut star) = (0, 0, None);
        while seen < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(&wanted) if wanted == '?' || wanted == name[seen] => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((before, taken)) = star else { return false };
                    star = Some((before, taken + 1));
                    (at, seen) = (before + 1, taken + 1);
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == '*')
    }

    /// As SQLite's `GLOB` takes it, for which `[` is special too.
    pub(crate) fn glob(&self) -> String {
        self.0.replace('[', "[[]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let is = |pattern: &str, name: &str| NamePattern::new(pattern).matches(name);
        for (pattern, name) in [
            ("night", "nightly-7"),
            ("ly-", "nightly-7"),
            ("night*", "nightly-7"),
            ("n*ly-?", "nightly-7"),
            ("*", "a"),
            ("?", "é"),
            ("[a]", "x[a]y"),
            ("a*b*c", "aXbXbc"),
        ] {
            assert!(is(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("ly*", "nightly"), ("?", "ab"), ("N*", "nightly"), ("[a]", "a"), ("a*b*c", "abcd")]
        {
            assert!(!is(pattern, name), "{pattern} {name}");
        }
        // What takes time with a matcher that tries everything.
        assert!(!is(&"a*".repeat(100), &("a".repeat(63) + "b")));
    }
}
