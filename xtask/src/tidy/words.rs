//! Names and phrases that `xtask/renames.toml` has removed stay removed: entries with
//! `banned = true`, as soon as their group is applied. Ordinary English is not looked at.

use anyhow::Context as _;

use crate::rename::{
    case::has_part,
    lexer::{Kind, code, line_of},
    plan::{is_in, is_left},
    table::{self, Group, Table, matches_any},
    text::replace_in_file,
};

/// Every banned name and phrase.
pub(super) fn findings(files: &[String]) -> anyhow::Result<Vec<String>> {
    let table = Table::parse(&std::fs::read_to_string(table::PATH).context(table::PATH)?)?;
    let mut findings = Vec::new();
    let is_applied = |group: &&Group| table.applied.contains(&group.name);
    let groups: Vec<&Group> = table.group.iter().filter(is_applied).collect();
    if groups.is_empty() {
        return Ok(findings);
    }
    let read = |path: &&String| (path.ends_with(".rs") || path.ends_with(".md")) && !is_left(path);
    for path in files.iter().filter(read) {
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        for group in &groups {
            findings.extend(of_file(group, path, &text));
        }
    }
    Ok(findings)
}

/// What one file has of the words that a group has removed.
fn of_file(group: &Group, path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    if path.ends_with(".rs") {
        names(group, path, text, &mut findings);
    }
    for phrase in group.texts.iter().filter(|phrase| phrase.banned && is_in(phrase, group, path)) {
        let found = replace_in_file(path, text, &phrase.from, &phrase.to).hits;
        if found > 0 {
            findings
                .push(format!("{path}: {:?} is {:?} here ({found} times)", phrase.from, phrase.to));
        }
    }
    findings
}

fn names(group: &Group, path: &str, text: &str, findings: &mut Vec<String>) {
    let scope = |within: &[String], except: &[String]| {
        let is_within = matches_any(if within.is_empty() { &group.paths } else { within }, path);
        is_within && !matches_any(except, path)
    };
    let identifiers: Vec<_> = group
        .identifiers
        .iter()
        .filter(|entry| entry.banned && scope(&entry.within, &entry.except))
        .collect();
    let words: Vec<_> = group
        .words
        .iter()
        .filter(|word| word.banned && scope(&word.within, &word.without))
        .collect();
    if identifiers.is_empty() && words.is_empty() {
        return;
    }
    let tokens = code(text);
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Identifier)
    {
        // `schema(as = Mistake)`: the name in the API's description, which stays.
        if at >= 2 && tokens[at - 1].text == "=" && tokens[at - 2].text == "as" {
            continue;
        }
        let by_name =
            identifiers.iter().find(|entry| entry.from == token.text).map(|entry| &entry.to);
        let by_word = words.iter().find(|word| {
            has_part(token.text, &word.from) && !word.except.iter().any(|name| name == token.text)
        });
        if let Some(to) = by_name.or(by_word.map(|word| &word.to)) {
            let line = line_of(text, token.at);
            findings.push(format!(
                "{path}:{line}: {} is no name here: say {to} (docs/glossary.md)",
                token.text
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let table = r#"
[[group]]
name = "g"
paths = ["a/**"]
identifiers = [{ from = "Flow", to = "WorkflowState", banned = true }, { from = "Life", to = "NodeState" }]
words = [{ from = "folder", to = "directory", except = ["folder_of_libc"], banned = true }]
texts = [
    { from = "hardware address", to = "MAC address", banned = true },
    { from = "stand still", to = "pause" },
]
"#;
        of_file(&Table::parse(table).unwrap().group[0], path, text)
    }

    #[test]
    fn banned_names_are_found_in_code_alone() {
        let text = "struct Flow;\nfn run_folder() { folder_of_libc(\"Flow\") } // Flow, folder\nstruct Life;\n";
        assert_eq!(
            found("a/b.rs", text),
            [
                "a/b.rs:1: Flow is no name here: say WorkflowState (docs/glossary.md)",
                "a/b.rs:2: run_folder is no name here: say directory (docs/glossary.md)"
            ]
        );
        assert!(found("c/d.rs", text).is_empty());
        assert!(found("a/b.rs", "#[schema(as = Flow)] struct WorkflowState;").is_empty());
    }

    #[test]
    fn banned_phrases_are_found_in_prose_and_others_are_not() {
        let wanted = "a/b.md: \"hardware address\" is \"MAC address\" here (2 times)";
        assert_eq!(
            found("a/b.md", "A hardware address\nand hardware\naddress stand still"),
            [wanted]
        );
        assert!(found("a/b.md", "`hardware address`").is_empty());
    }
}
