//! crun and runc, set up to do what the substrate does for a job.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use substrate::container::{files, spec::ContainerSpec, system_calls};

use crate::program::program;

/// A runtime of Debian, with its bundle.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    options: &'static [&'static str],
}

/// The two.
pub(crate) const PEERS: [Peer; 2] = [
    Peer {
        name: "crun",
        program: "/usr/bin/crun",
        options: &["--cgroup-manager=cgroupfs", "--root=/run/crun"],
    },
    Peer { name: "runc", program: "/usr/sbin/runc", options: &["--root=/run/runc"] },
];

/// Where the bundle is; both have the same.
const BUNDLE: &str = "/run/bundle";

/// Writes the bundle for what `spec` describes.
pub(crate) fn prepare(spec: &ContainerSpec) -> anyhow::Result<()> {
    fs::create_dir_all(BUNDLE)?;
    let text = serde_json::to_vec_pretty(&configuration(spec))?;
    Ok(fs::write(Path::new(BUNDLE).join("config.json"), text)?)
}

impl Peer {
    /// Runs one container to its end; how long that took.
    pub(crate) fn run(&self, number: u32) -> anyhow::Result<Duration> {
        let start = linux::clock::monotonic();
        let status = program(self.program)
            .args(self.options)
            .args(["run", "--bundle", BUNDLE, &format!("{}-{number}", self.name)])
            .status()
            .with_context(|| format!("cannot start {}", self.program))?;
        let took = linux::clock::monotonic() - start;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(took)
    }
}

/// The bundle's `config.json` (OCI runtime specification, version 1.0).
fn configuration(spec: &ContainerSpec) -> Value {
    let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
    let quiet = ["nosuid", "nodev", "noexec"];
    let read_only = ["nosuid", "nodev", "noexec", "ro"];
    let list = |indexes: &[u32]| linux::cgroup::cpuset::list(indexes);
    let none: [&str; 0] = [];
    let device = |major: u32, minor: Option<u32>| json!({"allow": true, "type": "c", "major": major, "minor": minor.map_or(-1, i64::from), "access": "rw"});
    let rules = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)]
        .map(|(major, minor)| device(major, Some(minor)));
    let mut devices = vec![json!({"allow": false, "access": "rwm"})];
    devices.extend(rules);
    devices.push(device(136, None));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": spec.uid, "gid": spec.gid},
            "args": spec.command,
            "env": spec.env,
            "cwd": spec.cwd,
            "capabilities": {"bounding": none, "effective": none, "permitted": none, "ambient": none},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": 65_536, "hard": 524_288},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ],
            "noNewPrivileges": true,
        },
        "root": {"path": spec.lower, "readonly": false},
        "hostname": spec.hostname,
        "mounts": [
            mount("/proc", "proc", &quiet),
            mount("/dev", "tmpfs", &["nosuid", "noexec", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &quiet),
            mount("/sys", "sysfs", &read_only),
            mount("/sys/fs/cgroup", "cgroup", &read_only),
        ],
        "linux": {
            "cgroupsPath": "/peers/job",
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
            "resources": {
                "devices": devices,
                "memory": {"limit": spec.memory_bytes, "swap": spec.memory_bytes},
                "cpu": {"cpus": list(&spec.cpus), "mems": list(&spec.mems)},
                "pids": {"limit": spec.pids},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [
                    {"names": system_calls::allowed_names().collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW"},
                    {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                     "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
                ],
            },
            "maskedPaths": files::MASKED_DIRECTORIES.iter().chain(&files::MASKED_FILES).collect::<Vec<_>>(),
            "readonlyPaths": files::READ_ONLY,
        },
    })
}
