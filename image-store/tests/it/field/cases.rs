//! The layouts, in groups: what surrounds layers, how layers lie over each other, what a tar entry
//! can say, sparse files.

use std::{path::Path, process::Command};

use serde_json::json;
use tar::EntryType;

use super::{
    archive::{TIME, dir, file, hard, named, node, other, sparse_gnu, sparse_pax, symlink, tar},
    layout::{INDEX, Layout, MANIFEST, Packing, amd64, write},
    tree::run,
};

/// A layout, and what is expected of both readers.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) make: Make,
    pub(super) verdict: Verdict,
    /// Layers that hold the same and that umoci takes, where it does not take the case itself.
    pub(super) alike: Option<fn() -> Vec<Vec<u8>>>,
}

/// How a layout is made.
#[derive(Clone, Copy)]
pub(super) enum Make {
    /// Plain layers, lowest first; the peer is umoci.
    Layers(fn() -> Vec<Vec<u8>>),
    /// Likewise; the peer is GNU tar.
    Sparse(fn() -> Vec<Vec<u8>>),
    /// By hand: the directory of the layout, and one to work in.
    Layout(fn(&Path, &Path)),
}

/// What is right.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// Both make the same tree.
    Same,
    /// The trees differ in these paths, and why.
    Differs(&'static [&'static str], &'static str),
    /// The peer refuses it, and why. Ours is what the peer makes of [`Case::alike`].
    OnlyOurs(&'static str),
    /// Both refuse it: what our error says.
    Neither(&'static str),
}

const fn layers(name: &'static str, make: fn() -> Vec<Vec<u8>>) -> Case {
    Case { name, make: Make::Layers(make), verdict: Verdict::Same, alike: None }
}

const fn sparse(name: &'static str, make: fn() -> Vec<Vec<u8>>) -> Case {
    Case { name, make: Make::Sparse(make), verdict: Verdict::Same, alike: None }
}

const fn layout(name: &'static str, make: fn(&Path, &Path)) -> Case {
    Case { name, make: Make::Layout(make), verdict: Verdict::Same, alike: None }
}

impl Case {
    const fn but(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// The peer refuses it, and takes the same in another form.
    const fn only_ours(self, why: &'static str, alike: fn() -> Vec<Vec<u8>>) -> Self {
        Self { verdict: Verdict::OnlyOurs(why), alike: Some(alike), ..self }
    }
}

/// Debian 12's umoci is older than layers of zstd.
const NO_ZSTD: &str = "umoci 0.4.7 knows no zstd; containerd and skopeo do";

/// A layer that most cases begin with.
fn base() -> Vec<u8> {
    tar([
        dir("etc/"),
        file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        dir("usr/"),
        dir("usr/bin/"),
        file("usr/bin/tool", b"#!/bin/sh\n").mode(0o755),
        symlink("bin", "usr/bin"),
    ])
}

fn upper() -> Vec<u8> {
    tar([dir("etc/"), file("etc/group", b"root:x:0:\n")])
}

pub(super) const CASES: &[Case] = &[
    // What surrounds layers.
    layers("one plain layer", || vec![base()]),
    layout("gzip", |directory, _| write(directory, &[(base(), Packing::Gzip)])),
    layout("zstd", |directory, _| write(directory, &[(base(), Packing::Zstd)]))
        .only_ours(NO_ZSTD, || vec![base()]),
    layout("plain, gzip and zstd in one image", |directory, _| {
        let empty = tar([]);
        write(
            directory,
            &[(base(), Packing::Plain), (upper(), Packing::Zstd), (empty, Packing::Gzip)],
        );
    })
    .only_ours(NO_ZSTD, || vec![base(), upper()]),
    layout("gzip of many members (eStargz, pigz)", |directory, _| {
        write(directory, &[(base(), Packing::GzipMembers)]);
    }),
    layout("zstd with frames to skip (pzstd)", |directory, _| {
        write(directory, &[(base(), Packing::Pzstd)])
    })
    .only_ours(NO_ZSTD, || vec![base()]),
    layout("Docker's media types (v2s2)", docker_media_types)
        .only_ours("umoci knows those of OCI alone; skopeo and containerd take both", || {
            vec![base()]
        }),
    layout("docker save, copied by skopeo", docker_save),
    layout("an index within an index", nested_index),
    layout("several platforms and an attestation", several_platforms)
        .only_ours("umoci chooses no platform", || {
            vec![tar([file("platform", amd64().to_string().as_bytes())])]
        }),
    layout("history with empty layers", history),
    layout("a config as Docker writes it", docker_config),
    layout("a config without rootfs", without_rootfs)
        .but(Verdict::Neither("missing field `rootfs`")),
    layers("layers without entries and without bytes", || {
        vec![base(), tar([]), Vec::new(), upper()]
    }),
    layers("an archive without an end", || vec![base(), cut(upper(), 1024)]),
    layers("an archive that ends in mid-file", || vec![base(), cut(upper(), 1024 + 512)])
        .but(Verdict::Neither("unexpected end of file")),
    layers("a global PAX header (git archive)", || {
        vec![tar([
            other(b'g', "pax_global_header").stored(b"16 comment=0123\n".to_vec()),
            file("a", b"a"),
        ])]
    })
    .only_ours("umoci knows no such entry; it holds a comment", || vec![tar([file("a", b"a")])]),
    // How layers lie over each other.
    layers("whiteouts of a file and of a directory", || {
        vec![base(), tar([file("etc/.wh.passwd", b""), file(".wh.usr", b"")])]
    }),
    layers("an opaque directory", || {
        vec![base(), tar([dir("etc/"), file("etc/.wh..wh..opq", b""), file("etc/new", b"new")])]
    }),
    layers("an opaque mark after what it spares", || {
        vec![base(), tar([file("etc/new", b"new"), file("etc/.wh..wh..opq", b"")])]
    }),
    layers("opaque, and the same name again", || {
        vec![
            base(),
            tar([dir("etc/"), file("etc/.wh..wh..opq", b""), file("etc/passwd", b"other")]),
        ]
    }),
    layers("a whiteout beside a new file of that name", || {
        vec![base(), tar([file("etc/.wh.passwd", b""), file("etc/passwd", b"new")])]
    }),
    layers("a whiteout of what is not there", || vec![base(), tar([file("srv/.wh.x", b"")])]),
    layers("leavings of aufs", || {
        vec![tar([file(".wh..wh.aufs", b""), dir(".wh..wh.plnk/"), file("a", b"a")])]
    }),
    layers("hard links, the first name set-uid", || {
        vec![tar([
            file("su", b"su").mode(0o4755),
            hard("su2", "su").mode(0o4755),
            hard("./su3", "./su2").mode(0o4755),
        ])]
    }),
    layers("a hard link to a lower layer", || {
        vec![base(), tar([hard("usr/bin/same", "usr/bin/tool").mode(0o755)])]
    }),
    layers("a hard link whose first name is replaced", || {
        vec![tar([file("a", b"old"), hard("b", "a")]), tar([file("a", b"new")])]
    }),
    layers("a hard link whose first name goes", || {
        vec![tar([file("a", b"old"), hard("b", "a")]), tar([file(".wh.a", b"")])]
    }),
    layers("a hard link to a symbolic link", || {
        vec![tar([file("a", b"a"), symlink("s", "a"), hard("t", "s")])]
    }),
    layers("a hard link through a linked directory", || {
        vec![base(), tar([hard("same", "bin/tool")])]
    }),
    layers("a hard link to itself", || vec![tar([file("a", b"a"), hard("a", "a")])])
        .only_ours("umoci removes the name first; GNU tar leaves it", || {
            vec![tar([file("a", b"a")])]
        }),
    layers("a hard link with a size", || {
        vec![tar([
            file("a", b"content"),
            hard("b", "a").raw(|bytes| bytes[124..136].copy_from_slice(b"00000000007\0")),
            file("c", b"c"),
        ])]
    }),
    layers("a hard link to nothing", || vec![tar([hard("b", "a")])])
        .but(Verdict::Neither("which is not there")),
    layers("usrmerge: entries below the link", || {
        vec![
            tar([dir("usr/"), dir("usr/lib/"), file("usr/lib/a", b"a"), symlink("lib", "usr/lib")]),
            tar([file("lib/b", b"b"), dir("lib/modules/"), file("lib/modules/c", b"c")]),
        ]
    }),
    layers("usrmerge: the link becomes a directory", || {
        vec![
            tar([dir("usr/"), dir("usr/lib/"), file("usr/lib/a", b"a"), symlink("lib", "usr/lib")]),
            tar([dir("lib/"), file("lib/b", b"b")]),
        ]
    }),
    layers("absolute and chained links on the way", || {
        vec![
            tar([
                dir("run/"),
                dir("var/"),
                symlink("var/run", "/run"),
                symlink("var/lock", "run/lock"),
            ]),
            tar([dir("run/lock/"), file("var/run/pid", b"1"), file("var/lock/x", b"x")]),
        ]
    }),
    layers("links that lead out of the root", || {
        vec![
            tar([dir("etc/"), symlink("out", "../../../../etc"), symlink("up", "/../../etc")]),
            tar([file("out/a", b"a"), file("up/b", b"b")]),
        ]
    }),
    layers("a loop of links on the way", || {
        vec![tar([symlink("a", "b"), symlink("b", "a"), file("a/x", b"x")])]
    })
    .but(Verdict::Neither("too many symbolic links")),
    layers("a directory becomes a file", || vec![base(), tar([file("usr", b"file")])]),
    layers("a file becomes a directory", || {
        vec![base(), tar([dir("usr/bin/tool/"), file("usr/bin/tool/root", b"root")])]
    }),
    layers("a file becomes a directory, unsaid", || {
        vec![base(), tar([file("etc/passwd/root", b"root")])]
    })
    .but(Verdict::Neither("is not a directory")),
    layers("a link becomes a file, a file a link", || {
        vec![base(), tar([file("bin", b"file"), symlink("usr/bin/tool", "/bin")])]
    }),
    layers("a directory said again with other values", || {
        vec![
            tar([dir("etc/").mode(0o700).pax("SCHILY.xattr.user.a", b"1"), file("etc/a", b"a")]),
            tar([dir("etc/").mode(0o1777).owner(1, 2).time(TIME + 9)]),
        ]
    }),
    layers("entries twice in one layer", || {
        vec![tar([
            file("a", b"first"),
            file("a", b"second").mode(0o600),
            dir("d/"),
            file("d/x", b"x"),
            file("d", b"file"),
            file("l", b"l"),
            hard("l", "a"),
            file("l", b"own"),
        ])]
    }),
    layers("no entries for directories", || {
        vec![tar([file("a/b/c/d", b"d")]), tar([file("a/b/e", b"e")])]
    }),
    // What an entry can say.
    layers("./ before names, / behind directories", || {
        vec![tar([
            dir("./").mode(0o750).owner(3, 4),
            dir("./a/"),
            file("./a/./b", b"b"),
            file("a//c", b"c"),
        ])]
    }),
    layers("absolute names", || vec![tar([dir("/a/"), file("/a/b", b"b"), hard("/c", "/a/b")])]),
    layers(".. in names", || {
        vec![tar([
            dir("a/"),
            file("a/../b", b"b"),
            file("../../c", b"c"),
            file("a/../../../d", b"d"),
        ])]
    }),
    layers("long names of GNU tar", || {
        let (path, target) = (format!("{}/f", "long/".repeat(60)), "t/".repeat(120));
        vec![tar([
            file("long", b"f").gnu().long(b'L', path.as_bytes()),
            symlink("s", "t").gnu().long(b'K', target.as_bytes()),
        ])]
    }),
    layers("long names of PAX", || {
        let (path, target) = (format!("{}/f", "long/".repeat(60)), "t/".repeat(120));
        vec![tar([
            file("long", b"f").pax("path", path.as_bytes()),
            symlink("s", "t").pax("linkpath", target.as_bytes()),
        ])]
    }),
    layers("a name in two parts (ustar)", || {
        vec![tar([file("name", b"x").raw(|bytes| bytes[345..356].copy_from_slice(b"prefix/more"))])]
    }),
    layers("headers of before POSIX (v7)", || {
        vec![tar([
            file("dir/", b"").v7().raw(|bytes| bytes[156] = 0),
            file("dir/a", b"a").v7().raw(|bytes| bytes[156] = 0),
            symlink("s", "dir/a").v7(),
        ])]
    }),
    layers("names in UTF-8, Latin-1 and with odd bytes", || {
        vec![tar([
            file("Straße", b"1"),
            file("日本語", b"2"),
            named(b"caf\xe9", b"3"),
            file("new\nline", b"4"),
            file("back\\slash", b"5"),
            file(" blank ", b"6"),
            file("x", b"7").pax("path", "päx".as_bytes()),
        ])]
    }),
    layers("attributes: user and capability", || {
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        vec![tar([
            file("ping", b"ping").mode(0o755).pax("SCHILY.xattr.security.capability", &capability),
            file("a", b"a").pax("SCHILY.xattr.user.binary", &[0, b'=', b'\n', 0xff]),
            dir("d/").pax("SCHILY.xattr.user.one", b"1").pax("SCHILY.xattr.user.two", b"2"),
        ])]
    }),
    layers("attributes that go with a new file", || {
        vec![
            tar([file("a", b"a").pax("SCHILY.xattr.user.a", b"1")]),
            tar([file("a", b"a").pax("SCHILY.xattr.user.b", b"2")]),
        ]
    }),
    layers("an attribute without a value", || {
        vec![tar([file("a", b"a").pax("SCHILY.xattr.user.empty", b"")])]
    })
    .but(Verdict::Differs(
        &["a"],
        "Go's reader of tar drops attributes without a value, GNU tar does not",
    )),
    layers("devices and a pipe", || {
        vec![tar([
            dir("dev/"),
            node(EntryType::Char, "dev/null", 1, 3).mode(0o666),
            node(EntryType::Block, "dev/sda", 8, 0),
            node(EntryType::Fifo, "dev/initctl", 0, 0),
            node(EntryType::Char, "dev/large", 511, 70_000),
        ])]
    }),
    layers("a 0:0 device, overlayfs' whiteout", || {
        vec![base(), tar([node(EntryType::Char, "etc/passwd", 0, 0)])]
    }),
    layers("a socket, which tar has no type for", || vec![tar([other(b's', "sock")])])
        .but(Verdict::Neither("are not supported")),
    layers("set-uid, set-gid, sticky, no rights at all", || {
        vec![tar([
            file("u", b"").mode(0o4711).owner(5, 6),
            file("g", b"").mode(0o2755).owner(5, 6),
            dir("tmp/").mode(0o1777),
            dir("none/").mode(0),
            file("none/x", b"x").mode(0),
        ])]
    }),
    layers("mode with the bits of the kind", || {
        vec![tar([file("a", b"a").mode(0o100_755), dir("d/").mode(0o40_755)])]
    }),
    layers("owners past 2097151: base 256 and PAX", || {
        vec![tar([
            file("binary", b"").gnu().owner(3_000_000, 4_000_000_000),
            file("pax", b"").pax("uid", b"3000000").pax("gid", b"4000000000"),
        ])]
    }),
    layers("times: fraction, past 2038, year 2242", || {
        vec![tar([
            file("fraction", b"").pax("mtime", b"1700000000.999999999"),
            file("late", b"").time(4_000_000_000),
            file("octal", b"").time(0o77_777_777_777),
        ])]
    })
    .but(Verdict::Differs(&["octal"], "squashfs has 32 bits for seconds, without a sign")),
    layers("times before 1970", || {
        vec![tar([
            file("pax", b"").pax("mtime", b"-1.5"),
            file("binary", b"").gnu().raw(|bytes| bytes[136..148].fill(0xff)),
        ])]
    })
    .but(Verdict::Differs(&["binary", "pax"], "squashfs has 32 bits for seconds, without a sign")),
    layers("fields that are empty or blank", || {
        vec![tar([file("a", b"").raw(|bytes| {
            bytes[108..116].fill(0);
            bytes[116..124].fill(b' ');
            bytes[329..345].fill(0);
        })])]
    }),
    layers("a field that is no number", || {
        vec![tar([file("a", b"").raw(|bytes| bytes[108..116].copy_from_slice(b"nobody\0\0"))])]
    })
    .but(Verdict::Neither("an owner in its header is not a number")),
    layers("a wrong checksum", || {
        let mut bytes = base();
        bytes[0] ^= 1;
        vec![bytes]
    })
    .but(Verdict::Neither("wrong checksum")),
    sparse("a file of type 0 with a slash behind it", || {
        vec![tar([file("dir/", b"").mode(0o755), file("dir/a", b"a")])]
    }),
    // Sparse files.
    sparse("sparse: old GNU", || {
        let pieces = [(4096, b'a', 1024), (50_176, b'b', 512), (100_000, b'c', 0)];
        vec![tar([sparse_gnu("s", 100_000, &pieces), file("after", b"x")])]
    }),
    sparse("sparse: old GNU, a map of 31 pieces", || {
        let mut pieces: Vec<(u64, u8, usize)> =
            (0..30).map(|piece| (piece * 8192, b'a', 512)).collect();
        pieces.push((30 * 8192, b'c', 0));
        vec![tar([sparse_gnu("s", 30 * 8192, &pieces), file("after", b"x")])]
    }),
    sparse("sparse: PAX 0.0", || {
        let pieces = [(0, b'a', 512), (65_024, b'b', 4976)];
        vec![tar([sparse_pax((0, 0), "s", 70_000, &pieces), file("after", b"x")])]
    }),
    sparse("sparse: PAX 0.1", || {
        let pieces = [(512, b'a', 1024), (70_000, b'c', 0)];
        vec![tar([sparse_pax((0, 1), "dir/s", 70_000, &pieces), file("after", b"x")])]
    }),
    sparse("sparse: PAX 1.0", || {
        let mut pieces: Vec<(u64, u8, usize)> =
            (0..200).map(|piece| (piece * 4096, b'a', 512)).collect();
        pieces.push((900_000, b'c', 0));
        vec![tar([sparse_pax((1, 0), "dir/s", 900_000, &pieces), file("after", b"x")])]
    }),
    sparse("sparse: nothing but a hole of 64 MiB", || {
        vec![tar([
            sparse_pax((1, 0), "lastlog", 64 << 20, &[(64 << 20, b'a', 0)]),
            file("after", b"x"),
        ])]
    }),
    // GNU tar begins each piece at a block; others write one behind the other.
    layers("sparse: pieces of odd sizes", || {
        let pieces = [(9, b'a', 5), (700, b'b', 1000), (65_000, b'c', 1)];
        vec![tar([
            sparse_pax((0, 1), "old", 70_000, &pieces),
            sparse_pax((1, 0), "new", 70_000, &pieces),
            file("after", b"x"),
        ])]
    }),
    layers("sparse: a map that says two things", || {
        vec![tar([sparse_pax((0, 1), "s", 70_000, &[(0, b'a', 512), (100, b'b', 512)])])]
    })
    .but(Verdict::Neither("the map of a sparse file is broken")),
    sparse("sparse: written by GNU tar in all its forms", by_gnu_tar),
];

fn cut(mut bytes: Vec<u8>, less: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - less);
    bytes
}

fn docker_media_types(directory: &Path, _: &Path) {
    let layout = Layout::new(directory);
    let docker = |kind: &str| format!("application/vnd.docker.{kind}");
    let layer = layout.put(&Packing::Gzip.pack(&base()), &docker("image.rootfs.diff.tar.gzip"));
    let mut config = amd64();
    config["rootfs"] = json!({"type": "layers", "diff_ids": [crate::image::digest(&base())]});
    let config = layout.put_json(&config, &docker("container.image.v1+json"));
    let media_type = docker("distribution.manifest.v2+json");
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let entry = layout.put_json(&manifest, &media_type);
    layout.end(vec![entry]);
}

/// `docker save` writes plain layers and configs of its own; what skopeo makes of them is a layout
/// again.
fn docker_save(directory: &Path, work: &Path) {
    let first = work.join("first");
    write(&first, &[(base(), Packing::Gzip), (upper(), Packing::Gzip)]);
    let archive = format!("docker-archive:{}:site/node:1", work.join("saved.tar").display());
    let copy = |from: &str, to: &str| {
        run(Command::new("skopeo").args(["--insecure-policy", "copy", from, to]))
    };
    copy(&format!("oci:{}:1", first.display()), &archive).unwrap();
    copy(&archive, &format!("oci:{}:1", directory.display())).unwrap();
}

fn nested_index(directory: &Path, _: &Path) {
    let layout = Layout::new(directory);
    let mut image = layout.image(&amd64(), &[(base(), Packing::Gzip)], json!({}));
    image["platform"] = amd64();
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image]});
    let entry = layout.put_json(&inner, INDEX);
    layout.end(vec![entry]);
}

/// As buildx writes: arm64 first, amd64, amd64 for newer processors, and what was known when it was
/// built.
fn several_platforms(directory: &Path, _: &Path) {
    let layout = Layout::new(directory);
    let platforms = [
        json!({"architecture": "arm64", "os": "linux", "variant": "v8"}),
        json!({"architecture": "amd64", "os": "linux", "variant": "v3"}),
        amd64(),
        json!({"architecture": "unknown", "os": "unknown"}),
    ];
    let images = platforms.map(|platform| {
        let said = platform.to_string();
        let layer = tar([file("platform", said.as_bytes())]);
        let mut image = layout.image(&platform, &[(layer, Packing::Gzip)], json!({}));
        image["platform"] = platform;
        image
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
    let entry = layout.put_json(&index, INDEX);
    layout.end(vec![entry]);
}

fn history(directory: &Path, _: &Path) {
    let layout = Layout::new(directory);
    let step = |by: &str, empty: bool| json!({"created": "2026-01-01T00:00:00.5Z", "created_by": by, "empty_layer": empty});
    let history =
        [step("ADD", false), step("ENV A=b", true), step("RUN", false), step("CMD", true)];
    let layers = [(base(), Packing::Gzip), (upper(), Packing::Gzip)];
    let entry = layout.image(&amd64(), &layers, json!({"history": history}));
    layout.end(vec![entry]);
}

/// Nulls, and fields that the specification does not have.
fn docker_config(directory: &Path, _: &Path) {
    let layout = Layout::new(directory);
    let more = json!({
        "config": {
            "Hostname": "", "User": "", "AttachStdin": false, "ExposedPorts": {"22/tcp": {}},
            "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Healthcheck": {"Test": ["NONE"]},
            "ArgsEscaped": true, "Image": "sha256:0", "Volumes": null, "WorkingDir": "",
            "Entrypoint": null, "OnBuild": null, "Labels": null, "Shell": ["/bin/sh", "-c"],
        },
        "container": "0123", "container_config": {"Cmd": null}, "docker_version": "20.10.7",
        "created": "2026-01-01T00:00:00.123456789Z", "history": null,
    });
    let entry = layout.image(&amd64(), &[(base(), Packing::Gzip)], more);
    layout.end(vec![entry]);
}

fn without_rootfs(directory: &Path, _: &Path) {
    let layout = Layout::new(directory);
    let (layers, _) = layout.layers(&[(base(), Packing::Gzip)]);
    let config = layout.put_json(&amd64(), super::layout::CONFIG);
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let entry = layout.put_json(&manifest, MANIFEST);
    layout.end(vec![entry]);
}

/// One layer for each form, each with a file of its own.
fn by_gnu_tar() -> Vec<Vec<u8>> {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let forms = [
        ("gnu", &["--format=gnu"][..]),
        ("pax00", &["--format=posix", "--sparse-version=0.0"]),
        ("pax01", &["--format=posix", "--sparse-version=0.1"]),
        ("pax10", &["--format=posix", "--sparse-version=1.0"]),
    ];
    let make = |(name, form): &(&str, &[&str])| {
        let path = work.path().join(name);
        let sparse = std::fs::File::create(&path).unwrap();
        for piece in 0..40_u64 {
            let at = piece * (1 << 17) + 5000;
            std::os::unix::fs::FileExt::write_all_at(&sparse, name.as_bytes(), at).unwrap();
        }
        sparse.set_len(8 << 20).unwrap();
        sparse.sync_all().unwrap();
        let archive = work.path().join("layer.tar");
        let mut tar = Command::new("tar");
        tar.arg("--create")
            .arg("--sparse")
            .args(*form)
            .args(["--mtime=@1700000000", "--numeric-owner"]);
        run(tar.arg("-f").arg(&archive).arg("-C").arg(work.path()).arg(name)).unwrap();
        std::fs::read(&archive).unwrap()
    };
    forms.iter().map(make).collect()
}
