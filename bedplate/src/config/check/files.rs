//! What the configuration leads to on this machine: the state directory, and the files that the
//! server reads before it serves. Changes nothing.

use std::{
    fs, io,
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
};

use api::problem::Diagnostic;
use oci_pull::RegistryHost;
use rest::causes;
use rustix::{
    fs::{Access, access},
    process::geteuid,
};
use yaml_tree::Location;

use super::{
    super::{
        Checked,
        raw::{Raw, RawRegistry, diagnostic},
    },
    TOP,
};
use crate::server::CertificateError;

/// Mistakes with which the server would not start, and notes on what would not work then.
pub(in super::super) fn check(raw: &Raw, checked: &Checked) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
    let (mut diagnostics, mut notes) = (Vec::new(), Vec::new());
    if let Err(problem) = usable(&checked.state_dir) {
        let at = raw.state_dir.as_ref().map_or(TOP, |written| written.at);
        // Its owner alone may look into it.
        let is_others = matches!(&problem, Unusable::Refused { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root());
        let hint = match is_others {
            true => "check as the user that the server runs as",
            false => "the server makes it at its first start, with mode 0700",
        };
        let told = diagnostic(at, "state-dir", problem.to_string(), Some(hint.to_owned()));
        if is_others { notes.push(told) } else { diagnostics.push(told) }
    }
    if let Err(error) = fleet::date_problem(&checked.state_dir) {
        let at = raw.state_dir.as_ref().map_or(TOP, |written| written.at);
        let is_damaged = matches!(error, fleet::AuthorityError::Damaged { .. });
        let told = diagnostic(at, "state-dir", causes(&error), None);
        if is_damaged { diagnostics.push(told) } else { notes.push(told) }
    }
    for (index, address) in raw.server_addresses.iter().enumerate() {
        let path = format!("server-addresses[{index}]");
        diagnostics.extend(not_here(IpAddr::V4(address.value), address.at, &path));
    }
    if let Some(written) = &raw.api_listen {
        diagnostics.extend(not_here(checked.api_listen.ip(), written.at, "api.listen"));
    }
    for found in provisioner::preflight::look(&checked.provisioner) {
        let written = match found.setting {
            "firmware.bios" => &raw.firmware_bios,
            "firmware.efi-x86-64" => &raw.firmware_efi_x86_64,
            "firmware.efi-arm64" => &raw.firmware_efi_arm64,
            "boot.templates" => &raw.templates,
            "boot.substrate" => &raw.substrate,
            _ => &None,
        };
        let at = written.as_ref().map_or(TOP, |written| written.at);
        let told = diagnostic(at, found.setting, found.message, None);
        if found.fatal { diagnostics.push(told) } else { notes.push(told) }
    }
    if let (Some(files), Some(written)) = (&checked.api_certificate, &raw.api_certificate)
        && let Err(error) = files.load()
    {
        let hint = match &error {
            CertificateError::Read { path, source } => how_to_read(path, source),
            _ => None,
        };
        diagnostics.push(diagnostic(written.at, "api.certificate", causes(&error), hint));
    }
    diagnostics.extend(registries(raw, checked));
    diagnostics.sort();
    notes.sort();
    (diagnostics, notes)
}

/// Files that pulls would stumble over.
fn registries(raw: &Raw, checked: &Checked) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for unusable in oci_pull::unusable_files(&checked.registries) {
        let (host, setting) = (&unusable.host, unusable.setting);
        let of_host = |written: &&RawRegistry| {
            written.host.value.parse::<RegistryHost>().is_ok_and(|parsed| parsed == *host)
        };
        let Some(written) = raw.registries.hosts.iter().find(of_host) else { continue };
        let at = written.file(setting).map_or(written.at(), |file| file.at);
        let message = format!("cannot use {}: {}", unusable.path.display(), unusable.source);
        let hint = how_to_read(&unusable.path, &unusable.source);
        diagnostics.push(diagnostic(at, &written.key(setting), message, hint));
    }
    diagnostics
}

/// How this user, who need not be root, comes to read a file that the kernel keeps from it.
fn how_to_read(path: &Path, error: &io::Error) -> Option<String> {
    let is_denied =
        error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_some();
    let uid = geteuid().as_raw();
    is_denied.then(|| {
        format!("the server's user must read it: `setfacl -m u:{uid}:r {}`", path.display())
    })
}

/// An address that nothing can listen at. The kernel is asked, with a port of its choice: it may
/// let addresses be bound that no interface has (`net.ipv4.ip_nonlocal_bind`).
fn not_here(address: IpAddr, at: Location, path: &str) -> Option<Diagnostic> {
    let error = TcpListener::bind((address, 0)).err()?;
    let hint = Some("write an address that this machine has; see `ip address`".to_owned());
    (error.kind() == io::ErrorKind::AddrNotAvailable)
        .then(|| diagnostic(at, path, format!("{address} is no address of this machine"), hint))
}

/// Why a directory can be no state directory.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{} is there and is no directory", path.display())]
    NoDirectory { path: PathBuf },
    #[error("cannot write in {}: {source}", path.display())]
    Refused {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// It is a directory that this user may write in, or can be made.
fn usable(state_dir: &Path) -> Result<(), Unusable> {
    for path in state_dir.ancestors() {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A file on the way: `access` of what lies in it would only say ENOTDIR.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(source) => return Err(Unusable::Refused { path: path.to_owned(), source }),
            Ok(facts) if !facts.is_dir() => {
                return Err(Unusable::NoDirectory { path: path.to_owned() });
            }
            Ok(_) => {
                return access(path, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
                    Unusable::Refused { path: path.to_owned(), source: error.into() }
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_made_where_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        usable(directory.path()).unwrap();
        usable(&directory.path().join("a/b/c")).unwrap();
        for path in [file.clone(), file.join("a/b")] {
            let error = usable(&path).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{} is there and is no directory", file.display())
            );
        }
    }
}
