//! Devices of a made-up vendor, told by a CDI spec, and adapters of soft RoCE: in the inventory,
//! counted, granted, made, and nothing more (`vm-tests/documents/devices.yaml`).

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use api::ids::NodeName;

use crate::{
    check::Memory,
    clock,
    cluster::{ADDRESSES, Cluster},
    workflow::{self, NUMBERS},
};

/// How long the agent may take to see what changed: it waits ten seconds between two looks.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

/// Two boards and their control node are devices that the kernel has anyway, under other names; the
/// adapters are two ends of soft RoCE on the network cards.
const BUILD: &str = r#"
modprobe -a rdma_rxe ib_uverbs rdma_ucm fuse
rdma link add rxe0 type rxe netdev lan0
rdma link add rxe1 type rxe netdev lan1
mknod -m 0600 /dev/board-a c 10 237
mknod -m 0600 /dev/board-b c 10 229
mknod -m 0600 /dev/examplectl c 1 11
mkdir -p /etc/cdi /opt/example-1.2
echo driver > /opt/example-1.2/driver.so
cat > /etc/cdi/example.json <<'END'
{
  "cdiVersion": "0.6.0",
  "kind": "example.com/board",
  "containerEdits": {
    "deviceNodes": [{"path": "/dev/examplectl", "permissions": "w"}],
    "mounts": [{"hostPath": "/opt/example-1.2/driver.so", "containerPath": "/opt/example/lib/driver.so",
      "options": ["ro", "nosuid", "nodev", "bind"]}],
    "hooks": [
      {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
        "args": ["nvidia-cdi-hook", "create-symlinks", "--link", "driver.so::/opt/example/lib/link.so"]},
      {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
        "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/opt/example/lib"]}]
  },
  "devices": [
    {"name": "a", "containerEdits": {"env": ["EXAMPLE=a"], "deviceNodes": [
      {"path": "/dev/example0", "hostPath": "/dev/board-a", "type": "c", "major": 10, "minor": 237, "permissions": "r"}]}},
    {"name": "b", "containerEdits": {"env": ["EXAMPLE=b"], "deviceNodes": [
      {"path": "/dev/example1", "hostPath": "/dev/board-b"}]}},
    {"name": "all", "containerEdits": {"deviceNodes": [
      {"path": "/dev/example0", "hostPath": "/dev/board-a"}, {"path": "/dev/example1", "hostPath": "/dev/board-b"}]}}
  ]
}
END
"#;

/// The adapters stay until the node boots again: Debian's kernel 6.1 falls over `rdma link delete`
/// of one that was used.
const CLEAR: &str = "rm -r /etc/cdi";

/// What the job with one board and one adapter finds.
const FACTS: [(&str, &str); 10] = [
    (
        "devices",
        "/dev/example0 /dev/examplectl /dev/full /dev/infiniband/rdma_cm /dev/infiniband/uverbs0 /dev/null /dev/pts/ptmx \
         /dev/random /dev/tty /dev/urandom /dev/zero ",
    ),
    ("/dev/example0 <", "opens"),
    // Its spec lets it be read only.
    ("/dev/example0 >", "refused"),
    ("/dev/examplectl <", "refused"),
    ("/dev/infiniband/uverbs0 <>", "opens"),
    ("/dev/infiniband/rdma_cm <>", "opens"),
    ("env", "a:/opt/example/lib"),
    ("file", "driverdriver"),
    ("write", "refused"),
    ("adapters", "rxe0 "),
];

/// Jobs get what they ask for, one after the other where there is not enough for all.
pub(crate) fn granted(cluster: &mut Cluster, _: &mut Memory) -> anyhow::Result<()> {
    cluster.on_node(ADDRESSES[0], BUILD)?;
    let offered = ["example.com/board=a", "example.com/board=b", "rdma/hca=rxe0", "rdma/hca=rxe1"];
    wait_for_offer(cluster, &offered)?;
    let shown = cluster.server.cli(&["node", "inventory", "n1"])?;
    ensure!(shown.contains("example.com/board=a"), "the inventory shows\n{shown}");

    let id = workflow::finish(cluster, "devices")?;
    let log = workflow::log(cluster, &id, "one")?;
    let facts: BTreeMap<&str, &str> =
        log.lines().filter_map(|line| line.rsplit_once('=')).collect();
    for (name, expected) in FACTS {
        let found = facts.get(name).with_context(|| format!("no {name} in\n{log}"))?;
        ensure!(*found == expected, "{name} is {found:?}, not {expected:?}");
    }
    let owner = format!("{}:{}:600", NUMBERS.0, NUMBERS.1);
    ensure!(facts.get("owner") == Some(&owner.as_str()), "its node is {:?}", facts.get("owner"));
    for job in ["two", "three"] {
        let log = workflow::log(cluster, &id, job)?;
        ensure!(log == "boards 2\n", "{job} says {log:?}");
    }
    let mut attempts = workflow::attempts(cluster, &id)?;
    ensure!(attempts.len() == 3, "more than one attempt: {attempts:?}");
    attempts.sort_by_key(|attempt| attempt.placed);
    for pair in attempts.windows(2) {
        ensure!(
            pair[0].ended.is_some_and(|ended| ended <= pair[1].placed),
            "two had the boards at once: {pair:?}"
        );
    }
    cluster.on_node(ADDRESSES[0], CLEAR)?;
    wait_for_offer(cluster, &offered[2..])
}

/// Waits until the server knows exactly these devices of n1.
fn wait_for_offer(cluster: &Cluster, expected: &[&str]) -> anyhow::Result<()> {
    let name: NodeName = "n1".parse()?;
    let limit = cluster.accelerator().stretch(NOTICE_LIMIT);
    let mut last = String::new();
    let waited = clock::wait_for("the devices of n1 to be known", limit, || {
        let name = name.clone();
        let inventory =
            cluster.server.ask(|client| async move { client.inventory(&name).await })?;
        let names: Vec<String> =
            inventory.devices.iter().map(|device| device.name.to_string()).collect();
        last = format!("{names:?}, {:?}", inventory.gaps);
        Ok((names == expected).then_some(()))
    });
    waited.with_context(|| format!("known are {last}"))
}
