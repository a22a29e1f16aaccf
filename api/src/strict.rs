//! Reading JSON that a person or a client sent: a field that the type doesn't have is an error
//! here, though the same types ignore it where two releases meet. So a mistyped `imgae` is never
//! taken for "no image".

use serde::de::DeserializeOwned;

/// Unknown fields that an error names; there may be as many as the body has bytes.
const MAX_NAMED: usize = 10;

/// Why a value was not read.
#[derive(Debug, thiserror::Error)]
pub enum StrictError {
    /// It is no JSON, or not of the wanted shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It has fields that the type doesn't have, by their paths: `spec.imgae`; at most ten of them.
    #[error("unknown field{} {}", if .0.len() == 1 { "" } else { "s" }, quoted(.0))]
    UnknownFields(Vec<String>),
}

fn quoted(paths: &[String]) -> String {
    paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

/// Reads a value from JSON text.
///
/// # Errors
/// [`StrictError`].
pub fn from_str<T: DeserializeOwned>(json: &str) -> Result<T, StrictError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = read(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads a value from a parsed tree.
///
/// # Errors
/// [`StrictError`].
pub fn from_value<T: DeserializeOwned>(tree: serde_json::Value) -> Result<T, StrictError> {
    read(tree)
}

fn read<'de, T, D>(deserializer: D) -> Result<T, StrictError>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(deserializer, |path| {
        if unknown.len() < MAX_NAMED {
            // `?` stands for the inside of an `Option` there.
            unknown.push(path.to_string().replace(".?", "").replace("?.", ""));
        }
    })?;
    if unknown.is_empty() { Ok(value) } else { Err(StrictError::UnknownFields(unknown)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{AddNodes, MachineSpec};

    #[test]
    fn unknown_fields_are_named_by_their_paths() {
        let error = |json: &str| from_str::<AddNodes>(json).unwrap_err().to_string();
        assert_eq!(error(r#"{"names":"n1","spec":{"imgae":"x"}}"#), "unknown field `spec.imgae`");
        let two = r#"{"names":"n1","spec":{"root":{"size":1},"interfaces":{"lan0":{"ip":1}}}}"#;
        assert_eq!(error(two), "unknown fields `spec.root.size`, `spec.interfaces.lan0.ip`");
        assert!(
            error(r#"{"names":1}"#).starts_with("invalid type: integer `1`, expected a string")
        );
        assert!(from_str::<MachineSpec>("{} {}").is_err(), "more than one value");
        let many: String = (0..1_000).map(|n| format!(r#""x{n}":1,"#)).collect();
        let StrictError::UnknownFields(named) =
            from_str::<MachineSpec>(&format!(r#"{{{many}"image":"a"}}"#)).unwrap_err()
        else {
            panic!("not refused for its fields");
        };
        assert_eq!(named.len(), MAX_NAMED);
        let tree = serde_json::json!({"dns": {"server": []}});
        assert_eq!(
            from_value::<MachineSpec>(tree).unwrap_err().to_string(),
            "unknown field `dns.server`"
        );
    }
}
