//! From a registry to what boots: our import, beside skopeo, umoci, and cpio with zstd or gzip.
//! `import` begins with nothing; `rebuild` has imported the image before, and its last, small
//! layer has changed.
//!
//! Everything lies in memory (tmpfs) on both sides, registry included.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use api::ids::ImageName;
use bench::outcome::{Better, Outcome, Row};
use harness::workspace;

use crate::{
    clock,
    frame::Frame,
    memory::Peak,
    ours::{BedplateServer, Settings},
    process::{self, run},
    turns::{self, OURS, Samples, Side},
};

pub(crate) mod image;

const TIME: &str = "registry to bootable artifacts";
const PEAK: &str = "peak memory";
const SIZE: &str = "size of the root image";

/// What a peer does: the image `$1` by way of `$2` to kernel and initramfs there; `$3` compresses.
const PIPELINE: &str = r#"
skopeo copy --quiet --insecure-policy --src-tls-verify=false "$1" "oci:$2/oci:node"
umoci unpack --image "$2/oci:node" "$2/bundle"
cp "$2"/bundle/rootfs/boot/vmlinuz-* "$2/vmlinuz"
(cd "$2/bundle/rootfs" && find . -print0 | cpio --quiet -0 -o -H newc) | $3 > "$2/root.cpio.packed"
"#;

/// Fetches an image before the clock starts.
const FETCH: &str =
    r#"skopeo copy --quiet --insecure-policy --src-tls-verify=false "$1" "oci:$2/oci:node""#;

/// What a tree has, as one digest: names, kinds, modes, owners, link targets, contents.
const FINGERPRINT: &str = r#"
cd "$1"
{ find . -mindepth 1 -printf '%P|%y|%m|%U|%G|%l\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum > "$2"
"#;

/// Names in a peer's archive are those of its tree.
const NAMES: &str = r#"
$3 -dc "$1/root.cpio.packed" | cpio --quiet -it | sort > "$1/names"
(cd "$1/bundle/rootfs" && find . | sed 's|^\./||' | sort) | cmp - "$1/names"
"#;

/// Measures with nothing there.
///
/// # Errors
/// If our side cannot be set up.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    Bench { frame, again: false }.measure("import")
}

/// Measures with all but the last layer there.
///
/// # Errors
/// If our side cannot be set up.
pub(crate) fn measure_rebuild(frame: &Frame) -> anyhow::Result<Outcome> {
    Bench { frame, again: true }.measure("rebuild")
}

#[derive(Debug)]
struct Bench<'a> {
    frame: &'a Frame,
    /// The image of tag 1 was imported before.
    again: bool,
}

impl Bench<'_> {
    fn measure(&self, name: &str) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::new(name);
        outcome.rows.push(Row::new(TIME, "s", Better::Lower).headline());
        outcome.rows.push(Row::new(PEAK, "MiB", Better::Lower));
        outcome.rows.push(Row::new(SIZE, "MiB", Better::Lower));
        let checkout_paths = &self.frame.checkout_paths;
        let _registry = image::registry(checkout_paths)?;
        let kept = if self.again { Some(self.server()?) } else { None };
        if let Some(server) = &kept {
            server.import(&image::reference(1), "node")?;
        }
        let rounds = self.frame.size(3, 1);
        let sides = vec![
            Side::new(OURS, |round| self.ours(kept.as_ref(), round)),
            Side::new("skopeo + umoci + cpio | zstd", |round| {
                self.peer("zstd", "zstd -q -3 -T0 -c", round)
            }),
            Side::new("skopeo + umoci + cpio | gzip", |round| self.peer("gzip", "gzip -c", round)),
        ];
        turns::take(&mut outcome, rounds, sides);
        let tree = checkout_paths.in_memory("zstd/bundle/rootfs");
        if tree.exists() {
            outcome.note(describe(&tree)?);
        }
        outcome.note(
            "all on tmpfs, the registry too, over loopback. Ours ends with kernel, stage-1 initramfs and squashfs in the store; a peer with the kernel and \
             one compressed initramfs. zstd uses both processors, gzip one. Memory is anonymous pages of the server with its children, or of all \
             processes of the pipeline, seen every 50 ms",
        );
        outcome.note("in the first round all files are compared: names, modes, owners, links, contents of our squashfs and umoci's tree");
        Ok(outcome)
    }

    fn ours(&self, kept: Option<&BedplateServer>, round: u32) -> anyhow::Result<Samples> {
        let fresh = if kept.is_none() { Some(self.server()?) } else { None };
        let server = kept.or(fresh.as_ref()).context("there is no server")?;
        let tag = self.tag(round);
        let peak = Peak::watch(server.id());
        let (version, seconds) = clock::timed(|| server.import(&image::reference(tag), "node"))?;
        let peak = peak.mib();
        let name: ImageName = "node".parse()?;
        let image = server.ask(async |client| client.image(&name).await)?;
        let made = image.versions.first().with_context(|| format!("{version} is not there"))?;
        let kernel = made.kernels.first().with_context(|| format!("{version} has no kernel"))?;
        for artifact in [&made.root, &kernel.kernel, &kernel.stage1] {
            let path = server.blob(&artifact.digest);
            let size = fs::metadata(&path)
                .with_context(|| format!("cannot find {}", path.display()))?
                .len();
            ensure!(
                size == artifact.size,
                "{} has {size} bytes, not {}",
                path.display(),
                artifact.size
            );
        }
        let root = server.blob(&made.root.digest);
        let generation = run(
            "unsquashfs",
            &["-cat".as_ref(), root.as_os_str(), "etc/site/generation".as_ref()],
        )?;
        ensure!(
            generation.trim() == tag.to_string(),
            "the image has generation {generation}, not {tag}"
        );
        if round == 0 {
            self.same_as_first("ours", |directory| {
                let arguments = [
                    "-quiet".as_ref(),
                    "-no-progress".as_ref(),
                    "-d".as_ref(),
                    directory.as_os_str(),
                    root.as_os_str(),
                ];
                run("unsquashfs", &arguments).map(drop)
            })?;
        }
        Ok(samples(seconds, peak, made.root.size))
    }

    fn peer(&self, name: &str, compressor: &str, round: u32) -> anyhow::Result<Samples> {
        let directory = self.frame.checkout_paths.in_memory(name);
        let log = self.frame.checkout_paths.on_disk(&format!("{name}.log"));
        if self.again {
            workspace::remove(&directory.join("bundle"))?;
        } else {
            workspace::remove(&directory)?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let arguments = |tag| {
            [OsString::from(image::reference(tag)), directory.clone().into(), compressor.into()]
        };
        if self.again && round == 0 {
            process::script(FETCH, &arguments(1), &log)?;
        }
        let tag = self.tag(round);
        let cost = process::script(PIPELINE, &arguments(tag), &log)?;
        let generation = directory.join("bundle/rootfs/etc/site/generation");
        let generation = fs::read_to_string(&generation)
            .with_context(|| format!("cannot read {}", generation.display()))?;
        ensure!(
            generation.trim() == tag.to_string(),
            "the tree has generation {generation}, not {tag}"
        );
        if round == 0 {
            process::script(NAMES, &[directory.as_os_str(), "".as_ref(), name.as_ref()], &log)?;
            let tree = directory.join("bundle/rootfs");
            self.same_as_first(name, |directory| {
                std::os::unix::fs::symlink(&tree, directory)
                    .with_context(|| format!("cannot link {}", directory.display()))
            })?;
        }
        Ok(samples(
            cost.seconds,
            cost.peak_mib,
            fs::metadata(directory.join("root.cpio.packed"))?.len(),
        ))
    }

    /// Compares a side's tree with that of the side before.
    fn same_as_first(
        &self,
        name: &str,
        unpack: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let checkout_paths = &self.frame.checkout_paths;
        let directory = checkout_paths.in_memory("compared");
        fs::create_dir_all(&directory)?;
        let (tree, print) = (directory.join("tree"), directory.join(name));
        unpack(&tree)?;
        process::script(FINGERPRINT, &[&tree, &print], &checkout_paths.on_disk("fingerprint.log"))?;
        if tree.is_symlink() {
            fs::remove_file(&tree)?
        } else {
            workspace::remove(&tree)?
        }
        let first = directory.join("first");
        if !first.exists() {
            fs::copy(&print, &first)?;
        }
        ensure!(
            fs::read(&first)? == fs::read(&print)?,
            "the tree of {name} differs from that of another side"
        );
        Ok(())
    }

    /// Tag 1 is what was there before.
    fn tag(&self, round: u32) -> u32 {
        if self.again { 2 + round % (image::TAGS - 1) } else { 1 }
    }

    /// A server that has nothing yet.
    fn server(&self) -> anyhow::Result<BedplateServer> {
        let directory: PathBuf = self.frame.checkout_paths.in_memory("ours");
        workspace::remove(&directory)?;
        BedplateServer::start(&self.frame.checkout_paths, &directory, &Settings::default())
    }
}

fn describe(tree: &Path) -> anyhow::Result<String> {
    let tree = tree.display().to_string();
    let size = run("du", &["-sm", "--apparent-size", &tree])?;
    let size = size.split_whitespace().next().unwrap_or_default().to_owned();
    let entries = run("find", &[tree.as_str(), "-printf", "x"])?.len();
    Ok(format!("the image: five layers, {size} MiB in {entries} files and directories"))
}

#[expect(clippy::cast_precision_loss, reason = "sizes of images")]
fn samples(seconds: f64, peak_mib: f64, bytes: u64) -> Samples {
    let mib = bytes as f64 / 1_048_576.0;
    vec![(TIME.to_owned(), seconds), (PEAK.to_owned(), peak_mib), (SIZE.to_owned(), mib)]
}
