//! The book of open connections: who may come in, and who has to go for it. Pure: no socket, and
//! the time is an argument.
//!
//! | a connection is | it counts | it goes for a new one |
//! |---|---|---|
//! | waiting: in its handshake, without a whole head, between requests | by address, listener and in all | the longest first |
//! | busy: a request is read or answered | the same | if it made no progress for `stale` |
//! | proven | in all | never |
//!
//! Where an address may have more than its share (`Limits::of_one_address`) it has the rest on
//! loan: the first that goes for somebody below that share is one of the address that has most.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Limits, Listener, meters::Cause};

/// Who a connection is counted with: an IPv4 address, or an IPv6 network of 64 bits, of which one
/// machine can have all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// Who a client of this address is counted with.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// A number that no other connection of this process has.
pub(super) type Id = u64;

/// What an unproven connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Busy,
}

/// What a connection does now, noted without the book: requests begin and end many thousand times a
/// second, and the book needs to know only when somebody has to go.
#[derive(Debug)]
pub(super) struct Now {
    epoch: Instant,
    /// What the book does not know yet: one more than twice the microseconds since `epoch`, and one
    /// more for [`Phase::Busy`]. 0: the book is right.
    noted: AtomicU64,
    is_busy_in_book: AtomicBool,
}

impl Now {
    fn waiting(epoch: Instant) -> Self {
        Self { epoch, noted: AtomicU64::new(0), is_busy_in_book: AtomicBool::new(false) }
    }

    /// Notes that it does this from now on. `false`: the book has to be told, as it would look for
    /// the connection among the busy ones.
    pub(super) fn note(&self, phase: Phase, now: Instant) -> bool {
        let micros = u64::try_from(now.saturating_duration_since(self.epoch).as_micros());
        let busy = u64::from(phase == Phase::Busy);
        self.noted.store(1 + (micros.unwrap_or(u64::MAX >> 2) << 1) + busy, SeqCst);
        // After the note: the book may just have read the one before it.
        phase == Phase::Busy || !self.is_busy_in_book.load(SeqCst)
    }

    /// What the book does not know: the note itself, and what it says.
    fn noted(&self) -> Option<(u64, Phase, Instant)> {
        let raw = self.noted.load(SeqCst);
        let noted = raw.checked_sub(1)?;
        let phase = if noted & 1 == 1 { Phase::Busy } else { Phase::Waiting };
        Some((raw, phase, self.epoch + Duration::from_micros(noted >> 1)))
    }

    /// The book has read a note. One that was made since stays.
    fn learned(&self, raw: u64, phase: Phase) {
        self.is_busy_in_book.store(phase == Phase::Busy, SeqCst);
        let _newer = self.noted.compare_exchange(raw, 0, SeqCst, SeqCst);
    }
}

#[derive(Debug)]
struct Entry {
    source: Source,
    listener: Listener,
    /// `None`: proven. Otherwise since when it is waiting, or when it made its last progress, as
    /// far as the book was told.
    unproven: Option<(Phase, Instant)>,
    now: Arc<Now>,
    /// Woken when the connection has to end.
    kick: Arc<Notify>,
}

/// Unproven connections that are counted together.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeSet<(Instant, Id)>,
    busy: BTreeSet<(Instant, Id)>,
}

impl Queue {
    fn len(&self) -> usize {
        self.waiting.len() + self.busy.len()
    }

    fn of(&mut self, phase: Phase) -> &mut BTreeSet<(Instant, Id)> {
        match phase {
            Phase::Waiting => &mut self.waiting,
            Phase::Busy => &mut self.busy,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    limits: Limits,
    epoch: Instant,
    next: Id,
    entries: HashMap<Id, Entry>,
    sources: HashMap<(Listener, Source), Queue>,
    listeners: [Queue; Listener::ALL.len()],
    /// The sources of each listener by how many connections they have.
    largest: [BTreeSet<(usize, Source)>; Listener::ALL.len()],
    open: [usize; Listener::ALL.len()],
    /// Connections that have to end and have not yet: their descriptors are still in use.
    leaving: usize,
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) id: Id,
    pub(super) kick: Arc<Notify>,
    pub(super) now: Arc<Now>,
    /// The listeners of those that had to go for it.
    pub(super) evicted: Vec<Listener>,
}

impl ConnectionTable {
    pub(super) fn new(limits: Limits, epoch: Instant) -> Self {
        Self {
            limits,
            epoch,
            next: 0,
            entries: HashMap::new(),
            sources: HashMap::new(),
            listeners: Default::default(),
            largest: Default::default(),
            open: Default::default(),
            leaving: 0,
        }
    }

    /// Lets a connection in, or says what there are too many of.
    pub(super) fn enter(
        &mut self,
        listener: Listener,
        source: Source,
        now: Instant,
    ) -> Result<Entered, Cause> {
        let mut evicted = Vec::new();
        let settled = now.checked_sub(self.limits.deadlines.settling);
        let has_share = |queue: &Queue| queue.len() >= self.limits.of_one_address(listener);
        if self.sources.get(&(listener, source)).is_some_and(has_share) {
            self.learn_waiting(listener, Some(source));
        }
        let same_source = self.sources.get(&(listener, source));
        if same_source.is_some_and(|queue| queue.len() >= self.limits.of_one_address(listener)) {
            let oldest = same_source.and_then(|queue| self.oldest(queue, settled, now));
            evicted.extend(self.evict(oldest.ok_or(Cause::Address)?));
        }
        let taken = self.listeners[listener.index()].len();
        if taken >= self.limits.unproven_reserved() && self.unproven_taken() >= self.limits.unproven
        {
            let victim = self.victim(listener, source, settled, now);
            evicted.extend(self.evict(victim.ok_or(Cause::Unproven)?));
        }
        if self.entries.len() >= self.limits.connections {
            evicted.push(self.evict_any(now).ok_or(Cause::All)?);
        }
        let id = self.next;
        self.next += 1;
        let (kick, unproven) = (Arc::new(Notify::new()), Some((Phase::Waiting, now)));
        let does = Arc::new(Now::waiting(self.epoch));
        self.queue(listener, source, Phase::Waiting, (now, id));
        self.open[listener.index()] += 1;
        let entry = Entry { source, listener, unproven, now: does.clone(), kick: kick.clone() };
        self.entries.insert(id, entry);
        Ok(Entered { id, kick, now: does, evicted })
    }

    /// A connection is closed.
    pub(super) fn leave(&mut self, id: Id) {
        if self.remove(id).is_none() {
            self.leaving = self.leaving.saturating_sub(1);
        }
    }

    /// Its client has shown a certificate or a token: it is counted by its address no more.
    pub(super) fn prove(&mut self, id: Id) {
        self.unqueue(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.unproven = None;
        }
    }

    /// It does something else from now on, or makes progress with what it does, as
    /// its own task says.
    pub(super) fn set_phase(&mut self, id: Id, phase: Phase, now: Instant) {
        let Some(entry) = self.entries.get(&id) else { return };
        let raw = entry.now.noted.load(SeqCst);
        self.move_to(id, phase, now, raw);
    }

    /// Puts a connection where it belongs; `raw` is the note that this comes of or replaces.
    fn move_to(&mut self, id: Id, phase: Phase, now: Instant, raw: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Some((phase_before, since)) = entry.unproven else { return };
        entry.unproven = Some((phase, now));
        entry.now.learned(raw, phase);
        let (listener, source) = (entry.listener, entry.source);
        let (before, after) = ((since, id), (now, id));
        // How many there are stays the same.
        let of_all = &mut self.listeners[listener.index()];
        for queue in [Some(of_all), self.sources.get_mut(&(listener, source))].into_iter().flatten()
        {
            queue.of(phase_before).remove(&before);
            queue.of(phase).insert(after);
        }
    }

    /// Reads what the longest waiting connections of a listener, or of one source there, noted
    /// themselves, until the first of them is one that does wait since then. What is read moves
    /// back in the order, so that each note costs once.
    fn learn_waiting(&mut self, listener: Listener, source: Option<Source>) {
        loop {
            let queue = match source {
                Some(source) => self.sources.get(&(listener, source)),
                None => Some(&self.listeners[listener.index()]),
            };
            let first = queue.and_then(|queue| queue.waiting.first()).map(|(_, id)| *id);
            let noted = first.and_then(|id| Some((id, self.entries.get(&id)?.now.noted()?)));
            let Some((id, (raw, phase, since))) = noted else { return };
            self.move_to(id, phase, since, raw);
        }
    }

    /// Ends the connection that is worth least, wherever it came in.
    pub(super) fn evict_any(&mut self, now: Instant) -> Option<Listener> {
        Listener::ALL.into_iter().for_each(|listener| self.learn_waiting(listener, None));
        let each = self.listeners.iter();
        let longest =
            each.max_by_key(|queue| queue.waiting.len()).filter(|queue| !queue.waiting.is_empty());
        let oldest = match longest {
            Some(queue) => self.oldest(queue, Some(now), now),
            None => self.listeners.iter().find_map(|queue| self.oldest(queue, None, now)),
        };
        oldest.and_then(|id| self.evict(id))
    }

    pub(super) fn leaving(&self) -> usize {
        self.leaving
    }

    /// Open connections of a listener, and those of them that are proven.
    pub(super) fn open(&self, listener: Listener) -> (usize, usize) {
        let (open, unproven) =
            (self.open[listener.index()], self.listeners[listener.index()].len());
        (open, open - unproven)
    }

    /// Places of unproven connections that are taken, or kept for one listener.
    fn unproven_taken(&self) -> usize {
        self.listeners.iter().map(|queue| queue.len().max(self.limits.unproven_reserved())).sum()
    }

    /// Who goes at a listener that is full, for one more of this source.
    fn victim(
        &mut self,
        listener: Listener,
        source: Source,
        settled: Option<Instant>,
        now: Instant,
    ) -> Option<Id> {
        let share = self.limits.unproven_per_address;
        let largest = self.largest[listener.index()].last().map(|(_, source)| *source);
        for source in [Some(source), largest, None] {
            self.learn_waiting(listener, source);
        }
        let own = self.sources.get(&(listener, source));
        if let Some(own) = own.filter(|own| own.len() >= share) {
            return self.oldest(own, settled, now);
        }
        let (count, largest) = *self.largest[listener.index()].last()?;
        match self.sources.get(&(listener, largest)) {
            // What is beyond the share was on loan, even where it makes progress.
            Some(largest) if count > share => {
                let slowest = || largest.busy.first().map(|(_, id)| *id);
                self.oldest(largest, Some(now), now).or_else(slowest)
            }
            _ => self.oldest(&self.listeners[listener.index()], Some(now), now),
        }
    }

    /// The one of a queue that has waited longest, at least since `settled`; if none has, the one
    /// whose progress is longest ago.
    fn oldest(&self, queue: &Queue, settled: Option<Instant>, now: Instant) -> Option<Id> {
        let before = |set: &BTreeSet<(Instant, Id)>, limit: Option<Instant>| {
            let (since, id) = *set.first()?;
            (since <= limit?).then_some(id)
        };
        before(&queue.waiting, settled)
            .or_else(|| before(&queue.busy, now.checked_sub(self.limits.deadlines.stale)))
    }

    /// Takes a connection out, as if it were closed, and tells it to be.
    fn evict(&mut self, id: Id) -> Option<Listener> {
        let entry = self.remove(id)?;
        self.leaving += 1;
        entry.kick.notify_one();
        Some(entry.listener)
    }

    fn remove(&mut self, id: Id) -> Option<Entry> {
        self.unqueue(id);
        let entry = self.entries.remove(&id)?;
        self.open[entry.listener.index()] -= 1;
        Some(entry)
    }

    fn queue(&mut self, listener: Listener, source: Source, phase: Phase, at: (Instant, Id)) {
        self.listeners[listener.index()].of(phase).insert(at);
        let queue = self.sources.entry((listener, source)).or_default();
        let before = queue.len();
        queue.of(phase).insert(at);
        self.largest[listener.index()].remove(&(before, source));
        self.largest[listener.index()].insert((before + 1, source));
    }

    fn unqueue(&mut self, id: Id) {
        let Some(entry) = self.entries.get(&id) else { return };
        let (listener, source) = (entry.listener, entry.source);
        let Some((phase, since)) = entry.unproven else { return };
        self.listeners[listener.index()].of(phase).remove(&(since, id));
        let Some(queue) = self.sources.get_mut(&(listener, source)) else { return };
        let before = queue.len();
        queue.of(phase).remove(&(since, id));
        self.largest[listener.index()].remove(&(before, source));
        if before > 1 {
            self.largest[listener.index()].insert((before - 1, source));
        } else {
            self.sources.remove(&(listener, source));
        }
    }
}

#[cfg(test)]
mod tests;
