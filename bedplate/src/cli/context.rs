//! Which server, and what is shared by the verbs: the client and standard output.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use client::{Client, ClientError, Context};

use super::output::{Stdout, print_note};

/// What the server writes for its admin.
const ADMIN: &str = "/var/lib/bedplate/admin.yaml";

/// What every verb gets.
#[derive(Debug)]
pub(super) struct Session {
    context: Option<PathBuf>,
    /// Where values go.
    pub(super) out: Stdout,
}

impl Session {
    pub(super) fn new(context: Option<PathBuf>, out: Stdout) -> Self {
        Self { context, out }
    }

    /// A client of the server that the context names.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let client = Client::new(&self.context()?)?;
        Ok(client.with_expiry_notice(token_ends).with_retry_notice(sent_again))
    }

    /// The context.
    pub(super) fn context(&self) -> anyhow::Result<Context> {
        read(&self.path())
    }

    /// The file of the context.
    pub(super) fn path(&self) -> PathBuf {
        self.context.clone().unwrap_or_else(|| default_path(|path| path.exists()))
    }
}

/// Tells that the token of the context ends soon.
fn token_ends(when: &str) {
    print_note(&format!(
        "note: the token of the context expires on {when}; `bedplate token rotate` replaces it"
    ));
}

/// Tells that the command takes longer, and why.
fn sent_again(why: &ClientError) {
    print_note(&format!("note: {}trying again: {why}", who_makes_wait(why)));
}

/// Whose doing it is that a request is sent again.
fn who_makes_wait(why: &ClientError) -> &'static str {
    match why.status() {
        Some(429) => "these are too many requests, waiting and ",
        Some(_) => "the server is busy or cannot write, ",
        None => "",
    }
}

/// The file where nobody named one: the person's own if there is one, else the admin's.
fn default_path(exists: impl Fn(&Path) -> bool) -> PathBuf {
    own_path().filter(|path| exists(path)).unwrap_or_else(|| PathBuf::from(ADMIN))
}

/// The person's own context.
pub(super) fn own_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(directory.join("bedplate/context.yaml"))
}

pub(super) fn read(path: &Path) -> anyhow::Result<Context> {
    let text = std::fs::read_to_string(path).with_context(|| {
        let mut words = format!("cannot read context {}", path.display());
        if path == Path::new(ADMIN) {
            words.push_str(
                " (run as root on the server, or copy it to ~/.config/bedplate/context.yaml)",
            );
        }
        words
    })?;
    parse(&text).with_context(|| format!("cannot understand context {}", path.display()))
}

pub(super) fn parse(text: &str) -> Result<Context, Malformed> {
    serde_saphyr::from_str(text).map_err(|error| {
        // Further lines show the text, and the token with it.
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Malformed(first.strip_prefix("error: ").unwrap_or(first).to_owned())
    })
}

/// What is wrong with the text of a context.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_context_is_yaml_or_json() {
        let yaml = "server: https://10.1.0.1:9470\nca: |\n  PEM\ntoken: bp_x\n";
        let json = r#"{"server": "https://10.1.0.1:9470/", "ca": "PEM\n", "token": "bp_x"}"#;
        assert_eq!(parse(yaml).unwrap(), parse(json).unwrap());
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = parse("server: https://10.1.0.1:9470\n").unwrap_err();
        expect!["line 1 column 1: missing field `token`"].assert_eq(&error.to_string());
    }

    #[test]
    fn who_waits_is_told_for_what() {
        let refused = |status| {
            let (title, detail) = ("no".to_owned(), String::new());
            ClientError::Refused(api::problem::Problem {
                status,
                title,
                detail,
                diagnostics: Vec::new(),
            })
        };
        let told = [429, 503].map(|status| who_makes_wait(&refused(status)));
        assert_eq!(
            told,
            ["these are too many requests, waiting and ", "the server is busy or cannot write, "]
        );
    }

    #[test]
    fn the_admins_context_is_the_last_resort() {
        assert_eq!(default_path(|_| false), Path::new(ADMIN));
    }
}
