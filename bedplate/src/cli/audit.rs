//! `audit`: the log of all changes, and what it proves.
//!
//! The chain is checked here and not by the server: what is believed is what the rows themselves
//! say, and heads that somebody kept elsewhere.

mod verify;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use api::access::{AuditEntry, AuditHead};
use clap::{Args, Subcommand};
use client::AuditFilter;
use serde::Serialize;

use super::{
    clock, columns,
    context::Session,
    error::Usage,
    output::{Rows, print_note},
    table::{Cell, Style, table},
    words,
};

/// Lines that are printed where nobody says how many.
const DEFAULT_LINES: u32 = 50;

/// Lines whose actions are named where a list of an action is empty.
const HINT_LINES: u32 = 1_000;

/// The methods whose requests have lines.
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// Print and verify the audit log of all changes, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bedplate audit --limit 100
  bedplate audit list --user ann --since 7d
  bedplate audit verify --head /mnt/elsewhere/audit-heads")]
pub(super) struct Audit {
    #[command(flatten)]
    list: List,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Default, PartialEq, Eq, Args)]
struct List {
    /// Lines at most [default: 50].
    #[arg(long)]
    limit: Option<u32>,
    /// Only what this user did.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only this action: a method such as DELETE, or a word of the server's such as operation-end.
    #[arg(long)]
    action: Option<String>,
    /// Only what is no older than this, such as 90m, 24h or 7d.
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    since: Option<Duration>,
    /// Print also what was changed, from which address and with which token.
    #[arg(long)]
    wide: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the log of all changes, newest first.
    List(List),
    /// Check the whole log: no line was changed, put in or removed.
    #[command(
        after_help = "Every line holds a hash of all before it. Where the server itself removed the oldest lines (`audit.keep-days`,
`audit.max-gib`), the check begins behind them, at a cut that it has signed. That the last lines were cut off,
or that all of them were written again, shows only beside a head that was kept where whoever did it could not
reach it: `audit.head-file` of the server's configuration, lines `audit head` of its log, or what `audit head`
prints, also as JSON or YAML, but not as CSV.

Exit status: 0 the log holds, 1 it does not, or cannot be read."
    )]
    Verify {
        /// File with heads; lines that are not heads are ignored. May be given more than once.
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
        /// Public key that must have signed them [default: the server's, as it says now]. May be
        /// given more than once.
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        key: Vec<String>,
    },
    /// Print the public key that heads are signed with.
    Key,
    /// Print the signed head of the log; store it outside the server.
    Head,
}

/// The public key of heads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PublicKey {
    /// Ed25519, 64 hexadecimal digits.
    key: String,
}

impl Rows for PublicKey {
    const COLUMNS: &'static [&'static str] = columns::AUDIT_KEY;
}

pub(super) async fn audit(session: &Session, audit: Audit) -> anyhow::Result<()> {
    if audit.verb.is_some() && audit.list != List::default() {
        let why = "write the options of a list behind `list`: bedplate audit list --limit 100";
        return Err(Usage(why.to_owned()).into());
    }
    match audit.verb {
        None => list(session, &audit.list).await,
        Some(Verb::List(wanted)) => list(session, &wanted).await,
        Some(Verb::Verify { head, key }) => verify::verify(session, &head, key).await,
        Some(Verb::Key) => {
            let AuditHead { key, .. } = session.client()?.audit_head().await?;
            session.out.show(&PublicKey { key: key.clone() }, |_| format!("{key}\n"))
        }
        Some(Verb::Head) => {
            let head = session.client()?.audit_head().await?;
            let line = serde_json::to_string(&head)?;
            session.out.show(&head, |_| format!("{line}\n"))
        }
    }
}

async fn list(session: &Session, wanted: &List) -> anyhow::Result<()> {
    let before = |ago: &Duration| {
        let seconds = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
        clock::now().plus_seconds(-seconds)
    };
    let filter = AuditFilter {
        user: wanted.user.clone(),
        action: wanted.action.as_deref().map(action_of),
        since: wanted.since.as_ref().map(before),
    };
    let limit = wanted.limit.unwrap_or(DEFAULT_LINES);
    let client = session.client()?;
    let entries = client.audit_of(&filter, limit).await?;
    if let Some(action) = filter.action.as_deref().filter(|_| entries.is_empty() && limit > 0)
        && let Some(hint) = hint_of(action, &client.audit(HINT_LINES).await?)
    {
        print_note(&hint);
    }
    session.out.show(&entries, |style| audit_table(*style, &entries, wanted.wide))
}

/// An action as the log has it, of one whose method may be in any case.
fn action_of(text: &str) -> String {
    let method = METHODS.into_iter().find(|method| method.eq_ignore_ascii_case(text));
    method.unwrap_or(text).to_owned()
}

/// What is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no key: 64 hexadecimal digits")]
struct NoKey(String);

fn public_key(text: &str) -> Result<String, NoKey> {
    let is_key = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_key { Ok(text.to_owned()) } else { Err(NoKey(text.to_owned())) }
}

/// What to say of an action of which no line is listed. `newest`: the newest lines of all.
fn hint_of(action: &str, newest: &[AuditEntry]) -> Option<String> {
    let actions: BTreeSet<&str> = newest.iter().map(|entry| entry.action.as_str()).collect();
    if METHODS.contains(&action) || actions.contains(action) || actions.is_empty() {
        return None;
    }
    let actions = actions.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!(
        "hint: no line of the newest {} has the action {action}; they have {actions}",
        newest.len()
    ))
}

fn audit_table(style: Style, entries: &[AuditEntry], is_wide: bool) -> String {
    let mut head = vec!["NUMBER", "TIME", "WHO", "ACTION", "SUBJECT", "OUTCOME"];
    if is_wide {
        head.extend(["OBJECT", "FROM", "TOKEN", "DIFFERENCE"]);
    }
    let row = |entry: &AuditEntry| {
        let columns = [
            entry.number.to_string(),
            entry.at.to_string(),
            entry.principal.clone(),
            entry.action.clone(),
            entry.subject.clone(),
            entry.outcome.clone(),
            entry.object.clone(),
            entry.source.clone(),
            entry.token.clone(),
            entry.difference.clone(),
        ];
        columns.into_iter().take(head.len()).map(Cell::new).collect::<Vec<_>>()
    };
    table(style, &head, entries.iter().map(row))
}

#[cfg(test)]
mod tests {
    use api::ids::Timestamp;
    use expect_test::expect;

    use super::*;

    fn entry() -> AuditEntry {
        AuditEntry {
            number: 7,
            at: Timestamp(1_795_464_000_000_000),
            principal: "admin".to_owned(),
            action: "POST".to_owned(),
            subject: "/v1/nodes".to_owned(),
            outcome: "201".to_owned(),
            object: "n1".to_owned(),
            difference: "{}".to_owned(),
            source: "192.0.2.1".to_owned(),
            token: "ci".to_owned(),
            form: 2,
            hash: "00".repeat(32),
        }
    }

    #[test]
    fn audit_lines() {
        expect![[r#"
            NUMBER  TIME                  WHO    ACTION  SUBJECT    OUTCOME
            7       2026-11-23T20:00:00Z  admin  POST    /v1/nodes  201
        "#]]
        .assert_eq(&audit_table(Style::PLAIN, &[entry()], false));
        expect![[r#"
            NUMBER  TIME                  WHO    ACTION  SUBJECT    OUTCOME  OBJECT  FROM       TOKEN  DIFFERENCE
            7       2026-11-23T20:00:00Z  admin  POST    /v1/nodes  201      n1      192.0.2.1  ci     {}
        "#]]
        .assert_eq(&audit_table(Style::PLAIN, &[entry()], true));
    }

    #[test]
    fn a_key_has_64_digits_and_methods_have_any_case() {
        assert_eq!(
            public_key("00").unwrap_err().to_string(),
            "00 is no key: 64 hexadecimal digits"
        );
        assert!(public_key(&"0A".repeat(32)).is_ok() && public_key(&"0x".repeat(32)).is_err());
        assert_eq!(action_of("post"), "POST");
        assert_eq!(action_of("node-edit"), "node-edit");
        let hint = hint_of("node-edit", &[entry(), entry()]).unwrap();
        assert_eq!(hint, "hint: no line of the newest 2 has the action node-edit; they have POST");
        assert_eq!(hint_of("POST", &[entry()]), None);
        assert_eq!(hint_of("DELETE", &[entry()]), None, "there may be one yet");
    }
}
