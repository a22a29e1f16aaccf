//! How fast a registry must send, and how long a layer and a pull may take: whoever serves a byte
//! at a time holds up a pull no longer than whoever serves none.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{PARALLEL_LAYERS, error::RequestError};

/// Into how many parts a window is cut: so many entries are kept of a transfer, however many chunks
/// come.
const SLICES: u32 = 60;

/// What is asked of registries while they send. Each pull that falls short of it has made a try
/// that failed, but for [`Self::pull`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second that all layers of a pull together must bring, and a single one a
    /// [`PARALLEL_LAYERS`]th of it: they share the line. 0: as slowly as it likes.
    pub least_bytes_per_second: u64,
    /// Over how long that is taken; it slides.
    pub window: Duration,
    /// How long a layer is waited for that another pull transfers already, and how long again each
    /// time that it has come fast enough meanwhile. Then it is transferred once more: whoever has a
    /// slow registry send a layer of everybody's holds up nobody else.
    pub beside: Duration,
    /// How long a pull waits for its turn before users who have more places give one back.
    pub share: Duration,
    /// How long a try may take for a single layer.
    pub layer: Duration,
    /// How long a pull may take, with all its tries and the pauses between them; the time in which
    /// it waited for a place does not count.
    pub pull: Duration,
}

impl Default for Limits {
    /// 10 kB/s over a minute: an old DSL line brings more. A layer may take two hours and a pull
    /// four: 100 GB in two hours are 14 MB/s.
    fn default() -> Self {
        Self {
            least_bytes_per_second: 10_000,
            window: Duration::from_secs(60),
            beside: Duration::from_secs(60),
            share: Duration::from_secs(5),
            layer: Duration::from_secs(7_200),
            pull: Duration::from_secs(14_400),
        }
    }
}

/// A layer that another pull transfers, as one that waits for it sees it.
#[derive(Debug)]
pub(crate) struct ParallelLayer {
    began: Instant,
    /// Since when, and from how many bytes on, it is watched how fast it comes.
    since: Instant,
    from: u64,
    is_too_slow: bool,
}

impl ParallelLayer {
    /// `here`: bytes of it that are here.
    pub(crate) fn new(here: u64, now: Instant) -> Self {
        Self { began: now, since: now, from: here, is_too_slow: false }
    }

    /// Whether the layer, of `size` bytes, is to be transferred once more: it does not come
    /// at the least speed of a single layer, or its rest would take more than half of what
    /// time a layer has.
    pub(crate) fn is_too_slow(
        &mut self,
        here: u64,
        size: u64,
        limits: &Limits,
        now: Instant,
    ) -> bool {
        let watched = now.saturating_duration_since(self.since);
        if self.is_too_slow || watched < limits.beside {
            return self.is_too_slow;
        }
        let (came, watched) = (u128::from(here.saturating_sub(self.from)), watched.as_millis());
        let least =
            u128::from(limits.least_bytes_per_second) * watched / 1_000 / PARALLEL_LAYERS as u128;
        let waited = now.saturating_duration_since(self.began).as_millis();
        let rest = (u128::from(size.saturating_sub(here)) * watched).checked_div(came);
        let is_in_time = rest.is_some_and(|rest| waited + rest <= limits.layer.as_millis() / 2);
        self.is_too_slow = came < least || !is_in_time;
        (self.since, self.from) = (now, here);
        self.is_too_slow
    }
}

/// Whether bytes come fast enough to wait for the rest.
#[derive(Debug)]
struct Pace {
    least_bytes: u64,
    window: Duration,
    began: Instant,
    /// Bytes that came in the window, by when the slice began in which they came.
    slices: VecDeque<(Instant, u64)>,
    bytes: u64,
}

impl Pace {
    /// `part`: what part of the speed is asked for.
    fn new(limits: &Limits, part: u64, now: Instant) -> Self {
        let asked = u128::from(limits.least_bytes_per_second);
        let least = asked.saturating_mul(limits.window.as_millis()) / 1_000;
        let least_bytes = u64::try_from(least).unwrap_or(u64::MAX) / part;
        Self { least_bytes, window: limits.window, began: now, slices: VecDeque::new(), bytes: 0 }
    }

    /// So many more have come: `Err` with those of the window if they are too few.
    fn came(&mut self, bytes: u64, now: Instant) -> Result<(), u64> {
        let slice = self.window / SLICES;
        match self.slices.back_mut() {
            Some((begin, of_slice)) if now.saturating_duration_since(*begin) < slice => {
                *of_slice += bytes
            }
            _ => self.slices.push_back((now, bytes)),
        }
        self.bytes = self.bytes.saturating_add(bytes);
        while let Some((begin, of_slice)) = self.slices.front()
            && now.saturating_duration_since(*begin) > self.window + slice
        {
            self.bytes = self.bytes.saturating_sub(*of_slice);
            self.slices.pop_front();
        }
        let is_early = now.saturating_duration_since(self.began) < self.window;
        if is_early || self.bytes >= self.least_bytes { Ok(()) } else { Err(self.bytes) }
    }

    /// So much time is not the registry's.
    fn skip(&mut self, time: Duration) {
        self.began += time;
        for (begin, _) in &mut self.slices {
            *begin += time;
        }
    }
}

/// The layers of one try that are being transferred.
#[derive(Debug)]
pub(crate) struct Traffic {
    limits: Limits,
    whole: Mutex<TransferState>,
}

#[derive(Debug)]
struct TransferState {
    under_way: usize,
    pace: Pace,
    /// Layers that wait for the disk, and since when there are any.
    standing: usize,
    stands_since: Instant,
}

/// One layer that is being transferred, while it is there.
#[derive(Debug)]
pub(crate) struct LayerPace {
    traffic: Arc<Traffic>,
    pace: Pace,
    /// It waits for the disk.
    stands_since: Option<Instant>,
}

impl Traffic {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Arc<Self> {
        let pace = Pace::new(limits, 1, now);
        let whole = TransferState { under_way: 0, pace, standing: 0, stands_since: now };
        Arc::new(Self { limits: limits.clone(), whole: Mutex::new(whole) })
    }

    /// A registry begins to send a layer.
    pub(crate) fn begins(self: &Arc<Self>, now: Instant) -> LayerPace {
        let mut whole = self.whole();
        // While none is transferred nothing can come.
        if whole.under_way == 0 {
            whole.pace = Pace::new(&self.limits, 1, now);
        }
        whole.under_way += 1;
        drop(whole);
        let pace = Pace::new(&self.limits, PARALLEL_LAYERS as u64, now);
        LayerPace { traffic: self.clone(), pace, stands_since: None }
    }

    /// Every change is whole: a poisoned lock guards good numbers.
    fn whole(&self) -> MutexGuard<'_, TransferState> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LayerPace {
    /// So many bytes more have come.
    ///
    /// # Errors
    /// [`RequestError::Slow`] if they are too few, of this layer or of all.
    pub(crate) fn came(&mut self, bytes: u64, now: Instant) -> Result<(), RequestError> {
        let whole = {
            let mut whole = self.traffic.whole();
            // While one waits for the disk, the time of all stands still: how long
            // is not known yet.
            let at = if whole.standing > 0 { whole.stands_since } else { now };
            whole.pace.came(bytes, at)
        };
        let slow = |bytes, least_bytes, is_whole| {
            let seconds = self.traffic.limits.window.as_secs();
            Err(RequestError::Slow { bytes, seconds, least_bytes, is_whole })
        };
        if let Err(bytes) = self.pace.came(bytes, now) {
            return slow(bytes, self.pace.least_bytes, false);
        }
        match whole {
            Ok(()) => Ok(()),
            Err(bytes) => slow(bytes, self.traffic.whole().pace.least_bytes, true),
        }
    }
}

impl LayerPace {
    /// What has come waits for the disk: the time until [`Self::goes_on`] is not held
    /// against the registry.
    pub(crate) fn stands(&mut self, now: Instant) {
        if self.stands_since.is_some() {
            return;
        }
        self.stands_since = Some(now);
        let mut whole = self.traffic.whole();
        if whole.standing == 0 {
            whole.stands_since = now;
        }
        whole.standing += 1;
    }

    /// The disk has taken it.
    pub(crate) fn goes_on(&mut self, now: Instant) {
        let Some(since) = self.stands_since.take() else { return };
        self.pace.skip(now.saturating_duration_since(since));
        let mut whole = self.traffic.whole();
        whole.standing -= 1;
        // There is one disk: a time in which several wait for it counts once.
        if whole.standing == 0 {
            let stood = now.saturating_duration_since(whole.stands_since);
            whole.pace.skip(stood);
        }
    }
}

impl Drop for LayerPace {
    fn drop(&mut self) {
        self.goes_on(Instant::now());
        self.traffic.whole().under_way -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        least_bytes_per_second: 100,
        window: Duration::from_secs(60),
        beside: Duration::MAX,
        share: Duration::MAX,
        layer: Duration::MAX,
        pull: Duration::MAX,
    };

    fn clock() -> impl Fn(u64) -> Instant {
        let begin = Instant::now();
        move |second| begin + Duration::from_secs(second)
    }

    #[test]
    fn a_byte_at_a_time_is_too_slow() {
        let at = clock();
        let mut layer = Traffic::new(&LIMITS, at(0)).begins(at(0));
        for second in (2..60).step_by(2) {
            assert_eq!(layer.came(1, at(second)), Ok(()), "the window is not over");
        }
        let slow = layer.came(1, at(60)).unwrap_err();
        assert_eq!(
            slow,
            RequestError::Slow { bytes: 30, seconds: 60, least_bytes: 1_500, is_whole: false }
        );
        assert_eq!(
            slow.to_string(),
            "it sent 30 bytes of this layer in 60 s, less than the 1500 that \
             registries.least-kb-per-second asks for"
        );
    }

    #[test]
    fn the_window_slides() {
        let at = clock();
        let mut layer = Traffic::new(&LIMITS, at(0)).begins(at(0));
        assert_eq!(layer.came(6_000, at(50)), Ok(()));
        assert_eq!(layer.came(1, at(100)), Ok(()), "what came in the last minute is enough");
        let slow = layer.came(1, at(112)).unwrap_err();
        assert!(matches!(slow, RequestError::Slow { bytes: 2, .. }), "{slow:?}");
        let kept = layer.pace.slices.len();
        for millisecond in 0..60_000 {
            let _ = layer.came(1_000, at(200) + Duration::from_millis(millisecond));
        }
        assert!(kept == 2 && layer.pace.slices.len() <= 62, "{} parts", layer.pace.slices.len());
    }

    #[test]
    fn layers_share_what_is_asked_for() {
        let at = clock();
        let traffic = Traffic::new(&LIMITS, at(0));
        let mut layers: Vec<LayerPace> = (0..4).map(|_| traffic.begins(at(0))).collect();
        // A quarter each is enough as long as all come.
        for second in 1..=90 {
            assert!(layers.iter_mut().all(|layer| layer.came(26, at(second)).is_ok()), "{second}");
        }
        let mut last = layers.pop().unwrap();
        drop(layers);
        let slow = (91..200).find_map(|second| last.came(26, at(second)).err()).unwrap();
        assert!(
            matches!(slow, RequestError::Slow { least_bytes: 6_000, is_whole: true, .. }),
            "{slow:?}"
        );
        drop(last);
        // Whoever begins after a time without any has the whole window.
        let mut next = traffic.begins(at(1_000));
        assert_eq!(next.came(1, at(1_059)), Ok(()));
    }

    #[test]
    fn what_the_disk_takes_is_not_held_against_the_registry() {
        let at = clock();
        let traffic = Traffic::new(&LIMITS, at(0));
        let (mut one, mut other) = (traffic.begins(at(0)), traffic.begins(at(0)));
        assert_eq!(one.came(3_000, at(50)), Ok(()));
        assert_eq!(other.came(3_000, at(50)), Ok(()));
        one.stands(at(50));
        other.stands(at(100));
        one.goes_on(at(500));
        assert_eq!(one.came(1, at(500)), Ok(()), "the other one still waits for the disk");
        other.goes_on(at(550));
        // Each stood for 450 seconds, and both together for 500.
        assert_eq!(one.came(1, at(551)), Ok(()));
        assert_eq!(other.came(1, at(551)), Ok(()));
        let slow = one.came(1, at(600)).unwrap_err();
        assert!(matches!(slow, RequestError::Slow { bytes: 2, is_whole: false, .. }), "{slow:?}");
    }

    #[test]
    fn a_layer_of_another_pull_is_waited_for_while_it_comes_well() {
        let at = clock();
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3_600));
        let limits = Limits { beside: minute, layer: 2 * hour, ..LIMITS };
        let watch = || ParallelLayer::new(0, at(0));
        // A megabyte a second, of 3 GB: an hour would be too long, and this is less.
        let mut honest = watch();
        for second in 0..3_000 {
            let is_too_slow =
                honest.is_too_slow(second * 1_000_000, 3_000_000_000, &limits, at(second));
            assert!(!is_too_slow, "{second}");
        }
        // Then nothing more comes.
        let stalls = (3_000..)
            .find(|second| honest.is_too_slow(2_999_000_000, 3_000_000_000, &limits, at(*second)));
        assert!((3_001..=3_120).contains(&stalls.unwrap()), "{stalls:?}");
        assert!(
            honest.is_too_slow(3_000_000_000, 3_000_000_000, &limits, at(3_130)),
            "it stays so"
        );
        // 25 bytes a second are asked of a layer; fewer than that, and what would take too long.
        assert!(!watch().is_too_slow(1_500, 2_000, &limits, at(60)));
        assert!(watch().is_too_slow(1_499, 2_000, &limits, at(60)));
        assert!(watch().is_too_slow(1_500, 200_000, &limits, at(60)));
        assert!(!watch().is_too_slow(0, 200_000, &limits, at(59)));
        let none_asked_for = Limits { least_bytes_per_second: 0, ..limits };
        assert!(watch().is_too_slow(0, 2_000, &none_asked_for, at(60)), "nothing comes at all");
    }

    #[test]
    fn whoever_asks_for_no_speed_waits() {
        let at = clock();
        let limits = Limits { least_bytes_per_second: 0, ..LIMITS };
        let mut layer = Traffic::new(&limits, at(0)).begins(at(0));
        assert_eq!(layer.came(0, at(10_000)), Ok(()));
    }
}
