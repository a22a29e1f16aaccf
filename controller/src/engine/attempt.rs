//! An attempt of a task on nodes: one run for each of its members. Pure bookkeeping; what follows
//! from it is done in [`super::members`].
//!
//! ```text
//!            all members prepared            all members over
//!   placed ───────────────────────► released ────────────────► over
//!      └───── one ends badly: the others are stopped ───────────▲
//! ```
//!
//! An attempt of one member waits for nothing: it is never held, and its `released` stays `None`.

use std::collections::BTreeSet;

use api::{
    ids::Timestamp,
    run::{Outcome, RunId},
};

use super::task::{RetryState, describe};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Which it is, and what came before it.
    pub(crate) retry: RetryState,
    /// Its runs, by member.
    pub(crate) runs: Vec<RunId>,
    /// How many members it has. Runs whose rows cannot be read are not among `runs`.
    pub(crate) members: usize,
    /// Its row cannot be read. It is not written again, and whether it was released is not known.
    pub(crate) is_unread: bool,
    /// When it was placed.
    pub(crate) placed: Timestamp,
    /// When the server released it, which it does once all members are prepared. `None` before, and
    /// always of an attempt with one member. If `is_unread`: the earliest start or good end of a
    /// member that is known, since no member starts before the release.
    pub(crate) released: Option<Timestamp>,
    /// Members that are prepared and have not begun.
    prepared: BTreeSet<u32>,
    /// Members whose processes began.
    started: u32,
    /// Members that are over.
    over: u32,
    /// How the first member that ended badly ended.
    failure: Option<(u32, Outcome)>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AttemptEnd {
    /// That of the first member that ended badly, whatever the others did.
    pub(crate) outcome: Outcome,
    /// The process of a member began.
    pub(crate) has_started: bool,
}

impl Attempt {
    /// One that was just placed.
    pub(crate) fn new(runs: Vec<RunId>, retry: RetryState, placed: Timestamp) -> Self {
        Self {
            retry,
            members: runs.len(),
            is_unread: false,
            runs,
            placed,
            released: None,
            prepared: BTreeSet::new(),
            started: 0,
            over: 0,
            failure: None,
        }
    }

    /// It has several members, which start together.
    pub(crate) fn has_barrier(&self) -> bool {
        self.members > 1
    }

    /// Its members still wait for each other.
    pub(crate) fn is_held(&self) -> bool {
        self.has_barrier() && self.released.is_none()
    }

    /// A member is prepared, or is being prepared again.
    pub(crate) fn note_prepared(&mut self, member: u32, is_prepared: bool) {
        match is_prepared {
            true => drop(self.prepared.insert(member)),
            false => drop(self.prepared.remove(&member)),
        }
    }

    /// A member is prepared and has not begun.
    pub(crate) fn is_prepared(&self, member: u32) -> bool {
        self.prepared.contains(&member)
    }

    /// How many members are prepared, while it is held.
    pub(crate) fn prepared(&self) -> usize {
        self.prepared.len()
    }

    /// All members are prepared, and none has ended badly.
    pub(crate) fn may_be_released(&self) -> bool {
        self.is_held() && self.failure.is_none() && self.prepared.len() == self.members
    }

    /// The process of a member began. One that was not released ends the attempt: its agent is of
    /// before.
    pub(crate) fn note_started(&mut self, member: u32, at: Timestamp) {
        self.started += 1;
        self.prepared.remove(&member);
        self.believe_released(at);
        if self.is_held() {
            let why = "it started before all members were prepared".to_owned();
            self.fail(member, Outcome::Failed { why, transient: true });
        }
    }

    /// Where it is not known, what a member did tells that it was released.
    fn believe_released(&mut self, at: Timestamp) {
        if self.is_unread {
            self.released = Some(self.released.map_or(at, |before| before.min(at)));
        }
    }

    /// The processes of all members began.
    pub(crate) fn has_run(&self) -> bool {
        self.started as usize >= self.members
    }

    /// A member is over.
    pub(crate) fn note_ended(&mut self, member: u32, outcome: &Outcome, at: Timestamp) {
        self.over += 1;
        self.prepared.remove(&member);
        if outcome.is_success() {
            self.believe_released(at);
        }
        if !outcome.is_success() {
            self.fail(member, outcome.clone());
        } else if self.is_held() {
            let why = "it ended before it was released".to_owned();
            self.fail(member, Outcome::Failed { why, transient: false });
        }
    }

    /// A member ended the attempt; only the first counts.
    pub(crate) fn fail(&mut self, member: u32, outcome: Outcome) {
        self.failure.get_or_insert((member, outcome));
    }

    /// Why its members are to end, if one of them ended badly.
    pub(crate) fn why_stop(&self) -> Option<String> {
        let (member, outcome) = self.failure.as_ref().filter(|_| self.has_barrier())?;
        Some(format!("member {member} of its attempt: {}", describe(outcome)))
    }

    /// How it will end, if that is known already: a member ended badly.
    pub(crate) fn failure(&self) -> Option<&Outcome> {
        self.failure.as_ref().map(|(_, outcome)| outcome)
    }

    /// How it ended, once all members are over. `is_stopped`: its workflow is, and ends without
    /// those whose rows cannot be read.
    pub(crate) fn end(&self, is_stopped: bool) -> Option<AttemptEnd> {
        let over = self.over as usize;
        let awaited = if is_stopped { self.runs.len().min(self.members) } else { self.members };
        if over < awaited {
            return None;
        }
        let outcome = match self.failure() {
            Some(failure) => failure.clone(),
            None if over < self.members => {
                Outcome::Stopped { why: "what became of all its members is not known".to_owned() }
            }
            None => Outcome::Exited { code: 0 },
        };
        // What begins before the release does so for a reason of its node.
        let may_have_started = !self.has_barrier() || self.released.is_some();
        Some(AttemptEnd { outcome, has_started: self.started > 0 && may_have_started })
    }
}

#[cfg(test)]
mod tests {
    use document::plan::TaskId;

    use super::*;
    use crate::engine::task::TaskTable;

    fn attempt(members: u128) -> Attempt {
        let runs = (0..members).map(|run| RunId(uuid::Uuid::from_u128(run))).collect();
        Attempt::new(runs, RetryState::first(Timestamp(0)), Timestamp(0))
    }

    #[test]
    fn one_member_awaits_nothing() {
        let mut one = attempt(1);
        assert!(!one.is_held() && !one.may_be_released());
        one.note_started(0, Timestamp(1));
        assert!(one.has_run() && one.end(false).is_none());
        one.note_ended(0, &Outcome::Exited { code: 3 }, Timestamp(2));
        let outcome = Outcome::Exited { code: 3 };
        assert_eq!(one.end(false), Some(AttemptEnd { outcome, has_started: true }));
        assert_eq!(one.why_stop(), None, "there is nobody to stop");
    }

    #[test]
    fn members_that_disagree_end_as_the_first_that_ended_badly() {
        let mut three = attempt(3);
        for member in 0..3 {
            assert!(!three.may_be_released());
            three.note_prepared(member, true);
        }
        three.note_prepared(1, false);
        assert!(!three.may_be_released(), "one is being prepared again");
        three.note_prepared(1, true);
        assert!(three.may_be_released());
        three.released = Some(Timestamp(1));
        (0..3).for_each(|member| three.note_started(member, Timestamp(1)));
        three.note_ended(2, &Outcome::Exited { code: 0 }, Timestamp(2));
        assert_eq!(three.why_stop(), None);
        three.note_ended(0, &Outcome::Exited { code: 3 }, Timestamp(2));
        assert_eq!(
            three.why_stop().as_deref(),
            Some("member 0 of its attempt: exited with status 3")
        );
        assert_eq!(three.end(false), None);
        three.note_ended(1, &Outcome::Stopped { why: "member 0".to_owned() }, Timestamp(2));
        let outcome = Outcome::Exited { code: 3 };
        assert_eq!(three.end(false), Some(AttemptEnd { outcome, has_started: true }));
    }

    #[test]
    fn what_was_not_released_has_neither_started_nor_done_its_work() {
        for start in [true, false] {
            let mut two = attempt(2);
            two.note_prepared(0, true);
            two.note_prepared(1, true);
            if start {
                two.note_started(0, Timestamp(1))
            } else {
                two.note_ended(0, &Outcome::Exited { code: 0 }, Timestamp(2))
            }
            assert!(!two.may_be_released() && two.why_stop().is_some());
        }
    }

    #[test]
    fn a_start_before_the_release_is_none_of_the_users_attempts() {
        let mut two = attempt(2);
        two.note_started(0, Timestamp(1));
        for member in [0, 1] {
            two.note_ended(member, &Outcome::Stopped { why: "early".to_owned() }, Timestamp(2));
        }
        let end = two.end(false).unwrap();
        let is_transient = matches!(end.outcome, Outcome::Failed { transient: true, .. });
        assert!(is_transient && !end.has_started, "{end:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told_by_what_its_members_did() {
        let mut two = attempt(2);
        two.is_unread = true;
        assert!(two.is_held());
        two.note_started(1, Timestamp(5));
        two.note_started(0, Timestamp(3));
        assert_eq!((two.released, two.why_stop()), (Some(Timestamp(3)), None));
    }

    #[test]
    fn members_whose_rows_cannot_be_read_are_waited_for_unless_somebody_stops_the_workflow() {
        let mut two = attempt(1);
        two.members = 2;
        assert!(two.has_barrier() && two.is_held());
        two.note_prepared(0, true);
        assert!(!two.may_be_released());
        two.released = Some(Timestamp(1));
        two.note_started(0, Timestamp(1));
        assert!(!two.has_run());
        two.note_ended(0, &Outcome::Exited { code: 0 }, Timestamp(2));
        assert_eq!(two.end(false), None);
        assert!(matches!(two.end(true), Some(AttemptEnd { outcome: Outcome::Stopped { .. }, .. })));
        let mut book = TaskTable::new(1);
        book.begin(TaskId(0), two);
        book.give_up_unread(0, Timestamp(3));
        assert!(book.is_over() && book.canceled == 1);
    }
}
