//! A full disk, and what comes after it: nothing but what was refused is lost, and no
//! restart is needed.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{
    access::{Account, CreateToken, User},
    machine::{AddNodes, MachineSpec, PatchNodes},
    status::DrainNode,
    workflow::StartWorkflow,
};
use client::{Client, ClientError};

use crate::server::Server;

/// Room for the server's state with some to spare.
const SIZE: &str = "size=48m";

/// Writes after there is room again; none may fail.
const AFTER: u32 = 100;

/// Writes until one is refused, at most: what the database has reserved takes some.
const MAX_UNTIL_FULL: u32 = 3_000;

/// How long a write that was answered while the disk was full may still be under way.
const SETTLE: Duration = Duration::from_secs(3);

/// A file system of its own; unmounted with the value.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let at = tempfile::tempdir().unwrap();
        let none: Option<&str> = None;
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(none, at.path(), Some("tmpfs"), flags, Some(SIZE)).unwrap();
        Self(at)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut filler = fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still has a file open there is about to end.
        let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A kind of write. `number` is another one each time.
type Write = (&'static str, fn(&Client, &tokio::runtime::Runtime, u32) -> Result<(), ClientError>);

fn spec(comment: String) -> MachineSpec {
    MachineSpec { comment: Some(comment), ..MachineSpec::default() }
}

/// Each role's tables, and the files of overlays.
const WRITES: [Write; 8] = [
    ("a node", |client, runtime, number| {
        let add = AddNodes { names: format!("m{number}"), spec: spec("x".repeat(2_000)) };
        runtime.block_on(client.add_nodes(&add)).map(drop)
    }),
    ("a change of nodes", |client, runtime, number| {
        let patch = serde_json::json!({"comment": format!("{number}{}", "y".repeat(2_000))});
        runtime
            .block_on(client.patch_nodes(&PatchNodes { names: "n[1-20]".to_owned(), patch }))
            .map(drop)
    }),
    ("a profile", |client, runtime, number| {
        let name = format!("p{number}").parse().unwrap();
        runtime.block_on(client.put_profile(&name, &spec("z".repeat(2_000)))).map(drop)
    }),
    ("a user", |client, runtime, number| {
        let account = Some(Account { uid: 1_000 + number, gid: 1_000, groups: Vec::new() });
        let comment = Some("u".repeat(200));
        let user = User { name: format!("u{number}"), admin: false, account, comment };
        runtime.block_on(client.add_user(&user)).map(drop)
    }),
    ("a token", |client, runtime, number| {
        let create = CreateToken { name: format!("t{number}"), ..CreateToken::default() };
        runtime.block_on(client.create_token(&create)).map(drop)
    }),
    ("a drain", |client, runtime, number| {
        let drain = DrainNode { reason: format!("{number}{}", "w".repeat(150)) };
        runtime.block_on(client.drain(&"n1".parse().unwrap(), &drain))
    }),
    ("a workflow", |client, runtime, number| {
        let document = "version: v1\njobs: {a: {image: docker://registry.example/a, command: [b],
            resource: {cpu: {cores: 1}, memory: {size: 1MiB}}}}"
            .to_owned();
        let start = StartWorkflow {
            name: Some(format!("w{number}")),
            document,
            user: Some("ann".to_owned()),
        };
        runtime.block_on(client.start_workflow(&start)).map(drop)
    }),
    ("a file of an overlay", |client, runtime, number| {
        let (overlay, path) = ("site".parse().unwrap(), format!("/etc/f{number}"));
        runtime.block_on(client.put_overlay_file(&overlay, &path, 0o644, false, vec![b'v'; 4_000]))
    }),
];

#[test]
fn privileged_after_a_full_disk_every_write_works_again() {
    let disk = SmallDisk::mount();
    let server = Server::start_in(tempfile::tempdir_in(disk.path()).unwrap(), "");
    server.run(&["node", "add", "n[1-20]"]).ok();
    server.run(&["user", "add", "ann", "--uid", "1001", "--gid", "1001"]).ok();
    let context = client::Context::read(&server.path("state/admin.yaml")).unwrap();
    let client = Client::new(&context).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut number = 0;
    for (what, write) in WRITES {
        disk.fill();
        let refused = (0..MAX_UNTIL_FULL).find_map(|_| {
            number += 1;
            write(&client, &runtime, number).err()
        });
        disk.make_room();
        // A change of a node's state is answered from memory and written behind; it is tried again.
        if let Some(error) = refused {
            let words = error.to_string();
            assert!(error.status().is_some_and(|status| status >= 500), "{what}: {words}");
        }
        std::thread::sleep(SETTLE);
        for _ in 0..AFTER {
            number += 1;
            write(&client, &runtime, number).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}
