//! The baseboard management controller, asked over its system interface (IPMI 2.0, "Intelligent
//! Platform Management Interface Specification, Second Generation"). What it says of its LAN is
//! bytes; the first is the completion code.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr},
};

use api::{ids::MacAddr, inventory::Bmc};

use crate::{ioctls::Ioctls, read::Reader};

/// Network function and command of Get Device ID (20.1).
const GET_DEVICE_ID: (u8, u8) = (0x06, 0x01);

/// Network function and command of Get LAN Configuration Parameters (23.2).
const GET_LAN_PARAMETER: (u8, u8) = (0x0c, 0x02);

/// Parameters of the LAN (table 23-4).
const ADDRESS: u8 = 3;
const ADDRESS_SOURCE: u8 = 4;
const HARDWARE_ADDRESS: u8 = 5;

/// Channels that can be a LAN (6.3), the usual one first.
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=0xb;

/// `None` where there is no BMC.
pub(crate) fn collect(read: &mut Reader<'_>, ioctls: &dyn Ioctls) -> Option<Bmc> {
    let device = read.exists("/dev/ipmi0") || !read.names("/sys/class/ipmi").is_empty();
    if read.is_live() && !device {
        return None;
    }
    let mut bmc = match ask(ioctls, GET_DEVICE_ID, &[]) {
        Ok(answer) => identity(&answer).unwrap_or_else(|| {
            read.gap("BMC: Get Device ID", "its answer is too short");
            Bmc::default()
        }),
        Err(Refusal::Kernel(error)) if error.kind() == ErrorKind::NotFound && !device => {
            return None;
        }
        // Who says nothing once is not asked more: each question costs seconds.
        Err(refusal @ Refusal::Kernel(_)) => {
            read.gap("BMC: Get Device ID", refusal);
            return Some(Bmc::default());
        }
        Err(refusal) => {
            read.gap("BMC: Get Device ID", refusal);
            Bmc::default()
        }
    };
    lan(read, ioctls, &mut bmc);
    Some(bmc)
}

/// Why there is no answer.
enum Refusal {
    Kernel(io::Error),
    /// Completion code of the BMC.
    Code(u8),
    Empty,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kernel(error) => write!(f, "{error}"),
            Self::Code(code) => write!(f, "completion code {code:#04x}"),
            Self::Empty => write!(f, "an empty answer"),
        }
    }
}

/// The answer after its completion code.
fn ask(
    ioctls: &dyn Ioctls,
    (function, command): (u8, u8),
    data: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let mut answer = ioctls.ipmi(function, command, data).map_err(Refusal::Kernel)?;
    match answer.first() {
        None => Err(Refusal::Empty),
        Some(0) => Ok(answer.split_off(1)),
        Some(code) => Err(Refusal::Code(*code)),
    }
}

/// Device, its revision, firmware (major, minor in BCD), IPMI (BCD, the minor digit first), further
/// support, maker (20 bits in three bytes), product.
fn identity(answer: &[u8]) -> Option<Bmc> {
    let [_, _, major, minor, ipmi, _, maker_low, maker_middle, maker_high, ..] = *answer else {
        return None;
    };
    let maker = u32::from_le_bytes([maker_low, maker_middle, maker_high & 0xf, 0]);
    Some(Bmc {
        firmware: Some(format!("{}.{minor:02x}", major & 0x7f)),
        ipmi: Some(format!("{:x}.{:x}", ipmi & 0xf, ipmi >> 4)),
        // 0 = not told, and so is all ones.
        manufacturer_id: Some(maker).filter(|maker| ![0, 0xf_ffff].contains(maker)),
        ..Bmc::default()
    })
}

/// Sets the facts of the first channel that is a LAN with an address, else of the
/// first that is a LAN.
fn lan(read: &mut Reader<'_>, ioctls: &dyn Ioctls, bmc: &mut Bmc) {
    let mut without_address = None;
    let mut refused = None;
    for channel in CHANNELS {
        match lan_parameter::<4>(ioctls, channel, ADDRESS) {
            Ok([0, 0, 0, 0]) => without_address = without_address.or(Some(channel)),
            Ok(address) => {
                bmc.address = Some(IpAddr::V4(Ipv4Addr::from(address)));
                return of_channel(read, ioctls, channel, bmc);
            }
            Err(Refusal::Kernel(error)) if error.kind() != ErrorKind::NotFound => {
                read.gap("BMC: address of its LAN", error);
                return;
            }
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match (without_address, refused) {
        (Some(channel), _) => of_channel(read, ioctls, channel, bmc),
        (None, Some(refusal)) => read.gap("BMC: address of its LAN", refusal),
        (None, None) => {}
    }
}

fn of_channel(read: &mut Reader<'_>, ioctls: &dyn Ioctls, channel: u8, bmc: &mut Bmc) {
    match lan_parameter::<1>(ioctls, channel, ADDRESS_SOURCE) {
        Ok([source]) => {
            let source = match source & 0xf {
                1 => Some("static"),
                2 => Some("dhcp"),
                _ => None,
            };
            bmc.address_source = source.map(str::to_owned);
        }
        Err(refusal) => read.gap("BMC: source of its address", refusal),
    }
    match lan_parameter::<6>(ioctls, channel, HARDWARE_ADDRESS) {
        Ok(mac) => bmc.mac = Some(MacAddr(mac)).filter(|mac| mac.0 != [0; 6]),
        Err(refusal) => read.gap("BMC: hardware address of its LAN", refusal),
    }
}

/// Asks for set 0, block 0; the answer begins with the revision of the parameter.
fn lan_parameter<const BYTES: usize>(
    ioctls: &dyn Ioctls,
    channel: u8,
    parameter: u8,
) -> Result<[u8; BYTES], Refusal> {
    let answer = ask(ioctls, GET_LAN_PARAMETER, &[channel, parameter, 0, 0])?;
    answer.get(1..).and_then(|data| data.first_chunk()).copied().ok_or(Refusal::Empty)
}

#[cfg(test)]
mod tests;
