//! Xids: errors of GPUs as NVIDIA's driver writes them to the kernel's log (NVIDIA, *Xid Errors*,
//! catalogue for Ampere and later; its *immediate action*: reset or restart =
//! [`FaultLevel::Error`], anything else that the hardware is behind = [`FaultLevel::Warning`]).
//! Those that programs cause (13, 31, 43, 45…) are not told: they happen on GPUs that are well.
//!
//! ```text
//! NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
//! NVRM: Xid (0000:03:00): 48, …                                                                  before R418
//! ```

use api::inventory::FaultLevel;

use super::Incident;

use FaultLevel::{Error, Warning};

/// Numbers, sorted, and what they mean.
const KNOWN: [(u32, FaultLevel, &str); 37] = [
    (48, Error, "uncorrected error of its memory"),
    (61, Warning, "a micro-controller of it reports a fault"),
    (62, Error, "a micro-controller of it halted"),
    (63, Warning, "a page or row of its memory is to be taken out of use at its next reset"),
    (64, Error, "a page or row of its memory could not be taken out of use"),
    (74, Error, "error of NVLink"),
    (79, Error, "has fallen off the bus"),
    (92, Warning, "many corrected errors of its memory"),
    (
        94,
        Warning,
        "uncorrected error of its memory that met one program only; reset it when it suits",
    ),
    (95, Error, "uncorrected error of its memory that may have met several programs"),
    (109, Error, "does not switch between programs any more"),
    (110, Error, "security fault"),
    (119, Error, "its system processor (GSP) does not answer"),
    (120, Error, "error of its system processor (GSP)"),
    (121, Warning, "error of the link between chips (C2C)"),
    (136, Error, "its NVLinks cannot be trained"),
    (140, Error, "uncorrected error of its memory"),
    (143, Error, "could not be started"),
    (144, NVLINK, "error of NVLink (SAW)"),
    (145, NVLINK, "error of NVLink (RLW)"),
    (146, NVLINK, "error of NVLink (TLW)"),
    (147, NVLINK, "error of NVLink (TREX)"),
    (148, NVLINK, "error of NVLink (NVLPW)"),
    (149, NVLINK, "error of NVLink (NETIR)"),
    (150, NVLINK, "error of NVLink (MSE)"),
    (151, Error, "keys could not be changed"),
    (154, Error, "its driver asks for an action"),
    (155, Error, "error of NVLink, found by its software"),
    (156, Error, "a part of it was taken out of use; it needs a reset"),
    (157, Warning, "a part of it could not be taken out of use"),
    (158, Error, "does not answer in time"),
    (160, Warning, "a channel of its memory is to be taken out of use"),
    (161, Warning, "a channel of its memory could not be taken out of use"),
    (167, Warning, "does not answer on PCI Express in time"),
    (168, Warning, "has less memory than it was made with"),
    (171, Warning, "uncorrected error of its DRAM"),
    (172, Warning, "uncorrected error of its SRAM"),
];

/// The same number stands for errors that are fatal to a link, and says so, and for others.
const NVLINK: FaultLevel = Warning;
const NVLINKS: std::ops::RangeInclusive<u32> = 144..=150;

const RECOVERY_ACTION: u32 = 154;

/// Longest action told, characters.
const MAX_ACTION: usize = 40;

/// `None` if it is no Xid, or one that says nothing of the GPU.
pub(super) fn parse(text: &str) -> Option<Incident> {
    let (address, rest) = text.split_once("NVRM: Xid (")?.1.split_once("):")?;
    let address = gpu_address(address)?;
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(digits);
    let number: u32 = number.parse().ok()?;
    let (_, level, meaning) =
        *KNOWN.get(KNOWN.binary_search_by_key(&number, |(known, ..)| *known).ok()?)?;
    let (mut level, mut message) = (level, format!("Xid {number}: {meaning}"));
    if number == RECOVERY_ACTION {
        let action = action(rest)?;
        level = if action == "Drain P2P" { Warning } else { Error };
        message = format!("Xid {number}: its driver asks for: {action}");
    } else if NVLINKS.contains(&number) && rest.contains(" Fatal ") {
        level = Error;
    }
    Some(Incident { level, subject: format!("gpu {address}"), message, pci: Some(address) })
}

/// `PCI:0000:3b:00` or `0000:3b:00`: the function is 0.
fn gpu_address(text: &str) -> Option<String> {
    let mut parts = text.strip_prefix("PCI:").unwrap_or(text).split(':');
    let mut hexadecimal = || u32::from_str_radix(parts.next()?, 16).ok();
    let (domain, bus, device) = (hexadecimal()?, hexadecimal()?, hexadecimal()?);
    let is_address = parts.next().is_none() && bus <= 0xff && device <= 0x1f;
    is_address.then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.0"))
}

/// `…, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)`; `None` is none.
fn action(text: &str) -> Option<&str> {
    let action = text.rsplit_once('(')?.1.split_once(')')?.0;
    let is_plain = action.len() <= MAX_ACTION
        && action.bytes().all(|c| c.is_ascii_alphanumeric() || c == b' ');
    (is_plain && !action.is_empty() && action != "None").then_some(action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted() {
        assert!(KNOWN.is_sorted_by(|(one, ..), (other, ..)| one < other));
    }

    #[test]
    fn xids_of_all_sorts() {
        let told = |text: &str| {
            parse(text).map(|incident| (incident.level, incident.pci.unwrap(), incident.message))
        };
        let fell = told(
            "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        );
        assert_eq!(
            fell,
            Some((Error, "0000:3b:00.0".to_owned(), "Xid 79: has fallen off the bus".to_owned()))
        );
        let old = told(
            "NVRM: Xid (0000:03:00): 48, An uncorrectable double bit error (DBE) has been detected on GPU",
        )
        .unwrap();
        assert_eq!((old.0, old.1.as_str()), (Error, "0000:03:00.0"));
        let wide =
            told("NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x1 0x2)")
                .unwrap();
        assert_eq!((wide.0, wide.1.as_str()), (Error, "0018:01:00.0"));
        let light = told(
            "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Nonfatal XC0 i0 Link 08 (0x1 0x2)",
        )
        .unwrap();
        assert_eq!(light.0, Warning);
        for of_programs in [13, 31, 43, 45, 99_999] {
            assert_eq!(
                told(&format!("NVRM: Xid (PCI:0000:3b:00): {of_programs}, pid=1, name=python")),
                None
            );
        }
    }

    #[test]
    fn what_the_driver_asks_for() {
        let asks = |to: &str| {
            let text = format!(
                "NVRM: Xid (PCI:0008:01:00): 154, GPU recovery action changed from 0x0 (None) to {to}"
            );
            parse(&text).map(|incident| (incident.level, incident.message))
        };
        let reset = (Error, "Xid 154: its driver asks for: GPU Reset Required".to_owned());
        assert_eq!(asks("0x1 (GPU Reset Required)"), Some(reset));
        assert_eq!(asks("0x3 (Drain P2P)").unwrap().0, Warning);
        assert_eq!(asks("0x0 (None)"), None);
        assert_eq!(asks("nothing"), None, "the last in brackets is None");
    }
}
