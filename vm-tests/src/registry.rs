//! A real registry on loopback of the namespace: Debian's `docker-registry`, filled by skopeo.

use std::{fs, net::TcpStream, path::Path, time::Duration};

use anyhow::Context as _;

use crate::{
    checkout_paths::CheckoutPaths,
    clock,
    os_image::{self, JOB_IMAGES, OsImage, TAG},
    process::{Service, run},
};

/// Where it listens, inside the namespace: named in the server's configuration, since it
/// is on loopback.
pub(crate) const ADDRESS: &str = "127.0.0.1:5000";

/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(15);

/// The registry; ends when dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    _service: Service,
}

impl Registry {
    /// Starts it and pushes the images. Those for jobs have been built before.
    ///
    /// # Errors
    /// If it does not start, or the push fails.
    pub(crate) fn start(checkout_paths: &CheckoutPaths, image: &OsImage) -> anyhow::Result<Self> {
        let config = checkout_paths.of_run("registry/config.yml");
        let blobs = checkout_paths.of_run("registry/blobs");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {ADDRESS}\n",
            blobs.display()
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let arguments = ["serve".to_owned(), config.display().to_string()];
        let log = checkout_paths.of_run("registry.log");
        let mut service = Service::start(
            checkout_paths,
            "registry",
            Path::new("docker-registry"),
            &arguments,
            &log,
        )?;
        clock::wait_for("the registry to listen", START_LIMIT, || {
            service.check_alive().with_context(|| format!("see {}", log.display()))?;
            Ok(TcpStream::connect(ADDRESS).ok())
        })?;
        push(&image.layout(), TAG, &Self::source())?;
        for (name, tag) in JOB_IMAGES {
            push(
                &os_image::job_image(checkout_paths, name)?,
                tag,
                &format!("docker://{ADDRESS}/{name}:{tag}"),
            )?;
        }
        Ok(Self { _service: service })
    }

    /// What a person gives to `bedplate image import`.
    pub(crate) fn source() -> String {
        format!("docker://{ADDRESS}/debian-node:{TAG}")
    }
}

fn push(layout: &Path, tag: &str, to: &str) -> anyhow::Result<()> {
    let layout = format!("oci:{}:{tag}", layout.display());
    run(
        "skopeo",
        &["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", &layout, to],
    )?;
    Ok(())
}
