//! What cannot be read of overlays, and that it is nobody else's error.

use std::os::unix::{ffi::OsStrExt as _, fs::symlink};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;

use super::*;
use crate::overlay::{renderer::Renderer, variables::Variables};

/// A shipped overlay and one of the site, both good.
struct Directories {
    shipped: TempDir,
    site: TempDir,
}

impl Directories {
    fn new() -> Self {
        let directories =
            Self { shipped: tempfile::tempdir().unwrap(), site: tempfile::tempdir().unwrap() };
        write(&directories.shipped.path().join("hosts/rootfs/etc/hosts"), b"shipped");
        write(&directories.site.path().join("good/rootfs/etc/good"), b"good");
        directories
    }

    fn load(&self) -> Library {
        Library::load(self.shipped.path(), self.site.path())
    }
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Makes an overlay `bad` of the site, of which something cannot be read.
type Damage = fn(&Path);

const DAMAGES: [(&str, Damage); 8] = [
    ("it is larger than 16 MiB", |root| {
        fs::File::create(root.join("large")).unwrap().set_len(MAX_FILE_BYTES as u64 + 1).unwrap();
    }),
    ("it is no file, directory or symbolic link", |root| {
        mkfifo(&root.join("pipe"), Mode::S_IRUSR).unwrap();
    }),
    ("its name is not UTF-8", |root| {
        write(&root.join(std::ffi::OsStr::from_bytes(b"\xff")), b"");
    }),
    ("a template must be UTF-8", |root| write(&root.join("x.j2"), b"\xff")),
    ("it has an empty part, or a part . or ..", |root| write(&root.join("a/.j2"), b"")),
    ("the target of the link is longer than 100 bytes", |root| {
        symlink("x".repeat(101), root.join("link")).unwrap();
    }),
    ("it is longer than 255 bytes", |root| {
        write(&root.join("a".repeat(200)).join("b".repeat(100)), b"");
    }),
    ("the overlay has more than 256 MiB", |root| {
        for number in 0..17 {
            fs::File::create(root.join(format!("f{number}"))).unwrap().set_len(16 << 20).unwrap();
        }
    }),
];

#[test]
fn what_cannot_be_read_is_its_overlays_error() {
    for (expected, damage) in DAMAGES {
        let directories = Directories::new();
        let root = directories.site.path().join("bad/rootfs");
        write(&root.join("etc/bad"), b"bad");
        damage(&root);
        let library = directories.load();
        let problems = library.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("overlay bad: ") && problems[0].contains(expected),
            "{problems:?}"
        );
        assert!(library.broken("bad").is_some() && library.unusable("bad").is_some());
        assert_eq!([library.unusable("good"), library.unusable("hosts")], [None, None]);
        let shown = &library.get("bad").unwrap().files;
        assert!(
            expected.contains("256") || shown.iter().any(|file| file.path() == "/etc/bad"),
            "{shown:?}"
        );
        assert!(!library.may_mend_itself(), "a rule is a rule until somebody edits");
    }
}

#[test]
fn a_pipe_for_a_readme_is_not_waited_for() {
    let directories = Directories::new();
    mkfifo(&directories.site.path().join("good/README.md"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    assert_eq!(directories.load().problems(), [""; 0]);
}

#[test]
fn a_link_that_leads_nowhere_does_not_bring_the_shipped_one_back() {
    let directories = Directories::new();
    symlink("/nonexistent/hosts", directories.site.path().join("hosts")).unwrap();
    let library = directories.load();
    assert_eq!(library.get("hosts").unwrap().source, Source::SiteOverShipped);
    assert!(library.broken("hosts").unwrap().contains("cannot read"), "{:?}", library.problems());
    assert!(library.may_mend_itself());
}

#[test]
fn without_the_sites_directory_nobody_knows_what_it_replaces() {
    let directories = Directories::new();
    let file = directories.site.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let library = Library::load(directories.shipped.path(), &file);
    let why = library.broken("hosts").unwrap();
    assert!(why.contains("may have one of this name"), "{why}");
    assert!(
        Library::load(directories.shipped.path(), Path::new("/nonexistent"))
            .broken("hosts")
            .is_none()
    );
    let library = Library::load(&file, directories.site.path());
    assert!(library.broken("hosts").unwrap().contains("cannot read"), "it may be shipped");
    assert_eq!(library.broken("good"), None);
}

#[test]
fn what_is_no_overlay_is_told() {
    let directories = Directories::new();
    write(&directories.site.path().join("My_Overlay/rootfs/x"), b"");
    write(&directories.site.path().join("notes.txt"), b"");
    write(&directories.site.path().join(".git/x"), b"");
    let problems = directories.load().problems();
    assert!(
        problems.len() == 1 && problems[0].contains("My_Overlay is no overlay"),
        "{problems:?}"
    );
}

#[test]
fn many_errors_of_one_overlay_are_few_lines() {
    let directories = Directories::new();
    for number in 0..100 {
        write(&directories.site.path().join(format!("bad/rootfs/{number}.j2")), b"\xff");
    }
    assert_eq!(directories.load().problems().len(), MAX_UNREADABLE);
}

#[test]
fn a_template_with_a_diagnostic_is_a_problem_and_named() {
    let directories = Directories::new();
    write(&directories.site.path().join("good/rootfs/x.j2"), b"{#- bedplate \nmode: 0600\n#}\n");
    let library = directories.load();
    let expected =
        "overlay good, /x.j2, line 3: the front matter ends with `#}`; it must end with `-#}`";
    assert_eq!(library.problems(), [expected]);
    assert_eq!(
        (library.broken("good"), unusable(&library, "good").as_deref()),
        (None, Some(expected))
    );
}

#[test]
fn a_rendering_says_the_same_as_a_look() {
    let directories = Directories::new();
    let site = directories.site.path();
    write(&site.join("mistake/rootfs/a.j2"), b"{{ fail('when rendered') }}");
    write(&site.join("mistake/rootfs/b.j2"), b"{% if %}");
    write(&site.join("unread/rootfs/x.j2"), b"\xff");
    write(&site.join("late/rootfs/x.j2"), b"{{ fail('when rendered') }}");
    let (library, renderer) = (directories.load(), Renderer::default());
    let variables = Variables::of_json(&serde_json::json!({}));
    for name in ["mistake", "unread", "none"] {
        let looked = unusable(&library, name).unwrap();
        // Whatever comes before it in the list.
        let rendered =
            renderer.entries(&library, &["late".to_owned(), name.to_owned()], &variables);
        assert_eq!(looked, rendered.unwrap_err().to_string());
    }
}

#[test]
fn a_remark_is_shown_and_keeps_no_node_from_its_files() {
    let directories = Directories::new();
    write(&directories.site.path().join("good/rootfs/x.j2"), b"{# path: /etc/x #}\n");
    let library = directories.load();
    let problems = library.problems();
    let expected = "overlay good, /x.j2, line 1: this comment has no effect";
    assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
    assert!(library.get("good").unwrap().problems()[0].starts_with("/x.j2, line 1: "));
    assert_eq!(unusable(&library, "good"), None);
}

fn unusable(library: &Library, name: &str) -> Option<String> {
    library.unusable(name).map(|error| error.to_string())
}

#[test]
fn a_mode_that_closes_a_file_to_the_server_is_told_with_the_way_to_have_it_on_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let (file, inner) = (directory.path().join("shadow"), directory.path().join("inner"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&inner).unwrap();
    let told = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let error = LibraryError::read(path, io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(error.may_pass(), "{error}");
        error.to_string()
    };
    let said = told(&file, 0o000);
    assert!(
        said.contains("mode 0000 closes it") && said.contains("`mode: 0000` in its front matter"),
        "{said}"
    );
    let said = told(&inner, 0o600);
    assert!(said.ends_with("mode 0600 closes it to its owner too: chmod u+rx it"), "{said}");
    assert!(told(&file, 0o600).contains("bedplate server adopt"));
}
