//! The virtual cluster: network, image, registry, server and machines, put together as an
//! admin would do it.

mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    time::Duration,
};

use anyhow::{Context as _, bail};
use api::{
    ids::{NodeName, OverlayName},
    machine::Node,
};

use crate::{
    accelerator::Accelerator,
    boot_watch,
    checkout_paths::CheckoutPaths,
    clock, console,
    file_server::FileServer,
    machine::{Build, Firmware, Hardware, Machine},
    monitor::Monitor,
    namespace::Namespace,
    os_image::{self, JOB_IMAGES, OsImage},
    process,
    registry::Registry,
    report::say,
    server::{self, Server},
    ssh::Ssh,
};

/// Lines of a console that a failure shows.
const CONSOLE_LINES: usize = 30;

/// The two machines.
pub(crate) const MACHINES: [Hardware; 2] = [
    Hardware {
        name: "n1",
        build: Build::Plain,
        firmware: Firmware::Bios,
        address: ADDRESSES[0],
        boot_mac: "52:54:00:77:00:11",
        second_mac: "52:54:00:77:01:11",
        clock: Some("2001-01-01"),
    },
    Hardware {
        name: "n2",
        build: Build::Plain,
        firmware: Firmware::Uefi,
        address: ADDRESSES[1],
        boot_mac: "52:54:00:77:00:12",
        second_mac: "52:54:00:77:01:12",
        clock: Some("2037-01-01"),
    },
];

/// Their addresses, in their order.
pub(crate) const ADDRESSES: [&str; 2] = ["10.77.0.11", "10.77.0.12"];

/// Everything that runs. Fields are dropped in this order: machines first, the network last.
#[derive(Debug)]
pub(crate) struct Cluster {
    machines: BTreeMap<&'static str, Machine>,
    /// Machines that were powered on again because the emulator held them up, in that order.
    stalls: Vec<&'static str>,
    /// Nodes that were waited for in vain and that nobody has seen ready since.
    given_up: BTreeSet<&'static str>,
    /// The server.
    pub(crate) server: Server,
    _registry: Registry,
    /// Where workflows take files from and bring them to.
    pub(crate) files: FileServer,
    /// Access to nodes.
    pub(crate) ssh: Ssh,
    /// The node image.
    pub(crate) image: OsImage,
    accelerator: Accelerator,
    namespace: Namespace,
    checkout_paths: CheckoutPaths,
    _lock: File,
}

impl Cluster {
    /// Clears what a crashed run left; then image, network, registry and server.
    ///
    /// # Errors
    /// Names the step that failed.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_with(CheckoutPaths::new()?)
    }

    /// As [`Cluster::start`], with other programs.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub(crate) fn start_with(checkout_paths: CheckoutPaths) -> anyhow::Result<Self> {
        let lock = checkout_paths.lock()?;
        process::kill_leftovers(&checkout_paths).context("clearing an earlier run")?;
        Namespace::clear(&checkout_paths).context("clearing an earlier run")?;
        checkout_paths.clear().context("clearing an earlier run")?;
        // The recipes need the machine's own network.
        let image = OsImage::current(&checkout_paths).context("building the node image")?;
        for (name, _) in JOB_IMAGES {
            os_image::job_image(&checkout_paths, name)
                .with_context(|| format!("building the image {name}"))?;
        }
        let accelerator = Accelerator::probe(&checkout_paths).context("probing for KVM")?;
        let namespace = Namespace::enter(&checkout_paths).context("making the network")?;
        let registry = Registry::start(&checkout_paths, &image).context("filling the registry")?;
        let server = Server::start(&checkout_paths).context("starting the server")?;
        let files = FileServer::start().context("starting the file server")?;
        let ssh = Ssh::new(&checkout_paths).context("making a key for ssh")?;
        say("network, registry and server are up");
        let machines = BTreeMap::new();
        Ok(Self {
            machines,
            stalls: Vec::new(),
            given_up: BTreeSet::new(),
            server,
            _registry: registry,
            files,
            ssh,
            image,
            accelerator,
            namespace,
            checkout_paths,
            _lock: lock,
        })
    }

    /// Declares the nodes.
    ///
    /// # Errors
    /// If the command line or the server refuses the document.
    pub(crate) fn declare_nodes(&self, runtime_overlays: &[&str]) -> anyhow::Result<()> {
        let path = self.checkout_paths.of_run("cluster.yaml");
        let document = self.document(runtime_overlays)?;
        fs::write(&path, document).with_context(|| format!("cannot write {}", path.display()))?;
        self.server.cli(&["apply", "-f", &path.display().to_string()])?;
        for (machine, address) in MACHINES.iter().zip(ADDRESSES) {
            self.trust(machine.name, address)?;
        }
        Ok(())
    }

    /// Lets ssh know the host key that the server made for a node.
    ///
    /// # Errors
    /// If the server renders none.
    pub(crate) fn trust(&self, name: &str, address: &str) -> anyhow::Result<()> {
        let overlay: OverlayName = "ssh-host-keys".parse()?;
        let node: NodeName = name.parse()?;
        let path = "/etc/ssh/ssh_host_ed25519_key.pub";
        let files = self
            .server
            .ask(|client| async move { client.render(&overlay, &node, Some(path)).await })?;
        let key =
            files.first().with_context(|| format!("overlay ssh-host-keys renders no {path}"))?;
        self.ssh.trust(address, &key.content)
    }

    fn document(&self, runtime_overlays: &[&str]) -> anyhow::Result<String> {
        let [n1, n2] = &MACHINES;
        Ok(format!(
            "profiles:
  default:
    image: debian-node
    kernel-args: [{kernel}]
    runtime-overlays: [{overlays}]
    tags:
      ssh-authorized-keys: {key}
nodes:
  n1:
    profiles: [default]
    interfaces:
      lan0: {{mac: '{}', address: 10.77.0.11/24}}
      lan1: {{mac: '{}', address: 10.77.1.11/24}}
  n2:
    profiles: [default]
    interfaces:
      lan0: {{mac: '{}', address: 10.77.0.12/24}}
",
            n1.boot_mac,
            n1.second_mac,
            n2.boot_mac,
            kernel = self.kernel_arguments(self.accelerator.kernel_arguments()),
            overlays = runtime_overlays.join(", "),
            key = self.ssh.public_key()?,
        ))
    }

    /// The list of a document for the kernel's command line: where it prints, and `more`.
    pub(crate) fn kernel_arguments(&self, more: &[&str]) -> String {
        let quoted = |argument: &&str| format!("'{argument}'");
        ["console=ttyS0,115200"].iter().chain(more).map(quoted).collect::<Vec<_>>().join(", ")
    }

    /// Switches both machines on.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub(crate) fn power_on(&mut self) -> anyhow::Result<()> {
        MACHINES.iter().try_for_each(|hardware| self.switch_on(hardware))
    }

    /// Switches one machine on.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub(crate) fn switch_on(&mut self, hardware: &Hardware) -> anyhow::Result<()> {
        let machine =
            Machine::power_on(&self.checkout_paths, &self.namespace, self.accelerator, hardware)
                .with_context(|| format!("switching {} on", hardware.name))?;
        self.machines.insert(hardware.name, machine);
        Ok(())
    }

    /// Switches a machine on, whether it was on before or not.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub(crate) fn switch_on_again(&mut self, hardware: &Hardware) -> anyhow::Result<()> {
        match self.machines.contains_key(hardware.name) {
            true => self.power_cycle(hardware.name),
            false => self.switch_on(hardware),
        }
    }

    /// Takes a machine's power away.
    ///
    /// # Errors
    /// If it was never switched on, or QEMU cannot be killed.
    pub(crate) fn switch_off(&mut self, name: &str) -> anyhow::Result<()> {
        self.machine(name)?.switch_off()
    }

    /// The monitor of a machine.
    ///
    /// # Errors
    /// If it is not switched on, or QEMU does not answer.
    pub(crate) fn monitor(&self, name: &str) -> anyhow::Result<Monitor> {
        let machine =
            self.machines.get(name).with_context(|| format!("{name} is not switched on"))?;
        Monitor::connect(machine.monitor())
    }

    /// Takes a machine's power away and gives it back.
    ///
    /// # Errors
    /// If the machine was never switched on, or QEMU does not start.
    pub(crate) fn power_cycle(&mut self, name: &str) -> anyhow::Result<()> {
        let checkout_paths = self.checkout_paths.clone();
        self.machine(name)?.power_cycle(&checkout_paths)
    }

    /// A machine that was switched on.
    ///
    /// # Errors
    /// If it never was.
    pub(crate) fn machine(&mut self, name: &str) -> anyhow::Result<&mut Machine> {
        self.machines.get_mut(name).with_context(|| format!("{name} is not switched on"))
    }

    /// The node as the server sees it.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) fn node(&self, name: &str) -> anyhow::Result<Node> {
        let name: NodeName = name.parse()?;
        Ok(self.server.ask(|client| async move { client.node(&name).await })?)
    }

    /// The last words of a machine and of the server.
    pub(crate) fn evidence(&self, name: &str) -> String {
        let console = self.machines.get(name).map_or_else(String::new, |machine| {
            let lines = console::last_lines(machine.console(), CONSOLE_LINES);
            format!("the last lines of {}:\n{lines}\n", machine.console().display())
        });
        console + &server::log_tail(&self.checkout_paths)
    }

    /// What kernels of machines complain of, a line each: it explains much, and nothing of ours
    /// may be the cause.
    pub(crate) fn complaints(&self) -> String {
        let complaint = |(name, machine): (&_, &Machine)| {
            let said = console::complaint(machine.console())?;
            Some(format!("\nthe kernel of {name} complains: {said}"))
        };
        self.machines.iter().filter_map(complaint).collect()
    }

    /// Runs a script as root on a node, giving sshd time to start.
    ///
    /// # Errors
    /// If it fails; a node that cannot be reached is tried again for some seconds.
    pub(crate) fn on_node(&self, address: &str, script: &str) -> anyhow::Result<String> {
        let limit = self.accelerator.stretch(Duration::from_secs(20));
        clock::wait_for(&format!("ssh to {address}"), limit, || {
            let output = self.ssh.try_run(address, script)?;
            if output.status.code() == Some(255) {
                if let Some(panic) = self.panic_at(address) {
                    bail!("{address} does not answer: its kernel has given up: {panic}");
                }
                return Ok(None);
            }
            if !output.status.success() {
                bail!("on {address}: {}\n{}", output.status, process::words(&output));
            }
            Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
        })
    }

    fn panic_at(&self, address: &str) -> Option<String> {
        let machine = self.machines.values().find(|machine| machine.address() == address)?;
        boot_watch::panic(&machine.console_since_power_on()).map(str::to_owned)
    }

    /// How machines are run.
    pub(crate) fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// The node image.
    pub(crate) fn image(&self) -> &OsImage {
        &self.image
    }

    /// The paths of this run.
    pub(crate) fn checkout_paths(&self) -> &CheckoutPaths {
        &self.checkout_paths
    }
}
