//! Overlays: the rendered files of 1,000 nodes, beside one `cpio | gzip` for each node over files
//! that are rendered already.

use std::{fmt::Write as _, fs, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context as _, ensure};
use api::{ids::MacAddr, machine::PatchNodes};
use bench::outcome::{Better, Outcome, Row};
use harness::workspace;
use sim_cluster::image::{Padding, write_layout};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::client::TlsStream;

use crate::{
    clock,
    frame::Frame,
    nodes::{self, Enrollee, Line},
    ours::{BedplateServer, FLEET_PORT, Settings},
    process::{self, run},
    turns::{self, OURS, Samples, Side},
};

const NODES: u16 = 1000;

/// Nodes that enrol at once.
const ENROL_AT_ONCE: usize = 32;

const COLD: &str = "boot overlays of all nodes, cold";
const EDITED: &str = "one node's address edited, runtime overlays of all nodes";

const BOOT: &str = "/node/v1/overlays/boot";
const RUNTIME: &str = "/node/v1/overlays/runtime";

/// What the peer does: the directories are in `$1`, archives go to `$2`, so many at once `$3`.
const PACK: &str = r#"
mkdir -p "$2"
ls "$1" | xargs -P "$3" -I '{}' sh -c 'cd "$1/$3" && find . | cpio --quiet -o -H newc | gzip -c > "$2/$3.img.gz"' pack "$1" "$2" '{}'
"#;

/// Measures.
///
/// # Errors
/// If our side cannot be set up.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("overlays");
    outcome.rows.push(Row::new(COLD, "s", Better::Lower).headline());
    outcome.rows.push(Row::new(EDITED, "s", Better::Lower));
    let bench = Bench::set_up(frame)?;
    let sides = vec![
        Side::new(OURS, |round| bench.ours(round)),
        Side::new("cpio | gzip, 2 at once", |_| bench.peer(2)),
        Side::new("cpio | gzip, 1 at once", |_| bench.peer(1)),
    ];
    turns::take(&mut outcome, frame.size(5, 1), sides);
    outcome.note(format!(
        "{} nodes, the default overlays (/etc/hosts names all of them). Ours renders, packs and serves each node its own archive over mutual TLS, on connections \
         that were made before; \"cold\" is a server that has just been started. The peer packs ready files into a file and serves nothing",
        bench.nodes.len()
    ));
    outcome.note(
        "editing a node's address changes /etc/hosts of all: both sides make all archives again",
    );
    Ok(outcome)
}

struct Bench<'a> {
    frame: &'a Frame,
    nodes: Vec<Enrollee>,
    runtime: tokio::runtime::Runtime,
    /// Ready files of each node, as ours rendered them.
    boot_files: PathBuf,
    runtime_files: PathBuf,
}

type Lines = Vec<Line<TlsStream<TcpStream>>>;

impl<'a> Bench<'a> {
    /// Enrols all nodes, and lays their rendered files out for the peer.
    fn set_up(frame: &'a Frame) -> anyhow::Result<Self> {
        let server = start(frame)?;
        let source = write_layout(&frame.checkout_paths.on_disk("layout"), Padding::default())?;
        server.import(&source, "tiny")?;
        let count = frame.size(NODES, NODES / 10);
        let mut document =
            "profiles: { base: { image: tiny, dns: { search: [cluster.example] } } }\nnodes:\n"
                .to_owned();
        for number in 0..count {
            let (mac, address) = (mac(number), address(number));
            writeln!(
                document,
                "  n{number}: {{ profiles: [base], interfaces: {{ lan0: {{ mac: '{mac}', address: {address}/12 }} }} }}"
            )?;
        }
        server.apply(document)?;
        let checkout_paths = &frame.checkout_paths;
        let mut bench = Self {
            frame,
            nodes: Vec::new(),
            runtime: frame.network.as_client(client_runtime)?,
            boot_files: checkout_paths.in_memory("boot"),
            runtime_files: checkout_paths.in_memory("runtime"),
        };
        let enrolled = bench.runtime.spawn(enrol_all(count));
        bench.nodes = bench.runtime.block_on(enrolled)?.context("enrolling the nodes")?;
        for (path, directory) in [(BOOT, &bench.boot_files), (RUNTIME, &bench.runtime_files)] {
            let lines = bench.lines()?;
            for (number, archive) in bench.fetch(lines, path)?.1.iter().enumerate() {
                let directory = directory.join(format!("n{number}"));
                fs::create_dir_all(&directory)
                    .with_context(|| format!("cannot make {}", directory.display()))?;
                tar::Archive::new(archive.as_slice()).unpack(&directory)?;
            }
        }
        Ok(bench)
    }

    fn ours(&self, round: u32) -> anyhow::Result<Samples> {
        let server = start(self.frame)?;
        let (cold, archives) = self.fetch(self.lines()?, BOOT)?;
        for (number, archive) in archives.iter().enumerate() {
            ensure!(names(archive, number)?, "node n{number} did not get its own name");
        }
        let edited = Ipv4Addr::new(10, 66, 0, u8::try_from(round + 1)?);
        let patch =
            serde_json::json!({ "interfaces": { "lan0": { "address": format!("{edited}/12") } } });
        let patch = PatchNodes { names: "n7".to_owned(), patch };
        let lines = self.lines()?;
        let (_, edit) =
            clock::timed(|| server.ask(async |client| client.patch_nodes(&patch).await))?;
        let (poll, archives) = self.fetch(lines, RUNTIME)?;
        let new = edited.to_string();
        let has = |archive: &Vec<u8>| archive.windows(new.len()).any(|part| part == new.as_bytes());
        ensure!(archives.iter().all(has), "a node does not know the new address {new}");
        Ok(vec![(COLD.to_owned(), cold), (EDITED.to_owned(), edit + poll)])
    }

    fn peer(&self, at_once: u32) -> anyhow::Result<Samples> {
        let mut samples = Vec::new();
        for (what, files) in [(COLD, &self.boot_files), (EDITED, &self.runtime_files)] {
            let packed = self.frame.checkout_paths.in_memory("packed");
            workspace::remove(&packed)?;
            let arguments =
                [files.clone().into(), packed.clone().into_os_string(), at_once.to_string().into()];
            let cost =
                process::script(PACK, &arguments, &self.frame.checkout_paths.on_disk("pack.log"))?;
            let made = fs::read_dir(&packed)?.count();
            ensure!(
                made == self.nodes.len(),
                "{made} archives were made for {} nodes",
                self.nodes.len()
            );
            self.check(&packed.join("n7.img.gz"), &files.join("n7"))?;
            samples.push((what.to_owned(), cost.seconds));
        }
        Ok(samples)
    }

    /// An archive unpacks to the files that it was made of.
    fn check(&self, archive: &std::path::Path, files: &std::path::Path) -> anyhow::Result<()> {
        let directory = self.frame.checkout_paths.in_memory("unpacked");
        workspace::remove(&directory)?;
        fs::create_dir_all(&directory)?;
        let unpack =
            r#"cd "$2" && gzip -dc "$1" | cpio --quiet -idm && diff -r --no-dereference "$2" "$3""#;
        let arguments = [archive, directory.as_path(), files];
        process::script(unpack, &arguments, &self.frame.checkout_paths.on_disk("check.log"))
            .map(drop)
    }

    /// A connection of each node, made now.
    fn lines(&self) -> anyhow::Result<Lines> {
        let nodes = self.nodes.clone();
        // Spawned, since only the worker is on the clients' side.
        let dialled = self.runtime.spawn(async move {
            let mut lines = Vec::new();
            for node in &nodes {
                lines.push(node.dial(FLEET_PORT).await?);
            }
            Ok(lines)
        });
        self.runtime.block_on(dialled)?
    }

    /// Lets all nodes ask at once; the seconds until the last has its answer, and the answers.
    fn fetch(&self, lines: Lines, path: &'static str) -> anyhow::Result<(f64, Vec<Vec<u8>>)> {
        let (mut answers, seconds) = clock::timed(|| {
            self.runtime.block_on(async {
                let mut tasks = JoinSet::new();
                for (number, mut line) in lines.into_iter().enumerate() {
                    tasks.spawn(async move { line.get(path).await.map(|answer| (number, answer)) });
                }
                let mut answers = Vec::new();
                while let Some(answer) = tasks.join_next().await {
                    answers.push(answer??);
                }
                anyhow::Ok(answers)
            })
        })?;
        answers.sort_unstable_by_key(|(number, _)| *number);
        Ok((seconds, answers.into_iter().map(|(_, answer)| answer).collect()))
    }
}

/// A runtime whose one worker is on the clients' side. All addresses of nodes are local there.
fn client_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    run("ip", &["route", "add", "local", "10.65.0.0/16", "dev", "lo"])?;
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

async fn enrol_all(count: u16) -> anyhow::Result<Vec<Enrollee>> {
    let mut tasks = JoinSet::new();
    let mut enrolled = Vec::new();
    for number in 0..count {
        if tasks.len() >= ENROL_AT_ONCE
            && let Some(done) = tasks.join_next().await
        {
            enrolled.push(done??);
        }
        tasks.spawn(async move {
            nodes::enrol(mac(number), address(number)).await.map(|node| (number, node))
        });
    }
    while let Some(done) = tasks.join_next().await {
        enrolled.push(done??);
    }
    enrolled.sort_unstable_by_key(|(number, _)| *number);
    Ok(enrolled.into_iter().map(|(_, node)| node).collect())
}

fn start(frame: &Frame) -> anyhow::Result<BedplateServer> {
    BedplateServer::start(
        &frame.checkout_paths,
        &frame.checkout_paths.on_disk("ours"),
        &Settings::default(),
    )
}

/// Whether an archive's /etc/hostname is that of the node.
fn names(archive: &[u8], number: usize) -> anyhow::Result<bool> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.path()?.as_os_str() == "etc/hostname" {
            return Ok(std::io::read_to_string(&mut entry)?.trim() == format!("n{number}"));
        }
    }
    Ok(false)
}

fn mac(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    MacAddr([0x52, 0x54, 0, 0x65, high, low])
}

fn address(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(10, 65, high, low)
}
