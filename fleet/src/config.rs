//! What `bedplate server` tells fleet. Checked by the server before it gets here.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use api::status::Phase;

/// Settings of the fleet.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// State directory, for example `/var/lib/bedplate`. Fleet keeps `ca/` in it.
    pub state_dir: PathBuf,
    /// Addresses that nodes reach this server at; they become IP SANs of the server's certificate.
    pub server_addresses: Vec<IpAddr>,
    /// Fleet ports that agents are told to keep, in the order in which they are to be tried: at
    /// most [`api::channel::MAX_FLEET_SERVERS`]. Empty: agents keep those that they booted with.
    pub fleet_servers: Vec<SocketAddr>,
    /// Further DNS names for the certificate: the host's own names. `bedplate` and `localhost`
    /// are always in it.
    pub server_names: Vec<String>,
    /// Heartbeat interval of the agents, seconds, at least 1. After three without a word a node
    /// counts as gone.
    pub heartbeat_seconds: u32,
    /// When a node counts as stuck.
    pub deadlines: Deadlines,
}

impl FleetConfig {
    /// Heartbeats every 5 s and the default deadlines.
    #[must_use]
    pub fn new(state_dir: PathBuf, server_addresses: Vec<IpAddr>) -> Self {
        Self {
            state_dir,
            server_addresses,
            fleet_servers: Vec::new(),
            server_names: Vec::new(),
            heartbeat_seconds: 20,
            deadlines: Deadlines::default(),
        }
    }

    /// How long a node may be silent, seconds: three heartbeats.
    pub(crate) fn grace_seconds(&self) -> u32 {
        self.heartbeat_seconds.max(1).saturating_mul(3)
    }
}

/// Longest time in each phase of a boot, seconds. A node that stays longer is flagged as stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the address to the first file.
    pub offered_seconds: u64,
    /// From the first file to stage 1: boot file, script, kernel and initramfs.
    pub firmware_seconds: u64,
    /// From the node's initrd, the last file of a boot, to the first word of its stage 1. Past it
    /// the node's status says what may be the cause.
    pub silence_seconds: u64,
    /// From stage 1's certificate to its first byte of the root image.
    pub stage1_seconds: u64,
    /// For the root image.
    pub fetching_seconds: u64,
    /// From the hand-over to the image's init to the agent's connection.
    pub switching_seconds: u64,
    /// From the agent's connection to its inventory.
    pub enrolled_seconds: u64,
    /// From the announced reboot to the firmware's first request.
    pub rebooting_seconds: u64,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            offered_seconds: 120,
            firmware_seconds: 180,
            silence_seconds: 300,
            stage1_seconds: 120,
            fetching_seconds: 900,
            switching_seconds: 300,
            enrolled_seconds: 60,
            rebooting_seconds: 300,
        }
    }
}

impl Deadlines {
    /// The deadline of a phase; `None` for phases in which a node may stay.
    pub(crate) fn of(&self, phase: Phase) -> Option<u64> {
        match phase {
            Phase::Offered => Some(self.offered_seconds),
            Phase::Firmware => Some(self.firmware_seconds),
            Phase::Stage1 => Some(self.stage1_seconds),
            Phase::Fetching => Some(self.fetching_seconds),
            Phase::Switching => Some(self.switching_seconds),
            Phase::Enrolled => Some(self.enrolled_seconds),
            Phase::Rebooting => Some(self.rebooting_seconds),
            Phase::Unseen | Phase::Ready | Phase::Lost | Phase::Failed => None,
        }
    }
}
