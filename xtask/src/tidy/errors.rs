//! Errors that are text: nobody can tell them apart, and they forget what caused them.

use anyhow::Context;

use super::sources::{is_test, without_tests};

/// Every function and every parser outside of tests whose error is a `String`.
pub(super) fn findings(files: &[String]) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| path.ends_with(".rs") && !is_test(path)) {
        // The words of this check itself.
        if path.starts_with("xtask/src/tidy/") {
            continue;
        }
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        let lines = string_errors(&without_tests(&text));
        let finding =
            |line| format!("{path}:{line}: an error that is a String; give it a type (thiserror)");
        findings.extend(lines.into_iter().map(finding));
    }
    Ok(findings)
}

/// Lines, from 1, at which an error is a `String`.
fn string_errors(lines: &[&str]) -> Vec<usize> {
    let code: Vec<&str> =
        lines.iter().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let results = code.match_indices("Result<").filter_map(|(at, word)| {
        (second_argument(&code[at + word.len()..]) == Some("String")).then_some(at)
    });
    let associated = ["type Err = String;", "type Error = String;"];
    let associated = associated.iter().flat_map(|text| code.match_indices(text).map(|(at, _)| at));
    let mut found: Vec<usize> =
        results.chain(associated).map(|at| code[..at].matches('\n').count() + 1).collect();
    found.sort_unstable();
    found
}

/// `B` of `A, B>…`, whatever nests in the two.
fn second_argument(arguments: &str) -> Option<&str> {
    let (mut depth, mut comma, mut before) = (0_usize, None, ' ');
    for (at, character) in arguments.char_indices() {
        match character {
            '<' | '(' | '[' => depth += 1,
            // The arrow of a function's type.
            '>' if before == '-' => {}
            '>' | ')' | ']' if depth == 0 => {
                let second = comma.map(|comma: usize| &arguments[comma + 1..at]);
                return second.map(|second| second.trim().trim_end_matches(','));
            }
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => comma = comma.or(Some(at)),
            _ => {}
        }
        before = character;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_are_text_are_found_however_they_are_written() {
        // `TEXT` stands for the type that is looked for: these lines are no functions
        // with such errors.
        let found = |text: &str| {
            let text = text.replace("TEXT", "String");
            string_errors(&text.lines().collect::<Vec<_>>())
        };
        assert_eq!(found("x\nfn f() -> Result<(), TEXT> {"), [2]);
        assert_eq!(found("fn f() -> anyhow::Result<Result<(u8, [u8; 4]), TEXT>> {"), [1]);
        assert_eq!(found("let x: Result<\n    Map<A, Vec<B>>,\n    TEXT,\n> = y;"), [1]);
        assert_eq!(found("    type Err = String;"), [1]);
        for good in [
            "fn f() -> Result<String, Error>",
            "fn f() -> anyhow::Result<Map<TEXT, TEXT>>",
            "fn f() -> Result<Box<dyn Fn(u8) -> String>, E>",
            "fn f() -> fmt::Result",
            "// Result<(), TEXT>",
            "map.collect::<Result<Vec<_>, _>>()",
        ] {
            assert_eq!(found(good), [0_usize; 0], "{good}");
        }
    }
}
