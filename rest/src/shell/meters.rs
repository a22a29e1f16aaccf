//! What is counted of connections, and what is said of those that were refused or ended.

use std::{
    fmt,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use metrics::{Counters, Exposition};
use tokio::time::Instant;

use super::Listener;

/// Between two lines of the log about the same cause at the same listener.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Why a connection was not let in, or was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Too many without proof of one address.
    Address,
    /// Too many without proof at the listener.
    Unproven,
    /// Too many in all.
    All,
    /// The process may open no more files.
    Descriptors,
    /// It waited longest, and another one came.
    Evicted,
    /// No TLS session, or none in time.
    Handshake,
    /// No whole head in time.
    Head,
    /// No request for long: the usual end.
    Idle,
    /// A body that came too slowly.
    Body,
    /// No room for its body.
    BodyBudget,
    /// No answer in time.
    Request,
    /// It did not read its answer.
    Answer,
}

/// Refused and not let in; the others were let in and ended.
const REFUSALS: [&str; 4] = ["address", "unproven", "all", "descriptors"];
const ENDS: [&str; 8] =
    ["evicted", "handshake", "head", "idle", "body", "body-budget", "request", "answer"];

impl Cause {
    const COUNT: usize = REFUSALS.len() + ENDS.len();

    /// Its label, and what the log says.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Address => {
                ("address", "refused: too many of one address without certificate or token")
            }
            Self::Unproven => ("unproven", "refused: too many without certificate or token"),
            Self::All => ("all", "refused: all places are taken (limits.connections)"),
            Self::Descriptors => {
                ("descriptors", "refused: the server may open no more files (LimitNOFILE)")
            }
            Self::Evicted => ("evicted", "ended for newer ones: they were silent longest"),
            Self::Handshake => ("handshake", "ended: no TLS session"),
            Self::Head => ("head", "ended: no whole request head in time"),
            Self::Idle => ("idle", "ended: no request for long"),
            Self::Body => ("body", "ended: the body of a request came too slowly"),
            Self::BodyBudget => ("body-budget", "ended: too many bodies of requests at once"),
            Self::Request => ("request", "ended: the answer took too long"),
            Self::Answer => ("answer", "ended: the client did not read its answer"),
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Of whom something is counted, for the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last<'a> {
    pub(super) client: Option<IpAddr>,
    pub(super) error: Option<&'a std::io::Error>,
}

impl fmt::Display for Last<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(client) = self.client {
            write!(formatter, ", the last of {client}")?;
        }
        match self.error {
            Some(error) => write!(formatter, ": {error}"),
            None => Ok(()),
        }
    }
}

/// Of one listener.
#[derive(Debug)]
struct Counted {
    refused: Counters<4>,
    ended: Counters<8>,
    said: Mutex<[LastWarning; Cause::COUNT]>,
}

/// When something was said last, and how often it happened since.
#[derive(Debug, Clone, Copy, Default)]
struct LastWarning {
    last: Option<Instant>,
    unreported: u64,
}

impl LastWarning {
    /// It happened again: how often since it was said last, if it is to be said now.
    fn again(&mut self, now: Instant) -> Option<u64> {
        self.unreported += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unreported))
    }
}

/// Instruments of all listeners.
#[derive(Debug)]
pub(super) struct Meters([Counted; Listener::ALL.len()]);

impl Default for Meters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counted {
            refused: Counters::new(REFUSALS),
            ended: Counters::new(ENDS),
            said: Mutex::default(),
        }))
    }
}

impl Meters {
    /// Counts it, and says it unless that was said just now. `last`: of whom it was, and the error
    /// if there is one.
    pub(super) fn count(&self, listener: Listener, cause: Cause, last: Last<'_>, now: Instant) {
        let counted = &self.0[listener.index()];
        let (label, words) = cause.words();
        match REFUSALS.contains(&label) {
            true => counted.refused.inc(label),
            false => counted.ended.inc(label),
        }
        if cause == Cause::Idle {
            return;
        }
        // Nothing panics while it is held.
        let times = {
            let mut said = counted.said.lock().unwrap_or_else(PoisonError::into_inner);
            said[cause.index()].again(now)
        };
        if let Some(times) = times {
            let last = last.to_string();
            let (name, seconds) = (listener.name(), LOG_INTERVAL.as_secs());
            tracing::warn!(
                "{name} port: connections {words} ({times} since this was said{last}; at most one line \
                 in {seconds} s)"
            );
        }
    }

    /// Writes what was counted.
    pub(super) fn expose(&self, out: &mut Exposition) {
        let help = "Connections that were not let in, by listener and cause.";
        let mut refused = out.counter("bedplate_connections_refused", help);
        for listener in Listener::ALL {
            for (cause, count) in self.0[listener.index()].refused.get() {
                refused.sample(&[("listener", listener.name()), ("cause", cause)], count);
            }
        }
        let help = "Connections that the server ended, by listener and cause.";
        let mut ended = out.counter("bedplate_connections_ended", help);
        for listener in Listener::ALL {
            for (cause, count) in self.0[listener.index()].ended.get() {
                ended.sample(&[("listener", listener.name()), ("cause", cause)], count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_once_a_minute_with_how_often() {
        let (mut said, now) = (LastWarning::default(), Instant::now());
        assert_eq!(said.again(now), Some(1));
        for count in 0..600 {
            assert_eq!(said.again(now + Duration::from_millis(count * 99)), None);
        }
        assert_eq!(said.again(now + LOG_INTERVAL), Some(601));
        assert_eq!(said.again(now + LOG_INTERVAL), None);
    }

    #[test]
    fn every_cause_has_its_counter() {
        let causes = [
            Cause::Address,
            Cause::Unproven,
            Cause::All,
            Cause::Descriptors,
            Cause::Evicted,
            Cause::Handshake,
            Cause::Head,
            Cause::Idle,
            Cause::Body,
            Cause::BodyBudget,
            Cause::Request,
            Cause::Answer,
        ];
        let meters = Meters::default();
        for (index, cause) in causes.into_iter().enumerate() {
            assert_eq!(cause.index(), index);
            meters.count(Listener::Api, cause, Last::default(), Instant::now());
        }
        let mut out = Exposition::new();
        meters.expose(&mut out);
        let text = out.finish();
        let counted =
            text.lines().filter(|line| line.contains("listener=\"api\"") && line.ends_with(" 1"));
        assert_eq!(counted.count(), Cause::COUNT, "{text}");
    }
}
