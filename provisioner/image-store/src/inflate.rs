//! Decompresses kernel modules and firmware files found in an image: `.xz`, `.zst`, `.gz`, told by the ending.

use std::io::{self, Read};

/// Largest module or firmware file, bytes unpacked. GPU firmware, the largest there is, has some 60 MB.
pub(crate) const MAX_INFLATED_BYTES: u64 = 256 << 20;

/// Memory that xz may take for its dictionary, KiB. `xz -9` needs 64 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// Endings of compressed files; a file without one of them is plain.
pub(crate) const ENDINGS: [&str; 3] = [".xz", ".zst", ".gz"];

/// The plain bytes of a file called `name`.
pub(crate) fn inflate(name: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    if name.ends_with(".xz") {
        limited(lzma_rust2::XzReader::new_mem_limit(bytes.as_slice(), true, XZ_MEMORY_KIB))
    } else if name.ends_with(".zst") {
        limited(zstd::stream::read::Decoder::with_buffer(bytes.as_slice())?)
    } else if name.ends_with(".gz") {
        limited(flate2::bufread::MultiGzDecoder::new(bytes.as_slice()))
    } else {
        Ok(bytes)
    }
}

/// `name` without the ending of a compressed file.
pub(crate) fn plain_name(name: &str) -> &str {
    ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(MAX_INFLATED_BYTES + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > MAX_INFLATED_BYTES {
        return Err(io::Error::other(format!("it unpacks to more than {MAX_INFLATED_BYTES} bytes")));
    }
    Ok(plain)
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
            #[expect(clippy::disallowed_methods, reason = "a test asks the usual programs to compress")]
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
            assert_eq!(inflate(&format!("x.ko{ending}"), packed).unwrap(), plain, "{program} {arguments:?}");
            assert!(inflate(&format!("x{ending}"), b"not so".to_vec()).is_err());
        }
        assert_eq!(plain_name("a.ko.xz"), "a.ko");
        assert_eq!(plain_name("a.ko"), "a.ko");
    }
}
