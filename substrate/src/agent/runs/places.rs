//! Paths of what runs have on a node.

use std::{net::IpAddr, path::PathBuf};

/// Where everything lies: fixed paths on a node, directories in tests.
#[derive(Debug, Clone)]
pub struct Places {
    /// Directories of runs, on tmpfs.
    pub runs: PathBuf,
    /// Mount points of images.
    pub images: PathBuf,
    /// Artifacts that were fetched.
    pub artifacts: PathBuf,
    /// Volumes of workflows.
    pub volumes: PathBuf,
    /// Volumes in memory are file systems, which have limits: always on a node.
    pub limits_volumes: bool,
    /// Certificates of public authorities, PEM.
    pub authorities: PathBuf,
    /// Addresses of special use that transfers go to all the same: none on a node.
    pub near: Vec<IpAddr>,
    /// The site's programs before and after jobs.
    pub site: PathBuf,
    /// The machine's root, for its devices and the CDI specs of these.
    pub machine: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            runs: "/run/bedplate/runs".into(),
            images: "/run/bedplate/images".into(),
            artifacts: "/var/lib/bedplate/artifacts".into(),
            volumes: "/var/lib/bedplate/volumes".into(),
            limits_volumes: true,
            authorities: "/etc/ssl/certs/ca-certificates.crt".into(),
            near: Vec::new(),
            site: "/etc/bedplate".into(),
            machine: "/".into(),
        }
    }
}
