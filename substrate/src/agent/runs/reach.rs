//! Where transfers may go. They are made by the agent, as root and past every job's egress filter,
//! to URLs that users write: so each address is held against what the server keeps from jobs,
//! before anything is sent. Nor do transfers go to what the node alone was meant to reach
//! ([`SpecialUse`]): what answers there may take the agent for the node's root. The node's other
//! addresses, which any machine reaches it by, are as good as another's.
//!
//! Names are looked up here, without NSS: a static program cannot load the modules of the
//! image's own libc.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::address::{SpecialUse, canonical};
use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Time for one question to a name server. Its library's own defaults hang for a quarter of a
/// minute when one is dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Questions to each name server.
const LOOKUP_ATTEMPTS: usize = 2;

/// The address is out of reach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// A port of the server's.
    #[error("{0} is a port of the server: no transfer goes there")]
    ServerPort(SocketAddr),
    /// An address that is no peer's.
    #[error("{address} is {use_of}: no transfer goes there")]
    Special {
        /// The address, as the URL or the name server has it.
        address: IpAddr,
        /// What it is for.
        use_of: SpecialUse,
    },
    /// A name that no request was announced for.
    #[error("{0} was looked up and not asked for: no transfer goes there")]
    Unannounced(String),
}

/// Addresses and ports that are out of reach, and the hosts that are about to be asked. Clones
/// share everything.
#[derive(Debug, Clone)]
pub struct Reach(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    forbidden: Vec<SocketAddr>,
    near: Vec<IpAddr>,
    /// Ports by host: a resolver is told the name alone.
    ports: Mutex<BTreeMap<String, BTreeSet<u16>>>,
}

impl Reach {
    /// Everything but `forbidden` and addresses of special use; of these, `near` all the same.
    #[must_use]
    pub fn new(forbidden: &[SocketAddr], near: &[IpAddr]) -> Self {
        let (forbidden, near) = (forbidden.to_vec(), near.to_vec());
        Self(Arc::new(Inner { forbidden, near, ports: Mutex::default() }))
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

    /// An IPv4 address may be written as an IPv6 one, in more than one way.
    fn check(&self, address: IpAddr, port: u16) -> Result<(), Forbidden> {
        let wanted = SocketAddr::new(canonical(address), port);
        if self.0.forbidden.contains(&wanted) {
            return Err(Forbidden::ServerPort(wanted));
        }
        match SpecialUse::of(address) {
            Some(use_of) if !self.0.near.contains(&wanted.ip()) => {
                Err(Forbidden::Special { address, use_of })
            }
            _ => Ok(()),
        }
    }

    fn check_found(&self, name: &str, found: &[IpAddr]) -> Result<(), Forbidden> {
        let ports = self.0.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ports) = ports.get(&name.to_ascii_lowercase()) else {
            return Err(Forbidden::Unannounced(name.to_owned()));
        };
        for port in ports {
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

/// Made again for each lookup: the node's name servers change, and transfers are few.
fn resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
        // Without /etc/resolv.conf there is still /etc/hosts.
        TokioResolver::builder_with_config(
            ResolverConfig::default(),
            TokioRuntimeProvider::default(),
        )
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
        let forbidden = ["192.0.2.1:9480".parse().unwrap(), "192.0.2.1:80".parse().unwrap()];
        let reach = Reach::new(&forbidden, &[]);
        let announce = |url: &str| reach.announce(&url.parse().unwrap()).is_ok();
        for url in [
            "http://192.0.2.1:9480/x",
            "http://[::ffff:192.0.2.1]:9480/x",
            "http://[64:ff9b::c000:201]:9480/x",
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
        let reach = Reach::new(&["192.0.2.1:9480".parse().unwrap()], &[]);
        let found = ["198.51.100.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        reach.announce(&"http://Head:8080/".parse().unwrap()).unwrap();
        assert_eq!(reach.check_found("head", &found), Ok(()));
        reach.announce(&"http://head:9480/".parse().unwrap()).unwrap();
        let error = reach.check_found("HEAD", &found).unwrap_err();
        assert_eq!(
            error.to_string(),
            "192.0.2.1:9480 is a port of the server: no transfer goes there"
        );
    }

    #[test]
    fn what_only_the_node_was_meant_to_reach_is_out_of_reach() {
        let near = ["127.0.0.7".parse().unwrap()];
        let reach = Reach::new(&["127.0.0.7:9480".parse().unwrap()], &near);
        for url in [
            "http://127.0.0.1/x",
            "http://127.8.9.10:8080/x",
            "http://127.1/x",
            "http://2130706433/x",
            "http://0.0.0.0/x",
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.0.1/x",
            "http://255.255.255.255/x",
            "http://[::1]/x",
            "http://[::]/x",
            "http://[fe80::1]/x",
            "http://[fd00:ec2::254]/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://[::ffff:169.254.169.254]/x",
            "http://[64:ff9b::169.254.169.254]/x",
            "http://[2002:7f00:1::]/x",
            "http://127.0.0.7:9480/x",
        ] {
            let outcome = reach.announce(&url.parse().unwrap());
            assert!(
                outcome.unwrap_err().to_string().ends_with(": no transfer goes there"),
                "{url}"
            );
        }
        for url in [
            "http://127.0.0.7/x",
            "http://[::ffff:127.0.0.7]/x",
            "http://10.0.0.1/x",
            "http://[fd00::1]/x",
        ] {
            assert_eq!(reach.announce(&url.parse().unwrap()), Ok(()), "{url}");
        }
        // By a name: what it stands for, and only if it was asked for.
        reach.announce(&"http://store.example/x".parse().unwrap()).unwrap();
        for address in ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1"] {
            let found = ["198.51.100.1".parse().unwrap(), address.parse().unwrap()];
            assert!(reach.check_found("store.example", &found).is_err(), "{address}");
        }
        let found = ["198.51.100.1".parse().unwrap()];
        assert_eq!(reach.check_found("Store.example", &found), Ok(()));
        assert!(reach.check_found("other.example", &found).is_err());
    }

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let near = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let found = async |near: &[IpAddr]| {
            let reach = Reach::new(&[], near);
            reach.announce(&"http://localhost/".parse().unwrap()).unwrap();
            let name: Name = "localhost".parse().unwrap();
            reach.resolve(name).await.map(|found| found.collect::<Vec<SocketAddr>>())
        };
        let loopback = found(&near).await.unwrap();
        assert!(loopback.iter().any(|address| address.ip().is_loopback()), "{loopback:?}");
        let error = found(&[]).await.unwrap_err();
        assert!(error.is::<Forbidden>(), "{error}");
    }
}
