//! The stream of `bedplate workflow cp`, of which neither end trusts the other.

use std::{fs, path::Path};

use copy_tree::{Target, unpack};

/// What lies beside the place of the copy, and stays as it is.
const SECRET: &str = "secret";

/// Unpacks a stream into an empty directory.
pub(crate) fn copy_tree(input: &[u8]) -> bool {
    let Ok(root) = tempfile::tempdir() else { panic!("there is room for a directory") };
    let (place, secret) = (root.path().join("place"), root.path().join(SECRET));
    assert!(
        fs::create_dir(&place).is_ok() && fs::write(&secret, SECRET).is_ok(),
        "it can be written"
    );
    let Ok(to) = Target::of(&place, "new") else { unreachable!("it is a directory, and a name") };
    let unpacked = unpack(input, &to);
    assert_eq!(names(root.path()), ["place", SECRET], "it made something outside of its place");
    assert_eq!(
        fs::read(&secret).ok().as_deref(),
        Some(SECRET.as_bytes()),
        "it changed what is outside"
    );
    let made = names(&place);
    assert!(made.is_empty() || made == ["new"], "it made {made:?}");
    stay_inside(&to.path(), &place);
    match unpacked {
        Ok(copied) => {
            let most = input.len() as u64;
            assert!(copied.bytes <= most, "{} bytes come of {most}", copied.bytes);
            assert!(
                copied.entries + copied.left_out_count <= most / 512,
                "{copied:?} of {most} bytes"
            );
            copied.entries > 0
        }
        Err(_) => false,
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// No link, wherever it lies, leads out of `place`.
fn stay_inside(path: &Path, place: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_symlink() {
        let target = fs::canonicalize(path);
        let place = fs::canonicalize(place);
        if let (Ok(target), Ok(place)) = (target, place) {
            assert!(target.starts_with(&place), "{} leads to {}", path.display(), target.display());
        }
    } else if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            stay_inside(&entry.path(), place);
        }
    }
}
