//! Which MAC address the kernel sees behind an address of a network that this machine is in: what
//! binds a boot token where another server gives the addresses.
//!
//! The kernel's table is text (proc_pid_net(5)): address, hardware type, flags, MAC address, mask,
//! interface, below a line of headings.

use std::{fs, io, net::Ipv4Addr};

use api::ids::MacAddr;

/// The table of this thread's network namespace.
const TABLE: &str = "/proc/thread-self/net/arp";

/// Flag of an entry whose MAC address was answered (ATF_COM, if_arp.h).
const COMPLETE: u8 = 2;

/// The MAC address of the machine that just spoke to us from `address`; `None` if it is behind a
/// router.
///
/// # Errors
/// The kernel's.
pub(crate) fn mac_behind(address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
    Ok(find(&fs::read_to_string(TABLE)?, address))
}

fn find(table: &str, address: Ipv4Addr) -> Option<MacAddr> {
    let mut found = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (entry, flags, mac) = (words.next()?, words.nth(1)?, words.next()?);
        let flags = u8::from_str_radix(flags.strip_prefix("0x")?, 16).ok()?;
        let here = entry.parse() == Ok(address) && flags & COMPLETE != 0;
        here.then(|| mac.parse::<MacAddr>().ok()).flatten()
    });
    let mac = found.next()?;
    // Two networks with the same addresses: nobody knows which one it was.
    found.all(|other| other == mac).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.99       0x1         0x2         52:54:00:b0:07:01     *        boot0
10.77.0.98       0x1         0x0         00:00:00:00:00:00     *        boot0
10.77.0.97       0x1         0x6         52:54:00:b0:07:02     *        boot0
10.77.0.96       0x1         0x2         52:54:00:b0:07:03     *        boot0
10.77.0.96       0x1         0x2         52:54:00:b0:07:04     *        boot1
";

    #[test]
    fn only_an_answered_and_unambiguous_entry_counts() {
        let mac = |last| find(TABLE, Ipv4Addr::new(10, 77, 0, last)).map(|mac| mac.to_string());
        assert_eq!(mac(99).as_deref(), Some("52:54:00:b0:07:01"));
        assert_eq!(mac(98), None, "nobody answered");
        assert_eq!(mac(97).as_deref(), Some("52:54:00:b0:07:02"), "a permanent one");
        assert_eq!(mac(96), None, "two networks have it");
        assert_eq!(mac(9), None);
        assert_eq!(find("", Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the network is made by a program")]
    fn privileged_the_kernels_own_table_is_read() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let ip = |arguments: &str| {
            let status =
                std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}");
        };
        ip("link add a0 type veth peer name a1");
        ip("address add 10.77.0.1/24 dev a0");
        ip("link set a0 up");
        ip("link set a1 up");
        ip("neighbour add 10.77.0.99 lladdr 52:54:00:b0:07:01 nud reachable dev a0");
        let mac = mac_behind(Ipv4Addr::new(10, 77, 0, 99)).unwrap();
        assert_eq!(mac, Some(MacAddr([0x52, 0x54, 0, 0xb0, 0x07, 0x01])));
        assert_eq!(mac_behind(Ipv4Addr::new(10, 77, 0, 98)).unwrap(), None);
    }
}
