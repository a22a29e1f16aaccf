//! The last step of a boot: the inventory is stored.

use api::{
    ids::Timestamp,
    status::{Phase, Severity},
};

use super::{Effect, NodeLifecycle, info};

impl NodeLifecycle {
    pub(super) fn inventory_stored(
        &mut self,
        changed: bool,
        news: Vec<(Severity, String)>,
        now: Timestamp,
    ) -> Vec<Effect> {
        self.inventory_known = true;
        let line = |(severity, message)| Effect::Record(severity, message);
        let mut effects: Vec<Effect> = news.into_iter().map(line).collect();
        if changed {
            effects.push(Effect::Tell);
        }
        if self.phase == Phase::Enrolled {
            self.enter(Phase::Ready, now);
            let message = match self.boot_started.take() {
                Some(started) => {
                    let micros = now.0.saturating_sub(started.0);
                    self.boot_ms = u64::try_from(micros / 1_000).ok();
                    format!("ready {:.1} s after its first request", now.seconds_since(started))
                }
                None => "ready".to_owned(),
            };
            effects.push(info(message));
        }
        effects
    }
}
