//! Cuts of a log in a database, by a server and by the one after it.

use std::path::Path;

use database::{Database, Number, statement};

use super::*;
use crate::{
    audit::{Action, BrokenChain, Details, audit_problems, next},
    clock,
};

const DAYS_30: AuditKeep = AuditKeep { days: Some(30), max_bytes: None };

/// A server on the database of a directory, with heads that are kept in a file.
struct Site {
    database: Database,
    access: Access,
    heads: AuditHeads,
}

impl Site {
    async fn open(directory: &Path, keep: AuditKeep) -> Self {
        let database = Database::open(&directory.join("test.db"), &[&crate::SCHEMA]).await.unwrap();
        let heads = AuditHeads::open(directory, Some(directory.join("heads"))).unwrap();
        let access = Access::open(database.clone()).await.unwrap().with_audit_heads(heads.clone());
        Self { database, access: access.with_audit_keep(keep), heads }
    }

    /// Writes so many rows.
    async fn record(&self, rows: u32) {
        for row in 0..rows {
            self.access.record("ann", "POST", &format!("/v1/nodes/{row}"), "201").await.unwrap();
        }
        self.access.verify_audit().await.unwrap();
    }

    /// The same server with room for all but the last byte.
    async fn full(self) -> Self {
        let bytes = self.access.inner.store.audit_bytes().await.unwrap();
        let keep = AuditKeep { days: None, max_bytes: Some(bytes - 1) };
        Self { access: self.access.with_audit_keep(keep), ..self }
    }

    async fn numbers(&self) -> Vec<u64> {
        self.access.audit_after(0, 100).await.unwrap().iter().map(|entry| entry.number).collect()
    }

    /// Rows in the table.
    async fn stored(&self) -> u64 {
        let count = statement("count", "SELECT COUNT(*) FROM access_audit");
        let (Number(count),): (Number<u64>,) = count.fetch_one(&self.database).await.unwrap();
        count
    }

    async fn problems(&self) -> Vec<String> {
        audit_problems(&self.database, Some(&self.heads.key())).await.unwrap()
    }

    /// Puts a cut into the database that no line tells of, and starts again.
    async fn with_cut(self, directory: &Path, cut: &AuditCut) -> Self {
        self.access.inner.store.cut_audit(cut, 0).await.unwrap();
        Self::open(directory, self.access.audit_keep).await
    }

    /// Writes so many rows, of one a day.
    async fn record_days(&self, days: i64) {
        let mut last: Option<AuditLine> = None;
        for day in 0..days {
            let text = str::to_owned;
            let what = Action {
                principal: text("ann"),
                action: text("POST"),
                subject: text("/v1/nodes"),
                outcome: text("201"),
                details: Details::default(),
            };
            let line = next(last.as_ref(), what, Timestamp(0).plus_seconds(day * DAY_SECONDS));
            self.access.inner.store.chain(&[(line.number, line.clone())]).await.unwrap();
            last = Some(line);
        }
    }

    async fn run(&self, text: &'static str) {
        statement("change the log", text).execute(&self.database).await.unwrap();
    }
}

fn in_days(days: i64) -> Timestamp {
    clock::now().plus_seconds(days * DAY_SECONDS + 60)
}

#[tokio::test]
async fn a_log_that_is_too_large_is_cut_and_verified_from_there() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), AuditKeep::DEFAULT).await;
    site.record(10).await;
    site.access.keep_within_limits(clock::now(), Duration::ZERO).await.unwrap();
    assert_eq!((site.stored().await, site.access.audit_cut()), (10, None), "there is room");
    let site = site.full().await;
    site.access.keep_within_limits(clock::now(), Duration::ZERO).await.unwrap();
    let cut = site.access.audit_cut().unwrap();
    assert!(cut.number > 0 && cut.number < 5, "a tenth of it: {cut:?}");
    assert_eq!(cut.why, "audit.max-gib");
    assert_eq!(verify_cut(&cut, &site.heads.key()), Ok(()));
    assert_eq!(site.numbers().await, (cut.number + 1..=11).collect::<Vec<_>>());
    assert_eq!(
        (site.stored().await, site.access.verify_audit().await.unwrap()),
        (11 - cut.number, 11)
    );
    let told = &site.access.audit(1).await.unwrap()[0];
    assert!(is_told(&cut, told), "the cut is a row of the log: {told:?}");
    assert_eq!((told.principal.as_str(), told.outcome.as_str()), ("server", "audit.max-gib"));
    let page =
        site.access.audit_page(None, &super::super::AuditQuery::default(), 100).await.unwrap();
    assert_eq!(
        (page.0.len() as u64, page.1),
        (11 - cut.number, None),
        "there is no page of what was cut"
    );

    // What is counted is what is there.
    let lines = site.access.inner.store.audit_after(0, 100).await.unwrap();
    let bytes: u64 = lines.iter().map(AuditLine::bytes).sum();
    assert_eq!(site.access.inner.store.audit_bytes().await.unwrap(), bytes);

    // A server that starts again knows it, and a changed row is found as ever.
    let site = Site::open(directory.path(), AuditKeep::DEFAULT).await;
    assert_eq!(site.access.audit_cut(), Some(cut));
    assert_eq!(site.access.verify_audit().await.unwrap(), 11);
    site.run("UPDATE access_audit SET outcome = '403' WHERE number = 8").await;
    let broken = site.access.verify_audit().await;
    assert!(
        matches!(broken, Err(AccessError::Broken(BrokenChain::Changed { number: 8 }))),
        "{broken:?}"
    );
    assert_eq!(site.problems().await, [] as [&str; 0]);
    site.run("DELETE FROM access_audit WHERE number = 7").await;
    let problems = site.problems().await;
    assert!(problems.len() == 1 && problems[0].contains("some were removed"), "{problems:?}");
}

#[tokio::test]
async fn old_lines_go_once_a_day_and_the_newest_stays() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    site.access.keep_within_limits(in_days(30), FIRST_AGE_TURN).await.unwrap();
    assert_eq!(site.access.audit_cut(), None, "a day's worth goes at once");
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    let cut = site.access.audit_cut().unwrap();
    assert_eq!((cut.number, cut.why.as_str()), (4, "audit.keep-days"));
    assert_eq!(site.numbers().await, [5, 6], "numbers go on");
    assert_eq!(site.access.verify_audit().await.unwrap(), 6);
}

#[tokio::test]
async fn a_server_that_was_killed_between_removes_the_rest_later() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    let due = site.access.due(in_days(31), FIRST_AGE_TURN).await.unwrap().unwrap();
    // A cut whose row cannot be written is none.
    site.run(
        "CREATE TRIGGER no_rows BEFORE INSERT ON access_audit_pending
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .await;
    assert!(site.access.cut(&site.heads, due.clone(), in_days(31)).await.is_err());
    let cuts = site.access.inner.store.audit_cuts().await.unwrap();
    assert_eq!((site.access.audit_cut(), cuts), (None, Vec::new()));
    site.run("DROP TRIGGER no_rows").await;
    site.access.cut(&site.heads, due, in_days(31)).await.unwrap();
    drop(site);
    let site = Site::open(directory.path(), DAYS_30).await;
    assert_eq!(site.numbers().await, [5, 6]);
    assert_eq!((site.access.verify_audit().await.unwrap(), site.stored().await), (6, 6));
    assert_eq!(site.problems().await, [] as [&str; 0]);
    site.access.keep_within_limits(clock::now(), Duration::ZERO).await.unwrap();
    assert_eq!((site.access.verify_audit().await.unwrap(), site.stored().await), (6, 2));
}

#[tokio::test]
async fn lines_of_a_broken_chain_stay() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    site.run("UPDATE access_audit SET principal = 'ben' WHERE number = 2").await;
    let refused = site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await;
    assert!(
        matches!(refused, Err(AccessError::Broken(BrokenChain::Changed { number: 2 }))),
        "{refused:?}"
    );
    assert_eq!((site.access.audit_cut(), site.stored().await), (None, 5));
}

#[tokio::test]
async fn no_head_of_the_log_is_a_cut() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(3).await;
    let head = site.access.audit_head().await.unwrap().unwrap();
    let (number, key) = (head.number, site.heads.key());
    let forged = AuditCut {
        number,
        at: head.at,
        hash: head.hash,
        cut_at: head.at,
        why: "audit.keep-days".to_owned(),
        key: head.key,
        signature: head.signature,
    };
    assert_eq!(verify_cut(&forged, &key), Err(HeadError::Signature { number }));
    let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
    let cut = sign(&site.heads, &line, clock::now(), "audit.keep-days");
    assert_eq!(verify_cut(&cut, &key), Ok(()));
    let edits: [fn(&mut AuditCut); 6] = [
        |cut| cut.number = 2,
        |cut| cut.at = Timestamp(8),
        |cut| cut.hash = "00".repeat(32),
        |cut| cut.hash = "no hash".to_owned(),
        |cut| cut.cut_at = Timestamp(8),
        |cut| cut.why = "audit.max-gib".to_owned(),
    ];
    for edit in edits {
        let mut edited = cut.clone();
        edit(&mut edited);
        let number = edited.number;
        assert_eq!(verify_cut(&edited, &key), Err(HeadError::Signature { number }));
    }
}

#[tokio::test]
async fn heads_of_what_was_cut_are_no_alarm() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(3).await;
    let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
    site.heads.write(&line, clock::now(), true).await;
    site.record(2).await;
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    assert_eq!(site.access.audit_cut().unwrap().number, 4);
    drop(site);
    let site = Site::open(directory.path(), DAYS_30).await;
    site.access.verify_against_saved(&site.heads, 6, false).await.unwrap();
    assert_eq!(site.access.audit_alarms().broken, None);
    let last = site.access.inner.store.last_audit().await.unwrap().unwrap();
    site.heads.write(&last, clock::now(), true).await;
    let kept = std::fs::read_to_string(directory.path().join("heads")).unwrap();
    assert_eq!(kept.lines().count(), 2, "heads go on behind it");
}

#[tokio::test]
async fn a_head_and_a_cut_of_a_key_that_was_lost_fit_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(3).await;
    let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
    site.heads.write(&line, clock::now(), true).await;
    site.record(2).await;
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    std::fs::remove_file(directory.path().join("audit.key")).unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.access.note_new_audit_key().await;
    site.access.verify_against_saved(&site.heads, 7, false).await.unwrap();
    assert_eq!(site.heads.broken(), None);
    let alarm = site.access.audit_alarms().broken.unwrap();
    assert!(alarm.starts_with("the cut of the audit log up to line 4 is not signed by"), "{alarm}");
}

#[tokio::test]
async fn a_cut_of_a_key_that_was_lost_counts_again_when_an_admin_accepts_it() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    let accept = async |site: &Site, number: u64| {
        site.access.accept_audit_cut(number, "root", Timestamp(77)).await
    };
    assert!(matches!(accept(&site, 4).await, Err(AcceptCutError::NotNeeded)), "there is none");
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    assert!(matches!(accept(&site, 4).await, Err(AcceptCutError::NotNeeded)), "it is signed");
    let old = site.heads.key();
    std::fs::remove_file(directory.path().join("audit.key")).unwrap();

    let site = Site::open(directory.path(), DAYS_30).await;
    site.access.note_new_audit_key().await;
    let alarm = site.access.audit_alarms().broken.unwrap();
    assert!(alarm.contains("bedplate server accept-audit-cut 4`"), "{alarm}");
    let other = accept(&site, 3).await;
    assert!(matches!(other, Err(AcceptCutError::OtherCut { found: 4, wanted: 3 })), "{other:?}");
    assert_eq!(accept(&site, 4).await.unwrap(), old);
    assert_eq!(site.access.audit_alarms().broken, None);
    let told = &site.access.audit(1).await.unwrap()[0];
    let texts = [&told.principal, &told.action, &told.subject, &told.object];
    assert_eq!(texts, ["root", "audit-cut-accept", "lines up to 4", &old]);

    // The next server sees what this one saw, and goes on with cuts.
    let site = Site::open(directory.path(), DAYS_30).await;
    assert_eq!(site.access.audit_alarms().broken, None);
    assert_eq!(site.problems().await, [""; 0]);
    let cut = site.access.audit_cut().unwrap();
    assert_eq!((cut.number, cut.cut_at), (4, Timestamp(77)));
    site.record(3).await;
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    assert!(site.access.audit_cut().unwrap().number > 4);
}

#[tokio::test]
async fn a_cut_that_no_line_tells_of_is_not_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    // As somebody makes it who removes lines: it fits the log, and another key signed it.
    let line = site.access.inner.store.audit_after(2, 1).await.unwrap().pop().unwrap();
    let other = tempfile::tempdir().unwrap();
    let other = AuditHeads::open(other.path(), None).unwrap();
    let cut = sign(&other, &line, Timestamp(1), "audit.keep-days");
    let site = site.with_cut(directory.path(), &cut).await;
    let refused = site.access.accept_audit_cut(3, "root", Timestamp(1)).await;
    assert!(matches!(refused, Err(AcceptCutError::Untold { number: 3 })), "{refused:?}");
    assert!(site.access.audit_alarms().broken.is_some());
    // Nor one of a log that does not go on behind it.
    let gone = AuditCut { hash: "05".repeat(32), ..cut };
    let gone = AuditCut { number: 4, signature: String::new(), ..gone };
    let site = site.with_cut(directory.path(), &gone).await;
    let refused = site.access.accept_audit_cut(4, "root", Timestamp(1)).await;
    assert!(matches!(refused, Err(AcceptCutError::Log(AccessError::Broken(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_cut_that_is_younger_than_the_key_is_not_accepted() {
    let other = tempfile::tempdir().unwrap();
    let other = AuditHeads::open(other.path(), None).unwrap();
    let cut_at = async |site: &Site, number: u64| {
        let line = site.access.inner.store.audit_after(number - 1, 1).await.unwrap().pop().unwrap();
        sign(&other, &line, Timestamp(1), "audit.keep-days")
    };
    // A head in the file tells how old the key is.
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(3).await;
    let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
    site.heads.write(&line, clock::now(), true).await;
    site.record(2).await;
    let cut = cut_at(&site, 4).await;
    let site = site.with_cut(directory.path(), &cut).await;
    let refused = site.access.accept_audit_cut(4, "root", Timestamp(1)).await;
    assert!(matches!(refused, Err(AcceptCutError::KeyIsOlder { number: 4 })), "{refused:?}");
    // And so does a cut.
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    site.record(3).await;
    let cut = cut_at(&site, 6).await;
    let site = site.with_cut(directory.path(), &cut).await;
    let refused = site.access.accept_audit_cut(6, "root", Timestamp(1)).await;
    assert!(matches!(refused, Err(AcceptCutError::KeyIsOlder { number: 6 })), "{refused:?}");
    assert!(site.access.audit_alarms().broken.is_some());
}

/// A cut of a line that never was, signed with this key.
fn forged(heads: &AuditHeads) -> AuditCut {
    let mut cut = AuditCut {
        number: 9,
        at: Timestamp(7),
        hash: "05".repeat(32),
        cut_at: Timestamp(8),
        why: "audit.keep-days".to_owned(),
        key: heads.key(),
        signature: String::new(),
    };
    cut.signature = heads.sign_text(&signed_text(&cut));
    cut
}

/// As somebody writes them who has not this key: without a signature, and with one of another key.
fn forgeries(heads: &AuditHeads) -> [AuditCut; 2] {
    let other = tempfile::tempdir().unwrap();
    let other = AuditHeads::open(other.path(), None).unwrap();
    [AuditCut { signature: "00".repeat(64), ..forged(heads) }, forged(&other)]
}

#[tokio::test]
async fn a_log_that_does_not_fit_its_heads_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    let other_line = serde_json::to_string(&site.heads.sign(3, Timestamp(0), [5; 32])).unwrap();
    std::fs::write(directory.path().join("heads"), other_line).unwrap();
    let due = site.access.due(in_days(31), FIRST_AGE_TURN).await.unwrap().unwrap();
    site.access.verify_against_saved(&site.heads, 5, false).await.unwrap();
    assert!(site.access.audit_alarms().broken.unwrap().contains("was written again: line 3"));
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    assert_eq!((site.access.audit_cut(), site.stored().await), (None, 5));

    // Nor does a cut that is there all the same make it whole.
    site.access.cut(&site.heads, due, in_days(31)).await.unwrap();
    site.access.verify_against_saved(&site.heads, 6, true).await.unwrap();
    assert_eq!(site.access.audit_cut().unwrap().number, 4);
    assert!(site.access.audit_alarms().broken.is_some());
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    site.access.verify_audit().await.unwrap();
    assert_eq!(site.stored().await, 6);
}

#[tokio::test]
async fn a_forged_cut_hides_nothing_and_is_an_alarm() {
    for other_key in [0, 1] {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::open(directory.path(), DAYS_30).await;
        site.record(5).await;
        let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
        site.heads.write(&line, clock::now(), true).await;
        site.run("DELETE FROM access_audit WHERE number > 3").await;
        let cut = &forgeries(&site.heads)[other_key];
        let site = site.with_cut(directory.path(), cut).await;
        assert_eq!(site.numbers().await, [1, 2, 3]);
        assert_eq!(site.access.audit_cut().as_ref(), Some(cut), "who verifies the log sees it");
        let alarm = site.access.audit_alarms().broken.unwrap();
        assert!(
            alarm.starts_with("the cut of the audit log up to line 9 is not signed by"),
            "{alarm}"
        );
        site.access.verify_against_saved(&site.heads, 3, false).await.unwrap();
        let alarm = site.access.audit_alarms().broken.unwrap();
        assert!(alarm.contains("was cut off: it ends with line 3"), "{alarm}");
        site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
        assert_eq!(site.stored().await, 3);
    }
}

#[tokio::test]
async fn behind_a_forged_cut_the_one_of_the_server_counts() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    site.access.keep_within_limits(in_days(31), FIRST_AGE_TURN).await.unwrap();
    site.access.verify_audit().await.unwrap();
    let cut = forgeries(&site.heads)[1].clone();
    let site = site.with_cut(directory.path(), &cut).await;
    assert_eq!(site.numbers().await, [5, 6]);
    assert_eq!(site.access.verify_audit().await.unwrap(), 6);
    assert!(site.access.audit_alarms().broken.is_some());
    let problems = site.problems().await;
    assert!(problems.len() == 1 && problems[0].contains("line 9 is not signed"), "{problems:?}");
}

#[tokio::test]
async fn a_check_of_the_server_wants_a_signature_and_a_line_that_tells() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    // Who has the database removes what it shows, and says that the server did.
    site.run("DELETE FROM access_audit WHERE number <= 4").await;
    let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
    let cut = sign(&site.heads, &AuditLine { number: 4, ..line }, clock::now(), "audit.keep-days");
    let key = site.heads.key();
    let site = site.with_cut(directory.path(), &cut).await;
    for key in [Some(key.as_str()), None] {
        let problems = audit_problems(&site.database, key).await.unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("up to 4 were removed, and no line"), "{problems:?}");
    }
    // A line that tells of another cut is none.
    let told = async |subject: &str, hash: &str| {
        let request = Request { principal: "server", action: CUT, subject, ..Request::default() };
        site.access.record_of_object(request, hash, "audit.keep-days").await.unwrap();
    };
    told("lines up to 3", &cut.hash).await;
    told("lines up to 4", &"00".repeat(32)).await;
    assert_eq!(site.problems().await.len(), 1);
    told("lines up to 4", &cut.hash).await;
    assert_eq!(site.problems().await, [] as [&str; 0], "it waits for its number");
    site.access.chain_pending().await.unwrap();
    assert_eq!(site.problems().await, [] as [&str; 0]);

    site.run("UPDATE access_audit_cuts SET signature = '00'").await;
    let problems = site.problems().await;
    assert!(problems[0].contains("line 4 is not signed"), "{problems:?}");
    assert!(problems[1].contains("some were removed"), "{problems:?}");
}

#[tokio::test]
async fn a_broken_chain_is_an_alarm_and_the_size_is_known_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    let max_bytes = Some(site.access.inner.store.audit_bytes().await.unwrap());
    let site = Site::open(directory.path(), AuditKeep { max_bytes, ..DAYS_30 }).await;
    site.run("UPDATE access_audit SET principal = 'ben' WHERE number = 2").await;
    let refused = site.access.tend_size(in_days(31), FIRST_AGE_TURN).await;
    assert!(
        matches!(refused, Err(AccessError::Broken(BrokenChain::Changed { number: 2 }))),
        "{refused:?}"
    );
    let alarms = site.access.audit_alarms();
    assert!(alarms.broken.unwrap().contains("line 2 was changed after it was written"));
    assert!(alarms.filling.unwrap().contains("100 %"));
    site.run("UPDATE access_audit SET principal = 'ann' WHERE number = 2").await;
    site.access.tend_size(in_days(31), FIRST_AGE_TURN).await.unwrap();
    assert_eq!(site.access.audit_alarms().broken, None);
}

#[tokio::test]
async fn a_clock_that_is_ahead_removes_two_days_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record_days(10).await;
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    for (up, number) in [(0, 0), (1, 2), (2, 2), (24, 2), (25, 4), (48, 4), (49, 6)] {
        site.access.keep_within_limits(in_days(9_000), hours(up)).await.unwrap();
        assert_eq!(site.access.cut_number(), number, "after {up} hours");
    }

    // It is set back in the middle of a turn.
    let day = |day: i64| Timestamp(0).plus_seconds(day * DAY_SECONDS);
    let mut keeping = Keeping::default();
    assert_eq!(keeping.aged(30, day(0), day(9_000), hours(1)), Some(day(2)));
    assert_eq!(keeping.aged(30, day(1), day(31), hours(2)), Some(day(1)));
}

#[tokio::test]
async fn a_cut_that_was_committed_all_the_same_is_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), DAYS_30).await;
    site.record(5).await;
    let (now, store) = (in_days(31), &site.access.inner.store);
    let due = site.access.due(now, FIRST_AGE_TURN).await.unwrap().unwrap();
    // On disk, though whoever wrote it was told that it failed.
    let cut = sign(&site.heads, &due.last, now, due.why);
    store.cut_audit(&cut, due.bytes).await.unwrap();
    let bytes = store.audit_bytes().await.unwrap();
    assert!(site.access.cut(&site.heads, due, now).await.is_err());
    assert_eq!(site.access.cut_that_counts(), Some(cut));
    site.access.keep_within_limits(now, FIRST_AGE_TURN).await.unwrap();
    assert_eq!((store.audit_bytes().await.unwrap(), site.numbers().await), (bytes, vec![5]));
}

#[tokio::test]
async fn some_batches_are_removed_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let site = Site::open(directory.path(), AuditKeep::DEFAULT).await;
    site.record(10).await;
    site.access.remove_up_to(9, 1).await.unwrap();
    assert_eq!(site.stored().await, 10 - u64::from(REMOVALS));
    site.access.remove_up_to(9, 1).await.unwrap();
    assert_eq!(site.stored().await, 1);
}

#[test]
fn an_admin_is_told_before_lines_go() {
    assert_eq!(filling(79, 100), None);
    assert!(filling(80, 100).unwrap().starts_with("the audit log has 80 % of audit.max-gib"));
    assert!(filling(u64::MAX, 0).is_some(), "nothing overflows");
    assert_eq!(large(TOLD_BYTES - 1), None);
    assert!(
        large(TOLD_BYTES).unwrap().starts_with("the audit log has 16 GiB, and nothing is removed")
    );
}
