//! Logs and files of workflows that were swept away, removed beside the conductor: a disk that
//! takes minutes for a million files must not hold up those whose jobs run.

use tokio::task::JoinHandle;

/// At most one removal at a time.
#[derive(Debug, Default)]
pub(crate) struct Removals(Option<JoinHandle<()>>);

impl Removals {
    /// Is what was swept away last still being removed? Then no more is swept away.
    pub(super) async fn is_busy(&mut self) -> bool {
        let Some(task) = &mut self.0 else { return false };
        if !task.is_finished() {
            return true;
        }
        if let Err(error) = task.await {
            tracing::error!("logs and files of forgotten workflows were not all removed: {error}");
        }
        self.0 = None;
        false
    }

    /// Begins one; call it only where none is under way.
    pub(super) fn begin(&mut self, removal: impl Future<Output = ()> + Send + 'static) {
        self.0 = Some(tokio::spawn(removal));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    async fn ends(removals: &mut Removals) {
        let ended = async {
            while removals.is_busy().await {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), ended).await.unwrap();
    }

    #[tokio::test]
    async fn one_removal_at_a_time_and_none_is_waited_for() {
        let mut removals = Removals::default();
        assert!(!removals.is_busy().await);
        let (go_on, may_end) = oneshot::channel::<()>();
        removals.begin(async move { may_end.await.unwrap() });
        tokio::task::yield_now().await;
        assert!(removals.is_busy().await, "and the answer came at once");
        go_on.send(()).unwrap();
        ends(&mut removals).await;
        // One that ended badly keeps no other from being begun.
        removals.begin(async { panic!("of a test") });
        ends(&mut removals).await;
    }
}
