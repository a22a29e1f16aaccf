//! The public part of a line of a node's history. Lines about hardware are written by `hardware`,
//! whose tests hold each kind of them against this.
//!
//! Lines about hardware end in serial numbers and addresses:
//! `disk nvme0n1 (3.5 TiB, MODEL, SERIAL) is gone`, `system serial number is B, was A`. The
//! history is kept whole, for admins; its lines are cut when a user reads them, those of
//! earlier releases too.
//!
//! Lines about boots tell from which address something was asked for. It may be the node's, which
//! its status tells everybody, or that of whoever pretends to be it: no line says which, so users
//! read none.

use std::net::{IpAddr, SocketAddr};

/// What is told behind these words, only admins read.
const PRIVATE: [&str; 3] = ["serial number", "BMC address", "hardware address"];

/// Ends of lines about a thing that came or went; before them stands in brackets what it is.
const FATES: [&str; 3] = [" is gone", " is new", " is not there yet after the start of the agent"];

/// What stands behind it quotes the database, whose rows hold tags.
const UNREADABLE: &str = "cannot be read: ";

/// Bytes of a hardware address in text.
const MAC_BYTES: usize = 17;

/// Stands for what is left out.
const LEFT_OUT: &str = "…";

/// A line of a node's history, or a reason in its status, as everybody reads it: without serial
/// numbers, hardware addresses, the address of the BMC, and addresses that something was asked for
/// from, which only admins read.
#[must_use]
pub fn public_line(line: &str) -> String {
    for what in PRIVATE {
        if let Some((before, _)) = line.split_once(&format!("{what} is ")) {
            return without_macs(&format!("{before}{what} is another"));
        }
    }
    if let Some((before, _)) = line.split_once(UNREADABLE) {
        return without_macs(&format!("{before}cannot be read"));
    }
    without_addresses(&without_macs(&without_aside(line)))
}

/// Whatever is an IP address, with a port or without, in a line that compares no versions: those
/// look alike.
fn without_addresses(line: &str) -> String {
    if line.contains(", was ") {
        return line.to_owned();
    }
    let is_of_word =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | ':' | '[' | ']' | '%' | '-' | '_');
    let mut public = String::with_capacity(line.len());
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let address = word.trim_end_matches(['.', ':']);
        public += if is_address(address) { LEFT_OUT } else { address };
        public += &word[address.len()..];
        let next = behind.find(is_of_word).unwrap_or(behind.len());
        public += &behind[..next];
        rest = &behind[next..];
    }
    public
}

fn is_address(word: &str) -> bool {
    let ip = word.trim_start_matches('[').trim_end_matches(']').split('%').next().unwrap_or(word);
    ip.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok()
}

fn without_aside(line: &str) -> String {
    for fate in FATES {
        let Some(thing) = line.strip_suffix(fate) else { continue };
        let Some((name, _)) = thing.split_once(" (").filter(|_| thing.ends_with(')')) else {
            continue;
        };
        return format!("{name}{fate}");
    }
    line.to_owned()
}

/// Whatever is written like a hardware address, in whatever line.
fn without_macs(line: &str) -> String {
    let mut public = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if rest.as_bytes().first_chunk::<MAC_BYTES>().is_some_and(is_mac) {
            public += LEFT_OUT;
            rest = &rest[MAC_BYTES..];
        } else {
            public.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    public
}

fn is_mac(text: &[u8; MAC_BYTES]) -> bool {
    let fits = |(at, byte): (usize, &u8)| match at % 3 {
        2 => matches!(byte, b':' | b'-'),
        _ => byte.is_ascii_hexdigit(),
    };
    text.iter().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_admins_read_is_cut() {
        for (line, expected) in [
            ("disk nvme0n1 (3.5 TiB, SAMSUNG (OEM), S123) is gone", "disk nvme0n1 is gone"),
            ("memory module DIMM (A1) (16 GiB, S(1)) is new", "memory module DIMM is new"),
            (
                "nic lan0 (ethernet, 52:54:00:00:00:01) is not there yet after the start of the agent",
                "nic lan0 is not there yet after the start of the agent",
            ),
            ("system serial number is B, was A", "system serial number is another"),
            (
                "gpu 0000:3b:00.0: serial number is 2, was 1",
                "gpu 0000:3b:00.0: serial number is another",
            ),
            ("BMC address is 10.9.0.2, was 10.9.0.1", "BMC address is another"),
            (
                "nic lan0: hardware address is 52:54:00:00:00:02, was x",
                "nic lan0: hardware address is another",
            ),
            ("booted from 52:54:00:00:00:01: no lease", "booted from …: no lease"),
            ("from:52-54-00-00-00-01ab", "from:…ab"),
            (
                "held: its row in the database cannot be read: invalid type: string \"secret\"",
                "held: its row in the database cannot be read",
            ),
            // All else stays as it is.
            ("disk sda is well again (was: 3 sectors)", "disk sda is well again (was: 3 sectors)"),
            ("gpu 0000:3b:00.0 fell off the bus", "gpu 0000:3b:00.0 fell off the bus"),
            ("asked for by eve from fe80::1%lan0", "asked for by eve from …"),
            ("ä – 10.1.0.11", "ä – …"),
            (
                "192.0.2.7 was refused a certificate: its token was used (at [2001:db8::7]:443, 10.0.0.1:80)",
                "… was refused a certificate: its token was used (at …, …)",
            ),
            (
                "token of enrolment 3 was used again from 192.0.2.7: one",
                "token of enrolment 3 was used again from …: one",
            ),
            ("10.1.0.0/24, [fe80::2].", "…/24, …."),
            ("BMC firmware is 2.1.0.4, was 2.1.0.3", "BMC firmware is 2.1.0.4, was 2.1.0.3"),
            (
                "at 12:30:05 gpu 0000:3b:00.0 access::audit",
                "at 12:30:05 gpu 0000:3b:00.0 access::audit",
            ),
            ("", ""),
        ] {
            assert_eq!(public_line(line), expected, "{line}");
        }
    }
}
