//! Why a request did not do what it should.

use std::path::PathBuf;

use api::problem::Problem;

/// Why a request did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A context file cannot be used.
    #[error("cannot read context {}: {cause}", path.display())]
    ContextFile {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The context's CA is not usable.
    #[error("cannot use the CA certificate of the context")]
    Context(#[source] reqwest::Error),
    /// The path is none.
    #[error("{path:?} is not a path of the API")]
    Url {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: url::ParseError,
    },
    /// A name that cannot be a part of a URL.
    #[error("{part:?} names nothing: use another name, or the id")]
    Part {
        /// The name.
        part: String,
    },
    /// No answer.
    #[error("cannot reach the server at {server}")]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused; nothing was changed.
    #[error("{}", ProblemText(.0))]
    Refused(Problem),
    /// The answer is not what this client understands.
    #[error("the server's answer is not what this client understands: are both of one version?")]
    Answer(#[source] reqwest::Error),
    /// The server opens no WebSocket.
    #[error(
        "the server's answer is no WebSocket: are both of one version, and is nothing between them that stops it?"
    )]
    Upgrade,
    /// An event of a stream is not what this client understands.
    #[error(
        "the server sent an event that this client does not understand: are both of one version?"
    )]
    Event(#[source] serde_json::Error),
}

impl ClientError {
    /// HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(problem) => Some(problem.status),
            _ => None,
        }
    }
}

/// A problem in lines: what failed and why, then each mistake on a line of its own.
struct ProblemText<'a>(&'a Problem);

impl std::fmt::Display for ProblemText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem { title, detail, diagnostics, .. } = self.0;
        write!(f, "{title}")?;
        if !detail.is_empty() {
            write!(f, ": {detail}")?;
        }
        diagnostics.iter().try_for_each(|diagnostic| write!(f, "\n  {diagnostic}"))
    }
}

/// The server's own words, or the status where it sent none.
pub(crate) async fn refused(response: reqwest::Response) -> ClientError {
    let status = response.status();
    let url = response.url().clone();
    match response.json::<Problem>().await {
        Ok(problem) => ClientError::Refused(problem),
        Err(_) => ClientError::Refused(Problem {
            status: status.as_u16(),
            title: format!("the server answered {status}"),
            detail: format!("to {url}"),
            diagnostics: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use api::problem::Diagnostic;

    use super::*;

    #[test]
    fn a_refusal_prints_every_diagnostic() {
        let diagnostic = |line, message: &str, hint: Option<&str>| Diagnostic {
            line,
            column: 3,
            path: "nodes.n1".to_owned(),
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        };
        let problem = Problem {
            status: 422,
            title: "cannot apply".to_owned(),
            detail: "2 mistakes".to_owned(),
            diagnostics: vec![
                diagnostic(2, "unknown key imgae", Some("did you mean image?")),
                diagnostic(9, "no MAC", None),
            ],
        };
        assert_eq!(
            ClientError::Refused(problem).to_string(),
            "cannot apply: 2 mistakes\n  2:3: nodes.n1: unknown key imgae (did you mean image?)\n  9:3: nodes.n1: no MAC"
        );
    }
}
