//! A machine that says that it goes down.

use api::{ids::Timestamp, status::Phase};

use super::{Effect, NodeLifecycle, info};

impl NodeLifecycle {
    pub(super) fn going_down(&mut self, reboot: bool, now: Timestamp) -> Vec<Effect> {
        if reboot {
            self.enter(Phase::Rebooting, now);
            return vec![info("reboots")];
        }
        self.enter(Phase::Lost, now);
        self.runs_no_image();
        self.reason = Some("it was shut down".to_owned());
        vec![info("shuts down")]
    }
}
