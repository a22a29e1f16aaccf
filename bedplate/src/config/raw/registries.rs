//! `registries` as written.

use api::problem::Diagnostic;
use yaml_tree::Location;

use super::{Placed, Section, diagnostic};

/// Hosts that are read. A site has a handful.
const MAX_HOSTS: usize = 256;

/// Section `registries` of the configuration, as written.
#[derive(Debug, Default)]
pub struct RawRegistries {
    /// `registries.wait-seconds`: how long registries that are away are waited for. Default 300.
    pub wait_seconds: Option<Placed<u32>>,
    /// `registries.least-kb-per-second`: what the layers of a pull must bring. Default 10.
    pub least_kb_per_second: Option<Placed<u32>>,
    /// `registries.layer-seconds`: how long a layer may take. Default 7200.
    pub layer_seconds: Option<Placed<u32>>,
    /// `registries.pull-seconds`: how long a pull may take. Default 14400.
    pub pull_seconds: Option<Placed<u32>>,
    /// `registries.allow`: addresses that pulls go to though they are no peer's. Default: none.
    pub allow: Vec<Placed<String>>,
    /// `registries.deny`: addresses that no pull of a user goes to. Default: none.
    pub deny: Vec<Placed<String>>,
    /// `registries.hosts`: settings by `HOST[:PORT]`, in the order of the file.
    pub hosts: Vec<RawRegistry>,
}

/// One host as written.
#[derive(Debug)]
pub struct RawRegistry {
    /// `HOST[:PORT]`, as the key has it.
    pub host: Placed<String>,
    /// Its path in the document: `registries.hosts.registry.example:5000`.
    pub path: String,
    /// `mirrors`: `HOST[:PORT][/PATH]`, asked before the host, in this order. Default: none.
    pub mirrors: Vec<Placed<String>>,
    /// `plain-http`. Default false.
    pub plain_http: Option<Placed<bool>>,
    /// `ca`: PEM file of further certificates that are trusted. Default: none.
    pub ca: Option<Placed<String>>,
    /// `proxy`: URL of an HTTP proxy, or `none`. Default: as the environment says.
    pub proxy: Option<Placed<String>>,
    /// `credentials`: file with the login. Default: those that podman and docker write.
    pub credentials: Option<Placed<String>>,
    /// `token-service`: URL of the token service that gets the login too. Default: the host alone.
    pub token_service: Option<Placed<String>>,
}

impl RawRegistry {
    /// Where a setting of it stands.
    pub fn key(&self, setting: &str) -> String {
        format!("{}.{setting}", self.path)
    }

    /// The file of a setting.
    pub fn file(&self, setting: &str) -> Option<&Placed<String>> {
        match setting {
            "ca" => self.ca.as_ref(),
            "credentials" => self.credentials.as_ref(),
            _ => None,
        }
    }

    /// Where the entry begins.
    pub fn at(&self) -> Location {
        self.host.at
    }
}

impl RawRegistries {
    pub(super) fn read(top: &Section<'_>, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let known = [
            "wait-seconds",
            "least-kb-per-second",
            "layer-seconds",
            "pull-seconds",
            "allow",
            "deny",
            "hosts",
        ];
        let Some(section) = top.section("registries", &known, diagnostics) else {
            return Self::default();
        };
        let without_hosts = Self {
            wait_seconds: section.one("wait-seconds", "a number of seconds", diagnostics),
            least_kb_per_second: section.one(
                "least-kb-per-second",
                "a number of kB a second",
                diagnostics,
            ),
            layer_seconds: section.one("layer-seconds", "a number of seconds", diagnostics),
            pull_seconds: section.one("pull-seconds", "a number of seconds", diagnostics),
            allow: section.many(
                "allow",
                "addresses: ADDRESS[:PORT] or NETWORK/PREFIX",
                diagnostics,
            ),
            deny: section.many("deny", "addresses: ADDRESS[:PORT] or NETWORK/PREFIX", diagnostics),
            hosts: Vec::new(),
        };
        let mut hosts: Vec<RawRegistry> = Vec::new();
        let Some(tree) = section.value("hosts") else { return without_hosts };
        let each = Section::new(tree, &section.child("hosts"), diagnostics);
        if each.entries.len() > MAX_HOSTS {
            let message = format!("has {} hosts; {MAX_HOSTS} are read", each.entries.len());
            diagnostics.push(diagnostic(each.at, &each.path, message, None));
        }
        for (key, tree) in each.entries.iter().take(MAX_HOSTS) {
            let path = each.child(&key.text);
            if hosts.iter().any(|earlier| earlier.host.value == key.text) {
                let hint = Some("keep one".to_owned());
                diagnostics.push(diagnostic(key.at, &path, "written twice".to_owned(), hint));
                continue;
            }
            // `HOST:` alone is a host with the defaults.
            let host = Placed { at: key.at, value: key.text.clone() };
            let nothing = RawRegistry {
                host,
                path,
                mirrors: Vec::new(),
                plain_http: None,
                ca: None,
                proxy: None,
                credentials: None,
                token_service: None,
            };
            hosts.push(if tree.is_null() { nothing } else { nothing.read(tree, diagnostics) });
        }
        Self { hosts, ..without_hosts }
    }
}

impl RawRegistry {
    fn read(self, tree: &yaml_tree::Tree, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let section = Section::new(tree, &self.path, diagnostics);
        section.only(
            &["mirrors", "plain-http", "ca", "proxy", "credentials", "token-service"],
            diagnostics,
        );
        Self {
            mirrors: section.many("mirrors", "registries: HOST[:PORT][/PATH]", diagnostics),
            plain_http: section.one("plain-http", "true or false", diagnostics),
            ca: section.one("ca", "a path", diagnostics),
            proxy: section.one(
                "proxy",
                "http://HOST[:PORT], https://HOST[:PORT] or none",
                diagnostics,
            ),
            credentials: section.one("credentials", "a path", diagnostics),
            token_service: section.one("token-service", "https://HOST[:PORT]", diagnostics),
            ..self
        }
    }
}
