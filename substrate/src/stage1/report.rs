//! Telling the server how far the boot is. A report that does not arrive never holds up the boot.

use std::time::{Duration, Instant};

use api::enroll::{BootPhase, Report};
use tokio::sync::{mpsc, oneshot};

use crate::fleet_port::{FleetPort, FleetPortError};

const ROUTE: &str = "/node/v1/report";

/// Reports waiting to be sent. Progress beyond it is dropped: the next one says more.
const MAX_WAITING: usize = 8;

/// Time for a report that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A report of progress is sent when it is this much further, percent…
const STEP_PERCENT: u8 = 5;

/// …or after this much time.
const STEP_TIME: Duration = Duration::from_secs(2);

/// Why the server does not have a report. The boot goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The task that sends reports has ended: a defect of stage 1.
    #[error("the task that sends reports has ended")]
    NoTask,
    /// No server took it.
    #[error("no server took the report")]
    FleetPort(#[from] FleetPortError),
    /// It was not answered in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

/// Sends reports in their order from a task of its own.
#[derive(Debug, Clone)]
pub struct Reporter {
    queue: mpsc::Sender<Order>,
}

struct Order {
    report: Report,
    done: Option<oneshot::Sender<Result<(), FleetPortError>>>,
}

impl Reporter {
    /// Reports through `fleet`, which has the node's certificate.
    #[must_use]
    pub fn new(fleet: FleetPort) -> Self {
        let (queue, mut orders) = mpsc::channel::<Order>(MAX_WAITING);
        tokio::spawn(async move {
            while let Some(order) = orders.recv().await {
                let result = fleet.tell(ROUTE, &order.report).await;
                if let Some(done) = order.done {
                    // Whoever asked may have lost patience.
                    let _ = done.send(result);
                }
            }
        });
        Self { queue }
    }

    /// Reports progress, if there is room.
    pub fn progress(&self, report: Report) {
        // A full queue means a slow server; it will hear of later progress.
        let _ = self.queue.try_send(Order { report, done: None });
    }

    /// Reports and waits until the server has it, at most for [`PATIENCE`].
    ///
    /// # Errors
    /// [`ReportError`].
    pub async fn deliver(&self, phase: BootPhase, message: &str) -> Result<(), ReportError> {
        let report = Report { phase, percent: None, message: message.to_owned() };
        let (done, answer) = oneshot::channel();
        let delivery = async {
            let order = Order { report, done: Some(done) };
            self.queue.send(order).await.map_err(|_| ReportError::NoTask)?;
            answer.await.map_err(|_| ReportError::NoTask)?.map_err(ReportError::from)
        };
        tokio::time::timeout(PATIENCE, delivery).await.unwrap_or(Err(ReportError::Timeout))
    }
}

/// Decides which progress is worth telling: pure.
#[derive(Debug, Default)]
pub struct Throttle {
    last: Option<(u8, Instant)>,
}

impl Throttle {
    /// `true` if `percent` at `now` should be told.
    pub fn admits(&mut self, percent: u8, now: Instant) -> bool {
        let admitted = match self.last {
            None => true,
            Some((told, at)) => {
                percent >= told.saturating_add(STEP_PERCENT)
                    || (percent != told && now.duration_since(at) >= STEP_TIME)
                    || (percent == 100 && told < 100)
            }
        };
        if admitted {
            self.last = Some((percent, now));
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_by_steps_of_percent_or_time() {
        let start = crate::clock::monotonic();
        let at = |ms| start + Duration::from_millis(ms);
        let mut throttle = Throttle::default();
        let told: Vec<_> = [
            (0, 0),
            (1, 10),
            (4, 20),
            (5, 30),
            (6, 1000),
            (6, 2031),
            (6, 9000),
            (7, 9001),
            (99, 9002),
            (100, 9003),
            (100, 9999),
        ]
        .into_iter()
        .filter(|(percent, ms)| throttle.admits(*percent, at(*ms)))
        .collect();
        assert_eq!(told, [(0, 0), (5, 30), (6, 2031), (7, 9001), (99, 9002), (100, 9003)]);
    }
}
