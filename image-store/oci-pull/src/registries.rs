//! How registries are reached: one configuration for the images of nodes and of jobs.
//!
//! `bedplate server` reads it from its file and hands one copy to whoever pulls. A host without an
//! entry is reached over HTTPS, or over plain HTTP on loopback, through the proxy that the
//! environment names, with the logins of [`crate::usual_credential_files`], as far as
//! [`Reach`] goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use url::{Origin, Url};

use crate::{pace::Limits, reach::Reach};

/// How long registries that are away are waited for, unless the configuration says otherwise: a
/// restart of the registry, of its machine, or of the switch before it.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(300);

/// Mirrors of one host. Each is asked before the host, and may take a minute to fail.
pub const MAX_MIRRORS: usize = 8;

/// Longest name of a registry, bytes: that of a DNS name (RFC 1035) and a port.
const MAX_HOST_BYTES: usize = 253 + 6;

/// Longest repository name, bytes, as references have it.
const MAX_PATH_BYTES: usize = 255;

/// The name of Docker Hub in references, and the older one that its logins are under.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_LEGACY: &str = "index.docker.io";

/// Registries whose token service is another host by their operators' documentation,
/// and who that is.
const TOKEN_SERVICES: [(&str, &str); 2] =
    [(DOCKER_HUB, "https://auth.docker.io"), ("registry.gitlab.com", "https://gitlab.com")];

/// All that is known of registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    /// By host.
    pub hosts: BTreeMap<RegistryHost, HostSettings>,
    /// How long a pull waits while registries are away, over all its tries; zero for not at all.
    pub patience: Duration,
    /// How fast they must send, and in how long all must be here.
    pub limits: Limits,
    /// Where pulls go.
    pub reach: Reach,
}

impl Default for Registries {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            patience: DEFAULT_PATIENCE,
            limits: Limits::default(),
            reach: Reach::default(),
        }
    }
}

impl Registries {
    /// Whether an admin has named this registry: as a host, as a mirror, or by its address in
    /// [`Reach::allowed`].
    pub(crate) fn names(&self, host: &RegistryHost) -> bool {
        let is_mirror = || {
            let mut mirrors = self.hosts.values().flat_map(|settings| &settings.mirrors);
            mirrors.any(|mirror| mirror.host == *host)
        };
        let is_allowed = || {
            host.authorities().any(|(name, port)| {
                host_address(&name)
                    .is_some_and(|ip| self.reach.is_allowed(SocketAddr::new(ip, port)))
            })
        };
        self.hosts.contains_key(host) || is_mirror() || is_allowed()
    }

    /// All hosts that an admin has named, with their ports, as URLs have them.
    pub(crate) fn named(&self) -> BTreeSet<(String, u16)> {
        let mirrors = self.hosts.values().flat_map(|settings| &settings.mirrors);
        let hosts = self.hosts.keys().chain(mirrors.map(|mirror| &mirror.host));
        let services = self.hosts.values().filter_map(|settings| settings.token_service.as_ref());
        let services = services
            .filter_map(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        hosts.flat_map(RegistryHost::authorities).chain(services).collect()
    }
}

/// The address that stands in the place of a name, or that every machine has by this name.
fn host_address(name: &str) -> Option<IpAddr> {
    if name == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// How one host is reached. A mirror is a host with settings of its own: nothing
/// here is said to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSettings {
    /// Asked before the host, in this order. At most [`MAX_MIRRORS`].
    pub mirrors: Vec<Mirror>,
    /// Speak plain HTTP. Hosts on loopback are always spoken to so.
    pub plain_http: bool,
    /// PEM file of certificates that are trusted besides the machine's.
    pub ca: Option<PathBuf>,
    /// The way there.
    pub proxy: Proxy,
    /// `containers-auth.json(5)` with the login for this host. The usual files are then not read
    /// for it.
    pub credentials: Option<PathBuf>,
    /// The token service that gets the login for this host, if it is not the host itself:
    /// `http(s)://HOST[:PORT]`.
    pub token_service: Option<Url>,
}

/// The text is no URL of a token service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not https://HOST[:PORT]")]
pub struct InvalidTokenService;

impl HostSettings {
    /// Reads `http(s)://HOST[:PORT]`, for [`Self::token_service`].
    ///
    /// # Errors
    /// [`InvalidTokenService`] for anything else.
    pub fn parse_token_service(text: &str) -> Result<Url, InvalidTokenService> {
        let url = Url::parse(text).map_err(|_| InvalidTokenService)?;
        let is_plain = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let is_known = matches!(url.scheme(), "http" | "https") && url.has_host();
        if is_known && is_plain { Ok(url) } else { Err(InvalidTokenService) }
    }

    /// Who besides `host` itself gets the login for it.
    pub(crate) fn token_service(&self, host: &RegistryHost) -> Option<Origin> {
        let usual = || {
            let (_, url) =
                TOKEN_SERVICES.iter().find(|(registry, _)| *registry == host.as_str())?;
            Url::parse(url).ok()
        };
        self.token_service.clone().or_else(usual).map(|url| url.origin())
    }
}

/// The way to a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// As the environment of the process says: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`.
    #[default]
    Environment,
    /// Straight, whatever the environment says.
    Direct,
    /// Through this HTTP proxy, without a login.
    Through(Url),
}

/// Why a proxy is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    /// Another scheme, or no URL at all.
    #[error("is not http://HOST[:PORT], https://HOST[:PORT] or none")]
    Form,
    /// It holds what nobody else may read, and configurations are shown.
    #[error("holds a login, which would be shown with the configuration")]
    Login,
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    /// `none`, or the URL of the proxy.
    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        if text == "none" {
            return Ok(Self::Direct);
        }
        // Also where the rest is no URL: a message about its form would show the password.
        if text.contains('@') {
            return Err(InvalidProxy::Login);
        }
        let url = Url::parse(text).map_err(|_| InvalidProxy::Form)?;
        let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_known = matches!(url.scheme(), "http" | "https") && url.has_host();
        if is_known && is_plain { Ok(Self::Through(url)) } else { Err(InvalidProxy::Form) }
    }
}

/// `HOST[:PORT]` as references name it, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegistryHost(String);

/// Why a text names no registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    /// It is not of the form.
    #[error("is not HOST[:PORT], without a scheme")]
    Form,
    /// References take it for the first part of a repository of Docker Hub.
    #[error(
        "has neither a dot nor a port, so that references take it for a repository of docker.io"
    )]
    Ambiguous,
}

impl RegistryHost {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A host out of a reference, which has been read.
    pub(crate) fn of_reference(registry: &str) -> Self {
        let host = registry.to_ascii_lowercase();
        Self(if host == DOCKER_HUB_LEGACY { DOCKER_HUB.to_owned() } else { host })
    }

    /// Where it answers: Docker Hub has another name there.
    pub(crate) fn address(&self) -> &str {
        if self.0 == DOCKER_HUB { DOCKER_HUB_LEGACY } else { &self.0 }
    }

    /// Host and port as URLs have them; without a port those of HTTPS and of HTTP.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = (String, u16)> + use<> {
        let address = self.address();
        let with_port = address
            .rsplit_once(':')
            .and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
        let (name, ports) = match with_port {
            Some((name, port)) => (name.to_owned(), vec![port]),
            None => (address.to_owned(), vec![443, 80]),
        };
        ports.into_iter().map(move |port| (name.clone(), port))
    }

    /// `true` for `localhost`, `127.0.0.0/8` and `[::1]`, with or without a port.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = match self.0.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest),
            None => self.0.split(':').next().unwrap_or(&self.0),
        };
        let is_loopback = |address: std::net::IpAddr| address.is_loopback();
        host == "localhost" || host.parse().is_ok_and(is_loopback)
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RegistryHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text.len() > MAX_HOST_BYTES {
            return Err(InvalidHost::Form);
        }
        let (name, port) =
            text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        let is_label = |label: &str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
            !label.is_empty()
                && label.chars().all(is_part)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if !name.split('.').all(is_label) || !port.is_none_or(is_port) {
            return Err(InvalidHost::Form);
        }
        let host = Self::of_reference(text);
        if port.is_none() && !name.contains('.') && host.0 != "localhost" {
            return Err(InvalidHost::Ambiguous);
        }
        Ok(host)
    }
}

/// A registry that has copies of another's images: `HOST[:PORT][/PATH]`. Repositories are looked
/// for below the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The host; its own settings say how it is reached.
    pub host: RegistryHost,
    /// What stands before the names of repositories; empty for nothing.
    pub path: String,
}

/// Why a text names no mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMirror {
    /// Its first part is no host.
    #[error("{0}")]
    Host(InvalidHost),
    /// What follows the host is no path of repositories.
    #[error("has a path that no repository can be under")]
    Path,
}

impl Mirror {
    /// The name of a repository at the mirror.
    pub(crate) fn repository(&self, repository: &str) -> String {
        if self.path.is_empty() {
            repository.to_owned()
        } else {
            format!("{}/{repository}", self.path)
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}", self.host),
            path => write!(f, "{}/{path}", self.host),
        }
    }
}

impl FromStr for Mirror {
    type Err = InvalidMirror;

    fn from_str(text: &str) -> Result<Self, InvalidMirror> {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let host = host.parse().map_err(InvalidMirror::Host)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_part = |part: &str| {
            let is_known = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
            let is_edge = |c: char| matches!(c, 'a'..='z' | '0'..='9');
            part.starts_with(is_edge) && part.ends_with(is_edge) && part.chars().all(is_known)
        };
        if path.len() > MAX_PATH_BYTES || !(path.is_empty() || path.split('/').all(is_part)) {
            return Err(InvalidMirror::Path);
        }
        Ok(Self { host, path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_the_rest() {
        let is_loopback = |host: &str| RegistryHost::of_reference(host).is_loopback();
        for yes in ["127.0.0.1:5000", "localhost", "localhost:1", "[::1]:5000", "127.9.9.9"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in [
            "10.0.0.1:5000",
            "localhost.example.org",
            "[fe80::1]:5000",
            "registry.example.org",
            "1271.0.0.1",
        ] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn hosts_are_those_that_references_name() {
        let host = |text: &str| text.parse::<RegistryHost>().map(|host| host.to_string());
        for (text, expected) in [
            ("registry.example", Ok("registry.example")),
            ("Registry.Example:5000", Ok("registry.example:5000")),
            ("localhost", Ok("localhost")),
            ("cache:80", Ok("cache:80")),
            ("index.docker.io", Ok("docker.io")),
            ("cache", Err(InvalidHost::Ambiguous)),
            ("https://registry.example", Err(InvalidHost::Form)),
            ("registry.example/hub", Err(InvalidHost::Form)),
            ("registry.example:0", Err(InvalidHost::Form)),
            ("registry.example:", Err(InvalidHost::Form)),
            ("-x.example", Err(InvalidHost::Form)),
            ("", Err(InvalidHost::Form)),
        ] {
            assert_eq!(host(text), expected.map(str::to_owned), "{text}");
        }
        assert!(host(&"a.".repeat(200)).is_err());
    }

    #[test]
    fn what_an_admin_has_named_is_known() {
        let settings = HostSettings {
            mirrors: vec!["mirror.example:5000/hub".parse().unwrap()],
            token_service: Some(
                HostSettings::parse_token_service("https://auth.example:444").unwrap(),
            ),
            ..HostSettings::default()
        };
        let mut registries = Registries::default();
        registries.hosts.insert("docker.io".parse().unwrap(), settings);
        registries.reach.allowed = vec!["127.0.0.1:5000".parse().unwrap(), "::1".parse().unwrap()];
        let named: Vec<String> =
            registries.named().iter().map(|(name, port)| format!("{name} {port}")).collect();
        assert_eq!(
            named,
            [
                "auth.example 444",
                "index.docker.io 80",
                "index.docker.io 443",
                "mirror.example 5000"
            ]
        );
        for yes in
            ["docker.io", "mirror.example:5000", "127.0.0.1:5000", "localhost:5000", "[::1]:7"]
        {
            assert!(registries.names(&RegistryHost::of_reference(yes)), "{yes}");
        }
        for no in
            ["mirror.example", "auth.example:444", "127.0.0.1:5001", "localhost", "10.0.0.1:5000"]
        {
            assert!(!registries.names(&RegistryHost::of_reference(no)), "{no}");
        }
    }

    #[test]
    fn a_login_has_one_token_service_besides_its_host() {
        let of = |host: &str, settings: &HostSettings| {
            let origin = settings.token_service(&host.parse().unwrap());
            origin.map(|origin| origin.ascii_serialization())
        };
        let none = HostSettings::default();
        assert_eq!(of("docker.io", &none).as_deref(), Some("https://auth.docker.io"));
        assert_eq!(of("registry.gitlab.com", &none).as_deref(), Some("https://gitlab.com"));
        assert_eq!(of("registry.example", &none), None);
        let url = HostSettings::parse_token_service("https://Auth.example:443").unwrap();
        let set = HostSettings { token_service: Some(url), ..none };
        assert_eq!(of("docker.io", &set).as_deref(), Some("https://auth.example"));
        for text in [
            "auth.example",
            "ftp://auth.example",
            "https://me:p@auth.example",
            "https://a.example/x",
        ] {
            assert_eq!(HostSettings::parse_token_service(text), Err(InvalidTokenService), "{text}");
        }
    }

    #[test]
    fn a_mirror_may_have_its_copies_below_a_path() {
        let mirror = |text: &str| text.parse::<Mirror>();
        let plain = mirror("mirror.example:5000").unwrap();
        assert_eq!(
            (plain.repository("site/node"), plain.to_string()),
            ("site/node".into(), "mirror.example:5000".into())
        );
        let below = mirror("mirror.example/hub/").unwrap();
        assert_eq!(
            (below.repository("site/node"), below.to_string()),
            ("hub/site/node".into(), "mirror.example/hub".into())
        );
        assert_eq!(mirror("mirror.example/../x"), Err(InvalidMirror::Path));
        assert_eq!(mirror("mirror.example/a//b"), Err(InvalidMirror::Path));
        assert_eq!(mirror("mirror"), Err(InvalidMirror::Host(InvalidHost::Ambiguous)));
    }

    #[test]
    fn a_proxy_holds_no_login() {
        assert_eq!("none".parse(), Ok(Proxy::Direct));
        let url = Url::parse("http://proxy.example:3128").unwrap();
        assert_eq!("http://proxy.example:3128".parse(), Ok(Proxy::Through(url)));
        for text in ["http://me:secret@proxy.example", "me:secret@proxy.example:3128"] {
            assert_eq!(text.parse::<Proxy>(), Err(InvalidProxy::Login), "{text}");
        }
        for text in ["proxy.example:3128", "socks5://proxy.example", "http://proxy.example/x", ""] {
            assert_eq!(text.parse::<Proxy>(), Err(InvalidProxy::Form), "{text}");
        }
    }
}
