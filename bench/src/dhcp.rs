//! DHCP: exchanges of four packets by ISC's `perfdhcp`, which acts as a relay, beside
//! Kea and dnsmasq.
//!
//! Clients are 10,000 machines that boot by PXE: registered nodes to us, unknown machines to the
//! others. All get an address of a pool of the same range, a gateway and the same boot file.

use std::{fmt::Write as _, fs, io::ErrorKind, net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use api::ids::MacAddr;
use bench::outcome::{Better, Outcome, Row};
use harness::workspace;

use crate::{
    frame::Frame,
    network::{CLIENT_INTERFACE, SERVER, SERVER_INTERFACE},
    ours::{BedplateServer, Settings},
    peers,
    process::{self, Service},
    turns::{self, OURS, Samples, Side},
};

mod perfdhcp;
mod probe;

use perfdhcp::Exchanges;

/// Exchanges a second that are offered where completed ones are counted: more than any of
/// them has done here.
const OFFERED: u32 = 20_000;

/// Machines that ask, each again and again.
const CLIENTS: u32 = 10_000;

/// Rates that are tried for the highest without loss.
const RATES: [u32; 18] = [
    100, 200, 300, 500, 1000, 2000, 3000, 4000, 6000, 8000, 10_000, 12_000, 14_000, 16_000, 18_000,
    20_000, 24_000, 28_000,
];

/// The addresses given, of `network::SERVER`'s network.
const POOL: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 64, 1, 0), Ipv4Addr::new(10, 79, 255, 250));

/// The boot file named, which Debian's package ipxe has.
const BOOT_PROGRAM: &str = "undionly.kpxe";

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

const COMPLETED: &str = "completed, 20,000 offered";
const LOSSLESS: &str = "highest rate without loss";
const LATE: &str = "REQUEST to ACK of a new lease, p99, 2,000 offered";

/// Exchanges a second at which answers are timed: all servers keep up.
const TIMED: u32 = 2_000;

/// Measures.
///
/// # Errors
/// If our side cannot be set up.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("dhcp");
    outcome.rows.push(Row::new(COMPLETED, "ACKs/s", Better::Higher).headline());
    outcome.rows.push(Row::new(LOSSLESS, "exchanges/s", Better::Higher));
    outcome.rows.push(Row::new(LATE, "ms", Better::Lower));
    let program = peers::program(&frame.checkout_paths, "perfdhcp")?;
    let bench = Bench { frame, program };
    bench.register_nodes()?;
    let sides = vec![
        Side::new(OURS, |_| {
            bench.turn(|bench| Ok(Server { _ours: Some(bench.without_leases()?), _peer: None }))
        }),
        Side::new("Kea", |_| bench.turn(Bench::kea)),
        Side::new("dnsmasq", |_| bench.turn(Bench::dnsmasq)),
    ];
    turns::take(&mut outcome, frame.size(3, 1), sides);
    outcome.note(format!(
        "{CLIENTS} machines that boot by PXE, through one relay (perfdhcp), over veth; each server begins without leases. All log warnings only, \
         and each answer is checked by one exchange before"
    ));
    outcome.note(
        "Kea and dnsmasq write each lease to a file, without fsync; ours has each new lease on disk (fdatasync, in batches) before it \
         acknowledges it, and writes what it knows of the node (its phase and history) to its database. Kea runs with one thread, its \
         default, which was faster than two in earlier tries",
    );
    outcome.note(format!("for the rate without loss {RATES:?} were offered for 3 s each, by halving; the figure is what was done at the highest of them"));
    Ok(outcome)
}

struct Bench<'a> {
    frame: &'a Frame,
    program: PathBuf,
}

/// One of the servers, running.
struct Server {
    _ours: Option<BedplateServer>,
    _peer: Option<Service>,
}

impl Bench<'_> {
    /// A fresh server each: the highest rate without loss, how late it answers, how much it
    /// does of too much.
    fn turn(&self, start: impl Fn(&Self) -> anyhow::Result<Server>) -> anyhow::Result<Samples> {
        let mut samples = Vec::new();
        {
            let _server = self.checked(&start)?;
            samples.push((LOSSLESS.to_owned(), self.lossless()?));
        }
        {
            let _server = self.checked(&start)?;
            samples.push((LATE.to_owned(), self.p99()?));
        }
        let _server = self.checked(&start)?;
        let seconds = self.frame.size(8, 2);
        let exchanges = self.load(OFFERED, seconds)?;
        samples.push((COMPLETED.to_owned(), exchanges.acks_per_second(seconds)));
        Ok(samples)
    }

    /// Starts a server and checks one of its answers.
    fn checked(&self, start: &impl Fn(&Self) -> anyhow::Result<Server>) -> anyhow::Result<Server> {
        let server = start(self)?;
        self.frame
            .network
            .as_client(|| probe::until_right(mac(0), &POOL, BOOT_PROGRAM, START_LIMIT))?;
        Ok(server)
    }

    /// What was done at the highest of [`RATES`] at which nothing was lost, or 0.
    fn lossless(&self) -> anyhow::Result<f64> {
        let rates = self.frame.size(&RATES[..], &[100, 1000, 10_000][..]);
        let seconds = self.frame.size(3, 1);
        let mut done = 0.0;
        // Below `low` nothing was lost, from `high` on something was.
        let (mut low, mut high) = (0, rates.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let exchanges = self.load(rates[middle], seconds)?;
            if exchanges.is_complete() {
                done = exchanges.acks_per_second(seconds);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(done)
    }

    fn load(&self, rate: u32, seconds: u32) -> anyhow::Result<Exchanges> {
        self.perfdhcp(rate, seconds, &[], perfdhcp::parse)
    }

    /// How late the ACKs come, but for the latest hundredth, ms. Each client asks once, so that
    /// each lease is a new one.
    fn p99(&self) -> anyhow::Result<f64> {
        let seconds = self.frame.size(CLIENTS / TIMED, 1);
        self.perfdhcp(TIMED, seconds, &perfdhcp::TIMES, |text| {
            perfdhcp::p99(&perfdhcp::delays(text))
        })
    }

    /// What a run says, as `read` understands it.
    fn perfdhcp<T>(
        &self,
        rate: u32,
        seconds: u32,
        more: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let words = perfdhcp::arguments(CLIENT_INTERFACE, rate, CLIENTS, seconds, SERVER);
        let arguments: Vec<String> =
            more.iter().map(|&word| word.to_owned()).chain(words).collect();
        let output = self.frame.network.as_client(|| process::output(&self.program, &arguments))?;
        let text = String::from_utf8_lossy(&output.stdout);
        read(&text).with_context(|| {
            let start: String = text.chars().take(4_000).collect();
            format!(
                "perfdhcp: {}:\n{start}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// Once, since it takes no part in what is measured.
    fn register_nodes(&self) -> anyhow::Result<()> {
        let mut document = "nodes:\n".to_owned();
        for client in 0..CLIENTS {
            writeln!(
                document,
                "  n{client}: {{ interfaces: {{ lan0: {{ mac: '{}' }} }} }}",
                mac(client)
            )?;
        }
        self.ours()?.apply(document).context("registering the nodes")
    }

    fn ours(&self) -> anyhow::Result<BedplateServer> {
        let settings =
            Settings { dhcp_pool: Some(format!("{}-{}", POOL.0, POOL.1)), firmware: Vec::new() };
        BedplateServer::start(
            &self.frame.checkout_paths,
            &self.frame.checkout_paths.on_disk("ours"),
            &settings,
        )
    }

    /// Ours with all nodes registered and no lease on disk.
    fn without_leases(&self) -> anyhow::Result<BedplateServer> {
        let log = self.frame.checkout_paths.on_disk("ours").join("state/dhcp-leases.log");
        match fs::remove_file(&log) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", log.display()));
            }
            _ => {}
        }
        self.ours()
    }

    fn kea(&self) -> anyhow::Result<Server> {
        let directory = self.fresh("kea")?;
        let config = directory.join("kea.json");
        let (leases, log) = (directory.join("leases.csv"), directory.join("kea.log"));
        let text = serde_json::json!({ "Dhcp4": {
            "interfaces-config": { "interfaces": [SERVER_INTERFACE] },
            "lease-database": { "type": "memfile", "persist": true, "name": leases, "lfc-interval": 3600 },
            "valid-lifetime": 3600,
            "subnet4": [{
                "subnet": "10.64.0.0/12",
                "pools": [{ "pool": format!("{} - {}", POOL.0, POOL.1) }],
                "option-data": [{ "name": "routers", "data": SERVER }],
                "next-server": SERVER,
                "boot-file-name": BOOT_PROGRAM,
            }],
            "loggers": [{ "name": "kea-dhcp4", "output_options": [{ "output": log }], "severity": "WARN" }],
        }});
        fs::write(&config, text.to_string())
            .with_context(|| format!("cannot write {}", config.display()))?;
        let program = peers::program(&self.frame.checkout_paths, "kea-dhcp4")?;
        let environment =
            [("KEA_PIDFILE_DIR", directory.as_os_str()), ("KEA_LOCKFILE_DIR", "none".as_ref())];
        let arguments = ["-c".as_ref(), config.as_os_str()];
        let peer =
            Service::start_with("Kea", program, &arguments, &directory.join("out"), &environment)?;
        Ok(Server { _ours: None, _peer: Some(peer) })
    }

    fn dnsmasq(&self) -> anyhow::Result<Server> {
        let directory = self.fresh("dnsmasq")?;
        let arguments = [
            "--keep-in-foreground".to_owned(),
            "--conf-file=/dev/null".to_owned(),
            "--user=root".to_owned(),
            "--port=0".to_owned(),
            format!("--pid-file={}", directory.join("pid").display()),
            format!("--interface={SERVER_INTERFACE}"),
            "--bind-interfaces".to_owned(),
            "--dhcp-authoritative".to_owned(),
            format!("--dhcp-range={},{},255.240.0.0,1h", POOL.0, POOL.1),
            "--dhcp-lease-max=1000000".to_owned(),
            "--no-ping".to_owned(),
            "--quiet-dhcp".to_owned(),
            format!("--dhcp-leasefile={}", directory.join("leases").display()),
            format!("--dhcp-option=option:router,{SERVER}"),
            format!("--dhcp-boot={BOOT_PROGRAM},,{SERVER}"),
        ];
        let program = peers::program(&self.frame.checkout_paths, "dnsmasq")?;
        let peer = Service::start("dnsmasq", program, &arguments, &directory.join("out"))?;
        Ok(Server { _ours: None, _peer: Some(peer) })
    }

    /// An empty directory on the disk that our database is on, too.
    fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.frame.checkout_paths.on_disk(name);
        workspace::remove(&directory)?;
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(directory)
    }
}

/// The MAC address that perfdhcp gives its client of this number: each byte of the number is added
/// to a byte of 00:0c:01:02:03:04, from the last on, without carry.
fn mac(client: u32) -> MacAddr {
    let mut bytes = [0, 0x0c, 1, 2, 3, 4];
    for (byte, add) in bytes.iter_mut().rev().zip(client.to_le_bytes()) {
        *byte = add.wrapping_add(*byte);
    }
    MacAddr(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_the_addresses_that_perfdhcp_makes() {
        assert_eq!(mac(0).to_string(), "00:0c:01:02:03:04");
        assert_eq!(mac(255).to_string(), "00:0c:01:02:03:03");
        assert_eq!(mac(9999).to_string(), "00:0c:01:02:2a:13");
    }
}
