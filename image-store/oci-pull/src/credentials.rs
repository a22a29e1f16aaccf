//! Logins for registries from the files that podman, skopeo and docker write.
//!
//! `containers-auth.json(5)`: `{"auths": {"HOST[/PATH]": {"auth": BASE64(USER:PASSWORD)}}}`; the
//! longest key that is a path prefix of the repository wins. Docker writes the same with keys such
//! as `https://index.docker.io/v1/`. Credential helpers are not run.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use serde::Deserialize;

use crate::{PullError, clients::read_bounded, registries::RegistryHost};

/// Largest file of logins that is read, bytes: a thousand of them have a tenth of it.
const MAX_LOGINS_BYTES: u64 = 1 << 20;

/// Bits of the mode of a file of logins that must be off: its owner writes, its group may read.
const TOO_OPEN: u32 = 0o037;

/// A user of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Where a login is looked for, best first: `${XDG_RUNTIME_DIR}/containers/auth.json`,
/// `~/.config/containers/auth.json`, `~/.docker/config.json`.
#[must_use]
pub fn usual_credential_files() -> Vec<PathBuf> {
    let below = |variable: &str, path: &str| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(|value| Path::new(&value).join(path))
    };
    let config = below("XDG_CONFIG_HOME", "containers/auth.json")
        .or_else(|| below("HOME", ".config/containers/auth.json"));
    [below("XDG_RUNTIME_DIR", "containers/auth.json"), config, below("HOME", ".docker/config.json")]
        .into_iter()
        .flatten()
        .collect()
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
}

/// The login for a repository at a host, out of the usual files; none where no file has one.
pub(crate) fn find(
    files: &[PathBuf],
    host: &RegistryHost,
    repository: &str,
) -> Result<Option<Login>, PullError> {
    for path in files {
        let failed = |source| PullError::Credentials { path: path.clone(), source };
        let text = match read_bounded(path, MAX_LOGINS_BYTES) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        if let Some(login) = login(&text, host, repository).map_err(failed)? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

/// The login for a repository, out of the file that the configuration names for its host.
pub(crate) fn configured(
    path: &Path,
    host: &RegistryHost,
    repository: &str,
) -> Result<Login, PullError> {
    let failed = |source| PullError::Credentials { path: path.to_owned(), source };
    let text = read_private(path).map_err(failed)?;
    let found = login(&text, host, repository).map_err(failed)?;
    found.ok_or_else(|| failed(invalid(format!("it has no login for {host}/{repository}"))))
}

/// Reads a file that the configuration names for `host` as a pull would, and looks whether
/// something in it is for that host.
pub(crate) fn look(path: &Path, host: &RegistryHost) -> io::Result<()> {
    let file: AuthFile = serde_json::from_slice(&read_private(path)?)?;
    let is_for = |key: &str| {
        let key = plain_key(key);
        let rest = key.strip_prefix(host.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let auths = file.auths.iter().filter(|(key, _)| is_for(key));
    let auths: Vec<_> =
        auths.filter_map(|(key, login)| Some((key, login.auth.as_deref()?))).collect();
    if auths.is_empty() {
        return Err(invalid(format!(
            "it has no login for {host}: write it with `podman login --authfile {} {host}`",
            path.display()
        )));
    }
    auths.into_iter().try_for_each(|(key, auth)| decode(key, auth).map(|_| ()))
}

/// A file that nobody else may read or write.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mode = fs::metadata(path)?.mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        let problem =
            format!("others may read or change it (mode {mode:04o}): chmod 600 {}", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    read_bounded(path, MAX_LOGINS_BYTES)
}

fn login(text: &[u8], host: &RegistryHost, repository: &str) -> io::Result<Option<Login>> {
    let file: AuthFile = serde_json::from_slice(text)?;
    let name = format!("{host}/{repository}");
    let best = file
        .auths
        .iter()
        .filter_map(|(key, login)| Some((plain_key(key), login.auth.as_deref()?)))
        .filter(|(key, _)| {
            name.strip_prefix(key.as_str())
                .is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
        })
        .max_by_key(|(key, _)| key.len());
    best.map(|(key, auth)| decode(&key, auth)).transpose()
}

/// `BASE64(USER:PASSWORD)`.
fn decode(key: &str, auth: &str) -> io::Result<Login> {
    let wrong = || invalid(format!("the login for {key} is not BASE64(USER:PASSWORD)"));
    let decoded = base64::engine::general_purpose::STANDARD.decode(auth).map_err(|_| wrong())?;
    let decoded = String::from_utf8(decoded).map_err(|_| wrong())?;
    let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
    Ok(Login { user: user.to_owned(), password: password.to_owned() })
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// A key as `HOST[/PATH]` in lower case: Docker puts a scheme before it and an API
/// version after it.
fn plain_key(key: &str) -> String {
    let key = key.to_ascii_lowercase();
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(&key);
    let bare = bare.trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    if bare == "index.docker.io" { "docker.io".to_owned() } else { bare.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// u:p, ns:secret:x, docker:d
    const LOGINS: &str = r#"{"auths": {
        "reg.example.org:5000": {"auth": "dTpw"},
        "reg.example.org:5000/ns": {"auth": "bnM6c2VjcmV0Ong="},
        "https://index.docker.io/v1/": {"auth": "ZG9ja2VyOmQ="},
        "empty.example.org": {}
    }, "credsStore": "desktop"}"#;

    fn host(text: &str) -> RegistryHost {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_key_wins() {
        let user = |text: &str, registry: &str, repository: &str| {
            let login = login(text.as_bytes(), &host(registry), repository).unwrap();
            login.map(|Login { user, password }| format!("{user} {password}"))
        };
        let found = |registry, repository| user(LOGINS, registry, repository);
        assert_eq!(found("reg.example.org:5000", "a/b").as_deref(), Some("u p"));
        assert_eq!(found("reg.example.org:5000", "ns/b").as_deref(), Some("ns secret:x"));
        assert_eq!(found("reg.example.org:5000", "nsb").as_deref(), Some("u p"));
        assert_eq!(found("docker.io", "library/debian").as_deref(), Some("docker d"));
        assert_eq!(found("empty.example.org", "a"), None);
        assert_eq!(found("reg.example.org", "a"), None);
        assert_eq!(user("{}", "reg.example.org", "a"), None);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let found = || find(std::slice::from_ref(&path), &host("reg.example.org"), "a");
        assert_eq!(found().unwrap(), None);
        for text in ["{", r##"{"auths": {"reg.example.org": {"auth": "#"}}}"##] {
            fs::write(&path, text).unwrap();
            let error = found().unwrap_err();
            assert!(error.to_string().contains("auth.json"), "{error}");
        }
    }

    #[test]
    fn a_configured_file_is_private_and_has_the_login() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("login.json");
        let registry = host("reg.example.org:5000");
        let problem = |text: &str, mode: u32, host: &RegistryHost| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let looked = look(&path, host).map_err(|error| error.to_string());
            assert_eq!(looked.is_ok(), configured(&path, host, "a/b").is_ok(), "{looked:?}");
            looked.err().unwrap_or_default()
        };
        assert_eq!(problem(LOGINS, 0o600, &registry), "");
        assert_eq!(problem(LOGINS, 0o640, &registry), "");
        for mode in [0o644, 0o660, 0o602] {
            assert!(
                problem(LOGINS, mode, &registry).starts_with("others may read or change it"),
                "{mode:o}"
            );
        }
        assert!(
            problem(LOGINS, 0o600, &host("other.example.org"))
                .starts_with("it has no login for other")
        );
        assert!(
            problem(LOGINS, 0o600, &host("empty.example.org"))
                .starts_with("it has no login for empty")
        );
        assert!(problem("user: me", 0o600, &registry).contains("expected value"));
        fs::remove_file(&path).unwrap();
        assert!(look(&path, &registry).is_err() && configured(&path, &registry, "a/b").is_err());
    }
}
