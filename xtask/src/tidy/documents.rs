//! Paths that the documents name must exist, and tests of files too (`FILE.rs::NAME`): four of nine
//! admired projects rot here.

use std::path::Path;

use anyhow::Context;

/// First parts of a path that make a back-ticked word a path of this repository.
const TOPS: &[&str] = &[
    "api",
    "access",
    "fleet",
    "hardware",
    "metrics",
    "provisioner",
    "substrate",
    "bedplate",
    "bench",
    "overlays",
    "ipxe",
    "image-catalog",
    "image-store",
    "images",
    "sim-cluster",
    "vm-tests",
    "controller",
    "database",
    "rest",
    "harness",
    "packaging",
    "xtask",
    "docs",
    ".ci",
];

/// Every dead path.
pub(super) fn findings(files: &[String]) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| path.ends_with(".md")) {
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        let directory = Path::new(path).parent().unwrap_or(Path::new(""));
        for (number, line) in text.lines().enumerate() {
            for dead in dead_paths(line, directory) {
                findings.push(format!("{path}:{}: {dead} does not exist", number + 1));
            }
        }
    }
    Ok(findings)
}

fn dead_paths(line: &str, directory: &Path) -> Vec<String> {
    let ticked = line.split('`').skip(1).step_by(2).filter(|word| is_path(word));
    let ticked = ticked.filter(|word| !Path::new(word).exists());
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let linked = linked
        .filter(|link| !link.is_empty() && !link.contains("://") && !directory.join(link).exists());
    let named = line.split('`').skip(1).step_by(2).filter(|word| is_test(word) && !has_test(word));
    ticked.chain(linked).chain(named).map(str::to_owned).collect()
}

/// `FILE.rs::NAME`, a function of a file of this repository.
fn is_test(word: &str) -> bool {
    word.split_once("::").is_some_and(|(file, _)| file.ends_with(".rs") && is_path(file))
}

fn has_test(word: &str) -> bool {
    let Some((file, name)) = word.split_once("::") else { return false };
    std::fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}(")))
}

fn is_path(word: &str) -> bool {
    let plain = word.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-".contains(&c));
    plain && word.contains('/') && word.split('/').next().is_some_and(|top| TOPS.contains(&top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_repository_count() {
        let here = Path::new("");
        assert_eq!(dead_paths("see `docs/nowhere.md` and `a/b`", here), ["docs/nowhere.md"]);
        assert_eq!(dead_paths("[x](nowhere.md) [y](https://example.org/z)", here), ["nowhere.md"]);
        let gone =
            "`xtask/Cargo.toml::a`, `xtask/src/main.rs::of_nobody`, `xtask/src/gone.rs::main`";
        assert_eq!(
            dead_paths(gone, here),
            ["xtask/src/main.rs::of_nobody", "xtask/src/gone.rs::main"]
        );
        assert!(dead_paths("`GET /v1/nodes/{name}`, `fleet::serve`", here).is_empty());
    }
}
