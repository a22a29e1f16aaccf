//! Reading a cpio archive as the kernel does (newc;
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context as _, bail, ensure};

/// Length of a header, bytes: the magic and 13 fields of 8 hexadecimal digits.
const HEADER_BYTES: usize = 110;

/// The content of one file.
pub(super) fn file<'a>(archive: &'a [u8], wanted: &str) -> anyhow::Result<&'a [u8]> {
    let mut at = 0;
    loop {
        let header = archive.get(at..at + HEADER_BYTES).context("the archive ends in a header")?;
        ensure!(header.starts_with(b"070701"), "no header of a newc archive at byte {at}");
        let name_bytes = field(header, 11)?;
        let content_bytes = field(header, 6)?;
        let name_at = at + HEADER_BYTES;
        let name =
            archive.get(name_at..name_at + name_bytes).context("the archive ends in a name")?;
        let name = name.strip_suffix(b"\0").context("a name without its final zero")?;
        let content_at = (name_at + name_bytes).next_multiple_of(4);
        let content = archive
            .get(content_at..content_at + content_bytes)
            .context("the archive ends in a file")?;
        if name == b"TRAILER!!!" {
            bail!("the archive has no {wanted}");
        }
        if name == wanted.as_bytes() {
            return Ok(content);
        }
        at = (content_at + content_bytes).next_multiple_of(4);
    }
}

fn field(header: &[u8], number: usize) -> anyhow::Result<usize> {
    let start = 6 + number * 8;
    let digits = std::str::from_utf8(&header[start..start + 8])?;
    Ok(usize::from_str_radix(digits, 16)?)
}
