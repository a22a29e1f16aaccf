//! Bedplate: server and agent on the same machine, set up as a node that has just booted.
//!
//! Its first start makes everything: an image, a node that has it, a user, and by the protocols of
//! stage 1 the identity that the agent needs. The job's image is on the node after the warm-up.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use api::{ids::NodeName, machine::Apply, status::Phase, workflow::StageKind};
use client::{Client, ClientError, Context};
use sim_cluster::simulated_node::SimulatedNode;
use substrate::identity;

use super::systems::{
    BatchSystem, JOB, START_LIMIT, check_alive, start_unit, stop_units, wait_for_command,
};
use crate::{clock, process::run};

const BEDPLATE: &str = "/programs/bedplate";

const DIRECTORY: &str = "/state/bedplate";

/// Addresses on loopback: the server's and the node's.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 88, 1, 1);
const MAC: &str = "52:54:00:88:00:01";

const BOOT_PORT: u16 = 9480;

const REGISTRY: &str = "127.0.0.1:5000";

const USER: &str = "ann";

const SERVER_UNIT: &str = "bedplate-server";
const UNITS: [&str; 3] = [SERVER_UNIT, "bedplate-substrate", "bedplate-jobs"];

/// How often the server is asked whether anything is left to do.
const POLL: Duration = Duration::from_millis(20);

/// How long a batch may take.
const LIMIT: Duration = Duration::from_secs(1_800);

/// Bedplate.
#[derive(Debug)]
pub(super) struct Ours {
    runtime: tokio::runtime::Runtime,
    client: Option<Client>,
    /// Workflows that were not asked about yet: of arrays and of single jobs.
    begun: Vec<String>,
}

impl Ours {
    /// Not started yet.
    pub(super) fn new() -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self {
            runtime: runtime.context("cannot start the runtime of the client")?,
            client: None,
            begun: Vec::new(),
        })
    }

    fn client(&self) -> anyhow::Result<&Client> {
        self.client.as_ref().context("the server was not started")
    }

    /// The server answers.
    fn start_server(&mut self) -> anyhow::Result<()> {
        let config = format!("{DIRECTORY}/server.yaml");
        start_unit(SERVER_UNIT, &[], &[BEDPLATE, "server", "--config", &config])?;
        let context = context_path();
        let client = clock::wait_for("the server to answer", START_LIMIT, || {
            check_alive(SERVER_UNIT)?;
            if !Path::new(&context).exists() {
                return Ok(None);
            }
            let client = Client::new(&Context::read(Path::new(&context))?)?;
            match self.runtime.block_on(client.version()) {
                Ok(_) => Ok(Some(client)),
                Err(ClientError::Unreachable { .. }) => Ok(None),
                Err(other) => Err(other.into()),
            }
        })?;
        self.client = Some(client);
        Ok(())
    }

    /// All that is there before the first start of the agent.
    fn set_up(&mut self) -> anyhow::Result<()> {
        for address in [SERVER, NODE] {
            run("ip", &["address", "add", &format!("{address}/16"), "dev", "lo"])?;
        }
        for directory in [DIRECTORY, "/run/measure", identity::DIRECTORY, "/usr/lib/bedplate"] {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {directory}"))?;
        }
        write(&format!("{DIRECTORY}/server.yaml"), &configuration())?;
        write("/run/measure/one.yaml", &document("one", None))?;
        serve_job_image()?;
        self.start_server()?;
        cli(&["image", "import", "oci:/jobs/boot:1", "--name", "boot"])?;
        let node = format!(
            "nodes: {{n1: {{image: boot, interfaces: {{eth0: {{mac: '{MAC}', address: {NODE}/16}}}}}}}}\n"
        );
        let apply = Apply { document: node, dry_run: false, prune: false };
        self.runtime.block_on(self.client()?.apply(&apply))?;
        cli(&["user", "add", USER, "--uid", "1001", "--gid", "1001"])?;
        let machine =
            SimulatedNode::new(MAC.parse()?, NODE, SocketAddr::from((SERVER, BOOT_PORT)))?;
        let booted =
            self.runtime.block_on(machine.boot()).context("playing the boot of the node")?;
        identity::store(Path::new(identity::PATH), &booted.identity)?;
        run("cp", &["/programs/substrate", "/usr/lib/bedplate/substrate"])?;
        for unit in &UNITS[1..] {
            let unit =
                format!("/programs/overlays/substrate/rootfs/etc/systemd/system/{unit}.service");
            run("cp", &[unit.as_str(), "/run/systemd/system/"])?;
        }
        run("systemctl", &["daemon-reload"]).map(drop)
    }

    fn is_ready(&self) -> anyhow::Result<bool> {
        let name: NodeName = "n1".parse()?;
        Ok(self.runtime.block_on(self.client()?.node(&name))?.status.phase == Phase::Ready)
    }
}

impl BatchSystem for Ours {
    fn name(&self) -> &'static str {
        "Bedplate"
    }

    fn start(&mut self) -> anyhow::Result<()> {
        match self.client {
            None => self.set_up()?,
            Some(_) => self.start_server()?,
        }
        run("systemctl", &["start", "bedplate-jobs", "bedplate-substrate"])?;
        clock::wait_for("the node to be ready", START_LIMIT, || Ok(self.is_ready()?.then_some(())))
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        stop_units(&["bedplate-substrate", "bedplate-jobs", SERVER_UNIT])
    }

    fn run_array(&mut self, jobs: u32) -> anyhow::Result<()> {
        let path = "/run/measure/array.yaml";
        write(path, &document("array", Some(jobs)))?;
        cli(&["workflow", "start", path, "--as", USER, "--watch", "--dest", "/run/measure"])?;
        self.begun.push("array".to_owned());
        Ok(())
    }

    fn submit(&mut self) -> anyhow::Result<()> {
        let id = cli(&["workflow", "start", "/run/measure/one.yaml", "--as", USER])?;
        self.begun.push(id.trim().to_owned());
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let last = self.begun.last().context("nothing was handed in")?;
        cli(&["workflow", "watch", last, "--dest", "/run/measure"])?;
        clock::wait_every(POLL, "the workflows to be over", LIMIT, || {
            let left = self.runtime.block_on(self.client()?.workflows(0))?;
            Ok(left.is_empty().then_some(()))
        })
    }

    fn take_finished(&mut self) -> anyhow::Result<u32> {
        let begun = std::mem::take(&mut self.begun);
        let mut finished = 0;
        for id in begun {
            let workflow = self.runtime.block_on(self.client()?.workflow(&id))?;
            let jobs = workflow.stages.iter().filter(|stage| stage.kind == StageKind::Job);
            finished += jobs.map(|stage| stage.tasks.finished).sum::<u32>();
        }
        Ok(finished)
    }

    fn units(&self) -> &'static [&'static str] {
        &UNITS
    }
}

fn context_path() -> String {
    format!("{DIRECTORY}/state/admin.yaml")
}

/// Runs the command line as a person would.
fn cli(arguments: &[&str]) -> anyhow::Result<String> {
    run(BEDPLATE, &[&["--context", context_path().as_str()], arguments].concat())
}

fn write(path: &str, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

/// Debian's registry with the image of the jobs.
fn serve_job_image() -> anyhow::Result<()> {
    let config = "/run/measure/registry.yml";
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: /run/measure/registry}}}}\nhttp: {{addr: '{REGISTRY}'}}\n"
    );
    write(config, &text)?;
    start_unit("registry", &[], &["docker-registry", "serve", config])?;
    let to = format!("docker://{REGISTRY}/true:1");
    let copy = [
        "copy",
        "--quiet",
        "--insecure-policy",
        "--dest-tls-verify=false",
        "oci:/jobs/true:1",
        &to,
    ];
    wait_for_command("the registry to take the image", "skopeo", &copy)
}

/// One job, or an array of them, each with a processor of its own.
fn document(name: &str, jobs: Option<u32>) -> String {
    let array = jobs.map_or(String::new(), |jobs| {
        format!("    task-array: {{start: 1, end: {jobs}, concurrency: {jobs}}}\n")
    });
    format!(
        "version: v1
name: {name}
jobs:
  job:
    image: docker://{REGISTRY}/true:1
    command: [{JOB}]
    resource: {{cpu: {{cores: 1}}, memory: {{size: 64MiB}}}}
{array}"
    )
}

fn configuration() -> String {
    format!(
        "state-dir: {DIRECTORY}/state
server-addresses: [{SERVER}]
boot: {{http-port: {BOOT_PORT}, tftp: false, substrate: /programs/substrate, templates: /programs/ipxe}}
firmware: {{bios: /programs/undionly.kpxe, efi-x86-64: /programs/snponly.efi}}
dhcp: {{mode: off}}
overlays: {{shipped: /programs/overlays, site: {DIRECTORY}/overlays}}
registries: {{allow: ['{REGISTRY}']}}
log: {{level: warn}}
"
    )
}
