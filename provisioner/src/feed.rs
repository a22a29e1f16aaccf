//! Changes of nodes, numbered, so that a watcher that was cut off goes on where it was.
//!
//! ```text
//! id of an event: EPOCH-NUMBER      EPOCH: another at each start of the server, and after a gap
//! ```
//! A watcher gives the id that it saw last (`Last-Event-ID`). If it is of this epoch and what came
//! after is still here, it gets that; otherwise the status of every node again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{ids::Timestamp, status::NodeUpdate};
use fleet::{Fleet, NodeChange};
use tokio::sync::{broadcast::error::RecvError, watch};
use tokio_util::sync::CancellationToken;

/// Changes that are kept, at some 500 bytes each 8 MB: those of a minute in which
/// thousands of nodes boot.
const MAX_RECENT: usize = 16_384;

/// Place of an event in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventId {
    epoch: u64,
    number: u64,
}

impl EventId {
    /// Reads `EPOCH-NUMBER`; `None` if it is none of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, number) = text.split_once('-')?;
        Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, number: number.parse().ok()? })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{}", self.epoch, self.number)
    }
}

/// The newest changes. Pure.
#[derive(Debug)]
struct Recent {
    epoch: u64,
    /// Number of the first of `updates`.
    first: u64,
    updates: VecDeque<NodeUpdate>,
}

impl Recent {
    fn new(epoch: u64) -> Self {
        Self { epoch, first: 1, updates: VecDeque::new() }
    }

    /// Id of the newest change; of none, before the first.
    fn last(&self) -> EventId {
        EventId { epoch: self.epoch, number: self.first + self.updates.len() as u64 - 1 }
    }

    fn push(&mut self, update: NodeUpdate) {
        if self.updates.len() == MAX_RECENT {
            self.updates.pop_front();
            self.first += 1;
        }
        self.updates.push_back(update);
    }

    /// What came after `id`; `None` if that cannot be told any more.
    fn since(&self, id: EventId) -> Option<Vec<(EventId, NodeUpdate)>> {
        let next = id.number.checked_add(1)?;
        let known = id.epoch == self.epoch && next >= self.first && id.number <= self.last().number;
        let skipped = known.then(|| usize::try_from(next - self.first).ok())??;
        let numbered = (next..).zip(self.updates.iter().skip(skipped));
        let with_id = |(number, update): (u64, &NodeUpdate)| {
            (EventId { epoch: self.epoch, number }, update.clone())
        };
        Some(numbered.map(with_id).collect())
    }
}

/// The feed. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct NodeFeed {
    recent: Arc<Mutex<Recent>>,
    grown: watch::Sender<()>,
}

impl NodeFeed {
    /// Follows the changes that fleet tells until `stop`. `now` makes the epoch differ from that of
    /// every start before.
    pub(crate) fn start(fleet: &Fleet, now: Timestamp, stop: CancellationToken) -> Self {
        let mut updates = fleet.watch();
        let recent = Recent::new(now.0.unsigned_abs());
        let feed = Self { recent: Arc::new(Mutex::new(recent)), grown: watch::channel(()).0 };
        let shared = feed.clone();
        let fleet = fleet.clone();
        tokio::spawn(async move {
            loop {
                let update = tokio::select! {
                    () = stop.cancelled() => return,
                    update = updates.recv() => update,
                };
                match update {
                    Ok(NodeChange::Updated(update)) => shared.recent().push(update),
                    // There is no event for a deletion: watchers get the list, and what is not on
                    // it is gone. Many nodes deleted at once are one such list.
                    Ok(NodeChange::Removed { .. }) => {
                        let mut recent = shared.recent();
                        *recent = Recent::new(recent.epoch + 1);
                        while let Ok(change) = updates.try_recv() {
                            if let NodeChange::Updated(update) = change {
                                recent.push(update);
                            }
                        }
                    }
                    Err(RecvError::Lagged(_)) => {
                        updates = fleet.watch();
                        let mut recent = shared.recent();
                        // Nobody can tell what was missed, so every watcher begins again.
                        *recent = Recent::new(recent.epoch + 1);
                    }
                    Err(RecvError::Closed) => return,
                }
                shared.grown.send_replace(());
            }
        });
        feed
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came after `id`; `None` if that cannot be told any more.
    pub(crate) fn since(&self, id: EventId) -> Option<Vec<(EventId, NodeUpdate)>> {
        self.recent().since(id)
    }

    /// Where a watcher stands that reads all statuses after this call.
    pub(crate) fn last(&self) -> EventId {
        self.recent().last()
    }

    /// Tells when there may be more.
    pub(crate) fn grown(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(number: usize) -> NodeUpdate {
        let update = serde_json::json!({
            "id": "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11", "name": "n1",
            "status": { "phase": "ready", "since": number, "armed": false, "reason": number.to_string() },
        });
        serde_json::from_value(update).unwrap()
    }

    fn numbers(found: Option<Vec<(EventId, NodeUpdate)>>) -> Option<Vec<u64>> {
        found.map(|found| found.iter().map(|(id, _)| id.number).collect())
    }

    #[test]
    fn a_watcher_goes_on_where_it_was() {
        let mut recent = Recent::new(7);
        let start = recent.last();
        assert_eq!(numbers(recent.since(start)), Some(vec![]));
        for number in 1..=3 {
            recent.push(update(number));
        }
        assert_eq!(numbers(recent.since(start)), Some(vec![1, 2, 3]));
        let second = EventId { epoch: 7, number: 2 };
        assert_eq!(recent.since(second).unwrap(), [(recent.last(), update(3))]);
        assert_eq!(numbers(recent.since(recent.last())), Some(vec![]));
        assert_eq!(recent.since(EventId { epoch: 7, number: 4 }), None, "not given yet");
        assert_eq!(recent.since(EventId { epoch: 7, number: u64::MAX }), None);
        assert_eq!(recent.since(EventId { epoch: 6, number: 2 }), None, "of another start");
    }

    #[test]
    fn after_too_many_changes_it_begins_again() {
        let mut recent = Recent::new(7);
        for number in 1..=MAX_RECENT + 2 {
            recent.push(update(number));
        }
        assert_eq!(recent.updates.len(), MAX_RECENT);
        assert_eq!(recent.since(EventId { epoch: 7, number: 1 }), None, "the second is gone");
        let found = recent.since(EventId { epoch: 7, number: 2 }).unwrap();
        assert_eq!((found.len(), found[0].0.number), (MAX_RECENT, 3));
        assert_eq!(found[0].1, update(3));
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let id = EventId { epoch: 0x5af3, number: 12 };
        assert_eq!(id.to_string(), "5af3-12");
        assert_eq!(EventId::parse("5af3-12"), Some(id));
        for wrong in ["", "-", "5af3", "x-1", "1-x", "1-", "1-2-3"] {
            assert_eq!(EventId::parse(wrong), None, "{wrong:?}");
        }
    }
}
