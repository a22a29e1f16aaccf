//! Sizes and openings of source files.
//!
//! `xtask/ratchet.toml` lists files and functions that are over the limit, with the size that
//! they may have. An entry may only shrink: a size below it is a finding too, so that the file
//! keeps up with the code.

use std::collections::BTreeMap;

use anyhow::Context;

/// Lines of a file without its tests: what a reader keeps in mind.
const MAX_FILE_LINES: usize = 500;

/// Lines of a function from signature to closing brace: one screen.
const MAX_FUNCTION_LINES: usize = 70;

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["substrate/linux/", "image-store/src/mapped.rs", "harness/drop-writes/"];

const RATCHET: &str = "xtask/ratchet.toml";

/// Everything that is wrong with a source file.
pub(super) fn findings(files: &[String]) -> anyhow::Result<Vec<String>> {
    let ratchet: BTreeMap<String, usize> =
        toml::from_str(&std::fs::read_to_string(RATCHET)?).context(RATCHET)?;
    let mut sizes = BTreeMap::new();
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| path.ends_with(".rs")) {
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        if !text.starts_with("//!") {
            findings.push(format!("{path}:1: does not open with //!"));
        }
        if is_test(path) {
            continue;
        }
        let lines: Vec<&str> = without_tests(&text);
        if lines.len() > MAX_FILE_LINES {
            sizes.insert(path.clone(), lines.len());
        }
        for (name, start, length) in functions(&lines) {
            if length > MAX_FUNCTION_LINES {
                sizes.insert(format!("{path}:{name}"), length);
                if !ratchet.contains_key(&format!("{path}:{name}")) {
                    findings.push(format!(
                        "{path}:{start}: {name} has {length} lines, the limit is {MAX_FUNCTION_LINES}"
                    ));
                }
            }
        }
        findings.extend(unsafe_code(path, &lines));
    }
    for (subject, size) in &sizes {
        match ratchet.get(subject) {
            None if !subject.contains(".rs:") => {
                findings.push(format!(
                    "{subject}:1: has {size} lines without tests, the limit is {MAX_FILE_LINES}"
                ));
            }
            Some(allowed) if size > allowed => {
                findings.push(format!("{subject}: has {size} lines, the ratchet allows {allowed}"));
            }
            _ => {}
        }
    }
    for (subject, allowed) in &ratchet {
        let size = sizes.get(subject).copied().unwrap_or(0);
        if size < *allowed {
            findings.push(format!(
                "{RATCHET}: {subject} is down to {size} lines: lower or remove its entry of {allowed}"
            ));
        }
    }
    findings.extend(unequal_copies()?);
    Ok(findings)
}

pub(super) fn is_test(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "tests" | "benches" | "tests.rs" | "conformance.rs"))
}

/// The lines before the first test module of the file. What else is compiled for
/// tests alone counts.
pub(super) fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let is_module = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].split_whitespace().any(|word| word == "mod")
    };
    let end = lines.windows(2).position(is_module).unwrap_or(lines.len());
    lines[..end].to_vec()
}

/// Name, first line (from 1) and length of every function, told by indentation: rustfmt
/// has been over it.
fn functions(lines: &[&str]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|&word| word == "fn") else { continue };
        let prefix =
            ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
        if !words[..at].iter().all(|word| prefix.contains(word)) {
            continue;
        }
        let name =
            words.get(at + 1).map_or("", |word| word.split(['(', '<']).next().unwrap_or_default());
        let close = format!("{}}}", " ".repeat(indent));
        if line.trim_end().ends_with(['}', ';']) {
            continue;
        }
        let end = lines[start..].iter().position(|line| *line == close).unwrap_or(0);
        // In a trait, over several lines and without a body.
        let declared = format!("{})", " ".repeat(indent));
        let is_end = |line: &&str| line.starts_with(&declared) && line.ends_with(';');
        if lines[start..start + end].iter().any(is_end) {
            continue;
        }
        found.push((name.to_owned(), start + 1, end + 1));
    }
    found
}

fn unsafe_code(path: &str, lines: &[&str]) -> Vec<String> {
    if UNSAFE.iter().any(|place| path.starts_with(place)) || path.starts_with("xtask/src/tidy/") {
        return Vec::new();
    }
    let is_unsafe = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")
    };
    lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_unsafe(line))
        .map(|(index, _)| format!("{path}:{}: unsafe belongs in substrate/linux", index + 1))
        .collect()
}

/// Clippy reads the nearest clippy.toml and merges nothing, so ring 0 carries copies.
fn unequal_copies() -> anyhow::Result<Vec<String>> {
    let [first, second] = ["api/clippy.toml", "provisioner/boot-proto/clippy.toml"];
    let equal = std::fs::read(first).context(first)? == std::fs::read(second).context(second)?;
    Ok(if equal {
        Vec::new()
    } else {
        vec![format!("{first}: differs from {second}: ring 0 has one set of bans")]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        let text = "fn short() {}\n\npub(crate) async fn long(\n    a: u8,\n) -> u8 {\n    a\n}\n\nimpl X {\n    fn m(&self) {\n        1;\n    }\n}\n";
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(functions(&lines), [("long".to_owned(), 3, 5), ("m".to_owned(), 10, 3)]);
    }

    #[test]
    fn unsafe_outside_its_places_is_found() {
        assert_eq!(unsafe_code("fleet/src/lib.rs", &["x", "    unsafe { f() }"]).len(), 1);
        assert!(unsafe_code("substrate/linux/src/lib.rs", &["unsafe { f() }"]).is_empty());
        assert!(unsafe_code("fleet/src/lib.rs", &["// unsafe { f() }"]).is_empty());
    }
}
