//! Holds the files of a store against what rows of a database say of them, beside a server that may
//! use the store: nothing is opened for writing, made or swept.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use api::ids::Digest;
use sha2::{Digest as _, Sha256};

use crate::store::{CHUNK_BYTES, blob_path};

/// A blob that a store should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedBlob {
    /// What it is, and of what, for people: `the squashfs of image debian@2`.
    pub what: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its size in bytes, where the row says it.
    pub size: Option<u64>,
}

/// What is the matter with a blob.
#[derive(Debug, thiserror::Error)]
enum BlobProblem {
    #[error("is missing on the server's disk ({})", path.display())]
    Missing { path: PathBuf },
    #[error("has {size} bytes on the server's disk instead of {expected} ({})", path.display())]
    Size { path: PathBuf, size: u64, expected: u64 },
    #[error("has other bytes on the server's disk than its digest says ({})", path.display())]
    Contents { path: PathBuf },
    #[error("cannot be read on the server's disk ({}): {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
}

/// What a blob is needed for.
#[derive(Debug)]
struct BlobPurpose {
    /// The first that needs it.
    what: String,
    /// How many others do.
    others: usize,
    size: Option<u64>,
}

/// Blobs that a store should hold, each once, and who needs them.
#[derive(Debug)]
pub struct Inspection {
    root: PathBuf,
    blobs: BTreeMap<Digest, BlobPurpose>,
}

impl Inspection {
    /// Of the store in a directory.
    #[must_use]
    pub fn new(root: PathBuf, expected: impl IntoIterator<Item = ExpectedBlob>) -> Self {
        let mut blobs: BTreeMap<Digest, BlobPurpose> = BTreeMap::new();
        for ExpectedBlob { what, digest, size } in expected {
            match blobs.get_mut(&digest) {
                Some(needed) => {
                    needed.others += 1;
                    needed.size = needed.size.or(size);
                }
                None => drop(blobs.insert(digest, BlobPurpose { what, others: 0, size })),
            }
        }
        Self { root, blobs }
    }

    /// Bytes that [`Self::problems`] reads if it reads contents.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let found =
            self.blobs.keys().filter_map(|digest| fs::metadata(blob_path(&self.root, digest)).ok());
        found.map(|metadata| metadata.len()).sum()
    }

    /// What is not as it should be, a line each. With `read` the bytes are held against the digest,
    /// and it is told how many have been read since it was told last. Blocking.
    pub fn problems(&self, mut read: Option<&mut dyn FnMut(u64)>) -> Vec<String> {
        let mut lines = Vec::new();
        for (digest, BlobPurpose { what, others, size }) in &self.blobs {
            let path = blob_path(&self.root, digest);
            let found = check_size(&path, *size).and_then(|()| match read.as_mut() {
                Some(read) => check_contents(&path, digest, read),
                None => Ok(()),
            });
            let Err(problem) = found else { continue };
            let others = match others {
                0 => String::new(),
                others => format!(" (and of {others} more)"),
            };
            lines.push(format!("{what}{others} {problem}"));
        }
        lines
    }
}

fn failed(path: &Path, cause: io::Error) -> BlobProblem {
    let path = path.to_owned();
    match cause.kind() {
        ErrorKind::NotFound => BlobProblem::Missing { path },
        _ => BlobProblem::Unreadable { path, cause },
    }
}

fn check_size(path: &Path, expected: Option<u64>) -> Result<(), BlobProblem> {
    let size = fs::metadata(path).map_err(|error| failed(path, error))?.len();
    match expected.filter(|expected| *expected != size) {
        Some(expected) => Err(BlobProblem::Size { path: path.to_owned(), size, expected }),
        None => Ok(()),
    }
}

fn check_contents(
    path: &Path,
    digest: &Digest,
    read: &mut dyn FnMut(u64),
) -> Result<(), BlobProblem> {
    let mut file = File::open(path).map_err(|error| failed(path, error))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK_BYTES]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                hash.update(&buffer[..length]);
                read(length as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(path, error)),
        }
    }
    if Digest(hash.finalize().into()) == *digest {
        return Ok(());
    }
    Err(BlobProblem::Contents { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn what_is_missing_cut_or_changed_is_told_once_with_all_who_need_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let put = |text: &str| store.put(text.as_bytes()).unwrap().0;
        let blobs = ["whole", "gone", "cut", "changed", "of no known size"].map(put);
        fs::remove_file(store.path(&blobs[1])).unwrap();
        for (blob, text) in [(blobs[2], "cu"), (blobs[3], "chanGed")] {
            fs::remove_file(store.path(&blob)).unwrap();
            fs::write(store.path(&blob), text).unwrap();
        }
        let expected = |what: &str, blob: usize, size| ExpectedBlob {
            what: what.to_owned(),
            digest: blobs[blob],
            size,
        };
        let inspection = Inspection::new(
            directory.path().to_owned(),
            [
                expected("a", 0, Some(5)),
                expected("b", 1, Some(4)),
                expected("c", 1, None),
                expected("d", 2, Some(3)),
                expected("e", 3, Some(7)),
                expected("f", 4, None),
            ],
        );
        let bare = |lines: Vec<String>| -> Vec<String> {
            let mut lines: Vec<String> =
                lines.iter().map(|line| line.rsplit_once(" (/").unwrap().0.to_owned()).collect();
            lines.sort();
            lines
        };
        let shallow = [
            "b (and of 1 more) is missing on the server's disk",
            "d has 2 bytes on the server's disk instead of 3",
        ];
        assert_eq!(bare(inspection.problems(None)), shallow);
        let mut read = 0;
        let deep = bare(inspection.problems(Some(&mut |bytes| read += bytes)));
        assert_eq!(
            deep,
            [&shallow[..], &["e has other bytes on the server's disk than its digest says"]]
                .concat()
        );
        // What has another size is not read.
        assert_eq!((read, inspection.bytes()), (5 + 7 + 16, 5 + 2 + 7 + 16));
    }
}
