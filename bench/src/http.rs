//! HTTP boot: a root image to one and to 64 clients, and small answers, plain and over TLS, beside
//! nginx with sendfile.
//!
//! nginx serves the very file of our store (a hard link), and what our server answered
//! once, as files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use api::ids::{ImageName, MacAddr, NodeName};
use bench::outcome::{Better, Outcome, Row};
use client::Context;
use sim_cluster::image::{Padding, write_layout};

use crate::{
    clock,
    frame::Frame,
    network::{CLIENT, PREFIX, SERVER},
    nodes::{self, Enrollee},
    ours::{BedplateServer, FLEET_PORT, HTTP_PORT, Settings},
    peers, process,
    turns::{self, OURS, Samples, Side},
};

mod download;
mod nginx;
mod wrk;

/// Size of the root image, about: what does not compress of it.
const IMAGE_BYTES: usize = 512 << 20;

/// Clients at once.
const CLIENTS: usize = 64;

/// Downloads by one client in each round. One takes 25 ms to 200 ms, and which core its threads
/// begin on changes it by a half.
const DOWNLOADS_OF_ONE: usize = 15;

/// Length of boot scripts and of the answer over TLS, bytes, about.
const SMALL_BYTES: usize = 2560;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x64, 0, 1]);

/// Length of a kernel argument, bytes.
const ARGUMENT_BYTES: usize = 100;

/// So many of them make scripts and answers as long as is wanted, and still reach the kernel.
const ARGUMENTS: usize = 17;

const API_PORT: u16 = 9470;

const MANY: &str = "64 clients, 512 MiB each";
const ONE: &str = "1 client, 512 MiB";
const SCRIPTS: &str = "boot scripts of 2.5 KiB, 32 connections";
const SMALL_TLS: &str = "TLS: answers of 2.5 KiB, 32 connections";
const MANY_TLS: &str = "mutual TLS: 64 clients, the agent's program";

/// Measures.
///
/// # Errors
/// If our side cannot be set up.
pub(crate) fn measure(frame: &Frame) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("http");
    outcome.rows.push(Row::new(MANY, "GB/s", Better::Higher).headline());
    outcome.rows.push(Row::new(ONE, "GB/s", Better::Higher));
    outcome.rows.push(Row::new(SCRIPTS, "requests/s", Better::Higher));
    outcome.rows.push(Row::new(SMALL_TLS, "requests/s", Better::Higher));
    outcome.rows.push(Row::new(MANY_TLS, "GB/s", Better::Higher));
    let bench = Bench::set_up(frame)?;
    let sides = vec![Side::new(OURS, |_| bench.ours()), Side::new("nginx", |_| bench.nginx())];
    turns::take(&mut outcome, frame.size(5, 1), sides);
    outcome.note(
        "over veth; downloads by threads of this program that throw the bytes away, small answers by wrk with one thread. nginx serves the same file and \
         ready answers with sendfile and 2 workers; ours renders each boot script, and makes the answer over TLS (GET /v1/nodes/n1) after it has \
         looked the token up",
    );
    if frame.quick {
        outcome.note("a smoke test: the image has 64 MiB, and each small test takes 1 s");
    }
    Ok(outcome)
}

struct Bench<'a> {
    frame: &'a Frame,
    blob: String,
    script: String,
    token: String,
    node: Enrollee,
    node_of_nginx: Enrollee,
    runtime: tokio::runtime::Runtime,
    image_bytes: u64,
    digest: String,
    agent: Vec<u8>,
    wrk: PathBuf,
}

impl<'a> Bench<'a> {
    /// An image, a node, and files of the same bytes for nginx.
    fn set_up(frame: &'a Frame) -> anyhow::Result<Self> {
        let server = start(frame)?;
        let padding =
            Padding { root_bytes: frame.size(IMAGE_BYTES, IMAGE_BYTES / 8), ..Padding::default() };
        let source = write_layout(&frame.checkout_paths.on_disk("layout"), padding)?;
        server.import(&source, "large")?;
        let (image, name): (ImageName, NodeName) = ("large".parse()?, "n1".parse()?);
        let image = server.ask(async |client| client.image(&image).await)?;
        let root = image.versions.first().context("the import made no version")?.root.clone();
        let arguments: Vec<String> =
            (0..ARGUMENTS).map(|number| format!("a={number:0>0$}", ARGUMENT_BYTES - 2)).collect();
        let arguments = arguments.join(", ");
        server.apply(format!(
            "nodes:\n  n1: {{ image: large, interfaces: {{ lan0: {{ mac: '{MAC}', address: {CLIENT}/{PREFIX} }} }}, kernel-args: [{arguments}] }}\n"
        ))?;
        let runtime = frame.network.as_client(|| {
            Ok(tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?)
        })?;
        let enrolled = runtime.spawn(async move { nodes::enrol(MAC, CLIENT).await });
        let node = runtime.block_on(enrolled)?.context("enrolling the node")?;
        let ca = nginx::certificate(&frame.checkout_paths.on_disk("www"), node.ca())?;
        let mut bench = Self {
            frame,
            blob: format!("/blobs/sha256/{}", root.digest.hex()),
            script: format!("/boot/{}/script", MAC.hyphenated()),
            token: Context::read(&server.context_file())?.token,
            node_of_nginx: node.trusting(ca)?,
            node,
            runtime,
            image_bytes: root.size,
            digest: root.digest.hex(),
            agent: fs::read(frame.checkout_paths.in_workspace("target/substrate"))?,
            wrk: peers::program(&frame.checkout_paths, "wrk")?,
        };
        let json = serde_json::to_vec(&server.ask(async |client| client.node(&name).await)?)?;
        bench.lay_out(&server.blob(&root.digest), &json)?;
        Ok(bench)
    }

    /// Files for nginx: the blob itself, the script as it is, the answer of the API, the
    /// agent's program.
    fn lay_out(&mut self, blob: &Path, json: &[u8]) -> anyhow::Result<()> {
        let script = self.script.clone();
        let fetched =
            self.runtime.spawn(async move { nodes::plain(HTTP_PORT).await?.get(&script).await });
        let script = self.runtime.block_on(fetched)??;
        for (what, length) in [("boot script", script.len()), ("answer of the API", json.len())] {
            let is_near =
                (SMALL_BYTES - SMALL_BYTES / 4..=SMALL_BYTES + SMALL_BYTES / 4).contains(&length);
            ensure!(is_near, "the {what} has {length} bytes, and {SMALL_BYTES} are wanted");
        }
        let root = self.frame.checkout_paths.on_disk("www");
        let link = root.join("image");
        fs::hard_link(blob, &link).with_context(|| format!("cannot link {}", link.display()))?;
        for (name, content) in
            [("script", script.as_slice()), ("json", json), ("agent", &self.agent)]
        {
            fs::write(root.join(name), content).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }

    fn ours(&self) -> anyhow::Result<Samples> {
        let _server = start(self.frame)?;
        self.load(&Paths {
            plain: HTTP_PORT,
            image: &self.blob,
            script: &self.script,
            tls: API_PORT,
            json: "/v1/nodes/n1",
            mutual: (&self.node, FLEET_PORT),
            agent: "/node/v1/agent",
        })
    }

    fn nginx(&self) -> anyhow::Result<Samples> {
        let (checkout_paths, root) =
            (&self.frame.checkout_paths, self.frame.checkout_paths.on_disk("www"));
        let _server = nginx::start(&peers::program(checkout_paths, "nginx")?, &root)?;
        self.load(&Paths {
            plain: nginx::PLAIN_PORT,
            image: "/image",
            script: "/script",
            tls: nginx::TLS_PORT,
            json: "/json",
            mutual: (&self.node_of_nginx, nginx::MUTUAL_PORT),
            agent: "/agent",
        })
    }

    /// The same requests to either.
    fn load(&self, paths: &Paths<'_>) -> anyhow::Result<Samples> {
        let download = |clients| {
            self.frame
                .network
                .as_client(|| download::all(paths.plain, paths.image, self.image_bytes, clients))
        };
        let hash = || download::sha256(paths.plain, paths.image, self.image_bytes);
        let got = self.frame.network.as_client(hash)?;
        ensure!(
            got == self.digest,
            "the image has the digest {got}, and {} was asked for",
            self.digest
        );
        let mut samples = Vec::new();
        for _ in 0..DOWNLOADS_OF_ONE {
            samples.push((ONE.to_owned(), download(1)?));
        }
        let many = download(CLIENTS)?;
        let scripts = self.wrk(&format!("http://{SERVER}:{}{}", paths.plain, paths.script))?;
        let json = self.wrk(&format!("https://{SERVER}:{}{}", paths.tls, paths.json))?;
        let mutual = self.mutual(paths.mutual, paths.agent)?;
        let once = [(MANY, many), (SCRIPTS, scripts), (SMALL_TLS, json), (MANY_TLS, mutual)];
        samples.extend(once.map(|(what, figure)| (what.to_owned(), figure)));
        Ok(samples)
    }

    fn wrk(&self, url: &str) -> anyhow::Result<f64> {
        let arguments = wrk::arguments(url, &self.token, self.frame.size(6, 1));
        let printed = self.frame.network.as_client(|| process::run(&self.wrk, &arguments))?;
        wrk::requests_per_second(&printed)
    }

    /// Downloads over mutual TLS, GB/s.
    fn mutual(&self, (node, port): (&Enrollee, u16), path: &str) -> anyhow::Result<f64> {
        let (repeats, expected) = (self.frame.size(4, 1), self.agent.len());
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (node, path) = (node.clone(), path.to_owned());
                self.runtime.spawn(async move {
                    let mut line = node.dial(port).await?;
                    for _ in 0..repeats {
                        let got = line.get(&path).await?.len();
                        ensure!(got == expected, "{got} bytes came of {expected}");
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let ((), seconds) = clock::timed(|| {
            self.runtime.block_on(async {
                for task in tasks {
                    task.await??;
                }
                Ok(())
            })
        })?;
        Ok(gigabytes(u64::try_from(expected * repeats * CLIENTS)?) / seconds)
    }
}

/// Where a side has what is asked for.
struct Paths<'a> {
    plain: u16,
    image: &'a str,
    script: &'a str,
    tls: u16,
    json: &'a str,
    mutual: (&'a Enrollee, u16),
    agent: &'a str,
}

fn start(frame: &Frame) -> anyhow::Result<BedplateServer> {
    BedplateServer::start(
        &frame.checkout_paths,
        &frame.checkout_paths.on_disk("ours"),
        &Settings::default(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "bytes of seconds")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}
