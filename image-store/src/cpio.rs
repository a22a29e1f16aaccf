//! Writes `newc` cpio archives, the format of an initramfs. Pure. Used for stage 1, and by
//! `provisioner` for the per-node initrd.
//!
//! Layout of an entry (kernel document `driver-api/early-userspace/buffer-format.rst`): `070701`,
//! thirteen fields of eight hexadecimal digits (inode, mode, uid, gid, nlink, mtime, size, dev
//! major/minor, rdev major/minor, name size, check), the name with a NUL, padding to 4 bytes, the
//! content, padding to 4 bytes. The archive ends with an entry `TRAILER!!!` and is padded to 4
//! bytes, so that another archive can follow. Times, owners are 0: same input, same bytes.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// Writes an archive to `W`. Parent directories that were not written yet are made with mode 0755.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, inode: 0, directories: BTreeSet::new() }
    }

    /// A directory, `path` without a leading slash, `mode` the permission bits. One that was
    /// written before is left alone.
    ///
    /// # Errors
    /// What `W` says.
    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let path = path.trim_matches('/');
        if self.directories.contains(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | (mode & 0o7777), &[], (0, 0))
    }

    /// A regular file.
    ///
    /// # Errors
    /// What `W` says; [`io::ErrorKind::InvalidInput`] for 4 GiB and more, which the
    /// format cannot hold.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, REGULAR | (mode & 0o7777), content, (0, 0))
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// What `W` says.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, SYMLINK | 0o777, target.as_bytes(), (0, 0))
    }

    /// A character device.
    ///
    /// # Errors
    /// What `W` says.
    pub fn character_device(
        &mut self,
        path: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> io::Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER | (mode & 0o7777), &[], (major, minor))
    }

    /// Ends the archive and gives back `W`.
    ///
    /// # Errors
    /// What `W` says.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.raw("TRAILER!!!", 0, 0, 1, &[], (0, 0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        match path.trim_matches('/').rsplit_once('/') {
            Some((parent, _)) => self.directory(parent, 0o755),
            None => Ok(()),
        }
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        content: &[u8],
        device: (u32, u32),
    ) -> io::Result<()> {
        self.inode += 1;
        let links = if mode & DIRECTORY == DIRECTORY && mode & REGULAR == 0 { 2 } else { 1 };
        self.raw(path.trim_matches('/'), self.inode, mode, links, content, device)
    }

    fn raw(
        &mut self,
        path: &str,
        inode: u32,
        mode: u32,
        links: u32,
        content: &[u8],
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let too_long =
            |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: too long for cpio"));
        let size = u32::try_from(content.len()).map_err(too_long)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_long)?;
        let mut header = String::from("070701");
        for field in [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0] {
            header.push_str(&format!("{field:08X}"));
        }
        header.push_str(path);
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(content)
    }

    /// Every part begins at a multiple of 4, so its own length says how much padding it needs.
    fn padded(&mut self, part: &[u8]) -> io::Result<()> {
        self.out.write_all(part)?;
        self.out.write_all(&[0; 3][..part.len().next_multiple_of(4) - part.len()])
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut cpio = Writer::new(Vec::new());
        cpio.character_device("dev/console", 0o600, 5, 1).unwrap();
        cpio.file("init", 0o755, b"abcde").unwrap();
        cpio.symlink("a/b/link", "../../init").unwrap();
        cpio.file("a/b/empty", 0o600, b"").unwrap();
        cpio.directory("a/b", 0o700).unwrap();
        cpio.finish().unwrap()
    }

    #[test]
    fn is_padded_and_says_the_same_each_time() {
        assert_eq!(sample().len() % 4, 0);
        assert_eq!(sample(), sample());
    }

    #[test]
    fn cpio_reads_it() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test asks cpio(1) to read what was written"
        )]
        let mut child = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet", "--numeric-uid-gid"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let names: Vec<String> = listing
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let name_at = words.iter().position(|word| *word == "1970").unwrap() + 1;
                format!("{} {}", words[0], words[name_at..].join(" "))
            })
            .collect();
        expect_test::expect![[r#"
            [
                "drwxr-xr-x dev",
                "crw------- dev/console",
                "-rwxr-xr-x init",
                "drwxr-xr-x a",
                "drwxr-xr-x a/b",
                "lrwxrwxrwx a/b/link -> ../../init",
                "-rw------- a/b/empty",
            ]
        "#]]
        .assert_debug_eq(&names);
    }
}
