//! Columns: paths such as `topology.cpu_model` or `gpus.model`, and their values.

use serde_json::Value;

use super::{Diagnostic, Facts, fields};

/// Columns in one question.
const MAX_COLUMNS: usize = 64;

/// Paths into a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns(Vec<Vec<String>>);

impl Columns {
    /// Reads `name,topology.cpu_model`; `-` is as good as `_`.
    pub(crate) fn parse(text: &str) -> Result<Self, Diagnostic> {
        let diagnostic = |at: usize, message: String| Diagnostic {
            line: 1,
            column: u32::try_from(at + 1).unwrap_or(u32::MAX),
            message,
        };
        let count = text.split(',').count();
        if count > MAX_COLUMNS {
            return Err(diagnostic(
                0,
                format!("{count} columns; at most {MAX_COLUMNS} can be asked for"),
            ));
        }
        let mut columns = Vec::with_capacity(count);
        let mut at = 0;
        for written in text.split(',') {
            let path = path(written.trim());
            let checked = if path.first().is_some_and(|first| first == fields::LABELS) {
                1
            } else {
                path.len()
            };
            for (depth, part) in path.iter().take(checked).enumerate() {
                let is_known =
                    if depth == 0 { fields::is_top(part) } else { fields::is_known(part) };
                if !is_known {
                    return Err(diagnostic(at, fields::unknown(part, depth > 0)));
                }
            }
            columns.push(path);
            at += written.chars().count() + 1;
        }
        Ok(Self(columns))
    }

    /// The value of each column, `null` where a node does not tell it. A path through a list gives
    /// the values of all its elements.
    pub(crate) fn of(&self, facts: &Facts) -> Vec<Value> {
        let value = |path: &Vec<String>| {
            let (first, rest) = path.split_first()?;
            facts.0.get(first).and_then(|value| walk(value, rest))
        };
        self.0.iter().map(|path| value(path).unwrap_or(Value::Null)).collect()
    }
}

/// The key of a label is one part, dots, hyphens and all.
fn path(written: &str) -> Vec<String> {
    match written.split_once('.') {
        Some((first, key)) if first == fields::LABELS => vec![first.to_owned(), key.to_owned()],
        _ => written.split('.').map(|part| part.replace('-', "_")).collect(),
    }
}

fn walk(value: &Value, path: &[String]) -> Option<Value> {
    let Some((field, rest)) = path.split_first() else { return Some(value.clone()) };
    match value {
        Value::Object(map) => walk(map.get(field)?, rest),
        Value::Array(values) => Some(values.iter().filter_map(|value| walk(value, path)).collect()),
        _ => None,
    }
}
