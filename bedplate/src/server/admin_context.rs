//! `admin.yaml` of the state directory: how the command line on this machine reaches the
//! server as its admin.
//!
//! A `client::Context` in JSON, which is YAML too; mode 0600. The token is written at the
//! first start, and again by `bedplate server recover-admin` alone; address and CA are kept
//! true at every start.

use std::{
    fs, io,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use access::{Access, AccessError};
use client::Context;

/// Name of the file.
const FILE: &str = "admin.yaml";

/// There from before the admin is made until its token is written: a start that was killed in
/// between is made good by the next one.
const PENDING: &str = "admin.yaml.pending";

/// The admin and its first token. It has no end, and is an alarm until
/// `bedplate token rotate` replaces it.
const ADMIN: (&str, &str) = ("admin", "first-start");

/// Why the file is not there or not true.
#[derive(Debug, thiserror::Error)]
pub enum AdminContextError {
    /// A file of the state directory.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The admin or its token.
    #[error("cannot make the admin's token")]
    Access(#[source] AccessError),
}

/// Makes the admin at the first start, and keeps the file true.
pub(super) async fn write(
    state_dir: &Path,
    access: &Access,
    api: SocketAddr,
    ca: &str,
) -> Result<(), AdminContextError> {
    let (path, pending) = (state_dir.join(FILE), state_dir.join(PENDING));
    let cut_off = pending.exists() && !path.exists();
    if !path.exists() {
        replace(&pending, b"")?;
    }
    let mut token = access.create_admin_if_none().await.map_err(AdminContextError::Access)?;
    if token.is_none() && cut_off {
        let made =
            access.replace_token(ADMIN.0, ADMIN.1).await.map_err(AdminContextError::Access)?;
        token = Some(made.token);
    }
    let server = url(api);
    let written = match token {
        Some(token) => Some((Context { server, ca: Some(ca.to_owned()), token }, true)),
        // An admin who has moved the file away wants it so.
        None => Context::read(&path).ok().and_then(|old| {
            let changed = old.server != server || old.ca.as_deref() != Some(ca);
            changed.then(|| (Context { server, ca: Some(ca.to_owned()), ..old }, false))
        }),
    };
    if let Some((context, is_new)) = written {
        let text = serde_json::to_vec_pretty(&context).map_err(|error| {
            AdminContextError::Write { path: path.clone(), source: error.into() }
        })?;
        replace(&path, &text)?;
        if is_new {
            tracing::info!("the admin's token is in {}; keep it secret", path.display());
        }
    }
    match fs::remove_file(&pending) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(AdminContextError::Write { path: pending, source })
        }
        _ => Ok(()),
    }
}

/// Puts another token into the file, or makes the file. Address and CA stay as it has them; without
/// it they are `api` and `ca`. Returns its path.
pub(super) fn replace_token(
    state_dir: &Path,
    token: String,
    api: SocketAddr,
    ca: Option<String>,
) -> Result<PathBuf, AdminContextError> {
    let path = state_dir.join(FILE);
    let context = match Context::read(&path) {
        Ok(old) => Context { token, ..old },
        Err(_) => Context { server: url(api), ca, token },
    };
    let text = serde_json::to_vec_pretty(&context)
        .map_err(|error| AdminContextError::Write { path: path.clone(), source: error.into() })?;
    replace(&path, &text)?;
    Ok(path)
}

/// Where a client on this machine reaches the API.
fn url(api: SocketAddr) -> url::Url {
    let ip = if api.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { api.ip() };
    let mut url = BASE.clone();
    // Neither fails for a URL with a host.
    let _ = url.set_ip_host(ip);
    let _ = url.set_port(Some(api.port()));
    url
}

static BASE: std::sync::LazyLock<url::Url> = std::sync::LazyLock::new(|| {
    #[expect(clippy::unwrap_used, reason = "a constant that parses")]
    "https://localhost".parse().unwrap()
});

/// Writes a file in one step, for its owner only.
fn replace(path: &Path, content: &[u8]) -> Result<(), AdminContextError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // Until then a cut of the power takes the name away.
        path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
    };
    write().map_err(|source| AdminContextError::Write { path: path.to_owned(), source })
}
