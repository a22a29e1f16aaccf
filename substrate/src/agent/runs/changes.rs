//! Hears of files that appear in the directories of runs (`inotify(7)`), so that the start and
//! the end of a container are told at once. What counts is in the files: who hears nothing
//! looks now and then.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::sync::Notify;

/// Every directory that somebody watches.
#[derive(Debug, Default)]
pub(in crate::agent) struct Changes {
    heard: OnceLock<Option<Arc<WatchState>>>,
}

#[derive(Debug)]
struct WatchState {
    source: Inotify,
    /// Who waits for changes in which directory.
    waiting: Mutex<HashMap<WatchDescriptor, Arc<Notify>>>,
}

/// One directory that is watched, until this is dropped.
#[derive(Debug)]
pub(in crate::agent) struct Watched {
    heard: Arc<WatchState>,
    descriptor: WatchDescriptor,
    notify: Arc<Notify>,
}

impl Changes {
    /// Watches a directory; `None` if the kernel gives no watch.
    pub(in crate::agent) fn watch(&self, directory: &Path) -> Option<Watched> {
        let heard = self.heard.get_or_init(WatchState::start).clone()?;
        let notify = Arc::new(Notify::new());
        // Held over both steps, so that the first event finds who waits for it.
        let mut waiting = heard.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let added = heard.source.add_watch(directory, AddWatchFlags::IN_MOVED_TO);
        let descriptor = added
            .inspect_err(
                |error| tracing::warn!(%error, directory = %directory.display(), "not watched"),
            )
            .ok()?;
        waiting.insert(descriptor, notify.clone());
        drop(waiting);
        Some(Watched { heard, descriptor, notify })
    }
}

impl WatchState {
    fn start() -> Option<Arc<Self>> {
        let start = || -> std::io::Result<Arc<Self>> {
            let source = Inotify::init(InitFlags::IN_CLOEXEC)?;
            let heard = Arc::new(Self { source, waiting: Mutex::default() });
            let hearing = heard.clone();
            std::thread::Builder::new()
                .name("run-folders".to_owned())
                .spawn(move || hearing.watch_forever())?;
            Ok(heard)
        };
        start()
            .inspect_err(|error| tracing::warn!(%error, "directories of runs are not watched"))
            .ok()
    }

    /// In a thread of its own, as long as the agent lives.
    fn watch_forever(&self) {
        loop {
            match self.source.read_events() {
                Ok(events) => {
                    let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    for event in events {
                        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                            waiting.values().for_each(|notify| notify.notify_one());
                        } else if let Some(notify) = waiting.get(&event.wd) {
                            notify.notify_one();
                        }
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "directories of runs are not watched any more");
                    return;
                }
            }
        }
    }
}

impl Watched {
    /// Waits until a file has appeared since the last call.
    pub(in crate::agent) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.heard.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.descriptor);
        // The kernel has done so already if the directory is gone.
        let _ = self.heard.source.rm_watch(self.descriptor);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run_directory::END;

    #[tokio::test]
    async fn a_file_that_appears_is_heard_of_where_it_appears() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let changes = Changes::default();
        let first = changes.watch(directories[0].path()).unwrap();
        let second = changes.watch(directories[1].path()).unwrap();
        for _ in 0..3 {
            std::fs::write(directories[0].path().join("draft"), "x").unwrap();
            std::fs::rename(
                directories[0].path().join("draft"),
                directories[0].path().join(END.name()),
            )
            .unwrap();
            tokio::time::timeout(Duration::from_secs(10), first.changed()).await.unwrap();
        }
        let nothing = tokio::time::timeout(Duration::from_millis(50), second.changed()).await;
        assert!(nothing.is_err(), "nothing appeared there");
        drop(first);
        assert_eq!(second.heard.waiting.lock().unwrap().len(), 1);
        assert!(changes.watch(Path::new("/no/such/folder")).is_none());
    }
}
