//! The node image: built from `images/debian-node` when that folder has changed, kept in `target/vm/image`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::{
    clock,
    places::Places,
    process::{run, run_logged},
    report::say,
};

/// Tag of the image in its layout and in the registry.
pub(crate) const TAG: &str = "12";

/// The built image.
#[derive(Debug, Clone)]
pub(crate) struct OsImage {
    folder: PathBuf,
}

impl OsImage {
    /// The image as its recipe makes it. Building takes one to three minutes and needs the package mirror.
    ///
    /// # Errors
    /// If the recipe fails; its messages went to the terminal.
    pub(crate) fn current(places: &Places) -> anyhow::Result<Self> {
        let recipe = places.in_workspace("images/debian-node");
        let mut hash = Sha256::new();
        hash_folder(&recipe, &mut hash)?;
        let hash = hex(&hash.finalize());
        let image = Self { folder: places.of_run("image") };
        let stamp = image.folder.join("recipe");
        if image.layout().join("index.json").exists()
            && fs::read_to_string(&stamp).is_ok_and(|kept| kept == hash)
        {
            return Ok(image);
        }
        say("building the node image; this takes a few minutes, once");
        let start = clock::now();
        let _ = fs::remove_file(&stamp);
        for old in [image.layout(), image.folder.join("unpacked")] {
            if old.exists() {
                fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
            }
        }
        let log = image.folder.join("build.log");
        run_logged(&recipe.join("build.sh"), &[image.layout()], &log, "build.sh:", |line| say(line))?;
        fs::write(&stamp, hash).with_context(|| format!("cannot write {}", stamp.display()))?;
        say(format!("node image built in {} s", start.elapsed().as_secs()));
        Ok(image)
    }

    /// Its OCI layout.
    pub(crate) fn layout(&self) -> PathBuf {
        self.folder.join("layout")
    }

    /// Its files as `umoci unpack` lays them out: made once, for comparison with a booted node.
    ///
    /// # Errors
    /// If umoci fails.
    pub(crate) fn unpacked(&self) -> anyhow::Result<PathBuf> {
        let bundle = self.folder.join("unpacked");
        let whole = self.folder.join("unpacked/whole");
        if !whole.exists() {
            if bundle.exists() {
                fs::remove_dir_all(&bundle).with_context(|| format!("cannot remove {}", bundle.display()))?;
            }
            let image = format!("{}:{TAG}", self.layout().display());
            run("umoci", &["unpack", "--image", &image, &bundle.display().to_string()])?;
            fs::write(&whole, "").with_context(|| format!("cannot write {}", whole.display()))?;
        }
        Ok(bundle.join("rootfs"))
    }
}

/// Path, mode and content of every file, in the order of their names.
fn hash_folder(folder: &Path, hash: &mut Sha256) -> anyhow::Result<()> {
    let context = || format!("cannot read {}", folder.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        paths.push(entry.with_context(context)?.path());
    }
    paths.sort();
    for path in paths {
        let facts = path.symlink_metadata().with_context(context)?;
        hash.update(format!("{}\0{:o}\0", path.display(), facts.permissions().mode()));
        if facts.is_dir() {
            hash_folder(&path, hash)?;
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
