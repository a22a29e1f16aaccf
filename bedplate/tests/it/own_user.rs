//! The server as a user of its own, as the shipped unit runs it: what an earlier release left as
//! root, and what works with three capabilities.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Child, Command},
};

use tempfile::TempDir;

use crate::{
    images::empty_image,
    server::{Done, Server, bedplate, done},
    upgrade::unpack,
};

/// Debian's `nobody`, user and group.
const NOBODY: u32 = 65_534;

/// The capabilities of the unit, as `setpriv` has them.
const CAPABILITIES: &str = "-all,+net_bind_service,+net_raw,+net_admin";

/// The same, as `/proc/PID/status` has them: numbers 10, 12 and 13.
const CAPABILITY_BITS: &str = "0000000000003400";

#[expect(clippy::disallowed_methods, reason = "the home of tools in these tests")]
fn tool(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn run(program: &str, arguments: &[&str]) {
    let done = tool(program, arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {done:?}");
}

/// A network of this thread's own, so that the boot ports are free: processes that it
/// starts are in it.
fn enter_a_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
    run("ip", &["link", "add", "boot0", "type", "veth", "peer", "name", "boot1"]);
    run("ip", &["address", "add", "10.98.0.1/24", "dev", "boot0"]);
    run("ip", &["link", "set", "boot0", "up"]);
    run("ip", &["link", "set", "boot1", "up"]);
}

/// A directory that other users may pass through, with all that the server needs, and a state of
/// the first release.
fn site() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = env!("CARGO_BIN_EXE_bedplate");
    // Where the checkout lies, others may have no way to.
    fs::hard_link(program, path.join("bedplate"))
        .or_else(|_| fs::copy(program, path.join("bedplate")).map(drop))
        .unwrap();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (from, to) in [("ipxe", "ipxe"), ("overlays", "shipped")] {
        let (from, to) = (workspace.join(from), path.join(to));
        run("cp", &["-r", from.to_str().unwrap(), to.to_str().unwrap()]);
    }
    fs::write(path.join("substrate"), "no machine starts it").unwrap();
    let at = path.display();
    let most = format!(
        "state-dir: {at}/state
interfaces: [boot0]
api: {{listen: '10.98.0.1:9470'}}
boot: {{substrate: {at}/substrate, templates: {at}/ipxe}}
dhcp: {{subnets: [{{network: 10.98.0.0/24, pool: 10.98.0.100-10.98.0.120}}]}}
overlays: {{shipped: {at}/shipped, site: {at}/site}}
"
    );
    let registries =
        format!("registries: {{hosts: {{registry.example: {{credentials: {at}/login.json}}}}}}\n");
    fs::write(path.join("bare.yaml"), &most).unwrap();
    fs::write(path.join("server.yaml"), most + &registries).unwrap();
    write_secret(&path.join("login.json"), r#"{"auths": {"registry.example": {"auth": "YTpi"}}}"#);
    unpack(path);
    directory
}

/// A file that root alone may read.
fn write_secret(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The program as the unit starts it.
fn as_nobody(directory: &Path, arguments: &[&str]) -> Command {
    let sets =
        ["inh-caps", "ambient-caps", "bounding-set"].map(|set| format!("--{set}={CAPABILITIES}"));
    let mut command =
        tool("setpriv", &["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    command.args(sets).arg("--").arg(directory.join("bedplate")).args(arguments);
    command.env("HOME", directory.join("state")).env("TMPDIR", directory.join("state"));
    command.env_remove("XDG_RUNTIME_DIR").env_remove("BEDPLATE_CONTEXT");
    command
}

fn configuration(directory: &Path) -> String {
    directory.join("server.yaml").display().to_string()
}

fn spawn(mut command: Command, directory: &Path) -> Child {
    let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
    command.stderr(log).spawn().unwrap()
}

fn adopt(directory: &Path) -> Done {
    done(
        bedplate(&["server", "adopt", "--user", "nobody", "--config", &configuration(directory)]),
        "",
    )
}

/// What root's server leaves when it is killed, with the files of an admin.
fn killed_server_of_root() -> TempDir {
    let directory = site();
    let root = bedplate(&["server", "--config", &configuration(directory.path())]);
    let server = Server::of(spawn(root, directory.path()), directory);
    server.run(&["user", "add", "eve", "--uid", "1002", "--gid", "1002"]).ok();
    server.run_with(&["overlay", "set-file", "motd", "/etc/motd", "-"], "hello\n", &[]).ok();
    let directory = server.kill();
    write_secret(&directory.path().join("site/motd/rootfs/etc/secret"), "a secret\n");
    directory
}

#[test]
fn privileged_what_root_left_is_served_by_a_user_with_three_capabilities() {
    enter_a_network();
    let directory = killed_server_of_root();
    let at = directory.path().to_owned();
    let owner = |name: &str| fs::symlink_metadata(at.join(name)).unwrap().uid();
    for name in ["state/bedplate.db-wal", "state/bedplate.db-shm", "state/ca", "site/motd"] {
        assert_eq!(owner(name), 0, "{name}");
    }

    // Without the step that the unit does before, each part says what is missing.
    let config = configuration(&at);
    let check = ["server", "check", "--config", config.as_str()];
    let refused = done(as_nobody(&at, &check), "").failed();
    assert!(
        refused.contains("login.json") && refused.contains("setfacl -m u:65534:r"),
        "{refused}"
    );
    let bare = at.join("bare.yaml").display().to_string();
    let refused = done(as_nobody(&at, &["server", "--config", &bare]), "").failed();
    assert!(refused.contains("bedplate server adopt"), "{refused}");

    let told = adopt(&at).ok();
    assert!(told.contains("belong to nobody now") && told.contains("login.json"), "{told}");
    assert_eq!(adopt(&at).ok(), "", "again");
    for name in ["state", "state/bedplate.db-wal", "state/ca", "site/motd/rootfs/etc/secret"] {
        assert_eq!(owner(name), NOBODY, "{name}");
    }
    assert_eq!(fs::metadata(at.join("login.json")).unwrap().mode() & 0o7777, 0o640);
    let good = done(as_nobody(&at, &check), "").ok();
    assert!(good.starts_with("good: ") || good.starts_with("starts, with"), "{good}");

    let start = as_nobody(&at, &["server", "--config", config.as_str()]);
    let server = Server::of(spawn(start, &at), directory);
    is_confined(&server);
    serves(&server);
    let directory = server.kill();

    // Root's server would leave files that the next one of the user could not change.
    let refused = done(bedplate(&["server", "--config", config.as_str()]), "").failed();
    assert!(refused.contains("belongs to uid 65534"), "{refused}");
    let checked = done(bedplate(&check), "");
    assert!(checked.stderr.contains("problem: the state in "), "{checked:?}");
    assert!(checked.ok().starts_with("does not start as this user, "));
    assert_eq!(adopt(directory.path()).ok(), "", "it left nothing of root's");
}

fn is_confined(server: &Server) {
    let of_process =
        |file: &str| fs::read_to_string(format!("/proc/{}/{file}", server.pid())).unwrap();
    let status = of_process("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(field("Uid"), ["65534"; 4].join("\t"));
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), CAPABILITY_BITS, "{set}");
    }
    // Ports of DHCP and TFTP, in hexadecimal digits.
    let sockets = of_process("net/udp");
    for port in [":0043 ", ":0045 "] {
        assert!(sockets.contains(port), "{port} is not in {sockets}");
    }
}

/// What was there is there, can be changed, and images are read in the jail.
fn serves(server: &Server) {
    assert!(server.run(&["user", "list"]).ok().contains("eve"), "written just before the kill");
    let nodes = server.run(&["node", "list"]).ok();
    assert!(nodes.contains("n00001"), "{nodes}");
    server.run(&["node", "add", "m1"]).ok();
    let rendered = |path| server.run(&["overlay", "render", "motd", "m1", path]).ok();
    assert_eq!(rendered("/etc/motd"), "hello\n");
    assert_eq!(rendered("/etc/secret"), "a secret\n");
    let shown = server.run(&["overlay", "show", "motd"]).ok();
    assert!(shown.contains("0600"), "the mode goes to nodes: {shown}");
    server.run_with(&["overlay", "set-file", "motd", "/etc/motd", "-"], "changed\n", &[]).ok();
    assert_eq!(rendered("/etc/motd"), "changed\n");
    let layout = server.path("layout");
    empty_image(&layout);
    let source = format!("oci:{}", layout.display());
    let refused = server.run(&["image", "import", &source, "--name", "empty"]).failed();
    assert!(refused.contains("the image has no kernel that can boot"), "{refused}");
}
