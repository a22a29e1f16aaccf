//! When a container is ended, and what its end is called. Pure: times are durations of the
//! monotonic clock.
//!
//! A timeout or the server's order begins the end: SIGTERM at once, SIGKILL to everything after a
//! time of grace. The first reason counts; a later one can only shorten the grace. While the
//! container is paused its timeout stands still; the server's order does not.

use std::time::Duration;

use api::run::Outcome;

/// The signal that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// SIGTERM to the payload's process group.
    Terminate,
    /// SIGKILL to every process of the payload's cgroup.
    Kill,
}

/// How the payload's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// The end of one container, before it and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    times_out_at: Duration,
    timeout_seconds: u64,
    timeout_grace: Duration,
    paused_at: Option<Duration>,
    begun: Option<Begun>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Begun {
    outcome: Outcome,
    terminated: bool,
    kill_at: Duration,
    killed: bool,
}

impl Ending {
    /// For a payload that starts `now`.
    #[must_use]
    pub fn new(now: Duration, timeout_seconds: u64, grace_seconds: u32) -> Self {
        Self {
            times_out_at: now.saturating_add(Duration::from_secs(timeout_seconds)),
            timeout_seconds,
            timeout_grace: Duration::from_secs(grace_seconds.into()),
            paused_at: None,
            begun: None,
        }
    }

    /// Lets the timeout stand still, or go on. `false` if it does so already.
    pub fn pause(&mut self, now: Duration, paused: bool) -> bool {
        match (self.paused_at, paused) {
            (None, true) => self.paused_at = Some(now),
            (Some(since), false) => {
                self.paused_at = None;
                self.times_out_at = self.times_out_at.saturating_add(now.saturating_sub(since));
            }
            _ => return false,
        }
        true
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// The server wants an end.
    pub fn stop(&mut self, now: Duration, grace_seconds: u32, why: String) {
        self.begin(now, Duration::from_secs(grace_seconds.into()), Outcome::Stopped { why });
    }

    fn begin(&mut self, now: Duration, grace: Duration, outcome: Outcome) {
        let kill_at = now.saturating_add(grace);
        match &mut self.begun {
            Some(begun) => begun.kill_at = begun.kill_at.min(kill_at),
            None => self.begun = Some(Begun { outcome, terminated: false, kill_at, killed: false }),
        }
    }

    /// What is due `now`; each thing is told once.
    pub fn due(&mut self, now: Duration) -> Option<Due> {
        if self.begun.is_none() && self.paused_at.is_none() && now >= self.times_out_at {
            let outcome = Outcome::TimedOut { seconds: self.timeout_seconds, cause: None };
            self.begin(now, self.timeout_grace, outcome);
        }
        let begun = self.begun.as_mut()?;
        if !begun.terminated {
            begun.terminated = true;
            return Some(Due::Terminate);
        }
        if !begun.killed && now >= begun.kill_at {
            begun.killed = true;
            return Some(Due::Kill);
        }
        None
    }

    /// When [`Self::due`] is to be asked again; `None` if time changes nothing any more.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        match &self.begun {
            None => self.paused_at.is_none().then_some(self.times_out_at),
            Some(begun) => (!begun.killed).then_some(begun.kill_at),
        }
    }

    /// How the container ended, by how its payload did and how many of its processes the kernel
    /// killed for want of memory.
    #[must_use]
    pub fn outcome(self, status: Status, memory_kills: u64, limit_bytes: u64) -> Outcome {
        match (self.begun, status) {
            (None, Status::Signaled(libc::SIGKILL)) if memory_kills > 0 => {
                Outcome::OutOfMemory { limit_bytes }
            }
            (None, Status::Exited(code)) => Outcome::Exited { code },
            (None, Status::Signaled(signal)) => Outcome::Signaled { signal },
            (Some(begun), _) => begun.outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_timeout_asks_first() {
        let mut ending = Ending::new(at(100), 60, 10);
        assert_eq!((ending.due(at(159)), ending.next()), (None, Some(at(160))));
        assert_eq!(ending.due(at(160)), Some(Due::Terminate));
        assert_eq!((ending.due(at(160)), ending.next()), (None, Some(at(170))));
        assert_eq!(ending.due(at(175)), Some(Due::Kill));
        assert_eq!((ending.due(at(999)), ending.next()), (None, None));
        let outcome = ending.outcome(Status::Signaled(libc::SIGKILL), 0, 5);
        assert_eq!(outcome, Outcome::TimedOut { seconds: 60, cause: None });
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut ending = Ending::new(at(100), 60, 10);
        assert!(ending.pause(at(110), true) && !ending.pause(at(111), true));
        assert_eq!((ending.due(at(500)), ending.next()), (None, None));
        assert!(ending.pause(at(510), false) && !ending.pause(at(511), false));
        assert_eq!((ending.due(at(559)), ending.next()), (None, Some(at(560))));
        assert_eq!(ending.due(at(560)), Some(Due::Terminate));
        // An order ends what stands still, too.
        let mut ending = Ending::new(at(100), 60, 10);
        ending.pause(at(110), true);
        ending.stop(at(120), 5, "enough".into());
        assert!(ending.is_begun());
        assert_eq!((ending.due(at(120)), ending.next()), (Some(Due::Terminate), Some(at(125))));
    }

    #[test]
    fn the_first_reason_counts_and_grace_only_shrinks() {
        let mut ending = Ending::new(at(0), 60, 10);
        ending.stop(at(5), 30, "enough".into());
        assert_eq!(ending.due(at(5)), Some(Due::Terminate));
        ending.stop(at(6), 2, "now".into());
        assert_eq!(ending.next(), Some(at(8)));
        ending.stop(at(7), 100, "later".into());
        assert_eq!(ending.due(at(8)), Some(Due::Kill));
        assert_eq!(
            ending.outcome(Status::Exited(0), 0, 5),
            Outcome::Stopped { why: "enough".into() }
        );
    }

    #[test]
    fn what_ends_by_itself_is_called_by_its_status() {
        let outcome = |status, kills| Ending::new(at(0), u64::MAX, 10).outcome(status, kills, 5);
        assert_eq!(outcome(Status::Exited(7), 0), Outcome::Exited { code: 7 });
        assert_eq!(outcome(Status::Signaled(11), 0), Outcome::Signaled { signal: 11 });
        assert_eq!(outcome(Status::Signaled(9), 0), Outcome::Signaled { signal: 9 });
        assert_eq!(outcome(Status::Signaled(9), 1), Outcome::OutOfMemory { limit_bytes: 5 });
        // It lost a child and dealt with it.
        assert_eq!(outcome(Status::Exited(3), 1), Outcome::Exited { code: 3 });
    }
}
