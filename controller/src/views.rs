//! What readers read: the view of all workflows that was published last. The conductor publishes
//! one after each commit, before it answers who asked for the change; nobody who
//! reads waits for it.
//!
//! Whoever reads the store too takes the view first. What is not in it any more was on disk before
//! it was published, so the store has it; what the store has beside it is at most newer.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::engine::View;

/// How long a reader waits for the view of what is on disk already: it is published right after
/// the commit, so this is long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where views are published; the conductor has the only one.
#[derive(Debug)]
pub(crate) struct Publisher(watch::Sender<Arc<View>>);

impl Publisher {
    pub(crate) fn new(first: View) -> Self {
        Self(watch::Sender::new(Arc::new(first)))
    }

    pub(crate) fn readers(&self) -> Views {
        Views(self.0.subscribe())
    }

    /// From now on this is what is read. The one before lives as long as somebody reads it.
    pub(crate) fn publish(&self, view: View) {
        // Dropped outside of the lock that readers take for an instant.
        let before = self.0.send_replace(Arc::new(view));
        drop(before);
    }
}

/// Where views are read. Clones read the same.
#[derive(Debug, Clone)]
pub(crate) struct Views(watch::Receiver<Arc<View>>);

impl Views {
    /// The view that was published last. Of two calls the later one never has an older one.
    pub(crate) fn latest(&self) -> Arc<View> {
        self.0.borrow().clone()
    }

    /// The first view in which something is found, if there is one soon; `None`: there is not, or
    /// the server is stopping.
    pub(crate) async fn find_soon<T>(&self, find: impl Fn(&View) -> Option<T>) -> Option<T> {
        let mut views = self.0.clone();
        let found = async {
            loop {
                let view = views.borrow_and_update().clone();
                if let Some(found) = find(&view) {
                    return Some(found);
                }
                views.changed().await.ok()?;
            }
        };
        timeout(PATIENCE, found).await.ok()?
    }
}

#[cfg(test)]
mod tests;
