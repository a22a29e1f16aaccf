//! The dates of the certificate authority against the server's clock: pure.
//!
//! Nodes pin the authority by its fingerprint and take its dates for nothing (nor does webpki of
//! any root), so that its end strands nobody at once. A server whose clock is before the authority
//! was made is in the wrong time, and would put every node that boots into it.

use api::ids::Timestamp;
use x509_parser::certificate::X509Certificate;

/// The end is told this long before, seconds: 90 days.
const NOTICE_SECONDS: i64 = 90 * 86_400;

/// When the authority's certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dates {
    begins: Timestamp,
    ends: Timestamp,
}

/// What is wrong with the server's clock or the authority's dates. The words stay the same for as
/// long as it lasts, so that they are told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DateProblem {
    /// The clock is before the authority was made.
    #[error(
        "the server's clock is before {begins}, when its certificate authority was made: the clock is \
         wrong; set it (`timedatectl`), and nodes boot again"
    )]
    ClockBehind {
        /// When the authority begins.
        begins: Timestamp,
    },
    /// The authority has ended.
    #[error(
        "the server's certificate authority has expired on {ends}: if the server's clock is right, \
         stop the server, move `ca/` out of the state directory, start it, and boot every node again"
    )]
    Expired {
        /// When it ended.
        ends: Timestamp,
    },
    /// The authority ends soon.
    #[error(
        "the server's certificate authority expires on {ends}: choose a day before to move `ca/` out \
         of the state directory, restart the server, and boot every node again"
    )]
    EndsSoon {
        /// When it ends.
        ends: Timestamp,
    },
}

impl DateProblem {
    /// Whether a node that boots now would be put into the wrong time.
    #[must_use]
    pub fn is_wrong_time(&self) -> bool {
        matches!(self, Self::ClockBehind { .. })
    }
}

impl Dates {
    pub(super) fn begins(&self) -> Timestamp {
        self.begins
    }

    /// The end of its last second.
    pub(super) fn ends(&self) -> Timestamp {
        self.ends
    }

    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let moment = |seconds| Timestamp(0).plus_seconds(seconds);
        let validity = certificate.validity();
        Self {
            begins: moment(validity.not_before.timestamp()),
            ends: moment(validity.not_after.timestamp()),
        }
    }

    pub(crate) fn problem(&self, now: Timestamp) -> Option<DateProblem> {
        let Self { begins, ends } = *self;
        if now < begins {
            Some(DateProblem::ClockBehind { begins })
        } else if now > ends {
            Some(DateProblem::Expired { ends })
        } else if now > ends.plus_seconds(-NOTICE_SECONDS) {
            Some(DateProblem::EndsSoon { ends })
        } else {
            None
        }
    }
}
