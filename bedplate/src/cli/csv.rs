//! CSV as RFC 4180 has it: a header, a record for each row, lines that end with CR LF.
//!
//! A column is a path through the JSON of a row, such as `status.phase`, so that CSV, JSON and YAML
//! name and write everything alike: texts as they are, lists and objects as JSON, nothing for what
//! is absent. A value is never changed, also not one that a spreadsheet would take for a formula.

use serde_json::Value;

/// The line of names.
pub(super) fn header(columns: &[&str]) -> String {
    record(columns.iter().map(|column| quoted(column)))
}

/// The record of a row, given the columns.
pub(super) fn line(columns: &[&str], row: &Value) -> String {
    record(columns.iter().map(|column| field(at(row, column))))
}

/// A record of fields that are quoted where they need it.
pub(super) fn record(fields: impl Iterator<Item = String>) -> String {
    let text = fields.collect::<Vec<_>>().join(",");
    // A reader would skip an empty line, and with it the row of one empty field.
    let text = if text.is_empty() { "\"\"" } else { &text };
    format!("{text}\r\n")
}

/// A value as a field.
pub(super) fn field(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => quoted(text),
        Some(other) => quoted(&other.to_string()),
    }
}

fn at<'a>(row: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(row, |value, key| value.get(key))
}

/// Quotes around what would be read as something else without them.
pub(super) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_is_a_path_through_the_row() {
        let row =
            json!({"name": "n1", "status": {"phase": "ready", "reason": null}, "list": ["a", 1]});
        let columns =
            ["name", "status.phase", "status.reason", "status.none.deep", "name.none", "list"];
        assert_eq!(header(&columns[..2]), "name,status.phase\r\n");
        assert_eq!(line(&columns, &row), "n1,ready,,,,\"[\"\"a\"\",1]\"\r\n");
    }

    #[test]
    fn what_needs_quotes_gets_them_and_nothing_is_changed() {
        let cases = [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("\r", "\"\r\""),
            ("=1+1", "=1+1"),
            (" spaces ", " spaces "),
            ("ümläut", "ümläut"),
        ];
        for (text, field) in cases {
            assert_eq!(quoted(text), field);
        }
        assert_eq!(line(&["a"], &json!({})), "\"\"\r\n", "no empty line");
        assert_eq!(line(&["a", "b"], &json!({})), ",\r\n");
    }
}
