//! What drivers of the running machine answer.

use std::{io, path::Path};

use ::inventory::ioctls::{Ioctls, SMART_LOG_BYTES};

/// The kernel's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kernel;

impl Ioctls for Kernel {
    fn nvme_smart_log(&self, controller: &str) -> io::Result<[u8; SMART_LOG_BYTES]> {
        linux::nvme::smart_log(&Path::new("/dev").join(controller)).map_err(|error| error.errno)
    }

    fn ethtool_firmware(&self, interface: &str) -> io::Result<String> {
        linux::ethtool::firmware_version(interface).map_err(|error| error.errno)
    }

    fn ipmi(&self, network_function: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
        linux::ipmi::ask(Path::new("/dev/ipmi0"), network_function, command, data)
            .map_err(|error| error.errno)
    }
}
