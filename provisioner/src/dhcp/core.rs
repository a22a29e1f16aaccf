//! The decisions of [`boot_proto::dhcp`] with what they need: a clock that nobody sets, and the log
//! that leases of pools are read from and recorded in.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::ids::{MacAddr, Timestamp};
use boot_proto::{
    AddressPlan, FirmwareMap, HostTable,
    dhcp::{Arrival, Config, DhcpServer, Effect, LeaseRecord, Mode, PoolUse},
};
use tokio::time::Instant;

use super::{
    lease_log::{LeaseLog, LeaseLogError},
    meter::Meter,
};
use crate::{
    clock::now as wall_clock,
    config::{DhcpConfig, DhcpMode, ProvisionerConfig},
};

/// The leases of pools, and what is answered to whom. Clones share everything.
#[derive(Debug, Clone)]
pub struct DhcpCore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    server: Mutex<DhcpServer>,
    /// `None`: there is no pool.
    log: Option<LeaseFile>,
    clock: SteadyClock,
    meter: Meter,
}

#[derive(Debug)]
struct LeaseFile {
    path: PathBuf,
    log: Mutex<LeaseLog>,
}

/// The time of the start and what has passed since. Leases are counted by it: setting the machine's
/// clock neither ends them nor makes them longer.
#[derive(Debug)]
struct SteadyClock {
    started: Timestamp,
    at: Instant,
}

impl SteadyClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.at.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp(self.started.0.saturating_add(passed))
    }
}

impl DhcpCore {
    /// Reads the leases of earlier runs from the state directory, where there are pools.
    ///
    /// # Errors
    /// See [`LeaseLogError`].
    pub(crate) fn open(
        config: &ProvisionerConfig,
        firmware: &FirmwareMap,
    ) -> Result<Self, LeaseLogError> {
        let addresses = own_addresses(config);
        Self::with(&config.dhcp, addresses, firmware, config.boot_port(), &config.state_dir)
    }

    /// As the server opens it, without the rest of its configuration.
    ///
    /// # Errors
    /// See [`LeaseLogError`].
    pub fn with(
        config: &DhcpConfig,
        server_addresses: Vec<Ipv4Addr>,
        firmware: &FirmwareMap,
        http_port: u16,
        state_dir: &Path,
    ) -> Result<Self, LeaseLogError> {
        let core = Config {
            mode: match config.mode {
                DhcpMode::Authoritative | DhcpMode::Off => Mode::Authoritative,
                DhcpMode::Proxy => Mode::Proxy,
            },
            subnets: config.core_subnets(),
            server_addresses,
            lease_seconds: config.lease_seconds,
            http_port,
            firmware: firmware.clone(),
        };
        let mut server = DhcpServer::new(core);
        let clock = SteadyClock { started: wall_clock(), at: Instant::now() };
        let pools = config.subnets.iter().any(|subnet| subnet.pool.is_some());
        let log = match config.mode {
            DhcpMode::Authoritative if pools => {
                Some(restore(&mut server, state_dir, config.lease_seconds, clock.now())?)
            }
            _ => None,
        };
        let (server, meter) = (Mutex::new(server), Meter::default());
        Ok(Self(Arc::new(Inner { server, log, clock, meter })))
    }

    /// Decides about one packet.
    pub(super) fn handle(
        &self,
        packet: &[u8],
        arrival: &Arrival<'_>,
        hosts: &HostTable,
    ) -> Vec<Effect> {
        self.server().handle(packet, arrival, hosts, self.0.clock.now())
    }

    /// A probe is over.
    pub(super) fn probed(
        &self,
        address: Ipv4Addr,
        answer: Option<MacAddr>,
        hosts: &HostTable,
    ) -> Vec<Effect> {
        self.server().probed(address, answer, hosts, self.0.clock.now())
    }

    /// A probe is not made.
    pub(super) fn not_probed(&self, address: Ipv4Addr) {
        self.server().not_probed(address);
    }

    /// A record is not written, because too many wait.
    pub(super) fn unsaved(&self, record: &LeaseRecord) {
        self.server().unsaved(record, self.0.clock.now());
    }

    /// Puts records on disk, all or none. Blocks as long as the disk takes. Of each, whether what
    /// waited for it may be done.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn write(&self, records: &[LeaseRecord]) -> io::Result<Vec<bool>> {
        let written = match &self.0.log {
            None => Ok(()),
            Some(file) => {
                let mut log = file.log.lock().unwrap_or_else(PoisonError::into_inner);
                let begun = Instant::now();
                let all = || self.server().records(self.0.clock.now());
                let written = log.append(records, all, wall_clock());
                self.0.meter.appended(records.len(), begun.elapsed(), written.is_ok());
                written
            }
        };
        let mut server = self.server();
        let now = self.0.clock.now();
        if written.is_err() {
            records.iter().for_each(|record| server.unsaved(record, now));
        }
        written.map(|()| records.iter().map(|record| server.saved(record, now)).collect())
    }

    /// Where the log is, for messages; empty where there is none.
    pub(super) fn log_path(&self) -> &Path {
        self.0.log.as_ref().map_or(Path::new(""), |file| &file.path)
    }

    /// Whether there are pools, whose leases are recorded.
    pub(super) fn has_log(&self) -> bool {
        self.0.log.is_some()
    }

    /// What is counted.
    pub(super) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// Refused requests by kind.
    pub(super) fn refused(&self) -> Vec<(&'static str, u64)> {
        self.server().refused()
    }

    /// How full the pools are; none where this server gives no addresses.
    pub(super) fn pools(&self, hosts: &HostTable) -> Vec<PoolUse> {
        match self.has_log() {
            true => self.server().pools(hosts, self.0.clock.now()),
            false => Vec::new(),
        }
    }

    /// Which addresses are somebody's by the configuration.
    pub(crate) fn plan(&self) -> Arc<AddressPlan> {
        self.server().plan()
    }

    /// The pool address that a MAC address was given last.
    pub(crate) fn leased(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        self.server().leased(mac)
    }

    /// The MAC address that a pool address was given to last.
    pub(crate) fn holder(&self, address: Ipv4Addr) -> Option<MacAddr> {
        self.server().holder(address)
    }

    fn server(&self) -> MutexGuard<'_, DhcpServer> {
        self.0.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses that nodes are told, and those of the interfaces that DHCP listens on.
fn own_addresses(config: &ProvisionerConfig) -> Vec<Ipv4Addr> {
    let told = config.all_addresses().filter_map(|address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let mut addresses: Vec<Ipv4Addr> = told.collect();
    match nix::ifaddrs::getifaddrs() {
        Ok(found) => addresses.extend(
            found
                .filter(|found| config.dhcp.interfaces.contains(&found.interface_name))
                .filter_map(|found| Some(found.address?.as_sockaddr_in()?.ip())),
        ),
        Err(error) => {
            tracing::warn!("the addresses of this machine's interfaces are not known: {error}")
        }
    }
    addresses
}

fn restore(
    server: &mut DhcpServer,
    state_dir: &Path,
    lease_seconds: u32,
    now: Timestamp,
) -> Result<LeaseFile, LeaseLogError> {
    let (log, restored) = LeaseLog::open(state_dir, wall_clock())?;
    let path = log.path().to_owned();
    let count = restored.records.len();
    server.restore(restored.records, now);
    if restored.cut > 0 {
        tracing::warn!(
            "the last {} byte(s) of {} are no whole records, as after a power failure; dropped",
            restored.cut,
            path.display()
        );
    }
    if restored.found {
        tracing::info!("{count} record(s) of DHCP leases read from {}", path.display());
    } else {
        tracing::info!("there is no log of DHCP leases, {}, yet", path.display());
    }
    if !restored.found || restored.cut > 0 {
        // As long as a lease of an earlier run can last.
        server.restore([LeaseRecord::Incomplete { seconds: lease_seconds }], now);
        tracing::info!("for {lease_seconds} s addresses of pools are probed before they are given");
    }
    Ok(LeaseFile { path, log: Mutex::new(log) })
}
