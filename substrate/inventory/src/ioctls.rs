//! What only an ioctl(2) tells. This crate has no `unsafe`, so the agent passes in the kernel's; a
//! capture answers from a file.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    io::{self, ErrorKind},
    path::Path,
};

/// Bytes of the SMART log of NVMe.
pub const SMART_LOG_BYTES: usize = 512;

/// Questions to drivers. Each answers within some seconds; what the machine does not have is
/// [`ErrorKind::NotFound`].
pub trait Ioctls: Debug + Send {
    /// SMART / health information of the controller `nvme0` (NVM Express Base
    /// Specification, log page 02h).
    ///
    /// # Errors
    /// The kernel's.
    fn nvme_smart_log(&self, controller: &str) -> io::Result<[u8; SMART_LOG_BYTES]>;

    /// Firmware version of a network interface (`ETHTOOL_GDRVINFO`,
    /// `include/uapi/linux/ethtool.h`). Empty if its driver does not tell.
    ///
    /// # Errors
    /// The kernel's.
    fn ethtool_firmware(&self, interface: &str) -> io::Result<String>;

    /// Asks the BMC over its system interface: the data of its answer, which begin with the
    /// completion code (`Documentation/driver-api/ipmi.rst`).
    ///
    /// # Errors
    /// The kernel's; [`ErrorKind::TimedOut`] if the BMC says nothing.
    fn ipmi(&self, network_function: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>>;
}

/// Answers of a capture, from the file `ioctls` in its root. One a line:
///
/// ```text
/// nvme0 smart-log = 00 3b 01 …          all 512 bytes
/// lan0 firmware = 22.36.1010
/// ipmi 0c 02 01 03 00 00 = 00 11 …      network function, command, data = answer
/// ```
#[derive(Debug, Clone, Default)]
pub struct Captured(BTreeMap<String, String>);

impl Captured {
    /// Of the capture at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("ioctls")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(" = "));
        Self(
            lines
                .map(|(question, answer)| (question.to_owned(), answer.trim().to_owned()))
                .collect(),
        )
    }

    fn answer(&self, question: &str) -> io::Result<&str> {
        self.0.get(question).map(String::as_str).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Ioctls for Captured {
    fn nvme_smart_log(&self, controller: &str) -> io::Result<[u8; SMART_LOG_BYTES]> {
        let bytes = hex(self.answer(&format!("{controller} smart-log"))?);
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    fn ethtool_firmware(&self, interface: &str) -> io::Result<String> {
        Ok(self.answer(&format!("{interface} firmware"))?.to_owned())
    }

    fn ipmi(&self, network_function: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
        let asked = [network_function, command];
        let asked = asked.iter().chain(data);
        let question =
            asked.fold("ipmi".to_owned(), |question, byte| format!("{question} {byte:02x}"));
        hex(self.answer(&question)?).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}
