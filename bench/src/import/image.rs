//! The image that is imported, and the registry that has it.

use std::{fs, net::TcpStream, path::PathBuf, time::Duration};

use anyhow::Context as _;
use harness::workspace;
use sha2::{Digest as _, Sha256};

use crate::{
    checkout_paths::CheckoutPaths,
    peers,
    process::{self, Service, run},
    report::say,
};

/// Makes the image.
const RECIPE: &str = include_str!("image.sh");

/// Tags of the image, from 1. They differ in the last layer.
pub(super) const TAGS: u32 = 6;

/// Where the registry listens.
const ADDRESS: &str = "127.0.0.1:5000";

const START_LIMIT: Duration = Duration::from_secs(15);

/// The image in a registry.
pub(super) fn reference(tag: u32) -> String {
    format!("docker://{ADDRESS}/node:{tag}")
}

/// Makes the image unless it is there; returns its layout.
///
/// # Errors
/// If it cannot be made; takes a few minutes and packages from where this machine's apt takes them.
/// Called before the network is entered.
pub(crate) fn prepare(checkout_paths: &CheckoutPaths) -> anyhow::Result<PathBuf> {
    let directory = checkout_paths.kept("image");
    let (layout, stamp) = (directory.join("layout"), directory.join("recipe"));
    let base = checkout_paths.in_workspace("images/debian-node/build.sh");
    let base = fs::read(&base).with_context(|| format!("cannot read {}", base.display()))?;
    let hash = Sha256::new().chain_update(RECIPE).chain_update(base).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    if layout.exists() && fs::read_to_string(&stamp).is_ok_and(|kept| kept == hash) {
        return Ok(layout);
    }
    say("making the image for import; this takes some minutes, once");
    workspace::remove(&directory)?;
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let recipe = directory.join("image.sh");
    fs::write(&recipe, RECIPE).with_context(|| format!("cannot write {}", recipe.display()))?;
    let arguments = [
        recipe.into(),
        checkout_paths.in_workspace("").into(),
        layout.clone().into_os_string(),
        TAGS.to_string().into(),
    ];
    process::script(r#"bash "$@""#, &arguments, &directory.join("build.log"))
        .context("making the image for import")?;
    fs::write(&stamp, hash).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(layout)
}

/// Starts a registry in memory, with all tags.
///
/// # Errors
/// If it does not start, or the image cannot be pushed.
pub(super) fn registry(checkout_paths: &CheckoutPaths) -> anyhow::Result<Service> {
    let layout = checkout_paths.kept("image/layout");
    let (config, blobs) =
        (checkout_paths.in_memory("registry.yml"), checkout_paths.in_memory("registry"));
    let text = format!(
        "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: '{ADDRESS}' }}\n",
        blobs.display()
    );
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    let program = peers::program(checkout_paths, "docker-registry")?;
    let arguments = ["serve".as_ref(), config.as_os_str()];
    let mut registry = Service::start(
        "docker-registry",
        program,
        &arguments,
        &checkout_paths.on_disk("registry.log"),
    )?;
    registry.until("listen", START_LIMIT, || TcpStream::connect(ADDRESS).is_ok())?;
    for tag in 1..=TAGS {
        let from = format!("oci:{}:{tag}", layout.display());
        let copy = [
            "copy",
            "--quiet",
            "--insecure-policy",
            "--dest-tls-verify=false",
            &from,
            &reference(tag),
        ];
        run("skopeo", &copy)?;
    }
    Ok(registry)
}
