//! The page `docs/reference/oci-cases.md`: written by the test below, and held against
//! checks and cases.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use super::{
    PASSED,
    cases::{
        SUITES,
        Verdict::{Check, No, Unit},
    },
    table::checks,
};

/// What was looked at.
const HEAD: &str = "# Cases of the public OCI runtime suites

Looked at: `validation/` of opencontainers/runtime-tools at commit `5e639034dcdc` (4 December 2025), and `tests/contest` of
youki-dev/youki at commit `bc78720681ad` (21 August 2026).

Jobs are started from `container.json` by a program of our own ([decision 0005](../decisions/0005-containers-in-process.md)), not from an OCI
bundle, and there is no command line of runc's. So the suites themselves cannot run here. Each of their cases was read for the property that it
asks for. Where that means something for a job, a check of our own asks for it (`vm-tests/guest/src/conformance`), made in the vm lane and by
`target/debug/vm-tests conformance` with the substrate of the nodes. A check that passes must also fail wherever something is otherwise: in another
container, in a test build without one defence, or outside of any.

Written by the test of `vm-tests/guest/src/conformance/page.rs` (`UPDATE_EXPECT=1`), which holds it against the code; the vm lane holds the results against
what it finds.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let _ = write!(page, "\n## Checks\n\n| check | result |\n|---|---|\n");
    for check in checks() {
        let _ = writeln!(page, "| {} | {PASSED} |", check.name);
    }
    for (title, cases) in SUITES {
        let apply = cases.iter().filter(|(_, verdict)| !matches!(verdict, No(_))).count();
        let _ = write!(page, "\n## {title}\n\n{} rows, {apply} apply.\n", cases.len());
        page.push_str("\n| case | applies | result, or why not |\n|---|---|---|\n");
        for (name, verdict) in cases {
            let (applies, words) = match verdict {
                Check(names) => ("yes", format!("{PASSED}: {}", names.join("; "))),
                Unit(_, test) => ("yes", format!("{PASSED}: test `{test}` (unit lane)")),
                No(why) => ("no", (*why).to_owned()),
            };
            let _ = writeln!(page, "| {name} | {applies} | {words} |");
        }
    }
    page
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_page_of_cases_is_true() {
    let path = workspace().join("docs/reference/oci-cases.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), page(), "UPDATE_EXPECT=1 writes it");
}

#[test]
fn every_check_stands_for_a_case_and_every_case_for_what_is_there() {
    let verdicts = || SUITES.into_iter().flat_map(|(_, cases)| cases).map(|(_, verdict)| verdict);
    let named: BTreeSet<&str> = verdicts()
        .filter_map(|verdict| if let Check(names) = verdict { Some(*names) } else { None })
        .flatten()
        .copied()
        .collect();
    let made: BTreeSet<&str> = checks().map(|check| check.name).collect();
    assert_eq!(made.len(), checks().count(), "a name is there twice");
    assert_eq!(named, made);
    for verdict in verdicts() {
        if let Unit(file, test) = verdict {
            let text = fs::read_to_string(workspace().join(file)).unwrap();
            assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
        }
    }
    for (title, cases) in SUITES {
        let names: BTreeSet<&str> = cases.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), cases.len(), "{title} has a case twice");
    }
}

#[test]
fn every_check_can_fail() {
    let blind: Vec<&str> =
        checks().filter(|check| check.otherwise.is_empty()).map(|check| check.name).collect();
    assert_eq!(blind, [""; 0]);
}
