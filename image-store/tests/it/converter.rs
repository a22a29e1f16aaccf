//! The converter in its jail, as a process of its own: what it gives, what it cannot do, and how
//! its end is told.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Duration,
};

use api::ids::Digest;
use expect_test::expect;
use image_store::{ConvertError, Converter, Layer, NoProgress, Progress, Store, build};

use crate::image::{Entry, kernel_layer, layer, options, put};

const IMAGE: Digest = Digest([7; 32]);

/// The converter of the tests, which counts crashes in `directory`.
pub(crate) fn converter(directory: &Path) -> Converter {
    let program = Path::new(env!("CARGO_BIN_EXE_image-converter"));
    Converter::of_program(program, vec!["image-converter".into()], directory.join("conversions"))
        .unwrap()
}

/// A store with an image of a few bytes.
struct Site {
    directory: tempfile::TempDir,
    store: Store,
    layers: Vec<Layer>,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let layers = put(&store, &[layer(&[Entry::File("etc/hostname", 0o644, b"x")])]);
        Self { directory, store, layers }
    }

    fn converter(&self) -> Converter {
        converter(self.directory.path())
    }

    fn convert(&self, converter: &Converter) -> Result<String, ConvertError> {
        converter.job_root(&self.store, &IMAGE, &self.layers, &NoProgress).map(|root| root.format)
    }

    /// With a converter that does this inside of its jail.
    fn probe(&self, probe: &str) -> Result<String, ConvertError> {
        self.convert(&self.converter().with_probe(probe))
    }

    /// Names of what lies in a directory of the store.
    fn partial(&self) -> usize {
        fs::read_dir(self.store.root().join("partial")).unwrap().count()
    }
}

#[test]
fn the_jail_gives_what_a_conversion_without_it_gives() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let files = [
        Entry::File("etc/a", 0o644, b"a"),
        Entry::Symlink("etc/b", "a"),
        Entry::Attribute("ping", "user.x", b"y"),
        Entry::File("sbin/init", 0o644, b"no program"),
    ];
    let layers = put(&store, &[kernel_layer(), layer(&files)]);
    let options = options(directory.path());
    let want = build(&store, &layers, &options, &NoProgress).unwrap();
    let converter = converter(directory.path());
    let got = converter.image(&store, &IMAGE, &layers, &options, &NoProgress).unwrap();
    assert_eq!(got, want);
    assert!(want.warnings[0].contains("no init"), "{:?}", want.warnings);
    let kernels = converter.stage1(&store, &IMAGE, &layers, &options, &NoProgress).unwrap();
    assert_eq!(kernels, want.kernels);
    let root = converter.job_root(&store, &IMAGE, &layers, &NoProgress).unwrap();
    assert_eq!(root, want.root);
    assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
}

#[test]
fn what_is_wrong_with_an_image_is_told_as_without_a_jail() {
    let site = Site::new();
    let layers = put(&site.store, &[layer(&[Entry::Hardlink("a", "etc/shadow")])]);
    let refused = site.converter().job_root(&site.store, &IMAGE, &layers, &NoProgress).unwrap_err();
    let digest = layers[0].digest;
    assert_eq!(
        refused.to_string(),
        format!("layer {digest}: a: it is a hard link to etc/shadow, which is not there")
    );
    assert_eq!(site.partial(), 0);
    // It is no crash, and counts for nothing.
    assert_eq!(site.convert(&site.converter()).unwrap(), "squashfs");
}

/// Everything that a converter could do when a layer had taken it over.
#[test]
fn the_jail_holds() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let layers = put(&store, &[kernel_layer()]);
    let converter = converter(directory.path()).with_probe("break out");
    let options = options(directory.path());
    let built = converter.image(&store, &IMAGE, &layers, &options, &NoProgress).unwrap();
    let tried: Vec<&String> =
        built.warnings.iter().filter(|text| !text.contains("no init")).collect();
    expect![[r#"
        [
            "TCP socket: PermissionDenied",
            "UNIX socket: PermissionDenied",
            "netlink: PermissionDenied",
            "read /etc/shadow: PermissionDenied",
            "read /usr: PermissionDenied",
            "write /tmp: PermissionDenied",
            "remove a file: PermissionDenied",
            "start a program: PermissionDenied",
            "signal the server: PermissionDenied",
            "mount: PermissionDenied",
            "start a thread: done",
        ]
    "#]]
    .assert_debug_eq(&tried);
}

/// The one process that this one has started, found through `/proc`.
fn child() -> u32 {
    let own = std::process::id().to_string();
    for _ in 0..600 {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            // In its jail: the second filter lies over the first.
            let filters = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
            if parent == Some(own.as_str()) && filters.is_some_and(|count| count.trim() != "0") {
                return pid;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("no converter was started")
}

/// Runs a converter that hangs, and `with` while it does; returns how it ended.
fn hanging(site: &Site, with: impl FnOnce(u32)) -> Result<String, ConvertError> {
    thread::scope(|scope| {
        let converting = scope.spawn(|| site.probe("hang"));
        with(child());
        converting.join().unwrap()
    })
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn the_converter_has_no_rights_and_little_of_everything() {
    let site = Site::new();
    let mut seen = BTreeMap::new();
    let ended = hanging(&site, |pid| {
        // The second step follows the first at once.
        thread::sleep(Duration::from_millis(500));
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        for line in read("status").lines() {
            if let Some((name, value)) = line.split_once(':')
                && ["CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp"].contains(&name)
            {
                seen.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        for line in read("limits").lines() {
            for (limit, shown) in
                [("Max core file size", "core"), ("Max data size", "data"), ("Max cpu time", "cpu")]
            {
                if let Some(values) = line.strip_prefix(limit) {
                    let soft = values.split_whitespace().next().unwrap_or_default();
                    seen.insert(shown.to_owned(), soft.to_owned());
                }
            }
        }
        seen.insert("oom_score_adj".to_owned(), read("oom_score_adj").trim().to_owned());
        let environment = read("environ");
        assert!(
            environment.split('\0').all(|one| {
                one.is_empty() || one.starts_with("PATH=") || one == "MALLOC_ARENA_MAX=2"
            }),
            "{environment}"
        );
        kill(pid);
    });
    expect![[r#"
        {
            "CapAmb": "0000000000000000",
            "CapEff": "0000000000000000",
            "CapInh": "0000000000000000",
            "CapPrm": "0000000000000000",
            "NoNewPrivs": "1",
            "Seccomp": "2",
            "core": "0",
            "cpu": "3600",
            "data": "671088640",
            "oom_score_adj": "1000",
        }
    "#]]
    .assert_debug_eq(&seen);
    assert!(matches!(ended, Err(ConvertError::Killed { .. })), "{ended:?}");
}

/// As the kernel does when memory runs out: the image has nothing to do with it.
#[test]
fn a_converter_that_somebody_kills_is_not_held_against_the_image() {
    let site = Site::new();
    for _ in 0..3 {
        let ended = hanging(&site, kill);
        assert!(matches!(ended, Err(ConvertError::Killed { image: IMAGE })), "{ended:?}");
    }
    site.convert(&site.converter()).unwrap();
}

#[test]
fn more_memory_than_is_allowed_ends_the_converter_and_not_the_server() {
    let site = Site::new();
    let ended = site.probe("use up memory").unwrap_err();
    let ConvertError::Crashed { cause, left: 1, .. } = &ended else { panic!("{ended:?}") };
    assert_eq!(cause, "it wanted more than 640 MiB of memory");
    assert_eq!(site.partial(), 0);
}

/// Many cores, eight layers with the largest windows, and an image at the limit of its budget.
#[test]
fn what_an_image_may_hold_fits_beside_what_the_converter_takes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let layers = put(&store, &[kernel_layer()]);
    let converter = converter(directory.path()).with_probe("hold what an image may");
    let built =
        converter.image(&store, &IMAGE, &layers, &options(directory.path()), &NoProgress).unwrap();
    let held = |warning: &String| warning == "held 256 MiB, and eight layers beside it";
    assert!(built.warnings.iter().any(held), "{:?}", built.warnings);
}

#[test]
fn an_image_that_crashes_the_converter_twice_is_refused_until_an_admin_wants_it() {
    let site = Site::new();
    let ended = site.probe("abort").unwrap_err();
    assert!(matches!(&ended, ConvertError::Crashed { left: 1, .. }), "{ended:?}");
    assert!(
        ended.to_string().contains("SIGABRT") && ended.to_string().contains("once more"),
        "{ended}"
    );
    let ended = site.probe("panic").unwrap_err();
    assert!(matches!(&ended, ConvertError::Crashed { left: 0, .. }), "{ended:?}");
    assert!(ended.to_string().contains("a mistake in the converter"), "{ended}");
    // It would work now, and is not tried; another server reads the same count.
    let refused = site.convert(&site.converter()).unwrap_err();
    assert!(matches!(&refused, ConvertError::Abandoned { tries: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("a mistake in the converter"), "{refused}");
    assert!(refused.to_string().contains("bedplate image import --retry"), "{refused}");
    site.converter().allow_again(&IMAGE).unwrap();
    site.convert(&site.converter()).unwrap();
}

/// What is on disk while a try is under way is what a server finds that was killed in
/// the midst of it.
#[test]
fn a_try_is_counted_before_it_begins() {
    let site = Site::new();
    let record = |site: &Site| {
        let mut files = fs::read_dir(site.directory.path().join("conversions")).unwrap();
        files.next().map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
    };
    let mut seen = None;
    let _ = hanging(&site, |pid| {
        seen = record(&site);
        kill(pid);
    });
    expect![[r#"{"converter":1,"tries":1,"reason":"the server ended while it was converted"}"#]]
        .assert_eq(&seen.unwrap());
    assert_eq!(record(&site), None, "it ended for another reason");
}

#[test]
fn a_substrate_program_that_is_too_large_is_refused_and_not_cut() {
    let site = Site::new();
    let options = options(site.directory.path());
    let program = fs::File::options().write(true).open(&options.substrate).unwrap();
    program.set_len((128 << 20) + 1).unwrap();
    let converter = site.converter();
    let refused =
        converter.image(&site.store, &IMAGE, &site.layers, &options, &NoProgress).unwrap_err();
    let ConvertError::Start(source) = &refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains("more than 128 MiB"), "{source}");
    // It is not the image's doing.
    site.convert(&converter).unwrap();
}

#[test]
fn what_no_converter_says_is_not_believed() {
    let site = Site::new();
    let ended = site.probe("talk nonsense").unwrap_err();
    assert!(ended.to_string().contains("it says what no converter says"), "{ended}");
    assert_eq!(site.partial(), 0);
}

#[test]
fn work_that_is_cancelled_leaves_no_process() {
    struct Cancelled(Mutex<bool>);
    impl Progress for Cancelled {
        fn advance(&self, _: &str, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            *self.0.lock().unwrap()
        }
    }
    let site = Site::new();
    let progress = Cancelled(Mutex::new(false));
    let converter = site.converter().with_probe("hang");
    thread::scope(|scope| {
        let work = || converter.job_root(&site.store, &IMAGE, &site.layers, &progress);
        let converting = scope.spawn(work);
        let pid = child();
        *progress.0.lock().unwrap() = true;
        let ended = converting.join().unwrap();
        assert!(matches!(ended, Err(ConvertError::Cancelled)), "{ended:?}");
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "it was waited for");
    });
    assert_eq!(site.partial(), 0);
    site.convert(&site.converter()).unwrap();
}

#[test]
fn a_layer_that_is_not_the_one_of_the_configuration_is_refused() {
    let site = Site::new();
    let other = Layer { diff_id: Some(Digest([9; 32])), ..site.layers[0].clone() };
    let layers = [site.layers[0].clone(), other];
    let refused = site.converter().job_root(&site.store, &IMAGE, &layers, &NoProgress).unwrap_err();
    let (digest, tar, said) = (layers[0].digest, layers[0].diff_id.unwrap(), Digest([9; 32]));
    assert_eq!(
        refused.to_string(),
        format!(
            "layer 1 ({digest}) unpacks to {tar}, and the image's configuration says {said}; the image is damaged \
             or was tampered with: push it again"
        )
    );
    let without = [Layer { diff_id: None, ..layers[1].clone() }];
    site.converter().job_root(&site.store, &IMAGE, &without, &NoProgress).unwrap();
}

/// What is started is the file that was opened, whatever is in its place now.
#[test]
fn an_upgrade_on_disk_does_not_change_the_converter() {
    let site = Site::new();
    let program = site.directory.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_image-converter"), &program).unwrap();
    let tries = site.directory.path().join("conversions");
    let converter = Converter::of_program(&program, Vec::new(), tries).unwrap();
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/false").unwrap();
    site.convert(&converter).unwrap();
}
