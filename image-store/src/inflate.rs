//! Decompresses kernel modules and firmware files found in an image: `.xz`, `.zst`, `.gz`,
//! told by the ending.

use std::{
    borrow::Cow,
    io::{self, Read},
};

/// Largest module or firmware file, bytes unpacked. GPU firmware, the largest there is,
/// has some 60 MB.
pub(crate) const MAX_INFLATED_BYTES: u64 = 256 << 20;

/// Memory that xz may take for its dictionary, KiB. `xz -9` needs 64 MiB.
const XZ_MEMORY_KIB: u32 = 80 << 10;

/// What is taken for the first bytes of a file.
const FIRST_BYTES: usize = 64 << 10;

/// Endings of compressed files; a file without one of them is plain.
pub(crate) const ENDINGS: [&str; 3] = [".xz", ".zst", ".gz"];

/// The plain bytes of a file called `name`, `most` at most.
pub(crate) fn inflate<'a>(name: &str, bytes: &'a [u8], most: u64) -> io::Result<Cow<'a, [u8]>> {
    let most = most.min(MAX_INFLATED_BYTES);
    if name.ends_with(".xz") {
        limited(lzma_rust2::XzReader::new_mem_limit(bytes, true, XZ_MEMORY_KIB), most)
    } else if name.ends_with(".zst") {
        limited(zstd::stream::read::Decoder::with_buffer(bytes)?, most)
    } else if name.ends_with(".gz") {
        limited(flate2::bufread::MultiGzDecoder::new(bytes), most)
    } else {
        Ok(bytes.into())
    }
}

/// `name` without the ending of a compressed file.
pub(crate) fn plain_name(name: &str) -> &str {
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Reads all of it. What it takes meanwhile is no more than `most`, and a byte; in the
/// end, what it has.
fn limited<'a>(mut reader: impl Read, most: u64) -> io::Result<Cow<'a, [u8]>> {
    let limit = usize::try_from(most).unwrap_or(usize::MAX).saturating_add(1);
    let mut plain = Vec::new();
    loop {
        // A vector that grew by itself would be doubled past the limit.
        let length = plain.len().saturating_mul(2).max(FIRST_BYTES).min(limit);
        plain.reserve_exact(length - plain.len());
        let more = (length - plain.len()) as u64;
        reader.by_ref().take(more).read_to_end(&mut plain)?;
        if plain.len() >= limit {
            return Err(io::Error::other(format!("it unpacks to more than {most} bytes")));
        }
        if plain.len() < length {
            break;
        }
    }
    plain.shrink_to_fit();
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn reads_what_the_usual_programs_write() {
        let plain: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        for (ending, program, arguments) in [
            (".xz", "xz", ["--check=crc32", "--lzma2=dict=1MiB", "--stdout"].as_slice()),
            (".xz", "xz", &["--x86", "--lzma2", "--stdout"]),
            (".gz", "gzip", &["--stdout"]),
            (".zst", "zstd", &["--stdout", "--quiet"]),
        ] {
            #[expect(
                clippy::disallowed_methods,
                reason = "a test asks the usual programs to compress"
            )]
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let input = plain.clone();
            let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
            let packed = child.wait_with_output().unwrap().stdout;
            writer.join().unwrap();
            assert!(packed.len() < plain.len());
            let name = format!("x.ko{ending}");
            let inflated = inflate(&name, &packed, MAX_INFLATED_BYTES).unwrap();
            assert_eq!(*inflated, *plain, "{program} {arguments:?}");
            let Cow::Owned(inflated) = inflated else { panic!("it was not packed") };
            assert_eq!(inflated.capacity(), inflated.len(), "what is charged is what it takes");
            assert!(inflate(&name, b"not so", MAX_INFLATED_BYTES).is_err());
            let most = plain.len() as u64;
            assert!(inflate(&name, &packed, most).is_ok());
            let error = inflate(&name, &packed, most - 1).unwrap_err();
            assert!(error.to_string().contains("unpacks to more than 799999 bytes"), "{error}");
        }
        assert_eq!(plain_name("a.ko.xz"), "a.ko");
        assert_eq!(plain_name("a.ko"), "a.ko");
    }
}
