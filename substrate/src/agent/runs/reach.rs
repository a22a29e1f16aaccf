//! Where transfers may go. They are made by the agent, as root and past every job's egress filter, to URLs that users
//! write: so each address is held against what the server keeps from jobs, before anything is sent.
//!
//! Names are looked up here, without NSS: a static program cannot load the modules of the image's own libc.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Time for one question to a name server. Its library's own defaults hang for a quarter of a minute when one is dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Questions to each name server.
const LOOKUP_ATTEMPTS: usize = 2;

/// The address is out of reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a port that nodes boot and enrol by: no transfer goes there")]
pub struct Forbidden(pub SocketAddr);

/// Addresses and ports that are out of reach, and the hosts that are about to be asked. Clones share everything.
#[derive(Debug, Clone)]
pub struct Reach(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    forbidden: Vec<SocketAddr>,
    /// Ports by host: a resolver is told the name alone.
    ports: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

impl Reach {
    /// Everything but `forbidden`.
    #[must_use]
    pub fn new(forbidden: &[SocketAddr]) -> Self {
        Self(Arc::new(Inner { forbidden: forbidden.to_vec(), ports: Mutex::default() }))
    }

    /// Announces a request for `url`.
    ///
    /// # Errors
    /// Its address is out of reach. That of a name is looked at when it is looked up.
    pub fn announce(&self, url: &Url) -> Result<(), Forbidden> {
        let Some(port) = url.port_or_known_default() else { return Ok(()) };
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into(), port),
            Some(Host::Ipv6(address)) => self.check(address.into(), port),
            Some(Host::Domain(name)) => {
                let mut ports = self.0.ports.lock().unwrap_or_else(PoisonError::into_inner);
                ports.entry(name.to_ascii_lowercase()).or_default().insert(port);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// An IPv4 address may be written as an IPv6 one (RFC 4291, section 2.5.5.2).
    fn check(&self, address: IpAddr, port: u16) -> Result<(), Forbidden> {
        let wanted = SocketAddr::new(address.to_canonical(), port);
        if self.0.forbidden.contains(&wanted) { Err(Forbidden(wanted)) } else { Ok(()) }
    }

    fn check_found(&self, name: &str, found: &[IpAddr]) -> Result<(), Forbidden> {
        let ports = self.0.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = ports.get(&name.to_ascii_lowercase());
        for port in ports.into_iter().flatten() {
            for address in found {
                self.check(*address, *port)?;
            }
        }
        Ok(())
    }
}

impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.clone();
        Box::pin(async move {
            let found: Vec<IpAddr> = resolver()?.lookup_ip(name.as_str()).await?.iter().collect();
            reach.check_found(name.as_str(), &found)?;
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Made anew for each lookup: the node's name servers change, and transfers are few.
fn resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        // Without /etc/resolv.conf there is still /etc/hosts.
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
    });
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = LOOKUP_TIMEOUT;
    options.attempts = LOOKUP_ATTEMPTS;
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_out_of_reach_however_it_is_written() {
        let reach = Reach::new(&["192.0.2.1:9480".parse().unwrap(), "192.0.2.1:80".parse().unwrap()]);
        let announce = |url: &str| reach.announce(&url.parse().unwrap()).is_ok();
        for url in [
            "http://192.0.2.1:9480/x",
            "http://[::ffff:192.0.2.1]:9480/x",
            "http://3221225985:9480/x",
            "http://192.0.2.1/x",
        ] {
            assert!(!announce(url), "{url}");
        }
        for url in ["http://192.0.2.1:8080/x", "http://192.0.2.2:9480/x", "https://192.0.2.1/x"] {
            assert!(announce(url), "{url}");
        }
    }

    #[test]
    fn a_name_is_held_against_every_port_that_it_is_asked_on() {
        let reach = Reach::new(&["192.0.2.1:9480".parse().unwrap()]);
        let found = ["198.51.100.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        reach.announce(&"http://Head:8080/".parse().unwrap()).unwrap();
        assert_eq!(reach.check_found("head", &found), Ok(()));
        reach.announce(&"http://head:9480/".parse().unwrap()).unwrap();
        let error = reach.check_found("HEAD", &found).unwrap_err();
        assert_eq!(
            error.to_string(),
            "192.0.2.1:9480 is a port that nodes boot and enrol by: no transfer goes there"
        );
    }

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let reach = Reach::new(&[]);
        let name: Name = "localhost".parse().unwrap();
        let found: Vec<SocketAddr> = reach.resolve(name).await.unwrap().collect();
        assert!(found.iter().any(|address| address.ip().is_loopback()), "{found:?}");
    }
}
