//! Logins for registries from the files that podman, skopeo and docker write.
//!
//! `containers-auth.json(5)`: `{"auths": {"HOST[/PATH]": {"auth": BASE64(USER:PASSWORD)}}}`; the longest key that is a
//! path prefix of the repository wins. Docker writes the same with keys such as `https://index.docker.io/v1/`.
//! Credential helpers are not run.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use base64::Engine as _;
use oci_client::{Reference, secrets::RegistryAuth};
use serde::Deserialize;

use crate::PullError;

/// Where a login is looked for, best first: `${XDG_RUNTIME_DIR}/containers/auth.json`,
/// `~/.config/containers/auth.json`, `~/.docker/config.json`.
#[must_use]
pub fn usual_credential_files() -> Vec<PathBuf> {
    let below = |variable: &str, path: &str| {
        std::env::var_os(variable).filter(|value| !value.is_empty()).map(|value| Path::new(&value).join(path))
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
    auths: BTreeMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    auth: Option<String>,
}

/// The login for an image; anonymous where no file has one.
pub(crate) fn find(files: &[PathBuf], reference: &Reference) -> Result<RegistryAuth, PullError> {
    for path in files {
        let failed = |source| PullError::Credentials { path: path.clone(), source };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        if let Some((user, password)) = login(&text, reference).map_err(failed)? {
            return Ok(RegistryAuth::Basic(user, password));
        }
    }
    Ok(RegistryAuth::Anonymous)
}

fn login(text: &[u8], reference: &Reference) -> io::Result<Option<(String, String)>> {
    let file: AuthFile = serde_json::from_slice(text)?;
    let name = format!("{}/{}", reference.registry(), reference.repository());
    let best = file
        .auths
        .iter()
        .filter_map(|(key, login)| Some((plain_key(key), login.auth.as_deref()?)))
        .filter(|(key, _)| {
            name.strip_prefix(*key).is_some_and(|rest| rest.starts_with('/') || rest.is_empty())
        })
        .max_by_key(|(key, _)| key.len());
    let Some((key, auth)) = best else { return Ok(None) };
    let invalid = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the login for {key} is not BASE64(USER:PASSWORD)"),
        )
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(auth).map_err(|_| invalid())?;
    let decoded = String::from_utf8(decoded).map_err(|_| invalid())?;
    let (user, password) = decoded.split_once(':').ok_or_else(invalid)?;
    Ok(Some((user.to_owned(), password.to_owned())))
}

/// A key as `HOST[/PATH]`: Docker puts a scheme before it and an API version after it.
fn plain_key(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    if key == "index.docker.io" { "docker.io" } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str, reference: &str) -> Option<String> {
        login(text.as_bytes(), &reference.parse().unwrap())
            .unwrap()
            .map(|(user, password)| format!("{user} {password}"))
    }

    #[test]
    fn the_longest_key_wins() {
        // u:p, ns:secret:x, docker:d
        let text = r#"{"auths": {
            "reg.example.org:5000": {"auth": "dTpw"},
            "reg.example.org:5000/ns": {"auth": "bnM6c2VjcmV0Ong="},
            "https://index.docker.io/v1/": {"auth": "ZG9ja2VyOmQ="},
            "empty.example.org": {}
        }, "credsStore": "desktop"}"#;
        assert_eq!(user(text, "reg.example.org:5000/a/b:1").as_deref(), Some("u p"));
        assert_eq!(user(text, "reg.example.org:5000/ns/b:1").as_deref(), Some("ns secret:x"));
        assert_eq!(user(text, "reg.example.org:5000/nsb:1").as_deref(), Some("u p"));
        assert_eq!(user(text, "debian:12").as_deref(), Some("docker d"));
        assert_eq!(user(text, "empty.example.org/a"), None);
        assert_eq!(user(text, "reg.example.org/a"), None);
        assert_eq!(user("{}", "reg.example.org/a"), None);
    }

    #[test]
    fn a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let reference: Reference = "reg.example.org/a".parse().unwrap();
        assert_eq!(find(std::slice::from_ref(&path), &reference).unwrap(), RegistryAuth::Anonymous);
        for text in ["{", r##"{"auths": {"reg.example.org": {"auth": "#"}}}"##] {
            fs::write(&path, text).unwrap();
            let error = find(std::slice::from_ref(&path), &reference).unwrap_err();
            assert!(error.to_string().contains("auth.json"), "{error}");
        }
    }
}
