//! The peer: the node's tree as one initramfs, iPXE's script, kernel and archives from
//! nginx, addresses from dnsmasq. The overlays of the node, without our agent, follow in an
//! archive of their own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use api::ids::{NodeName, OverlayName};
use image_store::cpio;

use super::{ADDRESS, MACHINE, marks};
use crate::{
    checkout_paths::CheckoutPaths,
    cluster::Cluster,
    namespace::{BRIDGE, SERVER},
    process::{Service, run},
};

/// Console of the machine, on both sides.
pub(super) const CONSOLE: &str = "console=ttyS0,115200";

const PORT: u16 = 9480;

/// All that a node gets by default, without the agent.
const OVERLAYS: [&str; 6] =
    ["hostname", "hosts", "systemd-networkd", "resolv", "ssh-host-keys", "ssh-authorized-keys"];

/// How the tree is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// As Debian packs its own initramfs.
    Zstd,
    /// As Warewulf serves trees.
    Gzip,
}

impl Packing {
    /// The faster one first.
    pub(super) const ALL: [Self; 2] = [Self::Zstd, Self::Gzip];

    /// Name of the peer.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "one cpio.zst",
            Self::Gzip => "one cpio.gz",
        }
    }

    /// The command that packs.
    fn command(self) -> &'static str {
        match self {
            Self::Zstd => "zstd -q -9 -T0",
            Self::Gzip => "gzip -6",
        }
    }
}

/// Ready to be served.
#[derive(Debug)]
pub(super) struct InMemory {
    packing: Packing,
    directory: PathBuf,
    bytes: u64,
}

impl InMemory {
    /// Packs the tree of the cluster's image, and what its server renders for the node.
    ///
    /// # Errors
    /// If the tree cannot be packed, or the server renders nothing.
    pub(super) fn prepare(cluster: &Cluster, packing: Packing) -> anyhow::Result<Self> {
        let (checkout_paths, root) = (cluster.checkout_paths(), cluster.image().unpacked()?);
        let directory = checkout_paths.of_run(&format!("disks/{packing:?}"));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let (from, tree) = (root.display(), directory.join("tree.img"));
        // Archives follow one another on a boundary of four bytes.
        let pack = format!(
            "set -o pipefail; cd '{from}' && find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --quiet \
             | {} >'{tree}' && truncate --size=%4 '{tree}' && cp boot/vmlinuz-* '{}'",
            packing.command(),
            directory.join("vmlinuz").display(),
            tree = tree.display(),
        );
        run("bash", &["-c", &pack])?;
        let bytes =
            fs::metadata(&tree).with_context(|| format!("cannot read {}", tree.display()))?.len();
        let node = directory.join("node.img");
        fs::write(&node, overlays(cluster)?)
            .with_context(|| format!("cannot write {}", node.display()))?;
        let script = directory.join("boot.ipxe");
        fs::write(&script, boot_script())
            .with_context(|| format!("cannot write {}", script.display()))?;
        Ok(Self { packing, directory, bytes })
    }

    /// Name of the peer.
    pub(super) fn name(&self) -> &'static str {
        self.packing.name()
    }

    /// What it is.
    pub(super) fn kind(&self) -> String {
        format!("dnsmasq, nginx, and an initramfs by cpio | {}", self.packing.command())
    }

    /// Size of the tree's archive.
    pub(super) fn mebibytes(&self) -> u64 {
        self.bytes >> 20
    }

    /// Starts its servers.
    ///
    /// # Errors
    /// If one does not start.
    pub(super) fn serve(&self, checkout_paths: &CheckoutPaths) -> anyhow::Result<Servers> {
        let write = |name: &str, text: String| -> anyhow::Result<String> {
            let path = self.directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path.display().to_string())
        };
        let leases = self.directory.join("leases");
        let dnsmasq = write("dnsmasq.conf", dnsmasq(&leases))?;
        let nginx = write("nginx.conf", nginx(&self.directory))?;
        let log = self.directory.join("log");
        let start = |name: &str, program: &str, arguments: &[&str]| {
            let arguments: Vec<String> =
                arguments.iter().map(|&argument| argument.to_owned()).collect();
            Service::start(checkout_paths, name, Path::new(program), &arguments, &log)
        };
        let dnsmasq = start(
            "dnsmasq",
            "dnsmasq",
            &["--keep-in-foreground", &format!("--conf-file={dnsmasq}")],
        )?;
        let nginx = start("nginx", "nginx", &["-c", &nginx])?;
        Ok(Servers { dnsmasq, nginx })
    }
}

/// The peer's servers; killed when dropped.
#[derive(Debug)]
pub(super) struct Servers {
    dnsmasq: Service,
    nginx: Service,
}

impl Servers {
    /// Fails if one has ended.
    ///
    /// # Errors
    /// Names it.
    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        self.dnsmasq.check_alive()?;
        self.nginx.check_alive()
    }
}

/// The node's overlays and the unit that measures, as an archive; `/init` is the tree's own.
fn overlays(cluster: &Cluster) -> anyhow::Result<Vec<u8>> {
    let mut archive = cpio::Writer::new(Vec::new());
    let name: NodeName = MACHINE.name.parse()?;
    archive.symlink("init", "/sbin/init")?;
    archive.directory("root", 0o700)?;
    for overlay in OVERLAYS {
        let (overlay, name): (OverlayName, _) = (overlay.parse()?, name.clone());
        let files = cluster
            .server
            .ask(|client| async move { client.render(&overlay, &name, None).await })?;
        for file in files {
            archive.file(&file.path, file.mode, file.content.as_bytes())?;
        }
    }
    for (path, content) in marks::FILES {
        archive.file(path, 0o644, content.as_bytes())?;
    }
    Ok(archive.finish()?)
}

fn boot_script() -> String {
    let url = format!("http://{SERVER}:{PORT}");
    format!(
        "#!ipxe
kernel --name vmlinuz {url}/vmlinuz initrd=tree.img initrd=node.img {CONSOLE}
initrd --name tree.img {url}/tree.img
initrd --name node.img {url}/node.img
boot
"
    )
}

fn dnsmasq(leases: &Path) -> String {
    format!(
        "port=0
user=root
interface={BRIDGE}
bind-interfaces
dhcp-authoritative
no-ping
dhcp-range=10.77.0.100,10.77.0.199,255.255.255.0,1h
dhcp-host={},{ADDRESS}
dhcp-leasefile={}
dhcp-match=set:ipxe,175
dhcp-boot=tag:ipxe,http://{SERVER}:{PORT}/boot.ipxe
dhcp-boot=tag:!ipxe,undionly.kpxe,,{SERVER}
enable-tftp
tftp-root=/usr/lib/ipxe
",
        MACHINE.boot_mac,
        leases.display()
    )
}

fn nginx(directory: &Path) -> String {
    let directory = directory.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {directory}/{name};\n"))
        .collect();
    format!(
        "user root;
master_process off;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
{paths}  server {{ listen {SERVER}:{PORT}; root {directory}; }}
}}
"
    )
}
