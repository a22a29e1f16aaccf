//! Two network namespaces with a cable between them: `boot0` of the server, `eth0` of the client.
//!
//! Names carry the process id; what a crashed run left is removed before a new pair is made.

use std::{
    fs::File,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};

const PREFIX: &str = "bpit-";

/// The server's interface.
pub(crate) const SERVER_INTERFACE: &str = "boot0";
/// The client's interface.
pub(crate) const CLIENT_INTERFACE: &str = "eth0";
/// The client's MAC address.
pub(crate) const CLIENT_MAC: [u8; 6] = [0x52, 0x54, 0, 0xb0, 0x07, 0x01];

/// A pair of namespaces; removed when dropped.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) server: String,
    pub(crate) client: String,
}

impl Network {
    /// Makes the pair. The server has 10.77.0.1/24, the client no address.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let stem =
            format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let network = Self { server: format!("{stem}-s"), client: format!("{stem}-c") };
        let (server, client) = (&network.server, &network.client);
        ip(&["netns", "add", server]);
        ip(&["netns", "add", client]);
        ip(&[
            "-n",
            server,
            "link",
            "add",
            SERVER_INTERFACE,
            "type",
            "veth",
            "peer",
            "name",
            CLIENT_INTERFACE,
            "netns",
            client,
        ]);
        let mac = api::ids::MacAddr(CLIENT_MAC).to_string();
        ip(&["-n", client, "link", "set", CLIENT_INTERFACE, "address", &mac, "up"]);
        ip(&["-n", client, "link", "set", "lo", "up"]);
        ip(&["-n", server, "link", "set", SERVER_INTERFACE, "up"]);
        ip(&["-n", server, "address", "add", "10.77.0.1/24", "dev", SERVER_INTERFACE]);
        wait_until_up(server, SERVER_INTERFACE);
        wait_until_up(client, CLIENT_INTERFACE);
        network
    }

    /// Runs `ip` in the client's namespace.
    pub(crate) fn client_ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.client.as_str()], arguments].concat());
    }

    /// Runs `ip` in the server's namespace.
    pub(crate) fn server_ip(&self, arguments: &[&str]) {
        ip(&[&["-n", self.server.as_str()], arguments].concat());
    }

    /// Runs `work` on a thread in the client's namespace.
    pub(crate) fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = &self.client;
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(namespace);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            if !try_ip(&["netns", "delete", namespace]) {
                eprintln!("cannot delete network namespace {namespace}");
            }
        }
    }
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

/// The kernel drops what is sent before it has noticed the carrier.
fn wait_until_up(namespace: &str, interface: &str) {
    let up = (0..250).any(|_| {
        let shown = ip_command(&["-n", namespace, "-o", "link", "show", "dev", interface])
            .output()
            .unwrap();
        let up = String::from_utf8_lossy(&shown.stdout).contains("state UP");
        if !up {
            thread::sleep(Duration::from_millis(20));
        }
        up
    });
    assert!(up, "{interface} of {namespace} has no carrier");
}

fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner
            && !std::path::Path::new("/proc").join(owner).exists()
        {
            // Another test process may remove it at the same time.
            try_ip(&["netns", "delete", &name]);
        }
    }
}

fn ip(arguments: &[&str]) {
    assert!(try_ip(arguments), "ip {} failed", arguments.join(" "));
}

fn try_ip(arguments: &[&str]) -> bool {
    ip_command(arguments).status().unwrap().success()
}

#[expect(clippy::disallowed_methods, reason = "the home of `ip` in these tests")]
fn ip_command(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}
