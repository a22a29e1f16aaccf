//! That the agent must stop: told to all of its tasks over one `watch` channel.

use tokio::sync::watch;

/// Why the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// The machine goes down: `true` for a reboot. `None` if only the agent ends.
    pub going_down: Option<bool>,
    /// Another agent goes on in this process.
    pub successor: bool,
}

/// Waits until the agent must stop; for ever if nobody can tell any more.
pub async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    if let Ok(stop) = stop.wait_for(Option::is_some).await
        && let Some(stop) = *stop
    {
        return stop;
    }
    std::future::pending().await
}
