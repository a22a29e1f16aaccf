//! What a request changed, for its row of the audit log: in few words, and without what is secret.
//!
//! The difference of two documents is a JSON object: the path of each value that differs, with the
//! value before and after it: `{"admin":[false,true]}`. Values that a site may keep secrets in are
//! not repeated: that they changed is said, and not how.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::pending::{MAX_TEXT_CHARS, REQUEST, cut};

/// Keys whose values are never repeated: variables of templates, access to a machine's controller,
/// whatever is named as a secret.
const SECRET_KEYS: [&str; 8] =
    ["tags", "bmc", "password", "passphrase", "secret", "token", "private-key", "credentials"];

/// What stands for a value that is not repeated.
const HIDDEN: &str = "(not shown)";

/// Values that differ of which a row tells; the others are counted.
const MAX_VALUES: usize = 64;

/// Says what the request that runs is about to change: names, identifiers. Outside of a request it
/// does nothing.
pub fn record_object(object: &str) {
    let object = cut(object, MAX_TEXT_CHARS);
    // No request: the server's own work.
    let _ = REQUEST.try_with(|row| row.annotate(|told| told.object = object));
}

/// Says what the request that runs is about to change, and how: the documents before and after, of
/// which one may be missing. Several of one request are told one after the other.
pub fn record_change(
    object: &str,
    before: Option<&impl Serialize>,
    after: Option<&impl Serialize>,
) {
    if REQUEST.try_with(|_| ()).is_err() {
        return;
    }
    let difference = difference(&document(before), &document(after)).to_string();
    let _ = REQUEST.try_with(|row| {
        row.annotate(|told| {
            let joined = |old: &str, new: &str| match old {
                "" => new.to_owned(),
                old => format!("{old} {new}"),
            };
            told.object = cut(&joined(&told.object, object), MAX_TEXT_CHARS);
            told.difference = cut(&joined(&told.difference, &difference), 4 * MAX_TEXT_CHARS);
        });
    });
}

fn document(of: Option<&impl Serialize>) -> Value {
    // What has no JSON is told as nothing: the row says who and what all the same.
    of.map(|of| serde_json::to_value(of).unwrap_or(Value::Null)).unwrap_or_default()
}

/// The values that differ, by their paths.
fn difference(before: &Value, after: &Value) -> Value {
    let mut found = FieldChange::default();
    compare("", before, after, false, &mut found);
    if found.more > 0 {
        found.values.insert("…".to_owned(), json!(format!("{} more", found.more)));
    }
    Value::Object(found.values)
}

#[derive(Default)]
struct FieldChange {
    values: Map<String, Value>,
    more: usize,
}

fn compare(path: &str, before: &Value, after: &Value, is_secret: bool, found: &mut FieldChange) {
    if before == after {
        return;
    }
    let empty = Map::new();
    let members = match (before, after) {
        (Value::Object(before), Value::Object(after)) => Some((before, after)),
        (Value::Null, Value::Object(after)) => Some((&empty, after)),
        (Value::Object(before), Value::Null) => Some((before, &empty)),
        _ => None,
    };
    if let Some((before, after)) =
        members.filter(|(before, after)| !before.is_empty() || !after.is_empty())
    {
        let added = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(added) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let is_secret = is_secret || SECRET_KEYS.contains(&key.as_str());
            let member = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
            compare(&path, &member(before), &member(after), is_secret, found);
        }
        return;
    }
    if found.values.len() >= MAX_VALUES {
        found.more += 1;
        return;
    }
    let shown = |value: &Value| match (is_secret, value) {
        (_, Value::Null) | (false, _) => value.clone(),
        (true, _) => json!(HIDDEN),
    };
    found.values.insert(path.to_owned(), json!([shown(before), shown(after)]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: Value, after: Value) -> String {
        difference(&before, &after).to_string()
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = json!({ "name": "ann", "admin": false, "account": { "uid": 7, "gid": 8 } });
        let after = json!({ "name": "ann", "admin": true, "account": { "uid": 7, "gid": 9 }, "comment": "x" });
        let expected = r#"{"admin":[false,true],"account.gid":[8,9],"comment":[null,"x"]}"#;
        assert_eq!(told(before.clone(), after), expected);
        assert_eq!(told(before.clone(), before.clone()), "{}");
        let gone = r#"{"name":["ann",null],"admin":[false,null],"account.uid":[7,null],"account.gid":[8,null]}"#;
        assert_eq!(told(before, Value::Null), gone);
    }

    #[test]
    fn secrets_are_not_repeated() {
        let before = json!({ "tags": { "key": "hunter2", "same": "hunter3" }, "bmc": null });
        let after = json!({ "tags": { "key": "hunter4", "same": "hunter3" }, "bmc": { "password": "hunter5" } });
        let text = told(before, after);
        assert!(!text.contains("hunter"), "{text}");
        assert_eq!(
            text,
            r#"{"tags.key":["(not shown)","(not shown)"],"bmc.password":[null,"(not shown)"]}"#
        );
    }

    #[test]
    fn a_difference_is_bounded() {
        let many: Map<String, Value> = (0..10_000).map(|n| (n.to_string(), json!(n))).collect();
        let told: Value = serde_json::from_str(&told(Value::Null, Value::Object(many))).unwrap();
        assert_eq!(told.as_object().unwrap().len(), MAX_VALUES + 1);
        assert_eq!(told["…"], "9936 more");
    }
}
