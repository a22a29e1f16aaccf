//! Incidents of hardware in the kernel's log. A record as `/dev/kmsg` has it
//! (`Documentation/ABI/testing/dev-kmsg`):
//!
//! ```text
//! PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT
//!  SUBSYSTEM=pci
//!  DEVICE=+pci:0000:3b:00.0
//! ```
//!
//! Programs may write to the log too; what they write has another facility than the kernel's 0, and
//! is no incident.

use api::inventory::{Fault, FaultLevel};

use super::xid;
use crate::read::is_pci_address;

/// Bits of the priority that are its level; those above are the facility.
const LEVEL_BITS: u32 = 3;

/// Longest name of something told, characters: of a disk, an interface, a DIMM.
const MAX_NAME: usize = 64;

/// Something that happened to the hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// How bad it is.
    pub level: FaultLevel,
    /// What it happened to, as in [`Fault::subject`].
    pub subject: String,
    /// What happened. Equal for equal incidents: nothing in it counts or tells the time.
    pub message: String,
    /// PCI address of what it happened to, where the log tells.
    pub pci: Option<String>,
}

impl From<Incident> for Fault {
    fn from(Incident { level, subject, message, .. }: Incident) -> Self {
        Self { level, subject, message }
    }
}

/// The incident that a record of `/dev/kmsg` tells of, if any.
#[must_use]
pub fn kernel_log(record: &str) -> Option<Incident> {
    let (head, rest) = record.split_once(';')?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    if priority >> LEVEL_BITS != 0 {
        return None;
    }
    let mut lines = rest.lines();
    let text = lines.next()?;
    let device = lines.find_map(|line| line.strip_prefix(" DEVICE=+pci:"));
    let pci = device.or_else(|| {
        text.split([' ', ','])
            .map(|word| word.trim_end_matches(':'))
            .find(|word| is_pci_address(word))
    });
    let rules = [xid::parse, gpu, machine_check, memory, heat, disk, nvme, link];
    let found = rules.iter().find_map(|rule| rule(text)).or_else(|| bus(text));
    found.map(|found| Incident { pci: found.pci.or_else(|| pci.map(str::to_owned)), ..found })
}

fn incident(
    level: FaultLevel,
    subject: impl Into<String>,
    message: impl Into<String>,
) -> Option<Incident> {
    Some(Incident { level, subject: subject.into(), message: message.into(), pci: None })
}

/// What drivers say of a GPU or adapter. An error is what only a driver bound again mends: `amdgpu`
/// and `mlx5_core` reset their devices themselves, and what stays wrong is seen in their counts and
/// ports. As in `NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.`,
/// `amdgpu 0000:05:00.0: amdgpu: 1 uncorrectable hardware errors detected in umc block`.
fn gpu(text: &str) -> Option<Incident> {
    const SAID: [(&str, &str, FaultLevel, &str); 6] = [
        ("NVRM", "has fallen off the bus", FaultLevel::Error, "has fallen off the bus"),
        ("NVRM", "RmInitAdapter failed", FaultLevel::Error, "its driver cannot start it"),
        (
            "amdgpu",
            "uncorrectable hardware errors detected",
            FaultLevel::Warning,
            "uncorrected error of its hardware",
        ),
        ("amdgpu", "GPU reset end with ret = -", FaultLevel::Error, "could not be reset"),
        ("amdgpu", "GPU reset begin", FaultLevel::Warning, "was reset by its driver"),
        ("mlx5_core", "health compromised", FaultLevel::Warning, "its firmware does not answer"),
    ];
    let (driver, _, level, message) =
        SAID.iter().find(|(driver, said, ..)| text.contains(driver) && text.contains(said))?;
    let address =
        text.split(' ').map(|word| word.trim_end_matches(':')).find(|word| is_pci_address(word))?;
    let what = if *driver == "mlx5_core" { "pci" } else { "gpu" };
    let mut found = incident(*level, format!("{what} {address}"), *message)?;
    found.pci = Some(address.to_owned());
    Some(found)
}

/// Machine checks and what the firmware reports (APEI): all such lines have `[Hardware Error]:`.
/// Each is several lines, of which one says how bad it is.
fn machine_check(text: &str) -> Option<Incident> {
    let said = text.split_once("[Hardware Error]:")?.1.trim().to_ascii_lowercase();
    let has = |word: &str| said.contains(word);
    if let Some(severity) = said.split_once("event severity:").map(|(_, severity)| severity.trim())
    {
        return match severity {
            "corrected" => {
                incident(FaultLevel::Warning, "machine", "the firmware reports a corrected error")
            }
            "recoverable" | "fatal" => incident(
                FaultLevel::Error,
                "machine",
                format!("the firmware reports an error: {severity}"),
            ),
            _ => None,
        };
    }
    if has("uncorrected") || has("deferred error") || has("machine check exception") || has("fatal")
    {
        return incident(FaultLevel::Error, "machine", "machine check: uncorrected error");
    }
    if has("corrected error") || has("machine check events logged") || has("machine check: 0 bank")
    {
        return incident(FaultLevel::Warning, "machine", "machine check: see the kernel's log");
    }
    None
}

/// `EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0 (channel:0 …)`,
/// `Memory failure: 0x1234: …`.
fn memory(text: &str) -> Option<Incident> {
    if text.starts_with("Memory failure: 0x") {
        return incident(
            FaultLevel::Error,
            "memory",
            "a page with an uncorrected error is taken out of use",
        );
    }
    let said = text.strip_prefix("EDAC MC")?.split_once(": ")?.1;
    let mut words = said.split(' ');
    let _count: u64 = words.next()?.parse().ok()?;
    let (level, errors) = match words.next()? {
        "CE" => (FaultLevel::Warning, "corrected errors"),
        "UE" => (FaultLevel::Error, "uncorrected errors"),
        _ => return None,
    };
    let label = said.split_once(" on ").and_then(|(_, label)| name(label.split(" (").next()?));
    incident(
        level,
        "memory",
        label.map_or_else(|| errors.to_owned(), |label| format!("{errors} in {label}")),
    )
}

/// `CPU3: Package temperature above threshold, cpu clock throttled (total events = 12)`.
fn heat(text: &str) -> Option<Incident> {
    let is_hot = text.contains("temperature above threshold, cpu clock throttled");
    is_hot.then(|| incident(FaultLevel::Warning, "cpu", "is slowed down for its heat")).flatten()
}

/// `I/O error, dev sda, sector 2048 op 0x0:(READ) …`, `critical medium error, dev sdb, sector …`
/// (`block/blk-core.c`).
fn disk(text: &str) -> Option<Incident> {
    let (what, rest) = text.split_once(" error, dev ")?;
    let disk = name(rest.split([',', ' ']).next()?)?;
    let message = match what.rsplit(' ').next()? {
        "medium" => "a sector cannot be read or written",
        "I/O" => "a request failed",
        "target" | "nexus" | "transport" | "space" | "timeout" | "protection" => {
            "a request was refused"
        }
        _ => return None,
    };
    incident(FaultLevel::Warning, format!("disk {disk}"), message)
}

/// `nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff`.
fn nvme(text: &str) -> Option<Incident> {
    const SAID: [(&str, FaultLevel, &str); 6] = [
        ("controller is down", FaultLevel::Warning, "its controller was down and is reset"),
        (
            "Disabling device after reset failure",
            FaultLevel::Error,
            "is given up, for it could not be reset",
        ),
        (
            "Removing after probe failure",
            FaultLevel::Error,
            "is given up, for it could not be started",
        ),
        ("Device not ready", FaultLevel::Error, "its controller does not become ready"),
        ("timeout, reset controller", FaultLevel::Warning, "does not answer in time and is reset"),
        ("timeout, aborting", FaultLevel::Warning, "does not answer in time"),
    ];
    let (controller, said) = text.strip_prefix("nvme ")?.split_once(": ")?;
    let controller = name(controller).filter(|name| name.starts_with("nvme"))?;
    let (_, level, message) = SAID.iter().find(|(words, ..)| said.contains(words))?;
    incident(*level, format!("disk {controller}"), *message)
}

/// `mlx5_core 0000:01:00.0 eth2: Link down`, `e1000e 0000:00:19.0 eno1: NIC Link is Down`.
fn link(text: &str) -> Option<Incident> {
    let (head, said) = text.split_once(": ")?;
    if !["link is down", "link down"].iter().any(|words| said.to_ascii_lowercase().contains(words))
    {
        return None;
    }
    let mut words = head.split(' ');
    let (_driver, _device, interface) = (words.next()?, words.next()?, words.next()?);
    let interface = name(interface).filter(|_| words.next().is_none())?;
    incident(FaultLevel::Warning, format!("nic {interface}"), "has lost its link")
}

/// `pcieport 0000:00:01.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, …`
/// (`drivers/pci/pcie/aer.c`).
fn bus(text: &str) -> Option<Incident> {
    let (head, said) = text.split_once(": PCIe Bus Error: severity=")?;
    let address =
        head.split(' ').map(|word| word.trim_end_matches(':')).find(|word| is_pci_address(word))?;
    let message = match said.split(',').next()? {
        "Corrected" | "Correctable" => return None,
        fatal if fatal.ends_with("(Fatal)") => "fatal errors on PCI Express",
        _ => "uncorrected errors on PCI Express",
    };
    incident(FaultLevel::Warning, format!("pci {address}"), message)
}

/// A name of something, as far as it is one: short, and of characters that can be seen.
fn name(text: &str) -> Option<&str> {
    let is_name = !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(|c| c.is_ascii_graphic() && !b"\"'<>&\\".contains(&c));
    is_name.then_some(text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn told(records: &[&str]) -> String {
        let line = |record: &&str| match kernel_log(record) {
            Some(Incident { level, subject, message, pci }) => {
                format!(
                    "{level:?} {subject}: {message}{}",
                    pci.map(|pci| format!(" [{pci}]")).unwrap_or_default()
                )
            }
            None => "nothing".to_owned(),
        };
        records.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn gpus_and_adapters() {
        let records = [
            "4,1234,5678,-;NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            "4,1235,5679,-;NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus.",
            "4,1236,5680,-;NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x56:1463)",
            "6,1,2,-;amdgpu 0000:05:00.0: amdgpu: 1 uncorrectable hardware errors detected in umc block, no user action is needed.\n \
             SUBSYSTEM=pci\n DEVICE=+pci:0000:05:00.0",
            "6,1,2,-;amdgpu 0000:05:00.0: amdgpu: GPU reset begin!",
            "3,1,2,-;mlx5_core 0000:01:00.0: poll_health:866:(pid 0): device's health compromised - reached miss count",
            "4,1,2,-;NVRM: Xid (PCI:0000:3b:00): 31, pid=4711, name=python, Ch 00000008, intr 10000000. MMU Fault",
        ];
        expect![[r"
            Error gpu 0000:3b:00.0: Xid 79: has fallen off the bus [0000:3b:00.0]
            Error gpu 0000:3b:00.0: has fallen off the bus [0000:3b:00.0]
            Error gpu 0000:3b:00.0: its driver cannot start it [0000:3b:00.0]
            Warning gpu 0000:05:00.0: uncorrected error of its hardware [0000:05:00.0]
            Warning gpu 0000:05:00.0: was reset by its driver [0000:05:00.0]
            Warning pci 0000:01:00.0: its firmware does not answer [0000:01:00.0]
            nothing"]]
        .assert_eq(&told(&records));
    }

    #[test]
    fn memory_and_processors() {
        let records = [
            "2,1,2,-;mce: [Hardware Error]: CPU 5: Machine Check Exception: 5 Bank 8: be00000000801136",
            "0,1,2,-;[Hardware Error]: Corrected error, no action required.",
            "0,1,2,-;[Hardware Error]: Uncorrected, software restartable error.",
            "0,1,2,-;{1}[Hardware Error]: event severity: corrected",
            "0,1,2,-;{2}[Hardware Error]: event severity: fatal",
            "0,1,2,-;[Hardware Error]: Run the above through 'mcelog --ascii'",
            "4,1,2,-;EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0 (channel:0 slot:0 page:0x1 offset:0x0)",
            "1,1,2,-;EDAC MC1: 1 UE Multi-bit ECC on mc#1csrow#2channel#0 (csrow:2 channel:0 page:0x0)",
            "6,1,2,-;EDAC MC0: Giving out device to module skx_edac controller Skylake Socket#0 IMC#0",
            "3,1,2,-;Memory failure: 0x12345: recovery action for dirty LRU page: Recovered",
            "2,1,2,-;CPU3: Package temperature above threshold, cpu clock throttled (total events = 12)",
            "6,1,2,-;CPU3: Package temperature/speed normal",
        ];
        expect![[r"
            Error machine: machine check: uncorrected error
            Warning machine: machine check: see the kernel's log
            Error machine: machine check: uncorrected error
            Warning machine: the firmware reports a corrected error
            Error machine: the firmware reports an error: fatal
            nothing
            Warning memory: corrected errors in CPU_SrcID#0_MC#0_Chan#0_DIMM#0
            Error memory: uncorrected errors in mc#1csrow#2channel#0
            nothing
            Error memory: a page with an uncorrected error is taken out of use
            Warning cpu: is slowed down for its heat
            nothing"]]
        .assert_eq(&told(&records));
    }

    #[test]
    fn disks_links_and_buses() {
        let records = [
            "3,1,2,-;I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2",
            "3,1,2,-;blk_update_request: critical medium error, dev sdb, sector 5120 op 0x0:(READ)",
            "4,1,2,-;nvme nvme0: controller is down; will reset: CSTS=0xffffffff, PCI_STATUS=0xffff",
            "4,1,2,-;nvme nvme1: I/O 12 QID 3 timeout, aborting",
            "3,1,2,-;nvme nvme1: Removing after probe failure status: -19",
            "6,1,2,-;nvme nvme0: 8/0/0 default/read/poll queues",
            "6,1,2,-;mlx5_core 0000:01:00.0 eth2: Link down\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0",
            "6,1,2,-;e1000e 0000:00:19.0 eno1: NIC Link is Down",
            "6,1,2,-;virtio_net virtio1 enp1s0: link is down",
            "6,1,2,-;e1000e 0000:00:19.0 eno1: NIC Link is Up 1000 Mbps Full Duplex",
            "3,1,2,-;pcieport 0000:00:01.0: PCIe Bus Error: severity=Uncorrected (Fatal), type=Transaction Layer, (Receiver ID)",
            "4,1,2,-;pcieport 0000:00:01.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
        ];
        expect![[r#"
            Warning disk sda: a request failed
            Warning disk sdb: a sector cannot be read or written
            Warning disk nvme0: its controller was down and is reset
            Warning disk nvme1: does not answer in time
            Error disk nvme1: is given up, for it could not be started
            nothing
            Warning nic eth2: has lost its link [0000:01:00.0]
            Warning nic eno1: has lost its link [0000:00:19.0]
            Warning nic enp1s0: has lost its link
            nothing
            Warning pci 0000:00:01.0: fatal errors on PCI Express [0000:00:01.0]
            nothing"#]]
        .assert_eq(&told(&records));
    }

    #[test]
    fn what_programs_write_is_no_incident() {
        let records = [
            "12,1,2,-;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
            "30,1,2,-;systemd[1]: I/O error, dev sda, sector 1",
            "",
            ";",
            "x,1;I/O error, dev sda",
            "3,1,2,-;I/O error, dev , sector 1",
            "3,1,2,-;I/O error, dev \\x1b[2J, sector 1",
        ];
        assert_eq!(told(&records), ["nothing"; 7].join("\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_record(text in "(?s)([0-9],1,2,-;)?(NVRM: Xid \\(PCI:|[0-9a-f]|:|\\): |I/O error, dev |EDAC MC| CE | on |\n|.){0,40}") {
            let _ = kernel_log(&text);
        }
    }
}
