//! TFTP: boot files to many clients at once, and one large file with a window (RFC 7440), beside
//! atftpd, tftpd-hpa and dnsmasq.

use std::{fs, path::PathBuf, sync::Barrier, thread, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use bench::outcome::{Better, Outcome, Row};
use fastrand::Rng;

use crate::{
    clock,
    frame::Frame,
    network::{SERVER, SERVER_INTERFACE},
    ours::{BedplateServer, Settings},
    peers,
    process::Service,
    turns::{self, OURS, Samples, Side},
};

mod client;

/// Clients at once.
const CLIENTS: usize = 16;

/// Size of a boot file, bytes.
const SMALL_BYTES: usize = 1 << 20;

/// Size of the large file, bytes.
const LARGE_BYTES: usize = 64 << 20;

/// Bytes of a block: what fits into an Ethernet frame with all headers.
const BLOCK_BYTES: u16 = 1468;

/// Blocks of a window.
const WINDOW: u16 = 32;

/// Fetches of all clients in one turn: one takes a tenth of a second.
const REPEATS: u32 = 5;

const START_LIMIT: Duration = Duration::from_secs(20);

const MANY: &str = "16 clients, 1 MiB each";
const WINDOWED: &str = "1 client, 64 MiB, windowsize 32";
const PLAIN: &str = "1 client, 64 MiB, no window";

/// Measures.
///
/// # Errors
/// If our side cannot be set up.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("tftp");
    outcome.rows.push(Row::new(MANY, "MB/s", Better::Higher).headline());
    outcome.rows.push(Row::new(WINDOWED, "MB/s", Better::Higher));
    outcome.rows.push(Row::new(PLAIN, "MB/s", Better::Higher));
    let root = frame.checkout_paths.on_disk("tftp");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let mut noise = Rng::with_seed(1);
    let [small, large] = [SMALL_BYTES, frame.size(LARGE_BYTES, LARGE_BYTES / 8)].map(|length| {
        let mut bytes = vec![0; length];
        noise.fill(&mut bytes);
        bytes
    });
    for (name, content) in [("small", &small), ("large", &large)] {
        fs::write(root.join(name), content).with_context(|| format!("cannot write {name}"))?;
    }
    let bench = Bench { frame, root, small, large };
    let sides = vec![
        Side::new(OURS, |_| {
            let _server = bench.ours()?;
            clock::wait_for("TFTP to answer", START_LIMIT, || Ok(bench.answers().then_some(())))?;
            bench.fetch_all()
        }),
        Side::new("atftpd", |_| bench.beside(Bench::atftpd)),
        Side::new("tftpd-hpa", |_| bench.beside(Bench::tftpd_hpa)),
        Side::new("dnsmasq", |_| bench.beside(Bench::dnsmasq)),
    ];
    turns::take(&mut outcome, frame.size(5, 1), sides);
    outcome.note(format!(
        "over veth, MTU 1500, blksize {BLOCK_BYTES}; one client of this program for all, every byte compared; tftpd-hpa and dnsmasq do not know windows \
         and answer without"
    ));
    if frame.quick {
        outcome.note("a smoke test: the large file has 8 MiB");
    }
    Ok(outcome)
}

struct Bench<'a> {
    frame: &'a Frame,
    root: PathBuf,
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Bench<'_> {
    fn beside(&self, start: impl Fn(&Self) -> anyhow::Result<Service>) -> anyhow::Result<Samples> {
        let mut server = start(self)?;
        server.until("answer", START_LIMIT, || self.answers())?;
        self.fetch_all()
    }

    fn answers(&self) -> bool {
        self.frame.network.as_client(|| client::fetch("small", BLOCK_BYTES, None)).is_ok()
    }

    fn fetch_all(&self) -> anyhow::Result<Samples> {
        // What is read or compiled at the first request is not what boot storms are about.
        self.many()?;
        let mut samples = Vec::new();
        for _ in 0..self.frame.size(REPEATS, 2) {
            samples.push((MANY.to_owned(), self.many()?));
        }
        samples.push((WINDOWED.to_owned(), self.one(Some(WINDOW))?));
        samples.push((PLAIN.to_owned(), self.one(None)?));
        Ok(samples)
    }

    /// From the first request of all clients to the last byte of all, MB/s.
    fn many(&self) -> anyhow::Result<f64> {
        let (files, seconds) = self.frame.network.as_client(|| {
            let barrier = Barrier::new(CLIENTS + 1);
            thread::scope(|scope| {
                let ask = || {
                    barrier.wait();
                    client::fetch("small", BLOCK_BYTES, None)
                };
                let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
                barrier.wait();
                clock::timed(|| {
                    let joined = clients.into_iter().map(|client| client.join());
                    joined
                        .map(|file| file.map_err(|_| anyhow!("a client panicked"))?)
                        .collect::<anyhow::Result<Vec<_>>>()
                })
            })
        })?;
        ensure!(
            files.iter().all(|file| *file == self.small),
            "a client got other bytes than the file has"
        );
        Ok(megabytes(CLIENTS * SMALL_BYTES) / seconds)
    }

    fn one(&self, window: Option<u16>) -> anyhow::Result<f64> {
        let ask = || clock::timed(|| client::fetch("large", BLOCK_BYTES, window));
        let (file, seconds) = self.frame.network.as_client(ask)?;
        ensure!(file == self.large, "the client got other bytes than the file has");
        Ok(megabytes(file.len()) / seconds)
    }

    fn ours(&self) -> anyhow::Result<BedplateServer> {
        let firmware =
            vec![("bios", self.root.join("small")), ("efi-x86-64", self.root.join("large"))];
        let settings = Settings { firmware, dhcp_pool: None };
        BedplateServer::start(
            &self.frame.checkout_paths,
            &self.frame.checkout_paths.on_disk("ours"),
            &settings,
        )
    }

    fn atftpd(&self) -> anyhow::Result<Service> {
        let root = self.root.display().to_string();
        let address = SERVER.to_string();
        let arguments = [
            "--daemon",
            "--no-fork",
            "--bind-address",
            &address,
            "--port",
            "69",
            "--user",
            "root",
            "--group",
            "root",
            "--maxthread",
            "100",
            "--logfile",
            "-",
            &root,
        ];
        self.start("atftpd", "atftpd", &arguments)
    }

    fn tftpd_hpa(&self) -> anyhow::Result<Service> {
        let (root, address) = (self.root.display().to_string(), format!("{SERVER}:69"));
        self.start("tftpd-hpa", "in.tftpd", &["-L", "-a", &address, "-u", "root", "-s", &root])
    }

    fn dnsmasq(&self) -> anyhow::Result<Service> {
        let root = format!("--tftp-root={}", self.root.display());
        let pid =
            format!("--pid-file={}", self.frame.checkout_paths.on_disk("dnsmasq.pid").display());
        let interface = format!("--interface={SERVER_INTERFACE}");
        let arguments = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--port=0",
            "--enable-tftp",
            "--bind-interfaces",
            "--tftp-max=200",
            &root,
            &pid,
            &interface,
        ];
        self.start("dnsmasq", "dnsmasq", &arguments)
    }

    fn start(&self, name: &str, program: &str, arguments: &[&str]) -> anyhow::Result<Service> {
        let log = self.frame.checkout_paths.on_disk(&format!("{name}.log"));
        Service::start(name, peers::program(&self.frame.checkout_paths, program)?, arguments, &log)
    }
}

#[expect(clippy::cast_precision_loss, reason = "files of megabytes")]
fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}
