//! Image pulls that are not over: who wants them, in whose turn they are carried out, and how far
//! they are, for people.
//!
//! Everybody who wants an image begins a pull of their own, which asks its registry what the
//! reference stands for today. Once that is known, a pull of what another one brings already
//! *joins* it: that one then brings the image to both. It must be from the same repository, so that
//! nobody depends on a registry that somebody else has named, and of the same reference or by
//! digest, so that another try can bring nothing else.
//!
//! A pull counts for whoever asked first of those who want it. It ends when nobody does.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::ids::Digest;
use image_store::Progress;
use oci_pull::{Claim, Turns, Wait, Waits};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{FetchError, FetchedImage, JobImages};

/// Images that are pulled at once. Those whose registry is waited for do not count.
pub(super) const MAX_PULLS: usize = 8;

/// Whom an image is fetched for: one part of a group whose parts leave together. What the numbers
/// stand for (the stages of a workflow) is their chooser's business.
#[derive(Debug, Clone)]
pub struct Requester {
    /// The group.
    pub group: Uuid,
    /// Which of its parts. Each wants one image.
    pub part: u32,
    /// The user, whose turn it takes.
    pub user: Arc<str>,
    /// Is told while the registry is waited for.
    pub waits: Arc<dyn Waits>,
}

/// What came of a fetch.
#[derive(Debug)]
pub struct Delivery {
    /// The image, or why there is none.
    pub fetched: Result<FetchedImage, Arc<FetchError>>,
    /// Holds the image until its user names it ([`super::JobImageUsers::in_use`]).
    pub lease: JobImages,
}

/// All pulls that are not over. Clones share them.
#[derive(Debug, Clone)]
pub struct Pulls {
    board: Arc<Mutex<Board>>,
    transfers: Turns,
    conversions: Turns,
}

/// Group and number of who wants an image.
type Part = (Uuid, u32);

#[derive(Debug, Default)]
struct Board {
    /// Numbers pulls, and those who want them, in the order in which they asked.
    next: u64,
    pulls: BTreeMap<u64, Pull>,
    /// Pull and number of each part that wants one.
    parts: BTreeMap<Part, (u64, u64)>,
    /// Pulls that others may join, by repository and manifest.
    joinable: HashMap<(String, Digest), u64>,
}

#[derive(Debug)]
struct Pull {
    reference: String,
    /// What it brings, once that is known.
    manifest: Option<Digest>,
    /// Those who want it, in the order in which they asked.
    wanted: BTreeMap<u64, ImageWait>,
    step: Step,
    transfer: Claim,
    conversion: Claim,
    cancelled: CancellationToken,
    /// Another one brings it now.
    has_joined: bool,
}

#[derive(Debug)]
struct ImageWait {
    requester: Requester,
    /// As it was asked for.
    reference: String,
    tell: oneshot::Sender<Delivery>,
}

#[derive(Debug)]
enum Step {
    /// It is looked for here.
    Lookup,
    /// It waits for its registry, without a place.
    Away,
    /// It has its place; its manifest is asked for.
    Manifest,
    /// Bytes that are here of each layer that was begun, by the layer's label; and of all layers.
    Layers { here: BTreeMap<String, u64>, total: u64 },
    /// Bytes of the root file system that are made, and all; 0 while that is not known.
    Converting { made: u64, total: u64 },
}

fn of_group(group: Uuid) -> RangeInclusive<Part> {
    (group, 0)..=(group, u32::MAX)
}

impl Pulls {
    /// With places for so many transfers.
    pub(super) fn new(transfers: usize, conversions: Turns) -> Self {
        Self { board: Arc::default(), transfers: Turns::new(transfers), conversions }
    }

    /// A pull, for as long as what is returned lives. `cancelled` is cancelled when nobody wants it
    /// any more. What came of it is received, or nothing by whoever has left.
    pub(super) fn enqueue(
        &self,
        reference: &str,
        requester: Requester,
        cancelled: CancellationToken,
    ) -> (PullUnderWay, oneshot::Receiver<Delivery>) {
        let (tell, told) = oneshot::channel();
        let transfer = self.transfers.claim(&requester.user);
        let conversion = self.conversions.claim(&requester.user);
        let mut board = self.lock();
        let number = board.next;
        board.next += 1;
        board.parts.insert((requester.group, requester.part), (number, number));
        let wanted = ImageWait { requester, reference: reference.to_owned(), tell };
        let pull = Pull {
            reference: reference.to_owned(),
            manifest: None,
            wanted: BTreeMap::from([(number, wanted)]),
            step: Step::Lookup,
            transfer: transfer.clone(),
            conversion: conversion.clone(),
            cancelled: cancelled.clone(),
            has_joined: false,
        };
        board.pulls.insert(number, pull);
        drop(board);
        let (pulls, found) = (self.clone(), watch::channel(None).0);
        (PullUnderWay { pulls, number, transfer, conversion, cancelled, found }, told)
    }

    /// A group wants no image any more. Pulls that nobody else wants are cancelled.
    pub fn leave(&self, group: Uuid) {
        let mut board = self.lock();
        let parts: Vec<Part> = board.parts.range(of_group(group)).map(|(part, _)| *part).collect();
        for part in parts {
            let Some((pull, number)) = board.parts.remove(&part) else { continue };
            if let Some(pull) = board.pulls.get_mut(&pull) {
                pull.wanted.remove(&number);
                pull.counts_for_the_first();
            }
        }
    }

    /// What the parts of a group wait for, for people.
    #[must_use]
    pub fn of_group(&self, group: Uuid) -> BTreeMap<u32, String> {
        let board = self.lock();
        let words = board.parts.range(of_group(group)).filter_map(|((_, part), (pull, number))| {
            Some((*part, board.pulls.get(pull)?.words(*number)?))
        });
        words.collect()
    }

    /// How many wait for their turn. Imports, which are converted in turn with them,
    /// are not counted.
    pub(super) fn queued(&self) -> usize {
        let is_queued = |pull: &&Pull| {
            pull.transfer.standing().or_else(|| pull.conversion.standing()).is_some()
        };
        self.lock().pulls.values().filter(is_queued).count()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    /// A pull knows what it brings: it joins one that brings the same, or others may join it.
    fn found(&mut self, number: u64, manifest: Digest) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let repository = repository(&pull.reference).to_owned();
        let before = pull.manifest.replace(manifest).filter(|before| *before != manifest);
        if let Some(before) = before {
            self.forget_joinable(number, repository.clone(), before);
        }
        let Some(Pull { reference, .. }) = self.pulls.get(&number) else { return };
        let (is_fixed, key) = (is_by_digest(reference), (repository, manifest));
        let other = self.joinable.get(&key).filter(|other| **other != number);
        let other = other.and_then(|other| Some((*other, self.pulls.get(other)?)));
        match other.filter(|(_, pull)| !pull.wanted.is_empty()) {
            Some((other, pull))
                if pull.reference == *reference || is_by_digest(&pull.reference) =>
            {
                self.join(number, other);
            }
            Some(_) if !is_fixed => {}
            _ => {
                self.joinable.insert(key, number);
            }
        }
    }

    /// All who want the one get it from the other.
    fn join(&mut self, number: u64, other: u64) {
        let Some(pull) = self.pulls.get_mut(&number) else { return };
        let wanted = std::mem::take(&mut pull.wanted);
        pull.has_joined = true;
        pull.cancelled.cancel();
        let Some(other_pull) = self.pulls.get_mut(&other) else { return };
        for (number, wanted) in wanted {
            self.parts.insert((wanted.requester.group, wanted.requester.part), (other, number));
            other_pull.wanted.insert(number, wanted);
        }
        other_pull.counts_for_the_first();
    }

    /// The pull is over.
    fn remove(&mut self, number: u64) {
        let Some(pull) = self.pulls.remove(&number) else { return };
        if let Some(manifest) = pull.manifest {
            self.forget_joinable(number, repository(&pull.reference).to_owned(), manifest);
        }
        self.forget_parts(&pull.wanted);
    }

    fn forget_joinable(&mut self, number: u64, repository: String, manifest: Digest) {
        let key = (repository, manifest);
        if self.joinable.get(&key) == Some(&number) {
            self.joinable.remove(&key);
        }
    }

    fn forget_parts(&mut self, wanted: &BTreeMap<u64, ImageWait>) {
        for ImageWait { requester, .. } in wanted.values() {
            self.parts.remove(&(requester.group, requester.part));
        }
    }
}

impl Pull {
    fn counts_for_the_first(&self) {
        match self.wanted.values().next() {
            Some(first) => {
                self.transfer.give_to(&first.requester.user);
                self.conversion.give_to(&first.requester.user);
            }
            None => self.cancelled.cancel(),
        }
    }

    /// What it is doing, for one of those who want it.
    fn words(&self, number: u64) -> Option<String> {
        let ImageWait { requester, reference, .. } = self.wanted.get(&number)?;
        // Who else wants it is nobody's business.
        let first = self.wanted.values().next()?;
        let whose = if first.requester.user == requester.user {
            "this user"
        } else {
            "the user who asked first"
        };
        if let Some(standing) = self.transfer.standing() {
            return Some(format!("{reference} is in the queue of pulls: {}", standing.told(whose)));
        }
        if let Some(standing) = self.conversion.standing() {
            let told = standing.told(whose);
            return Some(format!("{reference} is here, and in the queue of conversions: {told}"));
        }
        Some(match &self.step {
            Step::Lookup => format!("{reference} is looked for on the server"),
            Step::Away => format!("{reference} waits for its registry"),
            Step::Manifest => format!("pulling {reference}: asking its registry"),
            Step::Layers { here, total } => {
                let here = here.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
                format!("pulling {reference}: {} of {}", size(here.min(*total)), size(*total))
            }
            Step::Converting { made: 0, total: 0 } => format!("converting {reference} to squashfs"),
            Step::Converting { made, total } => {
                format!("converting {reference} to squashfs: {} of {}", size(*made), size(*total))
            }
        })
    }
}

/// `HOST[:PORT]/REPOSITORY` of a reference.
fn repository(reference: &str) -> &str {
    let named = reference.split_once('@').map_or(reference, |(named, _)| named);
    let begin = named.rfind('/').map_or(0, |slash| slash + 1);
    match named[begin..].find(':') {
        Some(colon) => &named[..begin + colon],
        None => named,
    }
}

/// Whether a reference stands for the same bytes whenever it is asked for.
fn is_by_digest(reference: &str) -> bool {
    reference.contains('@')
}

/// A pull that is not over; it is when this is dropped. As the progress of its work it takes down
/// how far that is.
#[derive(Debug)]
pub(super) struct PullUnderWay {
    pulls: Pulls,
    number: u64,
    transfer: Claim,
    conversion: Claim,
    cancelled: CancellationToken,
    /// What it brings, once that is known.
    found: watch::Sender<Option<Digest>>,
}

impl PullUnderWay {
    /// The manifest of what it brings, once that is known.
    pub(super) async fn manifest(&self) -> Digest {
        let mut found = self.found.subscribe();
        loop {
            let manifest = *found.borrow_and_update();
            if let Some(manifest) = manifest {
                return manifest;
            }
            // The sender is here as long as this is.
            let _ = found.changed().await;
        }
    }

    /// For a place among the pulls.
    pub(super) fn transfer(&self) -> &Claim {
        &self.transfer
    }

    /// For a place among the conversions.
    pub(super) fn conversion(&self) -> &Claim {
        &self.conversion
    }

    /// Ends when nobody wants it any more.
    pub(super) async fn unwanted(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether another one brings it now.
    pub(super) fn has_joined(&self) -> bool {
        self.pulls.lock().pulls.get(&self.number).is_some_and(|pull| pull.has_joined)
    }

    /// All its layers are here.
    pub(super) fn convert(&self) {
        self.change(|step| *step = Step::Converting { made: 0, total: 0 });
    }

    /// Tells all who want it what came of it; `false` if nobody does.
    pub(super) fn deliver(
        &self,
        fetched: &Result<FetchedImage, Arc<FetchError>>,
        lease: &JobImages,
    ) -> bool {
        let wanted = {
            let mut board = self.pulls.lock();
            let wanted =
                board.pulls.get_mut(&self.number).map(|pull| std::mem::take(&mut pull.wanted));
            let wanted = wanted.unwrap_or_default();
            board.forget_parts(&wanted);
            wanted
        };
        let is_wanted = !wanted.is_empty();
        for ImageWait { tell, .. } in wanted.into_values() {
            let delivery = Delivery { fetched: fetched.clone(), lease: lease.clone() };
            // Whoever is gone with the server gets it at its next start.
            let _ = tell.send(delivery);
        }
        is_wanted
    }

    fn change(&self, change: impl FnOnce(&mut Step)) {
        if let Some(pull) = self.pulls.lock().pulls.get_mut(&self.number) {
            change(&mut pull.step);
        }
    }
}

impl Progress for PullUnderWay {
    fn begins(&self) {
        self.change(|step| *step = Step::Manifest);
    }

    fn pauses(&self) {
        self.change(|step| *step = Step::Away);
    }

    fn found(&self, manifest: &Digest) {
        self.pulls.lock().found(self.number, *manifest);
        self.found.send_replace(Some(*manifest));
    }

    fn layers(&self, total: u64) {
        self.change(|step| *step = Step::Layers { here: BTreeMap::new(), total });
    }

    fn advance(&self, label: &str, done: u64, of: u64) {
        self.change(|step| match step {
            Step::Layers { here, .. } => match here.get_mut(label) {
                Some(here) => *here = done,
                None => {
                    here.insert(label.to_owned(), done);
                }
            },
            // Before it the layers are gone through, which takes less long.
            Step::Converting { made, total } if label == "squashfs" => (*made, *total) = (done, of),
            Step::Lookup | Step::Away | Step::Manifest | Step::Converting { .. } => {}
        });
    }

    fn cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

impl Waits for PullUnderWay {
    fn waits(&self, wait: Option<&Wait>) {
        let waits: Vec<Arc<dyn Waits>> = {
            let board = self.pulls.lock();
            let wanted = board.pulls.get(&self.number).map(|pull| pull.wanted.values());
            wanted.into_iter().flatten().map(|wanted| wanted.requester.waits.clone()).collect()
        };
        for told in waits {
            told.waits(wait);
        }
    }
}

impl Drop for PullUnderWay {
    fn drop(&mut self) {
        self.pulls.lock().remove(self.number);
    }
}

/// Bytes in the unit that leaves one to four digits: `40 MiB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x2800 => format!("{bytes} B"),
        0x2800..0xa0_0000 => format!("{} KiB", bytes >> 10),
        0xa0_0000..0x2_8000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

#[cfg(test)]
mod tests;
