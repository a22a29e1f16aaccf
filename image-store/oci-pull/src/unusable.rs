//! What is wrong with the files that a configuration names, before a pull stumbles over them.

use std::{io, path::PathBuf};

use crate::{
    clients, credentials,
    registries::{Registries, RegistryHost},
};

/// A file of [`Registries`] that pulls will stumble over.
#[derive(Debug)]
pub struct UnusableFile {
    /// Whose settings name it.
    pub host: RegistryHost,
    /// The setting: `ca` or `credentials`.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}

/// Reads the files of a configuration as pulls would. Blocking.
#[must_use]
pub fn unusable_files(registries: &Registries) -> Vec<UnusableFile> {
    let mut unusable = Vec::new();
    for (host, settings) in &registries.hosts {
        let ca = settings.ca.as_ref().map(|path| ("ca", path, clients::look(path)));
        let credentials = settings.credentials.as_ref();
        let login = credentials.map(|path| ("credentials", path, credentials::look(path, host)));
        for (setting, path, looked) in ca.into_iter().chain(login) {
            if let Err(source) = looked {
                unusable.push(UnusableFile {
                    host: host.clone(),
                    setting,
                    path: path.clone(),
                    source,
                });
            }
        }
    }
    unusable
}
