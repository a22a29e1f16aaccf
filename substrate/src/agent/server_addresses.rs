//! The addresses of the servers, as the server tells them over the channel: kept for as long as the
//! node runs, so that a server which moves in two steps (told of first, then moved to) strands
//! nobody.

use std::{net::SocketAddr, sync::Arc};

use api::channel::MAX_FLEET_SERVERS;
use tokio::sync::watch;

use super::kept_identity::KeptIdentity;

/// What the server said, and where it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerList {
    /// The fleet ports, in the server's order.
    pub servers: Vec<SocketAddr>,
    /// The one that was dialled; `None` only in tests.
    pub reached: Option<SocketAddr>,
}

impl ServerList {
    /// The addresses in the order in which they are to be tried: the one that is in use comes
    /// first, for the others may be of networks that this node is not on. One that is in use and
    /// was not told will go, and comes last. Each once, and never more than [`MAX_FLEET_SERVERS`].
    /// `None` if nothing was told.
    #[must_use]
    pub fn in_order(&self) -> Option<Vec<SocketAddr>> {
        if self.servers.is_empty() {
            return None;
        }
        let first = self.reached.filter(|reached| self.servers.contains(reached));
        let mut order: Vec<SocketAddr> = Vec::new();
        for address in first.into_iter().chain(self.servers.iter().copied()) {
            if order.len() < MAX_FLEET_SERVERS && !order.contains(&address) {
                order.push(address);
            }
        }
        if first.is_none()
            && let Some(reached) = self.reached
        {
            order.truncate(MAX_FLEET_SERVERS - 1);
            order.push(reached);
        }
        Some(order)
    }
}

/// Keeps what is told, for ever.
pub async fn save_server_list(
    kept: Arc<KeptIdentity>,
    mut told: watch::Receiver<Option<ServerList>>,
) {
    while told.changed().await.is_ok() {
        let Some(news) = told.borrow_and_update().clone() else { continue };
        keep(&kept, &news);
    }
}

fn keep(kept: &KeptIdentity, told: &ServerList) {
    let Some(servers) = told.in_order() else {
        tracing::warn!("the server named no address of its own: the known ones stay");
        return;
    };
    if kept.present().fleet_servers == servers {
        return;
    }
    let shown: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
    let changed = kept.change(|present| {
        let mut changed = present.clone();
        changed.fleet_servers = servers;
        changed
    });
    match changed {
        Ok(_) => tracing::info!("the servers are at {}", shown.join(", ")),
        // Told again at the next session.
        Err(error) => {
            tracing::error!(
                "{}; the servers' addresses stay as they are",
                crate::console::chain(&error)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::test_server::{ca, identity},
        identity as file,
    };

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn the_address_in_use_is_tried_first_and_one_that_goes_last() {
        let order = |servers: &[&str], reached: &str| {
            let told =
                ServerList { servers: addresses(servers), reached: Some(reached.parse().unwrap()) };
            told.in_order()
                .map(|order| order.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" "))
        };
        let (a, b, c) = ("10.0.0.1:9443", "10.1.0.1:9443", "10.2.0.1:9443");
        assert_eq!(order(&[a, b, c], b), Some([b, a, c].join(" ")));
        assert_eq!(order(&[b, c, b], a), Some([b, c, a].join(" ")));
        assert_eq!(order(&[], a), None);
        let many: Vec<String> =
            (0..1_000).map(|n| format!("10.9.{}.{}:1", n / 250, n % 250)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let kept = order(&many, a).unwrap();
        assert_eq!(kept.split(' ').count(), MAX_FLEET_SERVERS);
        assert!(kept.ends_with(a));
    }

    #[tokio::test]
    async fn what_was_told_is_in_the_file_and_the_certificate_stays() {
        let ca = ca();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.json");
        let before = api::enroll::AgentIdentity {
            fleet_servers: addresses(&["10.0.0.1:9443"]),
            ..identity(&ca, &ca)
        };
        let (kept, mut seen) = KeptIdentity::new(path.clone(), before.clone());
        let kept = Arc::new(kept);
        let (tell, told) = watch::channel(None);
        let keeping = tokio::spawn(save_server_list(kept.clone(), told));
        let servers = addresses(&["10.7.0.1:9443", "10.0.0.1:9443"]);
        tell.send_replace(Some(ServerList {
            servers,
            reached: before.fleet_servers.first().copied(),
        }));
        seen.changed().await.unwrap();
        let now = seen.borrow_and_update().clone();
        assert_eq!(now.fleet_servers, addresses(&["10.0.0.1:9443", "10.7.0.1:9443"]));
        assert_eq!(file::load(&path).unwrap(), *now);
        // A renewal that began before changes the certificate, and not the addresses.
        let fresh = identity(&ca, &ca);
        let renewed =
            kept.change(|present| super::super::renewal::renewed(present, &fresh)).unwrap();
        assert_eq!(renewed.fleet_servers, now.fleet_servers);
        assert_eq!((&renewed.certificate, &renewed.key), (&fresh.certificate, &fresh.key));
        // Nothing at all is no list.
        tell.send_replace(Some(ServerList { servers: Vec::new(), reached: None }));
        drop(tell);
        keeping.await.unwrap();
        assert_eq!(kept.present().fleet_servers, now.fleet_servers);
    }
}
