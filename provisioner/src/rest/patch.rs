//! JSON merge patch (RFC 7396) on a machine's specification.

use api::machine::MachineSpec;
use serde_json::{Map, Value};

use crate::{cluster::ChangeError, resolve::to_json};

/// The specification with the patch applied; `null` clears a field.
pub(super) fn apply(
    kind: &'static str,
    name: &str,
    spec: &MachineSpec,
    patch: &Value,
) -> Result<MachineSpec, ChangeError> {
    let wrong = |cause: String| ChangeError::Spec { kind, name: name.to_owned(), cause };
    if !patch.is_object() {
        return Err(wrong("a patch must be a JSON object".to_owned()));
    }
    let mut value = to_json(spec);
    merge(&mut value, patch);
    api::strict::from_value(value).map_err(|error| wrong(error.to_string()))
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7396, appendix A.
    #[test]
    fn merges_as_the_rfc_shows() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (mut target, patch, expected) in cases {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        }
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error =
            apply("node", "n1", &MachineSpec::default(), &json!({"imgae": "x"})).unwrap_err();
        assert!(error.to_string().starts_with("node \"n1\": unknown field `imgae`"), "{error}");
    }
}
