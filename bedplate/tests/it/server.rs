//! A server of this workspace's own program, and its command line.

use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// How long a server may take to answer, in steps of [`STEP`]: a loaded machine needs seconds.
const MAX_STEPS: u32 = 300;

const STEP: Duration = Duration::from_millis(100);

/// A running server; ends with the value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) directory: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Standard output of a command that must succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Standard error of a command that must fail.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "a failure prints nothing to standard output");
        self.stderr
    }
}

impl Server {
    /// A server with an empty state.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "")
    }

    /// A server with a state that is made before, in `state` of its directory.
    pub(crate) fn start_on(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        Self::start_in(directory, "")
    }

    /// The same, in a directory that may hold files already; `api` are further keys
    /// of that section.
    pub(crate) fn start_in(directory: TempDir, api: &str) -> Self {
        fs::write(directory.path().join("server.yaml"), configuration(directory.path(), api))
            .unwrap();
        fs::write(directory.path().join("substrate"), "no machine starts it").unwrap();
        let child = launch(directory.path());
        Self::of(child, directory)
    }

    /// A server that is started by others: it runs once this returns.
    pub(crate) fn of(child: Child, directory: TempDir) -> Self {
        let server = Self { child, directory };
        server.wait();
        server
    }

    /// As `kill -9`; what is left of it.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // `Drop` has nothing to do any more, and the directory stays.
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    /// As `kill -9` and a new start.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill_and_restart_after(|_| {});
    }

    /// The same; something is done to its directory while it is not there.
    pub(crate) fn kill_and_restart_after(&mut self, change: impl FnOnce(&Path)) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        change(self.directory.path());
        self.child = launch(self.directory.path());
        self.wait();
    }

    /// The same, where the server refuses to start: what it says.
    pub(crate) fn kill_and_fail_after(&mut self, change: impl FnOnce(&Path)) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        change(self.directory.path());
        let log = self.path("log");
        let before = fs::read_to_string(&log).unwrap().len();
        self.child = launch(self.directory.path());
        assert_eq!(self.child.wait().unwrap().code(), Some(1));
        fs::read_to_string(&log).unwrap().split_off(before)
    }

    fn wait(&self) {
        for _ in 0..MAX_STEPS {
            if self.run(&["version", "-o", "json"]).stdout.contains(r#""server": "0."#) {
                return;
            }
            thread::sleep(STEP);
        }
        panic!("the server does not answer: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends the server SIGHUP.
    pub(crate) fn hang_up(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    }

    /// A path in the directory of this server.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the command line with the admin's context.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "", &[])
    }

    /// The same, with standard input and variables.
    pub(crate) fn run_with(
        &self,
        arguments: &[&str],
        input: &str,
        variables: &[(&str, &str)],
    ) -> Done {
        let mut command = bedplate(arguments);
        command
            .env("BEDPLATE_CONTEXT", self.path("state/admin.yaml"))
            .envs(variables.iter().copied());
        done(command, input)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command line, without a context.
#[expect(clippy::disallowed_methods, reason = "the home of the program under test")]
pub(crate) fn bedplate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bedplate"));
    command.args(arguments).env("XDG_CONFIG_HOME", "/nonexistent").env_remove("BEDPLATE_CONTEXT");
    command
}

/// Runs a command to its end.
pub(crate) fn done(mut command: Command, input: &str) -> Done {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        // One that refuses its arguments reads nothing.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn launch(directory: &Path) -> Child {
    let config = directory.join("server.yaml").display().to_string();
    let log = fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
    bedplate(&["server", "--config", &config]).stderr(log).spawn().unwrap()
}

/// No DHCP and no TFTP; an address of loopback that no other test has, and registries there.
fn configuration(directory: &Path, api: &str) -> String {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, TAKEN.fetch_add(1, Ordering::Relaxed), high, low.max(1));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    let directory = directory.display();
    format!(
        "state-dir: {directory}/state
server-addresses: [{address}]
api: {{listen: '{address}:9470'{api}}}
boot: {{tftp: false, substrate: {directory}/substrate, templates: {workspace}/ipxe}}
dhcp: {{mode: 'off', subnets: [{{network: 10.98.0.0/24, gateway: 10.98.0.254}}]}}
overlays: {{shipped: {workspace}/overlays, site: {directory}/site}}
registries: {{allow: [127.0.0.0/8]}}
"
    )
}
