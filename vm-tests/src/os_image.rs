//! The node image and the images for jobs: built from `images/NAME` when that directory has
//! changed, kept in `target/vm/image`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::{
    checkout_paths::CheckoutPaths,
    clock,
    process::{run, run_logged},
    report::say,
};

/// Tag of the image in its layout and in the registry.
pub(crate) const TAG: &str = "12";

/// Directory of an image in that of its recipe. A recipe leaves it there when it is whole.
const LAYOUT: &str = "layout";

/// Images for jobs: name, which is that of the recipe and of the repository, and tag.
pub(crate) const JOB_IMAGES: [(&str, &str); 2] = [("busybox", "1"), ("debian-small", "12")];

/// The built node image.
#[derive(Debug, Clone)]
pub(crate) struct OsImage {
    directory: PathBuf,
}

impl OsImage {
    /// The image as its recipe makes it. Building takes one to three minutes and needs the
    /// package mirror.
    ///
    /// # Errors
    /// If the recipe fails; its messages went to the terminal.
    pub(crate) fn current(checkout_paths: &CheckoutPaths) -> anyhow::Result<Self> {
        let image = Self { directory: checkout_paths.of_run("image") };
        build(checkout_paths, "debian-node", &image.directory, LAYOUT)?;
        Ok(image)
    }

    /// Its OCI layout.
    pub(crate) fn layout(&self) -> PathBuf {
        self.directory.join(LAYOUT)
    }

    /// Its files as `umoci unpack` lays them out: made once, for comparison with a booted node.
    ///
    /// # Errors
    /// If umoci fails.
    pub(crate) fn unpacked(&self) -> anyhow::Result<PathBuf> {
        let bundle = self.directory.join("unpacked");
        let whole = self.directory.join("unpacked/whole");
        if !whole.exists() {
            if bundle.exists() {
                fs::remove_dir_all(&bundle)
                    .with_context(|| format!("cannot remove {}", bundle.display()))?;
            }
            let image = format!("{}:{TAG}", self.layout().display());
            run("umoci", &["unpack", "--image", &image, &bundle.display().to_string()])?;
            fs::write(&whole, "").with_context(|| format!("cannot write {}", whole.display()))?;
        }
        Ok(bundle.join("rootfs"))
    }
}

/// The layout of an image for jobs.
///
/// # Errors
/// As [`OsImage::current`].
pub(crate) fn job_image(checkout_paths: &CheckoutPaths, name: &str) -> anyhow::Result<PathBuf> {
    let directory = checkout_paths.of_run(&format!("image/{name}"));
    build(checkout_paths, name, &directory, LAYOUT)?;
    Ok(directory.join(LAYOUT))
}

/// The directory of the machine that batch systems are measured in: `disk.img`, `vmlinuz`
/// and `initrd.img`.
///
/// # Errors
/// As [`OsImage::current`].
pub(crate) fn job_machine(checkout_paths: &CheckoutPaths) -> anyhow::Result<PathBuf> {
    let directory = checkout_paths.of_run("image/job-machine");
    build(checkout_paths, "job-machine", &directory, "machine")?;
    Ok(directory.join("machine"))
}

/// Builds `product` in a directory by the recipe of that name, unless what is there was made by
/// the same recipe.
fn build(
    checkout_paths: &CheckoutPaths,
    name: &str,
    directory: &Path,
    product: &str,
) -> anyhow::Result<()> {
    let recipe = checkout_paths.in_workspace(&format!("images/{name}"));
    let mut hash = Sha256::new();
    hash_directory(&recipe, &mut hash)?;
    let hash = hex(&hash.finalize());
    let (product, stamp) = (directory.join(product), directory.join("recipe"));
    if product.exists() && fs::read_to_string(&stamp).is_ok_and(|kept| kept == hash) {
        return Ok(());
    }
    say(format!("building the image {name}; this takes up to a few minutes, once"));
    let start = clock::now();
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let _ = fs::remove_file(&stamp);
    for old in [product.clone(), directory.join("unpacked")] {
        if old.exists() {
            fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    run_logged(
        &recipe.join("build.sh"),
        &[product],
        &directory.join("build.log"),
        "build.sh:",
        |line| say(line),
    )?;
    fs::write(&stamp, hash).with_context(|| format!("cannot write {}", stamp.display()))?;
    say(format!("image {name} built in {} s", start.elapsed().as_secs()));
    Ok(())
}

/// Path, mode and content of every file, in the order of their names.
fn hash_directory(directory: &Path, hash: &mut Sha256) -> anyhow::Result<()> {
    let context = || format!("cannot read {}", directory.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    for path in paths {
        let facts = path.symlink_metadata().with_context(context)?;
        hash.update(format!("{}\0{:o}\0", path.display(), facts.permissions().mode()));
        if facts.is_dir() {
            hash_directory(&path, hash)?;
        } else if facts.is_symlink() {
            hash.update(fs::read_link(&path).with_context(context)?.as_os_str().as_encoded_bytes());
        } else {
            hash.update(fs::read(&path).with_context(context)?);
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
