//! How much memory processes take: anonymous pages, which the kernel cannot drop. Pages of files
//! count on neither side.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two looks. A peak that is shorter may be missed; an import has its peaks for longer.
const INTERVAL: Duration = Duration::from_millis(50);

/// Watches a process and its descendants until it is asked.
#[derive(Debug)]
pub(crate) struct Peak {
    kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    /// Begins to watch.
    pub(crate) fn watch(process: u32) -> Self {
        let (kib, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over) = (Arc::clone(&kib), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                seen.fetch_max(anonymous_kib(process), Ordering::Relaxed);
                thread::sleep(INTERVAL);
            }
        });
        Self { kib, stop, thread: Some(thread) }
    }

    /// The most that was seen, MiB.
    #[expect(clippy::cast_precision_loss, reason = "KiB of a machine fit")]
    pub(crate) fn mib(mut self) -> f64 {
        self.end();
        self.kib.load(Ordering::Relaxed) as f64 / 1024.0
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does nothing that can panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.end();
    }
}

/// Of a process and its descendants, now.
pub(crate) fn anonymous_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let own = field_kib(&status, "RssAnon:");
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|text| text.split_whitespace().map(str::parse).collect::<Vec<_>>())
        .flatten()
        .collect();
    own + children.into_iter().map(anonymous_kib).sum::<u64>()
}

/// A field of `/proc/PID/status`, KiB; 0 if it is not there.
fn field_kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmRSS:\t  900 kB\nRssAnon:\t     123 kB\nRssFile:\t 7 kB\n";
        assert_eq!(field_kib(status, "RssAnon:"), 123);
        assert_eq!(field_kib(status, "VmHWM:"), 0);
        assert!(anonymous_kib(std::process::id()) > 0);
    }
}
