//! The program that the tests of this package watch: `watched STEP DIRECTORY` does one step to the
//! file `file` of three sectors in `DIRECTORY/watched`. It knows nothing of the library that stands
//! before the C library's.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let (Some(step), Some(place)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: watched STEP DIRECTORY"));
    };
    let place = PathBuf::from(place).join("watched");
    let path = place.join("file");
    let open = || File::options().read(true).write(true).open(&path);
    match step.to_string_lossy().as_ref() {
        "write" => File::options().write(true).open(&path)?.write_all(&sectors("bb")),
        "write at" => open()?.write_all_at(&sectors("c"), 512),
        "append" => File::options().append(true).open(&path)?.write_all(&sectors("dd")),
        "replace" => fs::write(&path, sectors("e")),
        "cut" => open()?.set_len(512),
        "sync" => open()?.sync_data(),
        "rename" => {
            let new = place.join("new");
            fs::write(&new, sectors("n"))?;
            File::open(&new)?.sync_all()?;
            fs::rename(&new, &path)
        }
        "remove" => fs::remove_file(&path),
        "sync directory" => File::open(&place)?.sync_all(),
        "elsewhere" => write_and_read(&place.with_file_name("elsewhere")),
        other => Err(io::Error::other(format!("{other:?} is no step"))),
    }
}

fn write_and_read(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(b"x")?;
    file.seek(SeekFrom::Start(0))?;
    let mut read = String::new();
    File::open(path)?.read_to_string(&mut read)?;
    if read == "x" {
        Ok(())
    } else {
        Err(io::Error::other(format!("{read:?} is not what was written")))
    }
}

/// A letter for each sector.
fn sectors(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; 512]).collect()
}
