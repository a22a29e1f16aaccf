//! CDI specs: what is read, what is a mistake, what is refused.

use expect_test::expect;

use super::*;
use crate::edits::Link;

fn with(edits: &str) -> Result<Spec, Vec<String>> {
    parse(&format!(
        "cdiVersion: 1.1.0\nkind: example.com/x\ndevices:\n  - name: \"0\"\n    containerEdits: {{{edits}}}\n"
    ))
}

/// What a device with these edits could not be granted for.
fn refused(edits: &str) -> Vec<String> {
    with(edits).unwrap().devices[0].1.refused.clone()
}

#[test]
fn every_diagnostic_is_told_with_its_line() {
    let text = "cdiVersion: 2.0.0\nkind: gpu\nnoted: 1\ndevices: []\n";
    expect!["line 3: noted: unknown key \"noted\""].assert_eq(&parse(text).unwrap_err().join("\n"));
    let text = r#"{
        "cdiVersion": "0.2.0", "kind": "example.com/x", "devices": [
            {"name": "a b", "containerEdits": {}},
            {"name": "c", "containerEdits": {"env": ["=1"], "deviceNodes": [
                {"path": "dev/x"}, {"path": "/dev/x", "permissions": "rx"}, {"path": "/dev/../x"}]}},
            {"name": "c", "containerEdits": {"mounts": [{"hostPath": "x", "containerPath": "/x"}]}}]}"#;
    expect![[r#"
        line 2: cdiVersion: version "0.2.0" is none of 0.3.0 to 1.1.0
        line 3: devices[0].name: "a b" is not a valid name of a device: use letters, digits and inner `.`, `-`, `_`, `:`
        line 4: devices[1].containerEdits.env[0]: "=1" is not NAME=VALUE
        line 5: devices[1].containerEdits.deviceNodes[0].path: "dev/x" is no absolute path without `..`
        line 5: devices[1].containerEdits.deviceNodes[1].permissions: "rx" has other letters than r, w and m
        line 5: devices[1].containerEdits.deviceNodes[2].path: "/dev/../x" is no absolute path without `..`
        line 6: devices[2].name: a second device "c""#]]
    .assert_eq(&parse(text).unwrap_err().join("\n"));
    for (edits, expected) in [
        (
            "deviceNodes: [{path: /dev/x, fileMode: 0660}]",
            "\"0660\" is not a decimal number up to 4095",
        ),
        (
            "deviceNodes: [{path: /dev/x, fileMode: 5000}]",
            "\"5000\" is not a decimal number up to 4095",
        ),
        ("deviceNodes: [{path: /dev/x, major: -1}]", "\"-1\" is not a whole number"),
        ("deviceNodes: [{}]", "the key \"path\" is missing"),
        ("hooks: [{path: /x}]", "the key \"hookName\" is missing"),
        ("devices: []", "unknown key \"devices\""),
    ] {
        let diagnostics = with(edits).unwrap_err().join("\n");
        assert!(diagnostics.contains(expected), "{edits}: {diagnostics}");
    }
    assert_eq!(parse("").unwrap_err(), ["the file is empty"]);
    assert!(parse("{").unwrap_err()[0].starts_with("line "));
}

#[test]
fn a_device_node_is_what_the_spec_says_and_else_like_that_of_the_node() {
    let spec = with(
        "deviceNodes: [{path: /dev/a}, {path: /dev/b, hostPath: /dev/c, type: b, major: 7, minor: 1, fileMode: 432, \
         permissions: rm, uid: 5, gid: 6}]",
    );
    let nodes = &spec.unwrap().devices[0].1.nodes;
    assert_eq!(nodes[0], Node::at("/dev/a", false));
    let expected = Node {
        source: "/dev/c".to_owned(),
        kind: Some(NodeKind::Block),
        major: Some(7),
        minor: Some(1),
        write: false,
        mode: Some(0o660),
        uid: Some(5),
        gid: Some(6),
        ..Node::at("/dev/b", false)
    };
    assert_eq!(nodes[1], expected);
}

#[test]
fn mounts_are_read_only_unless_the_spec_says_otherwise() {
    let mount = |options: &str| {
        let edits = format!("mounts: [{{hostPath: /a, containerPath: /b, options: [{options}]}}]");
        let mount = with(&edits).unwrap().devices[0].1.mounts.pop().unwrap();
        (mount.read_only, mount.no_exec)
    };
    assert_eq!(mount(""), (true, false));
    assert_eq!(mount("rw, nosuid, nodev, bind"), (false, false));
    assert_eq!(mount("ro, noexec, rbind, rprivate"), (true, true));
}

#[test]
fn what_cannot_be_done_is_said() {
    let lines: Vec<String> = [
        "deviceNodes: [{path: /opt/x}]",
        "deviceNodes: [{path: /dev/shm/x}]",
        "deviceNodes: [{path: /dev/x, type: p}]",
        "mounts: [{hostPath: /a, containerPath: /b, type: tmpfs}]",
        "mounts: [{hostPath: /a, containerPath: /b, options: [suid]}]",
        "mounts: [{hostPath: /a, containerPath: /proc/driver}]",
        "mounts: [{hostPath: /a, containerPath: /}]",
        "env: [FB_TASK_ID=7]",
        "intelRdt: {closID: gold}",
        "netDevices: [{hostInterfaceName: eth1, name: eth0}]",
    ]
    .into_iter()
    .flat_map(refused)
    .collect();
    expect![[r#"
        the device node /opt/x: no device works there
        the device node /dev/shm/x: no device works there
        the device node /dev/x of type "p": only c, u and b are made
        the mount /b of type "tmpfs": only bind is done
        the option "suid" of the mount /b
        the mount /proc/driver: a container has its own there
        the mount /: a container has its own there
        the variable FB_TASK_ID: names with FB_ are the server's
        intelRdt: classes of cache and memory bandwidth are not set
        netDevices: the interface eth1 stays the node's"#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(with("additionalGIDs: [0, 44]").unwrap().devices[0].1.gids, [44]);
}

#[test]
fn hooks_of_nvidia_are_done_and_all_others_refused() {
    let hook = |name: &str, path: &str, words: &str| {
        with(&format!("hooks: [{{hookName: {name}, path: {path}, args: [{words}]}}]"))
            .unwrap()
            .devices[0]
            .1
            .clone()
    };
    let ours = |words: &str| hook("createContainer", "/usr/bin/nvidia-cdi-hook", words);
    let done = ours(
        "x, create-symlinks, --link, 'libcuda.so.1::/usr/lib/libcuda.so', '--link=../a::/b/c'",
    );
    let link = |path: &str, target: &str| Link { path: path.to_owned(), target: target.to_owned() };
    assert_eq!(done.links, [link("/usr/lib/libcuda.so", "libcuda.so.1"), link("/b/c", "../a")]);
    let old = hook(
        "createContainer",
        "/usr/bin/nvidia-ctk",
        "nvidia-ctk, hook, update-ldcache, --folder, /usr/lib64",
    );
    assert_eq!((old.library_directories, old.refused), (vec!["/usr/lib64".to_owned()], vec![]));
    for words in [
        "x, chmod, --mode, 755, --path, /dev/dri",
        "x, enable-cuda-compat, --host-driver-version=575.57.08",
        "x, disable-device-node-modification",
        "x, update-application-profile",
    ] {
        assert_eq!(ours(words), Edits::default(), "{words}");
    }
    let refused: Vec<String> = [
        ours("x, chmod, --mode, 777, --path, /dev/dri"),
        ours("x, chmod, --mode, 755, --path, /etc"),
        ours("x, create-symlinks, --link, 'a::/proc/x'"),
        ours("x, create-symlinks, --link, 'a::b'"),
        ours("x, create-symlinks, --link"),
        ours("x, update-ldcache, --folder, '/a:/b'"),
        ours("x, teach-to-fly"),
        hook("poststop", "/usr/bin/nvidia-cdi-hook", "x, update-ldcache, --folder, /a"),
        hook("createRuntime", "/opt/example/load", "load, --board, 1"),
    ]
    .into_iter()
    .flat_map(|edits| edits.refused)
    .collect();
    expect![[r#"
        the hook /usr/bin/nvidia-cdi-hook chmod --mode (createContainer), which is not run here
        the hook /usr/bin/nvidia-cdi-hook chmod --mode (createContainer), which is not run here
        the hook /usr/bin/nvidia-cdi-hook create-symlinks --link (createContainer), which is not run here: the link "a::/proc/x"
        the hook /usr/bin/nvidia-cdi-hook create-symlinks --link (createContainer), which is not run here: the link "a::b"
        the hook /usr/bin/nvidia-cdi-hook create-symlinks --link (createContainer), which is not run here
        the hook /usr/bin/nvidia-cdi-hook update-ldcache --folder (createContainer), which is not run here
        the hook /usr/bin/nvidia-cdi-hook teach-to-fly (createContainer), which is not run here
        the hook /usr/bin/nvidia-cdi-hook update-ldcache --folder (poststop), which is not run here
        the hook /opt/example/load --board 1 (createRuntime), which is not run here"#]]
    .assert_eq(&refused.join("\n"));
}

mod properties {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z:{}\\[\\],\" \n0-9/.-]{0,200}") {
            let _ = super::parse(&text);
        }
    }
}
