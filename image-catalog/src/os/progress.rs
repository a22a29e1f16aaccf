//! The bars of a running import, and what it waits for.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use api::image::{Bar, Operation, OperationState};
use image_store::Progress;
use oci_pull::{Wait, Waits};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Bars of one import: its layers and a few more.
const MAX_BARS: usize = 600;

/// Passes progress on to whoever follows the operation.
#[derive(Debug)]
pub(super) struct Bars {
    operation: watch::Sender<Operation>,
    cancelled: CancellationToken,
    dropped: AtomicBool,
    bars: Mutex<Vec<Bar>>,
}

impl Bars {
    pub(super) fn new(operation: watch::Sender<Operation>, cancelled: CancellationToken) -> Self {
        Self { operation, cancelled, dropped: AtomicBool::new(false), bars: Mutex::new(Vec::new()) }
    }

    /// No bar moves after the end of the operation.
    pub(super) fn finish(&self) {
        self.dropped.store(true, Ordering::Release);
    }
}

impl Progress for Bars {
    fn advance(&self, label: &str, done: u64, total: u64) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        match bars.iter().position(|bar| bar.label == label) {
            Some(index) => (bars[index].done, bars[index].total) = (done, total),
            None if bars.len() < MAX_BARS => {
                bars.push(Bar { label: label.to_owned(), done, total })
            }
            None => return,
        }
        if !self.dropped.load(Ordering::Acquire) {
            self.operation.send_modify(|operation| {
                if let OperationState::Running { bars: shown, .. } = &mut operation.state {
                    shown.clone_from(&bars);
                }
            });
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

impl Bars {
    /// Shows what the import waits for, for people; `None`: for nothing.
    pub(super) fn waits_for(&self, what: Option<String>) {
        if self.dropped.load(Ordering::Acquire) {
            return;
        }
        self.operation.send_modify(|operation| {
            if let OperationState::Running { waiting, .. } = &mut operation.state {
                *waiting = what;
            }
        });
    }
}

impl Waits for Bars {
    fn waits(&self, wait: Option<&Wait>) {
        self.waits_for(wait.map(ToString::to_string));
    }
}
