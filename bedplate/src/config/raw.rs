//! The configuration file as written: every key with its place, every mistake of form collected.

use std::str::FromStr;

use api::{problem::Diagnostic, quota::QuotaName};
use yaml_tree::{Key, Kind, Location, Tree, did_you_mean, parse};

mod registries;

pub(super) use self::registries::{RawRegistries, RawRegistry};

/// A value and where it stands. Defaults stand at line 0.
#[derive(Debug, Clone)]
pub struct Placed<T> {
    /// Where the value begins.
    pub at: Location,
    /// The value.
    pub value: T,
}

/// One subnet as written.
#[derive(Debug, Clone)]
pub struct RawSubnet {
    /// Where it begins.
    pub at: Location,
    /// Its path in the document: `dhcp.subnets[0]`.
    pub path: String,
    /// `10.1.0.0/24`. Required.
    pub network: Option<Placed<ipnet::Ipv4Net>>,
    /// `10.1.0.100-10.1.0.199`: for nodes without an address of their own. Default: none.
    pub pool: Option<Placed<String>>,
    /// Default gateway. Default: none.
    pub gateway: Option<Placed<std::net::Ipv4Addr>>,
    /// Name servers. Default: none.
    pub dns: Vec<Placed<std::net::Ipv4Addr>>,
    /// NTP servers. Default: none.
    pub ntp: Vec<Placed<std::net::Ipv4Addr>>,
    /// Search domain. Default: none.
    pub domain: Option<Placed<String>>,
}

/// The file. Each field names its key, unit and default.
#[derive(Debug, Default)]
pub struct Raw {
    /// `state-dir`: database, certificates, images. Default `/var/lib/bedplate`.
    pub state_dir: Option<Placed<String>>,
    /// `interfaces`: names of the network interfaces that nodes boot from.
    pub interfaces: Vec<Placed<String>>,
    /// `server-addresses`: addresses that nodes reach this server at. Default: the IPv4 addresses
    /// of `interfaces`.
    pub server_addresses: Vec<Placed<std::net::Ipv4Addr>>,
    /// `announced-addresses`: further addresses that nodes are told to try; nothing listens
    /// there. Default: none.
    pub announced_addresses: Vec<Placed<std::net::Ipv4Addr>>,
    /// `server-names`: further DNS names for the server's certificate. Default: none.
    pub server_names: Vec<Placed<String>>,
    /// `api.listen`: REST API, TLS. Default `127.0.0.1:9470`.
    pub api_listen: Option<Placed<std::net::SocketAddr>>,
    /// `api.certificate`: PEM, the site's own certificate for the REST port. Default: none.
    pub api_certificate: Option<Placed<String>>,
    /// `api.key`: PEM, its private key. Default: none.
    pub api_key: Option<Placed<String>>,
    /// `api.session-idle-seconds`: a browser's session ends after so long without a request.
    /// Default 43200, 12 hours.
    pub session_idle_seconds: Option<Placed<u32>>,
    /// `api.session-life-seconds`: a browser's session ends so long after it began. Default
    /// 604800, 7 days.
    pub session_life_seconds: Option<Placed<u32>>,
    /// `api.token-days`: a token ends so many days after it was made, if nobody says
    /// otherwise. Default 90.
    pub token_days: Option<Placed<u32>>,
    /// `api.token-max-days`: no token lives longer that is made from now on, and none has no end.
    /// Default: no limit.
    pub token_max_days: Option<Placed<u32>>,
    /// `fleet.port`: enrolment and the nodes' channel, TLS. Default 9443.
    pub fleet_port: Option<Placed<u16>>,
    /// `fleet.heartbeat-seconds`. Default 20.
    pub heartbeat_seconds: Option<Placed<u32>>,
    /// `boot.http-port`: boot scripts and images, plain HTTP. Default 9480.
    pub http_port: Option<Placed<u16>>,
    /// `boot.tftp`: serve boot files over TFTP. Default true.
    pub tftp: Option<Placed<bool>>,
    /// `boot.substrate`: the static binary. Default `/usr/lib/bedplate/substrate`.
    pub substrate: Option<Placed<String>>,
    /// `boot.templates`: directory of boot script templates. Default `/usr/share/bedplate/ipxe`.
    pub templates: Option<Placed<String>>,
    /// `firmware.bios`. Default `/usr/lib/ipxe/undionly.kpxe`.
    pub firmware_bios: Option<Placed<String>>,
    /// `firmware.efi-x86-64`. Default `/usr/lib/ipxe/snponly.efi`.
    pub firmware_efi_x86_64: Option<Placed<String>>,
    /// `firmware.efi-arm64`. Default: none; Debian 12 has no such file.
    pub firmware_efi_arm64: Option<Placed<String>>,
    /// `dhcp.mode`: `authoritative`, `proxy` or `off`. Default `authoritative`.
    pub dhcp_mode: Option<Placed<String>>,
    /// `dhcp.lease-seconds`. Default 3600.
    pub lease_seconds: Option<Placed<u32>>,
    /// `dhcp.subnets`. Default: the networks of `interfaces`.
    pub subnets: Vec<RawSubnet>,
    /// `overlays.shipped`. Default `/usr/share/bedplate/overlays`.
    pub shipped_overlays: Option<Placed<String>>,
    /// `overlays.site`. Default `/etc/bedplate/overlays`.
    pub site_overlays: Option<Placed<String>>,
    /// `jobs.log-mib`: how much is kept of the log of a job, here and on its node, MiB. Default 64.
    pub job_log_mib: Option<Placed<u32>>,
    /// `jobs.volume-gib`: what an ephemeral volume may hold of which the document does not say it,
    /// GiB. Default 32.
    pub volume_gib: Option<Placed<u32>>,
    /// `registries`: how the registries of node and job images are reached.
    pub registries: RawRegistries,
    /// `jobs.image-days`: how long a job image is kept that no workflow uses, days. Default 7.
    pub job_image_days: Option<Placed<u32>>,
    /// `jobs.image-gib`: how much all job images may have before the ones that were used longest
    /// ago go, GiB. Default: no limit.
    pub job_image_gib: Option<Placed<u32>>,
    /// `limits.connections`: open connections. Default: what the process's descriptors
    /// allow, at most 65536.
    pub connections: Option<Placed<u32>>,
    /// `limits.unproven-connections`: those without certificate or token. Default: three
    /// quarters, at most 32768.
    pub unproven_connections: Option<Placed<u32>>,
    /// `limits.unproven-per-address`: those of one address. Default: a quarter of
    /// these, at most 2048.
    pub unproven_per_address: Option<Placed<u32>>,
    /// `audit.head-file`: where signed heads of the audit log are appended. Default: none.
    pub audit_head_file: Option<Placed<String>>,
    /// `audit.keep-days`: how old lines of the audit log become, days. Default: no limit.
    pub audit_keep_days: Option<Placed<u32>>,
    /// `audit.max-gib`: how much the audit log may have before its oldest lines go, GiB.
    /// Default: no limit.
    pub audit_max_gib: Option<Placed<u32>>,
    /// `quotas`: limits of each user, by their names. Default: those of [`access::QuotaLimits`].
    pub quotas: Vec<(QuotaName, Placed<String>)>,
    /// `log.format`: `text` or `json`. Default `text`.
    pub log_format: Option<Placed<String>>,
    /// `log.level`: a tracing filter. Default `info`.
    pub log_level: Option<Placed<String>>,
    /// The text is no YAML: what is missing in it cannot be told.
    pub unreadable: bool,
    /// Mistakes of form: unknown keys, wrong types.
    pub diagnostics: Vec<Diagnostic>,
}

impl Raw {
    /// Reads the text of a file. Mistakes are in the result; what could be read is
    /// there beside them.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut raw = Self::default();
        let mut diagnostics = Vec::new();
        match parse(text) {
            Ok(Some(tree)) if !tree.is_null() => {
                raw.top(&Section::new(&tree, "", &mut diagnostics), &mut diagnostics)
            }
            Ok(_) => {}
            Err(error) => {
                raw.unreadable = true;
                diagnostics.push(diagnostic(error.at, "", error.message, None));
            }
        }
        raw.diagnostics = diagnostics;
        raw
    }

    fn top(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        top.only(
            &[
                "state-dir",
                "interfaces",
                "server-addresses",
                "announced-addresses",
                "server-names",
                "api",
                "fleet",
                "boot",
                "firmware",
                "dhcp",
                "overlays",
                "jobs",
                "registries",
                "limits",
                "audit",
                "quotas",
                "log",
            ],
            diagnostics,
        );
        self.state_dir = top.one("state-dir", "a path", diagnostics);
        self.interfaces = top.many("interfaces", "names of network interfaces", diagnostics);
        self.server_addresses = top.many("server-addresses", "IPv4 addresses", diagnostics);
        self.announced_addresses = top.many("announced-addresses", "IPv4 addresses", diagnostics);
        self.server_names = top.many("server-names", "DNS names", diagnostics);
        self.api(top, diagnostics);
        self.fleet(top, diagnostics);
        self.boot(top, diagnostics);
        self.firmware(top, diagnostics);
        self.dhcp(top, diagnostics);
        self.overlays(top, diagnostics);
        self.jobs(top, diagnostics);
        self.registries = RawRegistries::read(top, diagnostics);
        self.limits(top, diagnostics);
        self.audit(top, diagnostics);
        self.quotas(top, diagnostics);
        self.log(top, diagnostics);
    }

    fn api(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = [
            "listen",
            "certificate",
            "key",
            "session-idle-seconds",
            "session-life-seconds",
            "token-days",
            "token-max-days",
        ];
        let Some(api) = top.section("api", &known, diagnostics) else { return };
        self.api_listen = api.one("listen", "ADDRESS:PORT", diagnostics);
        self.api_certificate = api.one("certificate", "a path", diagnostics);
        self.api_key = api.one("key", "a path", diagnostics);
        self.session_idle_seconds =
            api.one("session-idle-seconds", "a number of seconds", diagnostics);
        self.session_life_seconds =
            api.one("session-life-seconds", "a number of seconds", diagnostics);
        self.token_days = api.one("token-days", "a number of days", diagnostics);
        self.token_max_days = api.one("token-max-days", "a number of days", diagnostics);
    }

    fn fleet(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["port", "heartbeat-seconds"];
        let Some(fleet) = top.section("fleet", &known, diagnostics) else { return };
        self.fleet_port = fleet.one("port", "a port number", diagnostics);
        self.heartbeat_seconds = fleet.one("heartbeat-seconds", "a number of seconds", diagnostics);
    }

    fn boot(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["http-port", "tftp", "substrate", "templates"];
        let Some(boot) = top.section("boot", &known, diagnostics) else { return };
        self.http_port = boot.one("http-port", "a port number", diagnostics);
        self.tftp = boot.one("tftp", "true or false", diagnostics);
        self.substrate = boot.one("substrate", "a path", diagnostics);
        self.templates = boot.one("templates", "a path", diagnostics);
    }

    fn firmware(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["bios", "efi-x86-64", "efi-arm64"];
        let Some(firmware) = top.section("firmware", &known, diagnostics) else { return };
        self.firmware_bios = firmware.one("bios", "a path", diagnostics);
        self.firmware_efi_x86_64 = firmware.one("efi-x86-64", "a path", diagnostics);
        self.firmware_efi_arm64 = firmware.one("efi-arm64", "a path", diagnostics);
    }

    fn dhcp(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["mode", "lease-seconds", "subnets"];
        let Some(dhcp) = top.section("dhcp", &known, diagnostics) else { return };
        self.dhcp_mode = dhcp.one("mode", "authoritative, proxy or off", diagnostics);
        self.lease_seconds = dhcp.one("lease-seconds", "a number of seconds", diagnostics);
        self.subnets = dhcp.subnets(diagnostics);
    }

    fn overlays(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let Some(overlays) = top.section("overlays", &["shipped", "site"], diagnostics) else {
            return;
        };
        self.shipped_overlays = overlays.one("shipped", "a path", diagnostics);
        self.site_overlays = overlays.one("site", "a path", diagnostics);
    }

    fn jobs(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["log-mib", "volume-gib", "image-days", "image-gib"];
        let Some(jobs) = top.section("jobs", &known, diagnostics) else { return };
        self.job_log_mib = jobs.one("log-mib", "a number of MiB", diagnostics);
        self.volume_gib = jobs.one("volume-gib", "a number of GiB", diagnostics);
        self.job_image_days = jobs.one("image-days", "a number of days", diagnostics);
        self.job_image_gib = jobs.one("image-gib", "a number of GiB", diagnostics);
    }

    fn limits(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["connections", "unproven-connections", "unproven-per-address"];
        let Some(limits) = top.section("limits", &known, diagnostics) else { return };
        self.connections = limits.one("connections", "a number of connections", diagnostics);
        self.unproven_connections =
            limits.one("unproven-connections", "a number of connections", diagnostics);
        self.unproven_per_address =
            limits.one("unproven-per-address", "a number of connections", diagnostics);
    }

    fn audit(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let known = ["head-file", "keep-days", "max-gib"];
        let Some(audit) = top.section("audit", &known, diagnostics) else { return };
        self.audit_head_file = audit.one("head-file", "a path", diagnostics);
        self.audit_keep_days = audit.one("keep-days", "a number of days", diagnostics);
        self.audit_max_gib = audit.one("max-gib", "a number of GiB", diagnostics);
    }

    fn quotas(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let Some(quotas) = top.section("quotas", &QuotaName::WORDS, diagnostics) else { return };
        for name in QuotaName::ALL {
            let written =
                quotas.one(name.as_str(), "a limit such as 100, 20GiB or none", diagnostics);
            self.quotas.extend(written.map(|limit| (name, limit)));
        }
    }

    fn log(&mut self, top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let Some(log) = top.section("log", &["format", "level"], diagnostics) else { return };
        self.log_format = log.one("format", "text or json", diagnostics);
        self.log_level = log.one("level", "a filter such as info", diagnostics);
    }
}

/// A map of the file and its path.
struct Section<'a> {
    path: String,
    at: Location,
    entries: &'a [(Key, Tree)],
}

impl<'a> Section<'a> {
    fn new(tree: &'a Tree, path: &str, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let entries = match &tree.kind {
            Kind::Map(entries) => entries.as_slice(),
            _ => {
                diagnostics.push(diagnostic(
                    tree.at,
                    path,
                    "must be a map of keys".to_owned(),
                    None,
                ));
                &[]
            }
        };
        Self { path: path.to_owned(), at: tree.at, entries }
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Complains about keys that mean nothing here and about keys written twice.
    fn only(&self, known: &[&str], diagnostics: &mut Vec<Diagnostic>) {
        for (index, (key, _)) in self.entries.iter().enumerate() {
            let path = self.child(&key.text);
            if !known.contains(&key.text.as_str()) {
                let hint = did_you_mean(&key.text, known.iter().copied())
                    .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
                diagnostics.push(diagnostic(key.at, &path, "unknown key".to_owned(), Some(hint)));
            } else if self.entries[..index].iter().any(|(earlier, _)| earlier.text == key.text) {
                diagnostics.push(diagnostic(
                    key.at,
                    &path,
                    "written twice".to_owned(),
                    Some("keep one".to_owned()),
                ));
            }
        }
    }

    fn value(&self, key: &str) -> Option<&'a Tree> {
        self.entries
            .iter()
            .find(|(name, _)| name.text == key)
            .map(|(_, tree)| tree)
            .filter(|tree| !tree.is_null())
    }

    fn section(
        &self,
        key: &str,
        known: &[&str],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Section<'a>> {
        let section = Section::new(self.value(key)?, &self.child(key), diagnostics);
        section.only(known, diagnostics);
        Some(section)
    }

    fn one<T: FromStr>(
        &self,
        key: &str,
        wanted: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Placed<T>> {
        scalar(self.value(key)?, &self.child(key), wanted, diagnostics)
    }

    fn many<T: FromStr>(
        &self,
        key: &str,
        wanted: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Vec<Placed<T>> {
        let Some(tree) = self.value(key) else { return Vec::new() };
        let Kind::List(elements) = &tree.kind else {
            let message = format!("must be a list of {wanted}");
            diagnostics.push(diagnostic(
                tree.at,
                &self.child(key),
                message,
                Some("write it as [a, b]".to_owned()),
            ));
            return Vec::new();
        };
        let each = elements.iter().enumerate();
        each.filter_map(|(index, element)| {
            scalar(element, &format!("{}[{index}]", self.child(key)), wanted, diagnostics)
        })
        .collect()
    }

    fn subnets(&self, diagnostics: &mut Vec<Diagnostic>) -> Vec<RawSubnet> {
        let Some(tree) = self.value("subnets") else { return Vec::new() };
        let Kind::List(elements) = &tree.kind else {
            diagnostics.push(diagnostic(
                tree.at,
                "dhcp.subnets",
                "must be a list of subnets".to_owned(),
                None,
            ));
            return Vec::new();
        };
        let mut subnets = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let path = format!("dhcp.subnets[{index}]");
            let section = Section::new(element, &path, diagnostics);
            section.only(&["network", "pool", "gateway", "dns", "ntp", "domain"], diagnostics);
            subnets.push(RawSubnet {
                at: section.at,
                network: section.one("network", "a network such as 10.1.0.0/24", diagnostics),
                pool: section.one("pool", "FIRST-LAST", diagnostics),
                gateway: section.one("gateway", "an IPv4 address", diagnostics),
                dns: section.many("dns", "IPv4 addresses", diagnostics),
                ntp: section.many("ntp", "IPv4 addresses", diagnostics),
                domain: section.one("domain", "a domain", diagnostics),
                path,
            });
        }
        subnets
    }
}

fn scalar<T: FromStr>(
    tree: &Tree,
    path: &str,
    wanted: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Placed<T>> {
    let Kind::Scalar { text, .. } = &tree.kind else {
        diagnostics.push(diagnostic(tree.at, path, format!("must be {wanted}"), None));
        return None;
    };
    match text.parse() {
        Ok(value) => Some(Placed { at: tree.at, value }),
        Err(_) => {
            diagnostics.push(diagnostic(tree.at, path, format!("{text:?} is not {wanted}"), None));
            None
        }
    }
}

/// A mistake at a place of the file.
pub(super) fn diagnostic(
    at: Location,
    path: &str,
    message: String,
    hint: Option<String>,
) -> Diagnostic {
    Diagnostic { line: at.line, column: at.column, path: path.to_owned(), message, hint }
}
