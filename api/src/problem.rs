//! Every error of the REST API, as RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};

/// One refused request. Nothing was changed unless `title` says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// HTTP status code.
    pub status: u16,
    /// What failed, in one line: "cannot add node n1".
    pub title: String,
    /// Why, and how to mend it.
    pub detail: String,
    /// Every mistake found in a document, in its order; empty for other errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "mistakes")]
    pub diagnostics: Vec<Diagnostic>,
}

/// One mistake in a document that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", schema(as = Mistake))]
pub struct Diagnostic {
    /// Line, counted from 1.
    pub line: u64,
    /// Column in characters, counted from 1.
    pub column: u64,
    /// Path of the value in the document: `nodes.n1.interfaces.eth0.mac`.
    pub path: String,
    /// Description of the error, for people.
    pub message: String,
    /// How to mend it, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
