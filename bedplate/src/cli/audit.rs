//! `audit`: the log of all changes, and what it proves.
//!
//! The chain is checked here and not by the server: what is believed is what the rows themselves say, and heads that
//! somebody kept elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use access::{AuditChain, BrokenChain, HeadError};
use api::access::{AuditEntry, AuditHead};
use clap::{Args, Subcommand};
use client::{AuditFilter, Client};
use serde::{Deserialize, Serialize};

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

/// Lines whose actions are named where a list of an action is empty.
const HINT_LINES: u32 = 1_000;

/// The methods whose requests have lines.
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

/// The action of the line that tells of a new key.
const NEW_KEY: &str = "audit-key";

/// After so many lines a person is told how far the check is.
const TOLD_EVERY: u64 = 100_000;

/// Print the log of all changes, newest first; check that nobody changed it.
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
        after_help = "Every line holds a hash of all before it. That the last lines were cut off, or that all of them were
written anew, shows only beside a head that was kept where whoever did it could not reach it:
`audit.head-file` of the server's configuration, lines `audit head` of its log, or what `audit head` prints, also
as JSON or YAML, but not as CSV.

Exit status: 0 the log holds, 1 it does not, or cannot be read."
    )]
    Verify {
        /// File with heads; lines that are none are passed over. May be given more than once.
        #[arg(long, value_name = "FILE")]
        head: Vec<PathBuf>,
        /// Public key that must have signed them [default: the server's, as it says now]. May be given
        /// more than once.
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        key: Vec<String>,
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
    #[error(
        "{} holds no head of an audit log, as JSON, YAML or a line of the server's log (CSV is not read): is it the \
         right file?",
        path.display()
    )]
    NoHead { path: PathBuf },
    /// A head is not good itself.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A head is another key's.
    #[error("{head}; {}", key_told(*row))]
    OtherKey {
        head: HeadError,
        /// The line that tells of the server's present key, if there is one.
        row: Option<u64>,
    },
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
        action: wanted.action.as_deref().map(action_of),
        since: wanted.since.as_ref().map(before),
    };
    let limit = wanted.limit.unwrap_or(DEFAULT_LINES);
    let client = session.client()?;
    let entries = client.audit_of(&filter, limit).await?;
    if let Some(action) = filter.action.as_deref().filter(|_| entries.is_empty() && limit > 0)
        && let Some(hint) = hint_of(action, &client.audit(HINT_LINES).await?)
    {
        say(&hint);
    }
    session.out.show(&entries, |look| audit_table(*look, &entries, wanted.wide))
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
    Some(format!("hint: no line of the newest {} has the action {action}; they have {actions}", newest.len()))
}

fn key_told(row: Option<u64>) -> String {
    let told = match row {
        Some(row) => format!("the server's key was made anew, as line {row} of the log tells"),
        None => "the server's key may have been made anew (no line of the log tells of it)".to_owned(),
    };
    told + ": give the old key and the new one, each with --key, if you know that they are the server's"
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

async fn verify(session: &Session, files: &[PathBuf], mut keys: Vec<String>) -> anyhow::Result<()> {
    let client = session.client()?;
    // Before the first page: the log may grow meanwhile, and must not be found shorter.
    let own = client.audit_head().await?;
    if keys.is_empty() {
        keys.push(own.key.clone());
    }
    let mut heads = Heads::default();
    for file in files {
        let text =
            fs::read_to_string(file).map_err(|source| VerifyError::Read { path: file.clone(), source })?;
        if let Err(error) = heads.add(file, &text, &keys) {
            return Err(explained(&client, error, &own).await.into());
        }
    }
    let verified = walk(&client, heads, &own).await?;
    session.out.show(&verified, |_| told(&verified))
}

/// Where the log tells of another key, if a head failed for that.
async fn explained(client: &Client, error: VerifyError, own: &AuditHead) -> VerifyError {
    let VerifyError::Head(head @ HeadError::OtherKey { .. }) = error else { return error };
    let filter = AuditFilter { action: Some(NEW_KEY.to_owned()), ..AuditFilter::default() };
    // What failed is the head; without that line it is still told.
    let rows = client.audit_of(&filter, 1).await.unwrap_or_default();
    let row = rows.iter().find(|row| row.action == NEW_KEY && row.object == own.key);
    VerifyError::OtherKey { head, row: row.map(|row| row.number) }
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
    /// Takes the heads of a file, all of which must be good, signed with one of these keys.
    fn add(&mut self, path: &Path, text: &str, keys: &[String]) -> Result<(), VerifyError> {
        let heads = heads_of(text);
        if heads.is_empty() {
            return Err(VerifyError::NoHead { path: path.to_owned() });
        }
        for head in heads {
            let own = keys.iter().find(|key| head.key.eq_ignore_ascii_case(key));
            let key = own.or(keys.first()).map_or("", String::as_str);
            access::verify_head(&head, key)?;
            self.insert(head);
        }
        Ok(())
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

/// One head, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum HeadDocument {
    One(AuditHead),
    Many(Vec<AuditHead>),
}

impl From<HeadDocument> for Vec<AuditHead> {
    fn from(document: HeadDocument) -> Self {
        match document {
            HeadDocument::One(head) => vec![head],
            HeadDocument::Many(heads) => heads,
        }
    }
}

/// The heads of a file: of JSON documents one after the other, of lines among others, or of a YAML document.
fn heads_of(text: &str) -> Vec<AuditHead> {
    let documents = serde_json::Deserializer::from_str(text).into_iter::<HeadDocument>();
    if let Ok(documents) = documents.collect::<Result<Vec<_>, _>>() {
        return documents.into_iter().flat_map(Vec::from).collect();
    }
    let heads: Vec<AuditHead> = text.lines().filter_map(head_of).collect();
    if !heads.is_empty() {
        return heads;
    }
    if let Ok(head) = serde_saphyr::from_str::<AuditHead>(text) {
        return vec![head];
    }
    serde_saphyr::from_str::<Vec<AuditHead>>(text).unwrap_or_default()
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
    fn heads_are_read_in_the_forms_that_they_are_printed_in() {
        let (head, _) = head();
        let line = serde_json::to_string(&head).unwrap();
        let json = serde_json::to_string_pretty(&head).unwrap();
        let many = serde_json::to_string_pretty(&[&head, &head]).unwrap();
        let yaml = serde_saphyr::to_string(&serde_json::to_value(&head).unwrap()).unwrap();
        for (text, count) in [
            (format!("{json}\n{json}\n"), 2),
            (many, 2),
            (format!("{line}\nbegun by hand\n{line}\n"), 2),
            (yaml, 1),
            (String::new(), 0),
            ("number,at\n2,9\n".to_owned(), 0),
        ] {
            assert_eq!(heads_of(&text), vec![head.clone(); count], "{text}");
        }
    }

    #[test]
    fn a_key_has_64_digits_and_methods_have_any_case() {
        assert_eq!(public_key("00").unwrap_err().to_string(), "00 is no key: 64 hexadecimal digits");
        assert!(public_key(&"0A".repeat(32)).is_ok() && public_key(&"0x".repeat(32)).is_err());
        assert_eq!(action_of("post"), "POST");
        assert_eq!(action_of("node-edit"), "node-edit");
        let hint = hint_of("node-edit", &[entry(), entry()]).unwrap();
        assert_eq!(hint, "hint: no line of the newest 2 has the action node-edit; they have POST");
        assert_eq!(hint_of("POST", &[entry()]), None);
        assert_eq!(hint_of("DELETE", &[entry()]), None, "there may be one yet");
    }

    #[test]
    fn what_is_no_head_of_this_server_is_no_proof() {
        let (head, key) = head();
        let json = serde_json::to_string(&AuditHead { key: key.clone(), ..head }).unwrap();
        let mut heads = Heads::default();
        let path = Path::new("heads");
        let keys = ["11".repeat(32), key];
        let forged = heads.add(path, &json, &keys);
        assert!(matches!(forged, Err(VerifyError::Head(HeadError::Signature { number: 2 }))), "{forged:?}");
        let other = heads.add(path, &json, &keys[..1]);
        assert!(matches!(other, Err(VerifyError::Head(HeadError::OtherKey { .. }))), "{other:?}");
        let empty = heads.add(path, "nothing\n", &keys);
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
