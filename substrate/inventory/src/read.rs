//! Reading small kernel files without ever failing: what cannot be read is noted as a gap.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use api::inventory::Gap;
use nix::{errno::Errno, fcntl::OFlag};

/// Most bytes read of one file. A sysfs attribute has at most a page;
/// `/proc/meminfo` two kilobytes.
pub const MAX_FILE_BYTES: u64 = 64 << 10;

/// Most entries of one directory that are looked at. The largest machines have some
/// thousand PCI functions.
pub const MAX_ENTRIES: usize = 8192;

/// Room made for a file: most attributes of sysfs fit, and are read at once.
const ATTRIBUTE_BYTES: usize = 512;

/// Most bytes of [`Reader::head`]: the header of PCI's configuration space.
const MAX_HEAD_BYTES: usize = 64;

/// Most gaps kept: enough to see what is wrong, too few to swamp the server.
pub(crate) const MAX_GAPS: usize = 256;

/// Reads below a root and notes what it could not read. Paths are absolute, as on the machine.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    root: &'a Path,
    gaps: Vec<Gap>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root, gaps: Vec::new() }
    }

    /// Whether this is the running machine and not a capture.
    pub(crate) fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    pub(crate) fn into_gaps(self) -> Vec<Gap> {
        self.gaps
    }

    pub(crate) fn gap(&mut self, subject: &str, cause: impl ToString) {
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(Gap { subject: subject.to_owned(), cause: cause.to_string() });
        }
    }

    /// Where `path` is on this machine.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// The bytes of a file, at most `limit`. `None` if there is no such fact; a gap if it
    /// cannot be read.
    pub(crate) fn bytes(&mut self, path: &str, limit: u64) -> Option<Vec<u8>> {
        match read_bounded(&self.at(path), limit) {
            Ok(bytes) if bytes.len() as u64 > limit => {
                self.gap(path, format!("larger than {limit} bytes"));
                None
            }
            Ok(bytes) => Some(bytes),
            Err(error) if is_absence(&error) => None,
            Err(error) => {
                self.gap(path, error);
                None
            }
        }
    }

    /// The first bytes of a file, at most [`MAX_HEAD_BYTES`]: of one whose rest is dear to read, as
    /// the configuration space of a PCI device is.
    pub(crate) fn head<const COUNT: usize>(&self, path: &str) -> io::Result<[u8; COUNT]> {
        const { assert!(COUNT <= MAX_HEAD_BYTES) };
        let mut bytes = [0; COUNT];
        open_file(&self.at(path))?.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The text of a file without surrounding white space. Empty = no such fact; no text = a gap.
    pub(crate) fn text(&mut self, path: &str) -> Option<String> {
        let bytes = self.bytes(path, MAX_FILE_BYTES)?;
        let Ok(text) = std::str::from_utf8(&bytes) else {
            self.gap(path, "not UTF-8 text");
            return None;
        };
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
            self.gap(path, "binary, not text");
            return None;
        }
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A decimal number. What is no number is a gap.
    pub(crate) fn number(&mut self, path: &str) -> Option<i64> {
        let text = self.text(path)?;
        let number = text.parse().ok();
        if number.is_none() {
            self.gap(
                path,
                format!("not a number: {:?}", text.chars().take(40).collect::<String>()),
            );
        }
        number
    }

    /// The text of a file up to its first empty line, of which at most `limit` bytes are read:
    /// `/proc/cpuinfo` has a block for each of a thousand PUs. What has no empty line so far is
    /// taken up to its last whole line.
    pub(crate) fn first_block(&mut self, path: &str, limit: usize) -> Option<String> {
        match read_block(&self.at(path), limit) {
            Ok(bytes) => {
                let text =
                    String::from_utf8(bytes).inspect_err(|_| self.gap(path, "not UTF-8 text"));
                text.ok().filter(|text| !text.is_empty())
            }
            Err(error) if is_absence(&error) => None,
            Err(error) => {
                self.gap(path, error);
                None
            }
        }
    }

    /// A list of numbers as the kernel writes sets of CPUs and NUMA nodes: `0-3,8`. What is none,
    /// or has more than [`MAX_ENTRIES`] numbers, is a gap.
    pub(crate) fn list(&mut self, path: &str) -> Option<Vec<u32>> {
        let text = self.text(path)?;
        let list = parse_list(&text);
        if list.is_none() {
            self.gap(path, format!("not a list: {:?}", text.chars().take(40).collect::<String>()));
        }
        list
    }

    /// A decimal number that is not negative; what is none is as in [`Self::number`].
    pub(crate) fn count(&mut self, path: &str) -> Option<u64> {
        self.number(path).and_then(|number| u64::try_from(number).ok())
    }

    /// `numa_node` of a device: the kernel writes -1 where the firmware does not tell.
    pub(crate) fn numa_node(&mut self, device: &str) -> Option<u32> {
        self.number(&format!("{device}/numa_node")).and_then(|node| u32::try_from(node).ok())
    }

    /// Names in a directory, sorted.
    pub(crate) fn names(&mut self, directory: &str) -> Vec<String> {
        let entries = match fs::read_dir(self.at(directory)) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return Vec::new(),
            Err(error) => {
                self.gap(directory, error);
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() == MAX_ENTRIES {
                self.gap(directory, format!("more than {MAX_ENTRIES} entries"));
                break;
            }
            match entry.map(|entry| entry.file_name().into_string()) {
                Ok(Ok(name)) => names.push(name),
                Ok(Err(name)) => {
                    self.gap(&format!("{directory}/{}", name.display()), "name is not UTF-8")
                }
                Err(error) => {
                    self.gap(directory, error);
                    break;
                }
            }
        }
        names.sort();
        names
    }

    /// Last component of the target of a link: `driver` → `mlx5_core`.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Last component but one of the target of a link: where in a tree of devices it is.
    pub(crate) fn link_parent(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.at(path)).ok()?;
        Some(target.parent()?.file_name()?.to_str()?.to_owned())
    }

    /// Components of the path that `path` really has, links resolved.
    pub(crate) fn real_path(&self, path: &str) -> Vec<String> {
        let real = fs::canonicalize(self.at(path)).unwrap_or_default();
        real.iter().filter_map(|part| part.to_str()).map(str::to_owned).collect()
    }

    /// Whether the real path of `path` has a component that begins with `prefix`: `usb1`.
    pub(crate) fn is_below(&self, path: &str, prefix: &str) -> bool {
        let real = fs::canonicalize(self.at(path)).unwrap_or_default();
        let below = real.strip_prefix(self.root).unwrap_or(&real);
        below.iter().filter_map(|part| part.to_str()).any(|part| part.starts_with(prefix))
    }

    /// Address of the PCI device that `path` leads to or lies under: the last one on its real path.
    pub(crate) fn pci_address(&self, path: &str) -> Option<String> {
        let real = fs::canonicalize(self.at(path)).ok()?;
        let last = real.iter().filter_map(|part| part.to_str()).rfind(|part| is_pci_address(part));
        last.map(str::to_owned)
    }
}

/// With as few system calls as can be, for there are a thousand files.
fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = open_file(path)?;
    let mut bytes = vec![0; ATTRIBUTE_BYTES];
    let length = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    bytes.truncate(length);
    // An attribute comes in one piece; what fills its room, and every list of /proc, may have more.
    if length == ATTRIBUTE_BYTES || !is_attribute(path) {
        file.take((limit + 1).saturating_sub(length as u64)).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A file of sysfs, whose attributes are at most a page and are given whole
/// (`Documentation/filesystems/sysfs.rst`).
fn is_attribute(path: &Path) -> bool {
    path.starts_with("/sys")
}

/// Without waiting for the writer of a pipe.
fn open_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a file")) }
}

fn read_block(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    const CHUNK: usize = 4096;
    let mut file = open_file(path)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; CHUNK];
    while bytes.len() < limit {
        let most = CHUNK.min(limit - bytes.len());
        let got = file.read(&mut chunk[..most])?;
        if got == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&chunk[..got]);
        if let Some(end) = bytes.windows(2).position(|pair| pair == b"\n\n") {
            bytes.truncate(end);
            return Ok(bytes);
        }
    }
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    bytes.truncate(end.ok_or_else(|| io::Error::other("a line that is too long"))?);
    Ok(bytes)
}

fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let more = usize::try_from(last.checked_sub(first)?).ok()?;
        if numbers.len() + more >= MAX_ENTRIES {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Errors by which the kernel says that there is no such fact: `speed` of a link that is down is
/// `EINVAL`, and a device may go away between listing and reading.
pub(crate) fn is_absence(error: &io::Error) -> bool {
    let absent = [Errno::EINVAL, Errno::ENODEV, Errno::ENXIO, Errno::EOPNOTSUPP, Errno::ENODATA];
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
        || error.raw_os_error().is_some_and(|raw| absent.contains(&Errno::from_raw(raw)))
}

/// `0000:3b:00.0`; the domain has more digits behind Intel's VMD.
pub(crate) fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, least: usize, most: usize| {
        (least..=most).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_hexdigit())
    };
    let mut parts = text.splitn(3, ':');
    let (Some(domain), Some(bus), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((device, function)) = rest.split_once('.') else { return false };
    hex(domain, 4, 8) && hex(bus, 2, 2) && hex(device, 2, 2) && hex(function, 1, 1)
}

/// What happened and why, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |line, source| format!("{line}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_gaps_and_missing_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
        write("huge", &vec![b'x'; 100_000]);
        write("binary", b"\x01\x02\x03");
        write("latin", b"Kn\xf6del");
        write("empty", b"\n");
        write("number", b"12\n");
        write("word", b"twelve\n");
        fs::create_dir(root.path().join("folder")).unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();

        let mut read = Reader::new(root.path());
        for path in [
            "/huge",
            "/binary",
            "/latin",
            "/empty",
            "/missing",
            "/number/below",
            "/folder",
            "/pipe",
        ] {
            assert_eq!(read.text(path), None, "{path}");
        }
        assert_eq!(read.number("/number"), Some(12));
        assert_eq!(read.number("/word"), None);
        assert!(read.names("/missing").is_empty());
        let gaps: Vec<_> =
            read.into_gaps().iter().map(|gap| format!("{}: {}", gap.subject, gap.cause)).collect();
        expect_test::expect![[r#"
            /huge: larger than 65536 bytes
            /binary: binary, not text
            /latin: not UTF-8 text
            /folder: not a file
            /pipe: not a file
            /word: not a number: "twelve""#]]
        .assert_eq(&gaps.join("\n"));
    }

    #[test]
    fn lists_of_numbers() {
        assert_eq!(parse_list("0-3,8,10-11"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        for bad in ["", "0-", "3-1", "x", "0-4294967295", "0-8191,9000", "1,,2"] {
            assert_eq!(parse_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_block_of_a_large_file() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
        write("blocks", &b"a: 1\nb: 2\n\na: 3\n\n".repeat(100_000));
        write("line", &vec![b'x'; 100_000]);
        write("lines", &b"a: 1\n".repeat(100_000));
        write("binary", &[0xff, 0xfe, b'\n', b'\n']);
        let mut read = Reader::new(root.path());
        assert_eq!(read.first_block("/blocks", 8192).as_deref(), Some("a: 1\nb: 2"));
        assert_eq!(read.first_block("/lines", 12).as_deref(), Some("a: 1\na: 1"));
        for path in ["/line", "/binary", "/missing"] {
            assert_eq!(read.first_block(path, 8192), None, "{path}");
        }
        let gaps: Vec<_> = read.into_gaps().into_iter().map(|gap| gap.cause).collect();
        assert_eq!(gaps, ["a line that is too long", "not UTF-8 text"]);
    }

    #[test]
    fn gaps_are_bounded() {
        let mut read = Reader::new(Path::new("/"));
        for _ in 0..1000 {
            read.gap("x", "y");
        }
        assert_eq!(read.into_gaps().len(), MAX_GAPS);
    }

    #[test]
    fn pci_addresses() {
        for good in ["0000:3b:00.0", "10000:01:00.0", "0000:00:1f.7"] {
            assert!(is_pci_address(good), "{good}");
        }
        for bad in ["pci0000:00", "0000:00", "0000:3b:00", "virtio0", "0000:3b:000.0", ""] {
            assert!(!is_pci_address(bad), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_list_panics(text in "[0-9,\\- ]{0,30}|\\PC{0,30}") {
            proptest::prop_assert!(parse_list(&text).is_none_or(|list| list.len() <= MAX_ENTRIES));
        }
    }
}
