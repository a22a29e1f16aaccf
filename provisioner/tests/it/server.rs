//! The real DHCP and TFTP shells on a thread in a namespace, with their log and their events kept.

use std::{
    io,
    net::SocketAddrV4,
    path::Path,
    sync::{Arc, Mutex, mpsc as std_mpsc},
    thread::JoinHandle,
    time::Duration,
};

use boot_proto::{BootEvent, FirmwareMap, Host, HostTable};
use provisioner::{
    DhcpConfig, DhcpMode, DhcpSubnet, FirmwareFiles,
    boot_log::MAX_WAITING_EVENTS,
    dhcp::{self, DhcpCore},
    tftp,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::network::{CLIENT_MAC, Network, SERVER_INTERFACE, enter};

/// Port of the HTTP boot listener, which these tests do not run.
pub(crate) const HTTP_PORT: u16 = 9480;

/// A running pair of shells; stopped when dropped.
pub(crate) struct Server {
    log: Log,
    dhcp: DhcpCore,
    tftp: Arc<tftp::Meter>,
    /// Of a server that is never started again.
    state: Option<tempfile::TempDir>,
    events: mpsc::Receiver<BootEvent>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// The files of the Debian package `ipxe`.
pub(crate) fn debian_firmware() -> FirmwareFiles {
    FirmwareFiles {
        bios: Some("/usr/lib/ipxe/undionly.kpxe".into()),
        efi_x86_64: Some("/usr/lib/ipxe/snponly.efi".into()),
        efi_arm64: None,
    }
}

/// The one registered node: `n1`, the client of [`Network`].
pub(crate) fn node(address: &str) -> Host {
    Host {
        id: "6f1c1f0e-52a1-4a53-9f0b-6f5f6d1f2d11".parse().unwrap(),
        name: "n1".parse().unwrap(),
        mac: api::ids::MacAddr(CLIENT_MAC),
        address: Some(address.parse().unwrap()),
        gateway: None,
        dns: Vec::new(),
        domain: None,
    }
}

fn subnet(network: &str) -> DhcpSubnet {
    DhcpSubnet {
        network: network.parse().unwrap(),
        pool: None,
        gateway: Some("10.77.0.1".parse().unwrap()),
        dns: vec!["10.77.0.1".parse().unwrap()],
        ntp: Vec::new(),
        domain: Some("cluster.test".to_owned()),
    }
}

impl Server {
    /// Starts the shells and waits until their ports are bound.
    pub(crate) fn start(
        network: &Network,
        mode: DhcpMode,
        files: FirmwareFiles,
        host: Host,
    ) -> Self {
        let config = DhcpConfig {
            mode,
            interfaces: vec![SERVER_INTERFACE.to_owned()],
            subnets: vec![subnet("10.77.0.0/24"), subnet("10.78.0.0/24")],
            lease_seconds: 600,
        };
        let state = tempfile::tempdir().unwrap();
        let mut server = Self::start_with(network, config, files, vec![host], state.path());
        server.state = Some(state);
        server
    }

    /// Starts them with a pool from 10.77.0.100 to 10.77.0.199, for nodes without addresses, and
    /// with a state directory that outlives them.
    pub(crate) fn start_with_pool(network: &Network, macs: &[[u8; 6]], state_dir: &Path) -> Self {
        let pool = Some(("10.77.0.100".parse().unwrap(), "10.77.0.199".parse().unwrap()));
        let config = DhcpConfig {
            mode: DhcpMode::Authoritative,
            interfaces: vec![SERVER_INTERFACE.to_owned()],
            subnets: vec![DhcpSubnet { pool, ..subnet("10.77.0.0/24") }],
            lease_seconds: 600,
        };
        let hosts = macs.iter().enumerate().map(|(number, mac)| Host {
            name: format!("p{number}").parse().unwrap(),
            mac: api::ids::MacAddr(*mac),
            address: None,
            ..node("10.77.0.11/24")
        });
        Self::start_with(network, config, debian_firmware(), hosts.collect(), state_dir)
    }

    fn start_with(
        network: &Network,
        config: DhcpConfig,
        files: FirmwareFiles,
        hosts: Vec<Host>,
        state_dir: &Path,
    ) -> Self {
        let (events_in, events) = mpsc::channel(MAX_WAITING_EVENTS);
        let (bound_in, bound) = std_mpsc::channel();
        let (log, shutdown, namespace) =
            (Log::default(), CancellationToken::new(), network.server.clone());
        let (thread_log, stop, state_dir) = (log.clone(), shutdown.clone(), state_dir.to_owned());
        let tftp = Arc::new(tftp::Meter::default());
        let meter = tftp.clone();
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let writer = move || thread_log.clone();
            let subscriber =
                tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
            let _quiet = tracing::subscriber::set_default(subscriber);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let core = DhcpCore::with(
                &config,
                vec!["10.77.0.1".parse().unwrap()],
                &firmware_map(&files),
                HTTP_PORT,
                &state_dir,
            )
            .unwrap();
            let hosts: HostTable = hosts.into_iter().collect();
            runtime.block_on(serve(config, (core, files, meter), hosts, events_in, bound_in, stop));
        });
        let dhcp = bound.recv_timeout(Duration::from_secs(10)).expect("the server binds its ports");
        Self { log, dhcp, tftp, state: None, events, shutdown, thread: Some(thread) }
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().unwrap()).into_owned()
    }

    /// What Prometheus would be told now.
    pub(crate) fn metrics(&self) -> String {
        let mut out = metrics::Exposition::new();
        self.dhcp.expose(&HostTable::default(), &mut out);
        self.tftp.expose(&mut out);
        out.finish()
    }

    /// The events so far.
    pub(crate) fn events(&mut self) -> Vec<BootEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the server's thread panicked; its log:\n{}", self.log());
        }
    }
}

fn firmware_map(files: &FirmwareFiles) -> FirmwareMap {
    tftp::Firmware::load(files).unwrap().map().clone()
}

async fn serve(
    config: DhcpConfig,
    (core, files, meter): (DhcpCore, FirmwareFiles, Arc<tftp::Meter>),
    hosts: HostTable,
    events: mpsc::Sender<BootEvent>,
    bound: std_mpsc::Sender<DhcpCore>,
    shutdown: CancellationToken,
) {
    let firmware = Arc::new(tftp::Firmware::load(&files).unwrap());
    let dhcp = dhcp::Server::bind(&config, core.clone()).unwrap();
    let listen = SocketAddrV4::new("10.77.0.1".parse().unwrap(), tftp::PORT);
    let tftp = tftp::Server::bind(&[listen], firmware, meter).unwrap();
    let (_keep, hosts) = watch::channel(Arc::new(hosts));
    bound.send(core).unwrap();
    let (dhcp, tftp) = tokio::join!(
        dhcp.serve(hosts, events.clone(), shutdown.clone()),
        tftp.serve(events, shutdown)
    );
    dhcp.unwrap();
    tftp.unwrap();
}

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
