//! hwloc's XML of a node, compressed for the store: pure. A zlib stream (RFC 1950); XML of 2 MiB
//! becomes some 100 KB.

use std::io::{self, Read as _, Write as _};

use api::channel::MAX_TOPOLOGY_BYTES;
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

/// Compresses a text.
pub(crate) fn pack(xml: &str) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(xml.as_bytes())?;
    encoder.finish()
}

/// The text again. Fails if it is none, or longer than an agent may send.
pub(crate) fn unpack(document: &[u8]) -> io::Result<String> {
    let mut xml = String::new();
    let limit = u64::try_from(MAX_TOPOLOGY_BYTES).unwrap_or(u64::MAX);
    ZlibDecoder::new(document).take(limit.saturating_add(1)).read_to_string(&mut xml)?;
    if xml.len() > MAX_TOPOLOGY_BYTES {
        return Err(io::Error::other(format!("longer than {MAX_TOPOLOGY_BYTES} bytes")));
    }
    Ok(xml)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back() {
        let xml = "<object type=\"PU\" os_index=\"0\"/>\n".repeat(1_000);
        let packed = pack(&xml).unwrap();
        assert!(packed.len() < xml.len() / 20);
        assert_eq!(unpack(&packed).unwrap(), xml);
    }

    #[test]
    fn no_row_makes_the_server_hold_more_than_an_agent_may_send() {
        let bomb = pack(&" ".repeat(MAX_TOPOLOGY_BYTES + 1)).unwrap();
        assert!(unpack(&bomb).is_err());
        assert!(unpack(&pack(&" ".repeat(MAX_TOPOLOGY_BYTES)).unwrap()).is_ok());
        assert!(unpack(b"no zlib").is_err());
    }
}
