//! Devices from a made-up spec whose nodes are those that every machine has.

use super::*;

/// A machine whose spec has the devices 0, 1 and `all`, whose nodes are what programs of
/// every machine have.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(edits: &str) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.write("dev/.keep", "");
        for (link, target) in [("dev/x0", "zero"), ("dev/x1", "full"), ("dev/ctl", "null")] {
            std::os::unix::fs::symlink(Path::new("/dev").join(target), machine.0.path().join(link))
                .unwrap();
        }
        machine.write(
            "etc/cdi/x.yaml",
            &format!(
                "cdiVersion: 0.7.0\nkind: v.com/x\ncontainerEdits: {{deviceNodes: [{{path: /dev/ctl}}], {edits}}}\ndevices:\n  \
                 - {{name: '0', containerEdits: {{env: [X=0], deviceNodes: [{{path: /dev/x0, permissions: r, fileMode: 384}}]}}}}\n  \
                 - {{name: '1', containerEdits: {{deviceNodes: [{{path: /dev/x1, uid: 0}}]}}}}\n  \
                 - {{name: all, containerEdits: {{deviceNodes: [{{path: /dev/x0}}, {{path: /dev/x1}}]}}}}\n  \
                 - {{name: wrong, containerEdits: {{deviceNodes: [{{path: /dev/x0, major: 9}}]}}}}\n  \
                 - {{name: place, containerEdits: {{deviceNodes: [{{path: /dev/x0, hostPath: /dev/x1}}]}}}}\n"
            ),
        );
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn resolve(&self, names: &[&str]) -> Result<Granted, DeviceError> {
        let names: Vec<DeviceName> =
            names.iter().map(|name| format!("v.com/x={name}").parse().unwrap()).collect();
        let user = RunUser { name: "u".into(), uid: 1000, gid: 1001, groups: Vec::new() };
        resolve(self.0.path(), &names, &user)
    }
}

fn run(number: u128) -> RunId {
    RunId(uuid::Uuid::from_u128(number))
}

#[test]
fn a_device_is_its_users_and_brings_what_its_spec_says() {
    let machine = Machine::new("additionalGIDs: [44]");
    let granted = machine.resolve(&["0"]).unwrap();
    let node = |path: &str, minor, write| DeviceNode {
        path: path.to_owned(),
        block: false,
        major: 1,
        minor,
        read: true,
        write,
        mode: 0o666,
        uid: 1000,
        gid: 1001,
    };
    let zero = DeviceNode { mode: 0o600, ..node("/dev/x0", 5, false) };
    assert_eq!(granted.nodes, [node("/dev/ctl", 3, true), zero]);
    assert_eq!((granted.gids, granted.env), (vec![44], vec!["X=0".to_owned()]));
    assert_eq!(machine.resolve(&["1"]).unwrap().nodes[1].uid, 0);
    assert_eq!(machine.resolve(&["0", "1"]).unwrap().nodes.len(), 3);
    assert_eq!(resolve(Path::new("/no/such"), &[], &spec_user()).unwrap(), Granted::default());
}

fn spec_user() -> RunUser {
    RunUser { name: "u".into(), uid: 1, gid: 1, groups: Vec::new() }
}

#[test]
fn what_cannot_be_granted_says_why() {
    let told = |machine: &Machine, names: &[&str]| {
        let error = machine.resolve(names).unwrap_err();
        let transient = error.is_transient();
        let told = format!("{:#} (transient: {transient})", anyhow::Error::from(error));
        told.replace(machine.0.path().to_str().unwrap(), "ROOT")
    };
    let machine = Machine::new("");
    let mut lines: Vec<String> = [&["none"][..], &["wrong"], &["0", "place"]]
        .iter()
        .map(|names| told(&machine, names))
        .collect();
    std::fs::remove_file(machine.0.path().join("dev/x1")).unwrap();
    lines.push(told(&machine, &["1"]));
    machine.write("dev/x1", "");
    lines.push(told(&machine, &["1"]));
    lines.push(told(&Machine::new("hooks: [{hookName: createRuntime, path: /opt/load}]"), &["0"]));
    expect_test::expect![[r#"
        the node has no device v.com/x=none any more (transient: true)
        /dev/x0 of v.com/x=wrong is the character device 1:5, and its spec says the character device 9:5 (transient: false)
        two of the devices want to be /dev/x0 in the container (transient: false)
        cannot look at ROOT/dev/x1 for v.com/x=1: No such file or directory (os error 2) (transient: true)
        cannot look at ROOT/dev/x1 for v.com/x=1: it is no device (transient: true)
        v.com/x=0 of /etc/cdi/x.yaml cannot be granted: the hook /opt/load (createRuntime), which is not run here (transient: false)"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn what_one_run_has_no_other_gets() {
    let machine = Machine::new("");
    let claim = |names: &[&str]| machine.resolve(names).unwrap().claim;
    let claims = Claims::default();
    claims.take(run(1), claim(&["0"])).unwrap();
    // The control node is everybody's.
    claims.take(run(2), claim(&["1"])).unwrap();
    claims.take(run(1), claim(&["0"])).unwrap();
    let told = |names: &[&str]| claims.take(run(3), claim(names)).unwrap_err().to_string();
    let by = run(1);
    assert_eq!(told(&["0"]), format!("run {by} has v.com/x=0, which is granted to one at a time"));
    assert_eq!(
        told(&["all"]),
        format!("run {by} has the character device 1:5, which is granted to one at a time")
    );
    claims.release(run(1));
    claims.take(run(3), claim(&["0"])).unwrap();

    // An agent that starts again knows it from the run's directory.
    let json = serde_json::to_string(&claim(&["1"])).unwrap();
    let claims = Claims::default();
    claims.adopt(run(2), serde_json::from_str(&json).unwrap());
    assert!(claims.take(run(4), claim(&["1"])).is_err());
}

#[test]
fn libraries_of_a_driver_are_found_by_the_names_they_give_themselves() {
    let machine = Machine::new(
        "mounts: [{hostPath: /lib/libdrv.so.575, containerPath: /usr/lib/libdrv.so.575}, {hostPath: /etc/cdi/x.yaml, \
         containerPath: /usr/lib/x.yaml}], hooks: [{hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [x, \
         create-symlinks, --link, 'libc.so.6::/usr/lib/libdrv.so']}, {hookName: createContainer, path: \
         /usr/bin/nvidia-cdi-hook, args: [x, update-ldcache, --folder, /usr/lib]}]",
    );
    // It calls itself libc.so.6.
    let libc = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"];
    let libc = libc.iter().find(|path| Path::new(path).exists()).unwrap();
    std::fs::create_dir(machine.0.path().join("lib")).unwrap();
    std::fs::copy(libc, machine.0.path().join("lib/libdrv.so.575")).unwrap();
    let granted = machine.resolve(&["0"]).unwrap();
    let link =
        |path: &str, target: &str| DeviceLink { path: path.to_owned(), target: target.to_owned() };
    assert_eq!(
        granted.links,
        [link("/usr/lib/libc.so.6", "libdrv.so.575"), link("/usr/lib/libdrv.so", "libc.so.6")]
    );
    assert_eq!(granted.mounts.len(), 2);
    let env = |job: &[&str]| {
        granted.environment(&job.iter().map(|pair| (*pair).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(env(&["X=1", "XY=1"]), ["XY=1", "X=0", "LD_LIBRARY_PATH=/usr/lib"]);
    assert_eq!(
        env(&["LD_LIBRARY_PATH=/a:/b", "Y=1"]),
        ["Y=1", "X=0", "LD_LIBRARY_PATH=/a:/b:/usr/lib"]
    );
}
