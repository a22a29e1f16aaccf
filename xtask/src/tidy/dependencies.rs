//! Dependencies that a manifest declares and no source names: each is built and checked for
//! nothing, and tells a reader of its crate what is not so. Also those of the workspace that no
//! manifest takes.
//!
//! A crate counts as named where its name stands before `::`, or alone in a `use`. A module of the
//! same name can hide that a crate is unused; nothing that is used is found.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use serde_json::Value;

use super::sources::without_tests;
use crate::run::output;

/// Crate, what it declares without naming it, and why: what is there for its features alone.
const UNNAMED: &[(&str, &str, &str)] = &[];

/// Every dependency that is not used, or by tests alone and not declared as such.
pub(super) fn findings(files: &[String]) -> anyhow::Result<Vec<String>> {
    let metadata = output("cargo", &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_slice(&metadata)?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no root")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let manifests: Vec<&str> =
        files.iter().filter_map(|path| path.strip_suffix("Cargo.toml")).collect();
    let mut findings = Vec::new();
    let mut declared_anywhere = BTreeSet::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let manifest = package["manifest_path"].as_str().context("a package without a manifest")?;
        let manifest =
            Path::new(manifest).strip_prefix(root)?.to_str().context("a path that is not UTF-8")?;
        let directory =
            manifest.strip_suffix("Cargo.toml").context("a manifest of another name")?;
        let declared: Vec<Declared> = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|dependency| {
                Some(Declared {
                    name: dependency["name"].as_str()?,
                    kind: dependency["kind"].as_str(),
                })
            })
            .collect();
        declared_anywhere.extend(declared.iter().map(|declared| declared.name));
        let mut sources = Sources::default();
        let own = files
            .iter()
            .filter(|path| path.ends_with(".rs") && owner(path, &manifests) == Some(directory));
        for path in own {
            let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
            sources.add(&path[directory.len()..], &text);
        }
        let unused = sources.unused(name, &declared, UNNAMED);
        findings.extend(unused.into_iter().map(|unused| format!("{manifest}: {unused}")));
    }
    let text = std::fs::read_to_string("Cargo.toml").context("Cargo.toml")?;
    let workspace: toml::Table = toml::from_str(&text).context("Cargo.toml")?;
    let members: BTreeSet<&str> =
        packages.iter().filter_map(|package| package["name"].as_str()).collect();
    for name in
        workspace["workspace"]["dependencies"].as_table().into_iter().flat_map(toml::Table::keys)
    {
        if !declared_anywhere.contains(name.as_str()) && !members.contains(name.as_str()) {
            findings.push(format!("Cargo.toml: no crate takes {name}"));
        }
    }
    Ok(findings)
}

/// The directory of the crate that a file is of: the deepest that has a manifest.
fn owner<'a>(path: &str, directories: &[&'a str]) -> Option<&'a str> {
    directories
        .iter()
        .copied()
        .filter(|directory| path.starts_with(directory))
        .max_by_key(|directory| directory.len())
}

/// A dependency of a manifest. `kind`: `dev`, `build`, or none as of most.
#[derive(Clone, Copy)]
struct Declared<'a> {
    name: &'a str,
    kind: Option<&'a str>,
}

/// The code of a crate without its comments.
#[derive(Default)]
struct Sources {
    shipped: String,
    tests: String,
    build: String,
}

impl Sources {
    /// `path`: within the crate.
    fn add(&mut self, path: &str, text: &str) {
        if path == "build.rs" {
            return add_code(&mut self.build, text.lines());
        }
        let shipped = if is_test(path) { 0 } else { without_tests(text).len() };
        add_code(&mut self.shipped, text.lines().take(shipped));
        add_code(&mut self.tests, text.lines().skip(shipped));
    }

    /// What is wrong with the dependencies of a crate.
    fn unused(
        &self,
        of: &str,
        declared: &[Declared],
        unnamed: &[(&str, &str, &str)],
    ) -> Vec<String> {
        let mut findings = Vec::new();
        for Declared { name, kind } in declared {
            let is_excepted = unnamed.iter().any(|(user, used, _)| *user == of && used == name);
            let in_tests = is_named(name, &self.tests);
            let is_used = match *kind {
                Some("build") => is_named(name, &self.build),
                Some("dev") => in_tests || is_named(name, &self.shipped),
                _ => is_named(name, &self.shipped),
            };
            match (is_used, is_excepted) {
                (true, true) => findings.push(format!("{name} is named: remove its exception")),
                (false, false) if in_tests => {
                    findings.push(format!(
                        "{name} is used by tests alone: move it to [dev-dependencies]"
                    ));
                }
                (false, false) => findings.push(format!("{name} is declared, and nothing uses it")),
                _ => {}
            }
        }
        findings
    }
}

fn add_code<'a>(code: &mut String, lines: impl Iterator<Item = &'a str>) {
    for line in lines {
        *code += line.split("//").next().unwrap_or_default();
        code.push('\n');
    }
}

/// Whether a file of a crate holds tests and nothing else.
fn is_test(path: &str) -> bool {
    let is_of_tests = |part| matches!(part, "tests" | "tests.rs" | "conformance.rs");
    path.starts_with("benches/") || path.split('/').any(is_of_tests)
}

/// Whether code names a crate.
fn is_named(package: &str, code: &str) -> bool {
    let name = package.replace('-', "_");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        if before.ends_with(|c| is_word(c) || c == ':') || after.starts_with(is_word) {
            return false;
        }
        let is_alone = after.starts_with(';') || after.starts_with(" as ");
        let is_used = before.ends_with("use ") || before.ends_with("extern crate ");
        after.starts_with("::") || (is_alone && is_used)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_by_a_path_or_a_use() {
        let named = [
            "use tower_http::fs;",
            "tower_http::x()",
            "use tower_http;",
            "pub use tower_http as y;",
        ];
        assert!(named.iter().all(|code| is_named("tower-http", code)));
        let others = [
            "std::tower_http::x()",
            "my_tower_http::x()",
            "tower_http2::x()",
            "let tower_http = 1;",
        ];
        assert!(!others.iter().any(|code| is_named("tower-http", code)));
    }

    #[test]
    fn what_nothing_names_is_found() {
        let mut sources = Sources::default();
        sources.add(
            "src/lib.rs",
            "use one::A; // three::B\n#[cfg(test)]\nmod tests { use two::B; }\n",
        );
        sources.add("src/tests/more.rs", "use four::C;\n");
        sources.add("build.rs", "five::build();\n");
        let declared = |name, kind| Declared { name, kind };
        let all = [
            declared("one", None),
            declared("two", None),
            declared("three", None),
            declared("four", Some("dev")),
            declared("one", Some("dev")),
            declared("five", Some("build")),
            declared("five", Some("dev")),
            declared("six", None),
        ];
        let unnamed = [("crate", "six", "its features"), ("crate", "four", "its features")];
        assert_eq!(
            sources.unused("other", &all[7..], &unnamed),
            ["six is declared, and nothing uses it"]
        );
        assert_eq!(
            sources.unused("crate", &all, &unnamed),
            [
                "two is used by tests alone: move it to [dev-dependencies]",
                "three is declared, and nothing uses it",
                "four is named: remove its exception",
                "five is declared, and nothing uses it",
            ]
        );
    }

    #[test]
    fn a_file_is_of_the_deepest_crate() {
        let directories = ["api/", "api/client/", "xtask/"];
        assert_eq!(owner("api/client/src/lib.rs", &directories), Some("api/client/"));
        assert_eq!(owner("api/src/lib.rs", &directories), Some("api/"));
        assert_eq!(owner("docs/x.rs", &directories), None);
    }
}
