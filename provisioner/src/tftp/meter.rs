//! What TFTP tells of itself: its transfers.

use boot_proto::tftp::Outcome;
use metrics::{Counter, Counters, Entered, Exposition, Gauge};

/// Instruments of one server.
#[derive(Debug)]
pub struct Meter {
    running: Gauge,
    ended: Counters<7>,
    /// Bytes that clients acknowledged.
    acknowledged: Counter,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            running: Gauge::default(),
            ended: Counters::new([
                "complete",
                "aborted",
                "lost",
                "refused",
                "too-many",
                "failed",
                "displaced",
            ]),
            acknowledged: Counter::default(),
        }
    }
}

impl Meter {
    /// A transfer runs for as long as what is returned lives.
    pub(super) fn enter(&self) -> Entered {
        self.running.enter()
    }

    /// A transfer is over: `None` if it could not go on.
    pub(super) fn ended(&self, outcome: Option<&Outcome>, acknowledged_bytes: u64) {
        self.ended.inc(match outcome {
            Some(Outcome::Complete) => "complete",
            Some(Outcome::Aborted { .. }) => "aborted",
            Some(Outcome::Lost) => "lost",
            None => "failed",
        });
        self.acknowledged.add(acknowledged_bytes);
    }

    /// A transfer was idle and made room for another one.
    pub(super) fn displaced(&self, acknowledged_bytes: u64) {
        self.ended.inc("displaced");
        self.acknowledged.add(acknowledged_bytes);
    }

    /// A request was answered with an error.
    pub(super) fn refused(&self) {
        self.ended.inc("refused");
    }

    /// A request was dropped, because too many transfers run and none of them is idle.
    pub(super) fn too_many(&self) {
        self.ended.inc("too-many");
    }

    /// Writes what is told of transfers.
    pub fn expose(&self, out: &mut Exposition) {
        out.gauge("bedplate_tftp_transfers_running", "TFTP transfers that run now.")
            .level(&self.running);
        let help = "Requests of TFTP by what became of them; aborted ones are firmware that asks for a size.";
        out.counter("bedplate_tftp_transfers", help).counts("outcome", &self.ended);
        let help = "Bytes that clients of TFTP have acknowledged.";
        out.counter("bedplate_tftp_sent_bytes", help).count(&self.acknowledged);
    }
}
