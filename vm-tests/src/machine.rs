//! One virtual machine: plain, with nothing but memory and two network interfaces (virtio, which
//! boots, and e1000), or with all that an inventory can tell of ([`rich`]).

mod rich;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::{
    accelerator::Accelerator,
    checkout_paths::CheckoutPaths,
    console,
    namespace::Namespace,
    process::{self, Service},
};

/// Processors of each of the two NUMA nodes. Two machines run eight jobs at once.
const CORES_PER_NUMA: u32 = 2;

/// Memory of each NUMA node: two jobs of 1 GB beside the image in RAM (a quarter of a GiB)
/// and the system.
const MEMORY_PER_NUMA_MIB: u32 = 3072;

/// UEFI firmware of Debian's package `ovmf`.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What starts the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS; its network card carries iPXE in its ROM.
    Bios,
    /// OVMF; the network card has no ROM, so the firmware itself boots by PXE.
    Uefi,
}

/// How a machine is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// Two NUMA nodes, two network interfaces.
    Plain,
    /// As a server: see [`rich`].
    Rich,
}

/// A machine as it is bought.
#[derive(Debug, Clone)]
pub(crate) struct Hardware {
    /// Its name, in files and in the cluster.
    pub(crate) name: &'static str,
    /// What is in it.
    pub(crate) build: Build,
    /// What starts it.
    pub(crate) firmware: Firmware,
    /// The address that its node is given.
    pub(crate) address: &'static str,
    /// MAC address of the interface that boots.
    pub(crate) boot_mac: &'static str,
    /// MAC address of the second interface.
    pub(crate) second_mac: &'static str,
    /// What its clock shows at power-on; `None`: the right time.
    pub(crate) clock: Option<&'static str>,
}

/// A machine that is switched on; switched off when dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    name: &'static str,
    address: &'static str,
    service: Service,
    /// Its TPM.
    _tpm: Option<Service>,
    arguments: Vec<String>,
    console: PathBuf,
    /// Length of the console's file when the machine was last switched on, in bytes.
    console_at_power_on: usize,
    monitor: PathBuf,
}

impl Machine {
    /// Makes the ports of a machine's interfaces and switches it on.
    ///
    /// # Errors
    /// If the ports cannot be made or QEMU does not start.
    pub(crate) fn power_on(
        checkout_paths: &CheckoutPaths,
        namespace: &Namespace,
        accelerator: Accelerator,
        hardware: &Hardware,
    ) -> anyhow::Result<Self> {
        let (boot, second) =
            (format!("{}-boot", hardware.name), format!("{}-second", hardware.name));
        namespace.add_port(&boot)?;
        namespace.add_port(&second)?;
        let console = checkout_paths.console(hardware.name);
        let mut arguments: Vec<String> = Vec::new();
        let mut add =
            |list: &[&str]| arguments.extend(list.iter().map(|&argument| argument.to_owned()));
        add(&["-name", hardware.name, "-machine", "q35,graphics=off"]);
        add(&accelerator.arguments());
        match hardware.build {
            Build::Plain => plain(&mut add),
            Build::Rich => rich::arguments(checkout_paths, namespace, hardware, &mut add)?,
        }
        add(&["-nodefaults", "-display", "none", "-vga", "none"]);
        add(&["-chardev", &format!("file,id=console,append=on,path={}", console.display())]);
        add(&["-serial", "chardev:console"]);
        let rom = if hardware.firmware == Firmware::Uefi { ",romfile=" } else { "" };
        add(&["-netdev", &format!("tap,id=boot,ifname={boot},script=no,downscript=no")]);
        add(&[
            "-device",
            &format!("virtio-net-pci,netdev=boot,mac={},bootindex=1{rom}", hardware.boot_mac),
        ]);
        add(&["-netdev", &format!("tap,id=second,ifname={second},script=no,downscript=no")]);
        add(&["-device", &format!("e1000,netdev=second,mac={},romfile=", hardware.second_mac)]);
        if let Some(clock) = hardware.clock {
            add(&["-rtc", &format!("base={clock}")]);
        }
        if hardware.firmware == Firmware::Uefi {
            let variables = checkout_paths.of_run(&format!("pids/{}.vars", hardware.name));
            fs::copy(OVMF_VARIABLES, &variables)
                .with_context(|| format!("cannot copy {OVMF_VARIABLES} (package ovmf)"))?;
            add(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}")]);
            add(&["-drive", &format!("if=pflash,format=raw,file={}", variables.display())]);
        }
        let monitor = checkout_paths.of_run(&format!("pids/{}.qmp", hardware.name));
        arguments
            .extend(["-qmp".to_owned(), format!("unix:{},server=on,wait=off", monitor.display())]);
        let tpm = (hardware.build == Build::Rich)
            .then(|| rich::start_tpm(checkout_paths, hardware))
            .transpose()?;
        let service = start(checkout_paths, hardware.name, &arguments)?;
        Ok(Self {
            name: hardware.name,
            address: hardware.address,
            service,
            _tpm: tpm,
            arguments,
            console,
            console_at_power_on: 0,
            monitor,
        })
    }

    /// The address of its node.
    pub(crate) fn address(&self) -> &'static str {
        self.address
    }

    /// The socket of its monitor ([`crate::monitor`]).
    pub(crate) fn monitor(&self) -> &Path {
        &self.monitor
    }

    /// Pulls the plug, and puts it back at once.
    ///
    /// # Errors
    /// If QEMU cannot be killed or started.
    pub(crate) fn power_cycle(&mut self, checkout_paths: &CheckoutPaths) -> anyhow::Result<()> {
        self.service.kill()?;
        self.console_at_power_on = fs::read(&self.console).map_or(0, |console| console.len());
        self.service = start(checkout_paths, self.name, &self.arguments)?;
        Ok(())
    }

    /// Another processor from the next power-on: what QEMU's `-cpu` takes.
    pub(crate) fn exchange_processor(&mut self, processor: &str) {
        let value = self.arguments.iter().position(|argument| argument == "-cpu").map(|at| at + 1);
        if let Some(argument) = value.and_then(|at| self.arguments.get_mut(at)) {
            processor.clone_into(argument);
        }
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// If QEMU cannot be killed.
    pub(crate) fn switch_off(&mut self) -> anyhow::Result<()> {
        self.service.kill()
    }

    /// Its serial console.
    pub(crate) fn console(&self) -> &Path {
        &self.console
    }

    /// What its serial console has shown since it was last switched on, without escape sequences.
    pub(crate) fn console_since_power_on(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        console::plain(bytes.get(self.console_at_power_on..).unwrap_or_default())
    }

    /// Fails if QEMU has ended.
    ///
    /// # Errors
    /// Says how it ended.
    pub(crate) fn check_on(&mut self) -> anyhow::Result<()> {
        self.service.check_alive()
    }
}

/// Two NUMA nodes with as much of everything.
fn plain(add: &mut impl FnMut(&[&str])) {
    let cores = 2 * CORES_PER_NUMA;
    add(&["-smp", &format!("{cores},sockets=2"), "-m", &(2 * MEMORY_PER_NUMA_MIB).to_string()]);
    for numa in 0..2 {
        let first = numa * CORES_PER_NUMA;
        let last = first + CORES_PER_NUMA - 1;
        add(&["-object", &format!("memory-backend-ram,id=ram{numa},size={MEMORY_PER_NUMA_MIB}M")]);
        add(&["-numa", &format!("node,nodeid={numa},cpus={first}-{last},memdev=ram{numa}")]);
    }
}

fn start(
    checkout_paths: &CheckoutPaths,
    name: &str,
    arguments: &[String],
) -> anyhow::Result<Service> {
    let log = checkout_paths.of_run(&format!("consoles/{name}.qemu"));
    Service::start(checkout_paths, name, Path::new(process::QEMU), arguments, &log)
}
