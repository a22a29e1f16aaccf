//! How failures end: `error: …` with its causes on one line, a hint where there is one, and
//! an exit status.

use std::{io, process::ExitCode};

use api::access::TOKEN_EXPIRED;
use client::ClientError;

use super::stderr::print_note;

/// The command line was used wrongly: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// Exit status of a wrong use, as clap has it.
const USAGE: u8 = 2;

/// Tells a failure and gives the exit status. A reader of our output that went away is no failure.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if is_about_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    print_note(&text(error));
    if error.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Whether a reader of our output went away.
pub(super) fn is_about_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(is_closed_pipe)
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What a person reads.
pub(super) fn text(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let words = cause.to_string();
        // Some errors repeat their source in their own words.
        if parts.last().is_none_or(|last| !last.ends_with(&words)) {
            parts.push(words);
        }
        if let Some(ClientError::Unreachable { .. }) = cause.downcast_ref() {
            // Between us and the last cause the layers of the HTTP library say nothing.
            parts.extend(error.chain().last().map(ToString::to_string));
            break;
        }
    }
    let mut text = format!("error: {}", parts.join(": "));
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    text
}

fn hint(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let words = error.to_string();
    if words.contains("invalid peer certificate") {
        return Some(
            "the context is of another server, or of one that was set up again: copy its admin.yaml again",
        );
    }
    match error.downcast_ref::<ClientError>()? {
        ClientError::Unreachable { source, .. } if !is_about_certificates(source) => {
            Some("is the server running, and is this its address? --context names another server")
        }
        // Of one that has expired the server says so, and what to do.
        ClientError::Refused(problem)
            if problem.status == 401 && problem.title != TOKEN_EXPIRED =>
        {
            Some(
                "the token of the context was revoked or is of another server; an admin makes one with `bedplate token \
             create`; on the server's machine, as root, `bedplate server recover-admin` makes one",
            )
        }
        _ => None,
    }
}

fn is_about_certificates(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains("certificate") {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};
    use api::problem::Problem;
    use expect_test::expect;

    use super::*;

    #[test]
    fn causes_follow_on_one_line() {
        let error = anyhow!("disk full").context("cannot write x").context("cannot save");
        expect!["error: cannot save: cannot write x: disk full"].assert_eq(&text(&error));
        let repeated: anyhow::Error = anyhow!("b").context("a: b");
        expect!["error: a: b"].assert_eq(&text(&repeated));
    }

    #[test]
    fn a_refused_token_has_a_hint() {
        let problem = Problem {
            status: 401,
            title: "not let in".to_owned(),
            detail: "the token is unknown".to_owned(),
            diagnostics: Vec::new(),
        };
        expect![[r#"
            error: not let in: the token is unknown
            hint: the token of the context was revoked or is of another server; an admin makes one with `bedplate token create`; on the server's machine, as root, `bedplate server recover-admin` makes one"#]].assert_eq(&text(&ClientError::Refused(problem.clone()).into()));
        let expired = Problem { title: TOKEN_EXPIRED.to_owned(), ..problem };
        let told = text(&ClientError::Refused(expired).into());
        assert_eq!(
            told, "error: the token has expired: the token is unknown",
            "the server says why"
        );
    }

    #[test]
    fn a_closed_pipe_is_found_under_its_context() {
        let closed: Result<(), _> = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        let error = closed.context("cannot write to standard output").unwrap_err();
        assert!(error.chain().any(is_closed_pipe));
        assert!(!anyhow!("other").chain().any(is_closed_pipe));
    }
}
