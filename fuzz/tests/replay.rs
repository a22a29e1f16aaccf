//! Every input that a fuzzer kept, and every seed, under the same targets: `fuzz/corpus/TARGET/*`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use fuzz_targets::TARGETS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// All inputs together, bytes: a clone of the repository stays small.
const MAX_CORPUS_BYTES: u64 = 200 << 10;

/// What one process may hold, bytes. An input that makes a parser want more ends the test.
const MAX_MEMORY_BYTES: u64 = 2 << 30;

fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory("corpus").join(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths
}

fn replay(name: &str) {
    let limit =
        Rlimit { current: Some(MAX_MEMORY_BYTES), maximum: getrlimit(Resource::Data).maximum };
    setrlimit(Resource::Data, limit).unwrap();
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let (mut tried, mut passed) = (0, 0);
    for path in inputs(name) {
        // Captured, and shown for the one that fails.
        println!("{}", path.display());
        let input = fs::read(&path).unwrap();
        tried += 1;
        passed += usize::from((target.run)(&input));
    }
    assert!(
        passed > 0,
        "none of {tried} inputs gets past the parser: the corpus of {name} tests nothing"
    );
    assert!(
        passed < tried,
        "all {tried} inputs are right: the corpus of {name} has none that is refused"
    );
    for input in [&b""[..], &[0], &[0xff; 700], &[0; 4096]] {
        (target.run)(input);
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            replay($name);
        })*

        const REPLAYED: &[&str] = &[$($name),*];
    };
}

replays! {
    cel: "cel",
    cluster: "cluster",
    copy_tree: "copy-tree",
    dhcp: "dhcp",
    enroll: "enroll",
    frames: "frames",
    hostlist: "hostlist",
    http: "http",
    layers: "layers",
    manifest: "manifest",
    shell: "shell",
    template: "template",
    tftp: "tftp",
    workflow: "workflow",
    yaml: "yaml",
}

#[test]
fn every_target_has_a_test_a_program_and_a_corpus() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "each name once");
    let replayed: BTreeSet<String> = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(replayed, names, "tests of this file");
    let listed = |directory: PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(listed(directory("corpus")), names, "fuzz/corpus");
    let programs: BTreeSet<String> = names.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(listed(directory("runner/fuzz_targets")), programs, "fuzz/runner/fuzz_targets");
    let manifest = fs::read_to_string(directory("runner/Cargo.toml")).unwrap();
    for name in &names {
        let program = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&program), "fuzz/runner/Cargo.toml has no program {name}");
    }
}

#[test]
fn the_corpus_is_small() {
    let all = TARGETS.iter().flat_map(|target| inputs(target.name));
    let bytes: u64 = all.map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(
        bytes <= MAX_CORPUS_BYTES,
        "{bytes} bytes: minimise it with `cargo xtask fuzz NAME --minimise`"
    );
}
