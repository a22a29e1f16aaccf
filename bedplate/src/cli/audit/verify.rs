//! `audit verify`: the chain of the log, and heads of it that somebody kept elsewhere.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use access::{AuditChain, BrokenChain, HeadError};
use api::access::{AuditCut, AuditEntry, AuditHead};
use client::{AuditFilter, Client, ClientError};
use serde::{Deserialize, Serialize};

use super::super::{
    columns,
    context::Session,
    output::{Rows, print_note},
};

/// Lines that are fetched at a time.
const PAGE_LINES: u32 = 5_000;

/// The action of the line that tells of a new key.
const NEW_KEY: &str = "audit-key";

/// After so many lines a person is told how far the check is.
const TOLD_EVERY: u64 = 100_000;

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
    /// The last line that the server has removed; 0: it has all.
    cut: u64,
    /// Heads of lines that it has removed, which nothing can be held against.
    heads_cut: usize,
}

impl Rows for Verified {
    const COLUMNS: &'static [&'static str] = columns::VERIFIED;
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
    #[error("{head}; {}", format_key(*row))]
    OtherKey {
        head: HeadError,
        /// The line that tells of the server's present key, if there is one.
        row: Option<u64>,
    },
    /// A line is not the one that a head was made of.
    #[error(
        "the audit log was written again: line {number} is not the one whose head was kept, so lines up to there were \
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
    /// Lines were removed, and no line of the log tells of it.
    #[error(
        "lines of the audit log up to {number} were removed, and no line of it tells of that: the server did not remove \
         them"
    )]
    CutUntold { number: u64 },
    /// The chain itself.
    #[error(transparent)]
    Chain(#[from] BrokenChain),
}

pub(super) async fn verify(
    session: &Session,
    files: &[PathBuf],
    mut keys: Vec<String>,
) -> anyhow::Result<()> {
    let client = session.client()?;
    // Before the first page: the log may grow meanwhile, and must not be found shorter.
    let own = client.audit_head().await?;
    if keys.is_empty() {
        keys.push(own.key.clone());
    }
    let mut heads = Heads::default();
    for file in files {
        let text = fs::read_to_string(file)
            .map_err(|source| VerifyError::Read { path: file.clone(), source })?;
        if let Err(error) = heads.add(file, &text, &keys) {
            return Err(explained(&client, error, &own).await.into());
        }
    }
    let verified = match walk(&client, heads, &own, &keys).await? {
        Ok(verified) => verified,
        Err(error) => return Err(explained(&client, error, &own).await.into()),
    };
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

fn format_key(row: Option<u64>) -> String {
    let told = match row {
        Some(row) => format!("the server's key was replaced, as line {row} of the log reports"),
        None => {
            "the server's key may have been replaced (no line of the log reports it)".to_owned()
        }
    };
    told + ": give the old key and the new one, each with --key, if you know that they are the server's"
}

/// Checks line by line, page by page. The inner error: what is wrong with the log.
async fn walk(
    client: &Client,
    heads: Heads,
    own: &AuditHead,
    keys: &[String],
) -> Result<Result<Verified, VerifyError>, ClientError> {
    let mut check = Check::new(heads, own);
    loop {
        // Lines may be removed while they are read: then it goes on behind them.
        let cut = client.audit_cut().await?;
        if let Err(error) = cut.map_or(Ok(()), |cut| check.begin_behind(cut, keys)) {
            return Ok(Err(error));
        }
        loop {
            let page = client.audit_after(check.chain.number(), PAGE_LINES).await?;
            let Some(first) = page.first() else { return Ok(check.finish()) };
            if first.number > check.chain.number() + 1 && check.may_go_on() {
                break;
            }
            for entry in &page {
                if let Err(error) = check.take(entry) {
                    return Ok(Err(error));
                }
                if entry.number.is_multiple_of(TOLD_EVERY) {
                    print_note(&format!(
                        "{} lines of {} hold",
                        entry.number,
                        own.number.max(entry.number)
                    ));
                }
            }
        }
    }
}

/// A log that is being checked.
#[derive(Debug)]
struct Check {
    chain: AuditChain,
    heads: Heads,
    /// Heads at the beginning, and the newest line of these.
    kept: (usize, u64),
    heads_cut: usize,
    /// The cut that the chain begins behind.
    cut: Option<AuditCut>,
    /// A line tells of the cut.
    is_told: bool,
    /// A gap was found, and it was asked again where the log begins.
    asked_again: bool,
}

impl Check {
    fn new(mut heads: Heads, own: &AuditHead) -> Self {
        let kept = (heads.count(), heads.newest());
        heads.insert(own.clone());
        let chain = AuditChain::default();
        Self { chain, heads, kept, heads_cut: 0, cut: None, is_told: false, asked_again: false }
    }

    /// The log begins behind this cut, if that is farther than it was checked.
    fn begin_behind(&mut self, cut: AuditCut, keys: &[String]) -> Result<(), VerifyError> {
        if cut.number <= self.chain.number() {
            return Ok(());
        }
        access::verify_cut(&cut, key_of(&cut.key, keys))?;
        self.chain = AuditChain::after(&cut)?;
        self.heads.check(cut.number, &cut.hash)?;
        self.heads_cut += self.heads.remove_before(cut.number);
        (self.cut, self.is_told, self.asked_again) = (Some(cut), false, false);
        Ok(())
    }

    /// Once where there is a gap: the server may have removed lines in this moment.
    fn may_go_on(&mut self) -> bool {
        !std::mem::replace(&mut self.asked_again, true)
    }

    fn take(&mut self, entry: &AuditEntry) -> Result<(), VerifyError> {
        self.chain.take(entry)?;
        self.is_told |= self.cut.as_ref().is_some_and(|cut| access::is_told(cut, entry));
        self.heads.check(entry.number, &entry.hash)
    }

    /// All lines were taken.
    fn finish(self) -> Result<Verified, VerifyError> {
        self.heads.finish(self.chain.number())?;
        let cut = self.cut.map_or(0, |cut| cut.number);
        if cut > 0 && !self.is_told {
            return Err(VerifyError::CutUntold { number: cut });
        }
        let (number, (heads, newest_head)) = (self.chain.number(), self.kept);
        let (hash, heads_cut) = (self.chain.hash(), self.heads_cut);
        let heads = heads.saturating_sub(heads_cut);
        Ok(Verified { lines: number.saturating_sub(cut), hash, heads, newest_head, cut, heads_cut })
    }
}

/// The key of those that are wanted which is the one that something says that it was signed with;
/// else the first.
fn key_of<'a>(found: &str, keys: &'a [String]) -> &'a str {
    let own = keys.iter().find(|key| found.eq_ignore_ascii_case(key));
    own.or(keys.first()).map_or("", String::as_str)
}

fn told(verified: &Verified) -> String {
    let Verified { lines, hash, heads, newest_head, cut, heads_cut } = verified;
    let mut told = format!("the audit log holds: {lines} lines, hash {hash}\n");
    if *cut > 0 {
        told += &format!("lines up to {cut} were removed by the server, which has signed that\n");
    }
    if *heads_cut > 0 {
        told += &format!(
            "{heads_cut} heads are of lines that were removed, and prove nothing any more\n"
        );
    }
    match heads {
        0 => {
            told + "it was held against no head kept elsewhere: see `bedplate audit verify --help`\n"
        }
        heads => told + &format!("{heads} heads fit, the newest of line {newest_head}\n"),
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
            access::verify_head(&head, key_of(&head.key, keys))?;
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

    /// Takes out those of lines before this one. How many there were.
    fn remove_before(&mut self, number: u64) -> usize {
        let left = self.0.split_off(&number);
        std::mem::replace(&mut self.0, left).values().map(Vec::len).sum()
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

/// The heads of a file: of JSON documents one after the other, of lines among others, or of a YAML
/// document.
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
    use expect_test::expect;

    use super::*;

    /// A head of line 2, as a file of heads has it, and the key that signed it.
    fn head() -> (AuditHead, String) {
        let head = r#"{"number":2,"at":9,
            "hash":"0000000000000000000000000000000000000000000000000000000000000000","key":"","signature":""}"#;
        let head: AuditHead = serde_json::from_str(head).unwrap();
        let directory = tempfile::tempdir().unwrap();
        (head, AuditHeads::open(directory.path(), None).unwrap().key())
    }

    #[test]
    fn heads_are_found_in_files_and_in_logs() {
        let (head, _) = head();
        let json = serde_json::to_string(&head).unwrap();
        let logged =
            serde_json::json!({ "level": "INFO", "message": format!("audit head {json}") });
        for line in [
            json.clone(),
            format!(
                "Dec 01 08:00:00 boot bedplate[7]: INFO access::audit::head: audit head {json}"
            ),
            logged.to_string(),
        ] {
            assert_eq!(head_of(&line).as_ref(), Some(&head), "{line}");
        }
        for line in [
            "",
            "{}",
            "audit head",
            "audit head {",
            "} audit head {",
            r#"{"message":"audit head 7"}"#,
        ] {
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
    fn what_is_no_head_of_this_server_is_no_proof() {
        let (head, key) = head();
        let json = serde_json::to_string(&AuditHead { key: key.clone(), ..head }).unwrap();
        let mut heads = Heads::default();
        let path = Path::new("heads");
        let keys = ["11".repeat(32), key];
        let forged = heads.add(path, &json, &keys);
        assert!(
            matches!(forged, Err(VerifyError::Head(HeadError::Signature { number: 2 }))),
            "{forged:?}"
        );
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
