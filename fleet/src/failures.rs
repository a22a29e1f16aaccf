//! How often one source may fail to enrol: [`Failures`] with the limit of the fleet port.

use std::net::IpAddr;

use api::ids::Timestamp;
use rest::{FailureLimit, Failures};

/// Failures of one source in one window. A node that is set up wrongly tries a few times a minute.
pub(crate) const MAX_FAILURES: u32 = 20;

/// Length of the window, seconds.
pub(crate) const WINDOW_SECONDS: i64 = 60;

/// Failed enrolments by source.
#[derive(Debug)]
pub(crate) struct EnrolmentFailures(Failures);

impl Default for EnrolmentFailures {
    fn default() -> Self {
        Self(Failures::new(FailureLimit { failures: MAX_FAILURES, window_seconds: WINDOW_SECONDS }))
    }
}

impl EnrolmentFailures {
    /// May this source try?
    pub(crate) fn may_try(&self, source: IpAddr, now: Timestamp) -> bool {
        self.0.may_try(source, now)
    }

    /// It failed.
    pub(crate) fn failed(&mut self, source: IpAddr, now: Timestamp) {
        self.0.failed(source, now);
    }
}
