//! The fleet's clock: once a second every node is looked at for missed graces and deadlines.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{Authority, server_certificate::ServerCertificate},
    clock,
    registry::Registry,
};

/// How often. Graces and deadlines are whole seconds.
const TICK: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub(crate) async fn run(
    registry: Arc<Registry>,
    authority: Arc<Authority>,
    certificate: Arc<ServerCertificate>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let now = clock::now();
        registry.tick(now);
        if let Err(error) = certificate.renew_if_due(&authority, now) {
            tracing::error!("the server's certificate could not be renewed: {error}");
        }
    }
}
