//! Image pulls that are not over: how many are before one in the queue, and how far it is. For
//! `workflow why`; nothing is decided by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::run::WorkflowId;
use image_store::Progress;
use tokio_util::sync::CancellationToken;

/// What the image stages of one workflow are doing, for people, by the number of the stage.
pub(crate) type PullsOfWorkflow = BTreeMap<u32, String>;

/// All pulls that are not over. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulls(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    next: u64,
    /// In the order of their requests, which is the order in which they get their turn.
    pulls: BTreeMap<u64, Pull>,
}

#[derive(Debug)]
struct Pull {
    workflow: WorkflowId,
    stage: u32,
    reference: String,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// It waits for its turn.
    Queued,
    /// It waits for its registry, without a turn.
    Away,
    /// It has its turn; its manifest is asked for.
    Manifest,
    /// Bytes that are here of each layer that was begun, by the layer's label; and of all layers.
    Layers { here: BTreeMap<String, u64>, total: u64 },
    /// Bytes of the root file system that are made, and all; 0 while that is not known.
    Converting { made: u64, total: u64 },
}

impl Pulls {
    /// Puts a pull into the queue, for as long as what is returned lives. `cancelled` ends its work.
    pub(super) fn enqueue(
        &self,
        (workflow, stage): (WorkflowId, u32),
        reference: &str,
        cancelled: CancellationToken,
    ) -> PullUnderWay {
        let mut board = self.lock();
        let number = board.next;
        board.next += 1;
        let pull = Pull { workflow, stage, reference: reference.to_owned(), step: Step::Queued };
        board.pulls.insert(number, pull);
        PullUnderWay { pulls: self.clone(), number, cancelled }
    }

    /// What the image stages of a workflow are doing.
    pub(crate) fn of_workflow(&self, workflow: WorkflowId) -> PullsOfWorkflow {
        let board = self.lock();
        let of_it = board.pulls.iter().filter(|(_, pull)| pull.workflow == workflow);
        of_it.map(|(number, pull)| (pull.stage, board.words(*number, pull))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn words(&self, number: u64, pull: &Pull) -> String {
        let reference = &pull.reference;
        match &pull.step {
            Step::Queued => {
                let is_queued = |pull: &&Pull| matches!(pull.step, Step::Queued);
                let before = self.pulls.range(..number).map(|(_, pull)| pull).filter(is_queued).count();
                let has_turn = |pull: &&Pull| !matches!(pull.step, Step::Queued | Step::Away);
                let under_way = self.pulls.values().filter(has_turn).count();
                format!("{reference} is in the queue of pulls: {before} before it, {under_way} under way")
            }
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
        }
    }
}

/// A pull that is not over; it ends when this is dropped. As the progress of its work it takes down
/// how far that is.
#[derive(Debug)]
pub(super) struct PullUnderWay {
    pulls: Pulls,
    number: u64,
    cancelled: CancellationToken,
}

impl PullUnderWay {
    /// All its layers are here.
    pub(super) fn convert(&self) {
        self.change(|step| *step = Step::Converting { made: 0, total: 0 });
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
            Step::Queued | Step::Away | Step::Manifest | Step::Converting { .. } => {}
        });
    }

    fn cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

impl Drop for PullUnderWay {
    fn drop(&mut self) {
        self.pulls.lock().pulls.remove(&self.number);
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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn workflow(number: u128) -> WorkflowId {
        WorkflowId(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn a_pull_says_where_it_stands() {
        let pulls = Pulls::default();
        let enqueue = |number, stage| {
            pulls.enqueue((workflow(number), stage), "registry.example/x:1", CancellationToken::new())
        };
        let (first, second, third) = (enqueue(1, 0), enqueue(2, 0), enqueue(2, 3));
        let words = |number| pulls.of_workflow(workflow(number)).into_values().collect::<Vec<_>>();
        first.begins();
        assert_eq!(words(1), ["pulling registry.example/x:1: asking its registry"]);
        let queued = |before| {
            format!("registry.example/x:1 is in the queue of pulls: {before} before it, 1 under way")
        };
        assert_eq!(words(2), [queued(0), queued(1)]);
        first.pauses();
        assert_eq!(words(1), ["registry.example/x:1 waits for its registry"]);
        assert!(words(2)[0].ends_with("0 before it, 0 under way"), "it has no turn");
        first.begins();
        first.layers(120 * MIB);
        first.advance("layer aa", 10 * MIB, 50 * MIB);
        first.advance("layer bb", 5 * MIB, 70 * MIB);
        first.advance("layer aa", 35 * MIB, 50 * MIB);
        assert_eq!(words(1), ["pulling registry.example/x:1: 40 MiB of 120 MiB"]);
        first.convert();
        first.advance("layer aa", 7, 8);
        assert_eq!(words(1), ["converting registry.example/x:1 to squashfs"]);
        first.advance("squashfs", 11 * MIB, 300 * MIB);
        assert_eq!(words(1), ["converting registry.example/x:1 to squashfs: 11 MiB of 300 MiB"]);
        drop((first, second));
        assert_eq!(words(1), [""; 0]);
        assert_eq!(
            pulls.of_workflow(workflow(2)),
            BTreeMap::from([(
                3,
                "registry.example/x:1 is in the queue of pulls: 0 before it, 0 under way".to_owned()
            )])
        );
        drop(third);
        assert_eq!(pulls.lock().pulls.len(), 0);
    }

    #[test]
    fn sizes_have_few_digits() {
        let sizes = [0, 10_239, 10_240, 10 * MIB - 1, 10 * MIB, 120 * MIB, 10 << 30, u64::MAX].map(size);
        let words = ["0 B", "10239 B", "10 KiB", "10239 KiB", "10 MiB", "120 MiB", "10 GiB"];
        assert_eq!(sizes[..7], words);
        assert_eq!(sizes[7], "17179869183 GiB");
    }
}
