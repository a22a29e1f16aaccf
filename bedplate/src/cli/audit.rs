//! `audit`: the log of all changes, and what it proves.
//!
//! The chain is checked here and not by the server: what is believed is what the rows themselves say, and heads that
//! somebody kept elsewhere.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use access::{AuditChain, BrokenChain, HeadError};
use api::access::{AuditEntry, AuditHead};
use clap::{Args, Subcommand};
use client::{AuditFilter, Client};
use serde::Serialize;

use super::{
    clock, columns,
    context::Session,
    error::Usage,
    output::{Rows, say},
    table::{Cell, Look, table},
    words,
};

/// Lines that are printed where nobody says how many.
const DEFAULT_LINES: u32 = 50;

/// Lines that are fetched at a time.
const PAGE_LINES: u32 = 5_000;

/// After so many lines a person is told how far the check is.
const TOLD_EVERY: u64 = 100_000;

/// Print the log of all changes, newest first; check that nobody changed it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bedplate audit --limit 100
  bedplate audit list --user ann --since 24h
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
    /// Only this action, such as DELETE or operation-end.
    #[arg(long)]
    action: Option<String>,
    /// Only what is no older than this, such as 90m or 24h.
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
        after_help = "Every line holds a hash of all before it. That the last lines were cut off, or that all of them were
written anew, shows only beside a head that was kept where whoever did it could not reach it:
`audit.head-file` of the server's configuration, lines `audit head` of its log, or what `audit head` prints.

Exit status: 0 the log holds, 1 it does not, or cannot be read."
    )]
    Verify {
        /// File with heads; lines that are none are passed over. May be given more than once.
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
        /// Public key that must have signed them [default: the server's, as it says now].
        #[arg(long, value_name = "HEX")]
        key: Option<String>,
    },
    /// Print the public key that heads are signed with.
    Key,
    /// Print the head of the log, signed: keep it elsewhere.
    Head,
}

/// What a check of the log found.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Verified {
    /// Lines of the log.
    lines: u64,
    /// The hash of the last one.
    hash: String,
    /// Heads that were held against it.
    heads: usize,
    /// The newest line of which there was a head; 0: there was none.
    newest_head: u64,
}

impl Rows for Verified {
    const COLUMNS: &'static [&'static str] = columns::VERIFIED;
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

/// Why the log is not what it was, or is not known to be.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    /// The file with the heads.
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{} holds no head of an audit log: is it the right file?", path.display())]
    NoHead { path: PathBuf },
    /// A head is not good itself.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A line is not the one that a head was made of.
    #[error(
        "the audit log was written anew: line {number} is not the one whose head was kept, so lines up to there were \
         changed"
    )]
    Rewritten { number: u64 },
    /// The end is missing.
    #[error(
        "the audit log was cut off: it ends with line {last}, and there is a head of line {number}, so {} lines are \
         missing at its end",
        number - last
    )]
    CutOff { last: u64, number: u64 },
    /// The chain itself.
    #[error(transparent)]
    Chain(#[from] BrokenChain),
}

pub(super) async fn audit(session: &Session, audit: Audit) -> anyhow::Result<()> {
    if audit.verb.is_some() && audit.list != List::default() {
        let why = "write the options of a list behind `list`: bedplate audit list --limit 100";
        return Err(Usage(why.to_owned()).into());
    }
    match audit.verb {
        None => list(session, &audit.list).await,
        Some(Verb::List(wanted)) => list(session, &wanted).await,
        Some(Verb::Verify { head, key }) => verify(session, &head, key).await,
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
        action: wanted.action.clone(),
        since: wanted.since.as_ref().map(before),
    };
    let limit = wanted.limit.unwrap_or(DEFAULT_LINES);
    let entries = session.client()?.audit_of(&filter, limit).await?;
    session.out.show(&entries, |look| audit_table(*look, &entries, wanted.wide))
}

fn audit_table(look: Look, entries: &[AuditEntry], is_wide: bool) -> String {
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
    table(look, &head, entries.iter().map(row))
}

async fn verify(session: &Session, files: &[PathBuf], key: Option<String>) -> anyhow::Result<()> {
    let client = session.client()?;
    // Before the first page: the log may grow meanwhile, and must not be found shorter.
    let own = client.audit_head().await?;
    let key = key.unwrap_or_else(|| own.key.clone());
    let mut heads = Heads::default();
    for file in files {
        let text =
            fs::read_to_string(file).map_err(|source| VerifyError::Read { path: file.clone(), source })?;
        heads.add(file, &text, &key)?;
    }
    let verified = walk(&client, heads, &own).await?;
    session.out.show(&verified, |_| told(&verified))
}

/// Checks line by line, page by page.
async fn walk(client: &Client, mut heads: Heads, own: &AuditHead) -> anyhow::Result<Verified> {
    let mut chain = AuditChain::default();
    let (kept, newest_head) = (heads.count(), heads.newest());
    heads.insert(own.clone());
    loop {
        let page = client.audit_after(chain.number(), PAGE_LINES).await?;
        if page.is_empty() {
            break;
        }
        for entry in &page {
            chain.take(entry).map_err(VerifyError::from)?;
            heads.check(entry.number, &entry.hash)?;
            if entry.number.is_multiple_of(TOLD_EVERY) {
                say(&format!("{} lines of {} hold", entry.number, own.number.max(entry.number)));
            }
        }
    }
    heads.finish(chain.number())?;
    Ok(Verified { lines: chain.number(), hash: chain.hash(), heads: kept, newest_head })
}

fn told(verified: &Verified) -> String {
    let Verified { lines, hash, heads, newest_head } = verified;
    let chain = format!("the audit log holds: {lines} lines, hash {hash}\n");
    match heads {
        0 => chain + "it was held against no head kept elsewhere: see `bedplate audit verify --help`\n",
        heads => chain + &format!("{heads} heads fit, the newest of line {newest_head}\n"),
    }
}

/// Heads that the log is held against, by their lines.
#[derive(Debug, Default)]
struct Heads(BTreeMap<u64, Vec<AuditHead>>);

impl Heads {
    /// Takes the heads of a file, all of which must be good.
    fn add(&mut self, path: &Path, text: &str, key: &str) -> Result<(), VerifyError> {
        let mut is_empty = true;
        for head in text.lines().filter_map(head_of) {
            access::verify_head(&head, key)?;
            is_empty = false;
            self.insert(head);
        }
        if is_empty { Err(VerifyError::NoHead { path: path.to_owned() }) } else { Ok(()) }
    }

    fn insert(&mut self, head: AuditHead) {
        // Of an empty log there is nothing to hold it against.
        if head.number > 0 {
            self.0.entry(head.number).or_default().push(head);
        }
    }

    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn newest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Holds a line against its heads.
    fn check(&mut self, number: u64, hash: &str) -> Result<(), VerifyError> {
        let heads = self.0.remove(&number).unwrap_or_default();
        match heads.iter().any(|head| !head.hash.eq_ignore_ascii_case(hash)) {
            true => Err(VerifyError::Rewritten { number }),
            false => Ok(()),
        }
    }

    /// The log has ended with this line.
    fn finish(&self, last: u64) -> Result<(), VerifyError> {
        match self.newest() {
            0 => Ok(()),
            number => Err(VerifyError::CutOff { last, number }),
        }
    }
}

/// The head in a line: of a file of heads, or of the server's log, as text or as JSON.
fn head_of(line: &str) -> Option<AuditHead> {
    const SAID: &str = "audit head {";
    if let Ok(head) = serde_json::from_str(line) {
        return Some(head);
    }
    if let Ok(logged) = serde_json::from_str::<serde_json::Value>(line) {
        let message = logged.get("message")?.as_str()?;
        return serde_json::from_str(message.strip_prefix("audit head ")?).ok();
    }
    let begin = line.find(SAID)? + SAID.len() - 1;
    let end = line.rfind('}')?;
    serde_json::from_str(line.get(begin..=end)?).ok()
}

#[cfg(test)]
mod tests {
    use access::AuditHeads;
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
        .assert_eq(&audit_table(Look::PLAIN, &[entry()], false));
        expect![[r#"
            NUMBER  TIME                  WHO    ACTION  SUBJECT    OUTCOME  OBJECT  FROM       TOKEN  DIFFERENCE
            7       2026-11-23T20:00:00Z  admin  POST    /v1/nodes  201      n1      192.0.2.1  ci     {}
        "#]]
        .assert_eq(&audit_table(Look::PLAIN, &[entry()], true));
    }

    /// A head of line 2, as a file of heads has it, and the key that signed it.
    fn head() -> (AuditHead, String) {
        let head = r#"{"number":2,"at":9,
            "hash":"0000000000000000000000000000000000000000000000000000000000000000","key":"","signature":""}"#;
        let head: AuditHead = serde_json::from_str(head).unwrap();
        let folder = tempfile::tempdir().unwrap();
        (head, AuditHeads::open(folder.path(), None).unwrap().key())
    }

    #[test]
    fn heads_are_found_in_files_and_in_logs() {
        let (head, _) = head();
        let json = serde_json::to_string(&head).unwrap();
        let logged = serde_json::json!({ "level": "INFO", "message": format!("audit head {json}") });
        for line in [
            json.clone(),
            format!("Dec 01 08:00:00 boot bedplate[7]: INFO access::audit::head: audit head {json}"),
            logged.to_string(),
        ] {
            assert_eq!(head_of(&line).as_ref(), Some(&head), "{line}");
        }
        for line in
            ["", "{}", "audit head", "audit head {", "} audit head {", r#"{"message":"audit head 7"}"#]
        {
            assert_eq!(head_of(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_no_head_of_this_server_is_no_proof() {
        let (head, key) = head();
        let json = serde_json::to_string(&AuditHead { key: key.clone(), ..head }).unwrap();
        let mut heads = Heads::default();
        let path = Path::new("heads");
        let forged = heads.add(path, &json, &key);
        assert!(matches!(forged, Err(VerifyError::Head(HeadError::Signature { number: 2 }))), "{forged:?}");
        let empty = heads.add(path, "nothing\n", &key);
        assert!(matches!(empty, Err(VerifyError::NoHead { .. })), "{empty:?}");
    }

    #[test]
    fn a_log_that_was_rewritten_or_cut_off_does_not_fit_its_heads() {
        let (head, _) = head();
        let kept = || {
            let mut heads = Heads::default();
            heads.insert(head.clone());
            heads
        };
        let mut heads = kept();
        heads.check(1, "11").unwrap();
        heads.check(2, &head.hash).unwrap();
        heads.finish(3).unwrap();
        let rewritten = kept().check(2, &"11".repeat(32));
        assert!(matches!(rewritten, Err(VerifyError::Rewritten { number: 2 })), "{rewritten:?}");
        let error = kept().finish(1).unwrap_err().to_string();
        expect![
            "the audit log was cut off: it ends with line 1, and there is a head of line 2, so 1 lines are missing at its end"
        ]
        .assert_eq(&error);
    }
}
