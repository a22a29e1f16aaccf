//! Images that were made to kill the server, or to keep it busy, small: each ends in an artifact or
//! in an error that names what is wrong, in a converter that has 448 MiB and no more.

use std::{fs, io::Write as _, path::Path};

use api::ids::Digest;
use flate2::{Compression, write::GzEncoder};
use image_store::{ConvertError, Layer, NoProgress, OciError, Platform, Store, oci::import_layout};
use tar::{EntryType, Header};

use crate::{
    converter::converter,
    image::{Entry, digest, layer},
};

const IMAGE: Digest = Digest([8; 32]);

/// The end of an archive.
const END: [u8; 1024] = [0; 1024];

/// An entry as no honest program writes it: any name, any content, any change of the header
/// before its checksum.
fn entry(kind: u8, name: &[u8], content: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    change(&mut header.as_mut_bytes()[..]);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    entry(b'0', name, content, |_| ())
}

/// A link of this kind.
fn link(kind: u8, name: &[u8], target: &[u8]) -> Vec<u8> {
    entry(kind, name, b"", |header| header[157..157 + target.len()].copy_from_slice(target))
}

/// A PAX header with these records.
fn pax(records: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        write!(content, "{length} {key}=").unwrap();
        content.extend_from_slice(&value);
        content.push(b'\n');
    }
    entry(b'x', b"PaxHeader", &content, |_| ())
}

fn xattrs(count: usize, bytes: usize) -> Vec<u8> {
    pax((0..count).map(|number| (format!("SCHILY.xattr.user.{number:05}"), vec![b'v'; bytes])))
}

/// A gzip member.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Converts layers, packed or not, as a container's image in the jail.
fn convert(layers: &[Vec<u8>]) -> Result<u64, String> {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let put = |bytes: &Vec<u8>| {
        let (digest, size) = store.put(bytes.as_slice()).unwrap();
        Layer {
            digest,
            size,
            media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
            diff_id: None,
        }
    };
    let layers: Vec<Layer> = layers.iter().map(put).collect();
    let root = converter(directory.path()).job_root(&store, &IMAGE, &layers, &NoProgress);
    assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0, "{root:?}");
    match root {
        Ok(root) => Ok(root.size),
        Err(ConvertError::Refused { message, .. }) => Err(message),
        Err(error) => panic!("{error:?}"),
    }
}

fn assert_refused(layers: &[Vec<u8>], why: &str) {
    let refused = convert(layers).expect_err(why);
    assert!(refused.contains(why), "{why:?} is not in {refused:?}");
}

fn one(entries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    vec![[entries.concat(), END.to_vec()].concat()]
}

#[test]
fn names_that_lead_out_stay_inside() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("pwned");
    let up = format!("../../../../../..{}", path.display()).into_bytes();
    let target = outside.path().display().to_string();
    let entries = [
        file(&up, b"x"),
        file(path.display().to_string().as_bytes(), b"y"),
        link(b'2', b"l", target.as_bytes()),
        file(b"l/pwned", b"z"),
        entry(b'4', b"dev/sda", b"", |header| header[329..337].copy_from_slice(b"0000010\0")),
        entry(b'6', b"fifo", b"", |_| ()),
        entry(b'0', b"suid", b"x", |header| header[100..108].copy_from_slice(b"0004755\0")),
        file(b"etc/\xff\xfe\x1b[2Jevil\nname", b"1"),
    ];
    convert(&one(&entries)).unwrap();
    assert!(!path.exists());
}

#[test]
fn links_and_numbers_that_cannot_be_are_refused() {
    let loops = [link(b'2', b"a", b"b"), link(b'2', b"b", b"a"), file(b"a/x", b"1")];
    assert_refused(&one(&loops), "too many symbolic links");
    assert_refused(&one(&[link(b'1', b"shadow", b"/etc/shadow")]), "hard link to /etc/shadow");
    assert_refused(&one(&[file(b".wh...", b"")]), "whiteouts");
    let long = entry(b'L', b"././@LongLink", &vec![b'n'; 65_536], |_| ());
    assert_refused(&one(&[long, file(b"x", b"1")]), "its name is too long");
    for size in [&[0xff; 12], b"-0000000001\0"] {
        let negative = entry(b'0', b"neg", b"", |header| header[124..136].copy_from_slice(size));
        assert_refused(&one(&[negative]), "the size in its header is not a number");
    }
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let huge = entry(b'0', b"big", b"", |header| header[124..136].copy_from_slice(huge));
    assert_refused(&one(&[huge]), "cannot be read");
    let size = pax([("size".to_owned(), (1_u64 << 62).to_string().into_bytes())]);
    assert_refused(&one(&[size, file(b"p", b"hello")]), "cannot be read");
    let sparse = ["major", "minor", "realsize"].into_iter().zip(["1", "0", "1152921504606846976"]);
    let sparse = pax(sparse.map(|(key, value)| (format!("GNU.sparse.{key}"), value.into())));
    assert_refused(&one(&[sparse, file(b"s", b"x")]), "cannot be read");
}

/// What no program writes, and no rule of the format decides: an image or an error.
#[test]
fn entries_that_contradict_themselves_end_in_an_image_or_an_error() {
    let size = |value: &str| pax([("size".to_owned(), value.as_bytes().to_vec())]);
    let link = link(b'2', b"q", b"etc");
    for entries in [
        vec![size("-5"), file(b"p", b"hello")],
        vec![size("512"), link, vec![0; 512]],
        vec![file(b"etc/keep", b"1"), file(b"../../etc/.wh..wh..opq", b"")],
        vec![file(b"etc/.wh.../../x", b"")],
    ] {
        // Whatever it says: `convert` panics where the converter does not say it.
        let _ = convert(&one(&entries));
    }
}

/// 6 MB of layer, which killed the server at 3.5 GiB.
#[test]
fn attributes_count_for_the_memory_of_an_image() {
    let member = gzip(&[xattrs(15, 60_000), file(b"x", b"1")].concat());
    let layer = [member.repeat(400), gzip(&END)].concat();
    assert!(layer.len() < 4 << 20, "{}", layer.len());
    assert_refused(&[layer], "more than 268435456 bytes of memory");
}

/// 164 kB of headers took four minutes; now they take no more steps than they have records.
#[test]
fn many_attributes_of_one_file_are_no_trouble() {
    convert(&one(&[xattrs(1_500, 1), file(b"x", b"1")])).unwrap();
    // tar2sqfs takes 64 KiB of headers for a file, as Linux takes attributes.
    assert_refused(&one(&[xattrs(20_000, 1), file(b"x", b"1")]), "PAX header");
    let headers: Vec<Vec<u8>> =
        (0..40).map(|_| xattrs(900, 1000)).chain([file(b"x", b"1")]).collect();
    assert_refused(&one(&headers), "extended headers");
    let endless: Vec<Vec<u8>> =
        (0..3).map(|_| entry(b'L', b"././@LongLink", &vec![b'n'; 1_000_000], |_| ())).collect();
    assert_refused(&one(&endless), "extended headers");
}

/// 2.6 MB of layer, whose implied directories took 9.2 GiB.
#[test]
fn implied_directories_count_for_the_memory_of_an_image() {
    let rest = format!("/{}", "b".repeat(190)).repeat(20);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for number in 0..60_000 {
        let path = format!("{number}{rest}").into_bytes();
        encoder.write_all(&entry(b'L', b"././@LongLink", &path, |_| ())).unwrap();
        encoder.write_all(&file(b"x", b"")).unwrap();
    }
    encoder.write_all(&END).unwrap();
    assert_refused(&[encoder.finish().unwrap()], "more than 268435456 bytes of memory");
}

#[test]
fn deep_paths_end_in_an_image_or_an_error() {
    let path = |number: usize| format!("{}{number}", "a/".repeat(1_990)).into_bytes();
    let entries: Vec<Vec<u8>> = (0..20)
        .flat_map(|number| [entry(b'L', b"././@LongLink", &path(number), |_| ()), file(b"x", b"")])
        .collect();
    // Whether tar2sqfs takes so many levels is its affair: it says so or does it.
    if let Err(refused) = convert(&one(&entries)) {
        assert!(refused.contains("tar2sqfs"), "{refused}");
    }
    let too_deep = format!("{}x", "a/".repeat(2_047)).into_bytes();
    let too_deep = [entry(b'L', b"././@LongLink", &too_deep, |_| ()), file(b"x", b"")];
    let _ = convert(&one(&too_deep));
}

/// 300,000 of them kept the server busy for over a minute, and a million for hours: `tar2sqfs`
/// walks the directory for each.
#[test]
fn a_crowded_directory_is_refused_before_tar2sqfs_walks_it() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&file(b"t", b"x")).unwrap();
    for number in 0..210_000 {
        encoder.write_all(&link(b'1', format!("h/{number:06}").as_bytes(), b"t")).unwrap();
    }
    encoder.write_all(&END).unwrap();
    assert_refused(&[encoder.finish().unwrap()], "h has 210000 names");
}

#[test]
fn what_unpacks_to_much_takes_no_memory() {
    let zeros = gzip(&vec![0; 1 << 20]);
    let size = 256 << 20;
    let header = entry(b'0', b"z.bin", b"", |header| {
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    });
    let layer = [gzip(&header), zeros.repeat(256), gzip(&END)].concat();
    assert!(convert(&[layer]).unwrap() < 4 << 20);
}

/// What comes after the end of an archive counts where the configuration says what all of it is.
#[test]
fn rubbish_behind_a_layer_is_refused_where_its_digest_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let tar = layer(&[Entry::File("a", 0o644, b"x")]);
    let packed = [gzip(&tar), vec![0x5a; 4096]].concat();
    let (blob, size) = store.put(packed.as_slice()).unwrap();
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip".to_owned();
    let known = Layer { digest: blob, size, media_type, diff_id: Some(digest(&tar)) };
    let unknown = Layer { diff_id: None, ..known.clone() };
    let convert =
        |layer: Layer| converter(directory.path()).job_root(&store, &IMAGE, &[layer], &NoProgress);
    convert(unknown).unwrap();
    let refused = convert(known).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("layer {blob} cannot be read")), "{refused}");
}

/// Documents of an image, which the server reads itself.
#[test]
fn documents_that_nest_without_end_are_refused() {
    let refused = |manifest: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        layout_of(directory.path(), manifest);
        let store = Store::open(directory.path().join("store")).unwrap();
        let reference = directory.path().join("layout").display().to_string();
        import_layout(&store, &reference, &Platform::default(), &NoProgress).unwrap_err()
    };
    let nested =
        format!(r#"{{"layers":[],"annotations":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let error = refused(nested.as_bytes());
    assert!(matches!(&error, OciError::Document { what: "manifest", .. }), "{error:?}");
    let escaping = br#"{"schemaVersion":2,"layers":[],"config":{"mediaType":"x","digest":"sha256:../../etc/passwd","size":1}}"#;
    let error = refused(escaping);
    assert!(matches!(&error, OciError::Document { .. }), "{error:?}");
    // Also a configuration with megabytes of environment.
    let error = format!("{:?}", refused(&vec![b' '; (4 << 20) + 1]));
    assert!(error.contains("at most 4194304 are taken"), "{error}");
    let error = format!("{:?}", indexes_within_indexes(20));
    assert!(error.contains("more than 4 indexes lie within each other"), "{error}");
}

/// What comes of a layout whose index leads to one that leads to one, so many times.
fn indexes_within_indexes(levels: usize) -> OciError {
    let directory = tempfile::tempdir().unwrap();
    let index = "application/vnd.oci.image.index.v1+json";
    let mut bytes = layout_of(directory.path(), b"{}");
    let blobs = directory.path().join("layout/blobs/sha256");
    for _ in 0..levels {
        fs::write(blobs.join(digest(&bytes).hex()), &bytes).unwrap();
        let entry =
            serde_json::json!({"mediaType": index, "digest": digest(&bytes), "size": bytes.len()});
        let outer =
            serde_json::json!({"schemaVersion": 2, "mediaType": index, "manifests": [entry]});
        bytes = outer.to_string().into_bytes();
    }
    fs::write(directory.path().join("layout/index.json"), bytes).unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let reference = directory.path().join("layout").display().to_string();
    import_layout(&store, &reference, &Platform::default(), &NoProgress).unwrap_err()
}

/// A layout whose index leads to these bytes; the index.
fn layout_of(directory: &Path, manifest: &[u8]) -> Vec<u8> {
    let blobs = directory.join("layout/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(digest(manifest).hex()), manifest).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest(manifest),
        "size": manifest.len(),
    }]});
    let index = index.to_string().into_bytes();
    fs::write(directory.join("layout/index.json"), &index).unwrap();
    index
}
