//! Cuts of a log in a database, by a server and by the one after it.

use std::path::Path;

use database::{Database, Number, statement};

use super::*;
use crate::{audit::BrokenChain, clock};

const DAYS_30: AuditKeep = AuditKeep { days: Some(30), max_bytes: None };

/// A server on the database of a folder, with heads that are kept in a file.
struct Site {
    database: Database,
    access: Access,
    heads: AuditHeads,
}

impl Site {
    async fn open(folder: &Path, keep: AuditKeep) -> Self {
        let database = Database::open(&folder.join("test.db"), &[&crate::SCHEMA]).await.unwrap();
        let heads = AuditHeads::open(folder, Some(folder.join("heads"))).unwrap();
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

    async fn run(&self, text: &'static str) {
        statement("change the log", text).execute(&self.database).await.unwrap();
    }
}

fn in_days(days: i64) -> Timestamp {
    clock::now().plus_seconds(days * DAY_SECONDS + 60)
}

#[tokio::test]
async fn a_log_that_is_too_large_is_cut_and_verified_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path(), AuditKeep::DEFAULT).await;
    site.record(10).await;
    site.access.keep_within_limits(clock::now()).await.unwrap();
    assert_eq!((site.stored().await, site.access.audit_cut()), (10, None), "there is room");
    let site = site.full().await;
    site.access.keep_within_limits(clock::now()).await.unwrap();
    let cut = site.access.audit_cut().unwrap();
    assert!(cut.number > 0 && cut.number < 5, "a tenth of it: {cut:?}");
    assert_eq!(cut.why, "audit.max-gib");
    assert_eq!(verify_cut(&cut, &site.heads.key()), Ok(()));
    assert_eq!(site.numbers().await, (cut.number + 1..=11).collect::<Vec<_>>());
    assert_eq!((site.stored().await, site.access.verify_audit().await.unwrap()), (11 - cut.number, 11));
    let told = &site.access.audit(1).await.unwrap()[0];
    assert!(is_told(&cut, told), "the cut is a row of the log: {told:?}");
    assert_eq!((told.principal.as_str(), told.outcome.as_str()), ("server", "audit.max-gib"));
    let page = site.access.audit_page(None, &super::super::AuditQuery::default(), 100).await.unwrap();
    assert_eq!((page.0.len() as u64, page.1), (11 - cut.number, None), "there is no page of what was cut");

    // What is counted is what is there.
    let lines = site.access.inner.store.audit_after(0, 100).await.unwrap();
    let bytes: u64 = lines.iter().map(AuditLine::bytes).sum();
    assert_eq!(site.access.inner.store.audit_bytes().await.unwrap(), bytes);

    // A server that starts again knows it, and a changed row is found as ever.
    let site = Site::open(folder.path(), AuditKeep::DEFAULT).await;
    assert_eq!(site.access.audit_cut(), Some(cut));
    assert_eq!(site.access.verify_audit().await.unwrap(), 11);
    site.run("UPDATE access_audit SET outcome = '403' WHERE number = 8").await;
    let broken = site.access.verify_audit().await;
    assert!(matches!(broken, Err(AccessError::Broken(BrokenChain::Changed { number: 8 }))), "{broken:?}");
    assert_eq!(super::super::audit_problems(&site.database).await.unwrap(), [] as [&str; 0]);
    site.run("DELETE FROM access_audit WHERE number = 7").await;
    let problems = super::super::audit_problems(&site.database).await.unwrap();
    assert!(problems.len() == 1 && problems[0].contains("some were removed"), "{problems:?}");
}

#[tokio::test]
async fn old_lines_go_once_a_day_and_the_newest_stays() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path(), DAYS_30).await;
    site.record(5).await;
    site.access.keep_within_limits(in_days(30)).await.unwrap();
    assert_eq!(site.access.audit_cut(), None, "a day's worth goes at once");
    site.access.keep_within_limits(in_days(31)).await.unwrap();
    let cut = site.access.audit_cut().unwrap();
    assert_eq!((cut.number, cut.why.as_str()), (4, "audit.keep-days"));
    assert_eq!(site.numbers().await, [5, 6], "numbers go on");
    assert_eq!(site.access.verify_audit().await.unwrap(), 6);
}

#[tokio::test]
async fn a_server_that_was_killed_between_removes_the_rest_later() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path(), DAYS_30).await;
    site.record(5).await;
    let due = site.access.due(in_days(31)).await.unwrap().unwrap();
    // A cut whose row cannot be written is none.
    site.run(
        "CREATE TRIGGER no_rows BEFORE INSERT ON access_audit_pending
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .await;
    assert!(site.access.cut(&site.heads, due.clone(), in_days(31)).await.is_err());
    assert_eq!((site.access.audit_cut(), site.access.inner.store.audit_cut().await.unwrap()), (None, None));
    site.run("DROP TRIGGER no_rows").await;
    site.access.cut(&site.heads, due, in_days(31)).await.unwrap();
    drop(site);
    let site = Site::open(folder.path(), DAYS_30).await;
    assert_eq!(site.numbers().await, [5, 6]);
    assert_eq!((site.access.verify_audit().await.unwrap(), site.stored().await), (6, 6));
    assert_eq!(super::super::audit_problems(&site.database).await.unwrap(), [] as [&str; 0]);
    site.access.keep_within_limits(clock::now()).await.unwrap();
    assert_eq!((site.access.verify_audit().await.unwrap(), site.stored().await), (6, 2));
}

#[tokio::test]
async fn lines_of_a_broken_chain_stay() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path(), DAYS_30).await;
    site.record(5).await;
    site.run("UPDATE access_audit SET principal = 'ben' WHERE number = 2").await;
    let refused = site.access.keep_within_limits(in_days(31)).await;
    assert!(matches!(refused, Err(AccessError::Broken(BrokenChain::Changed { number: 2 }))), "{refused:?}");
    assert_eq!((site.access.audit_cut(), site.stored().await), (None, 5));
}

#[tokio::test]
async fn no_head_of_the_log_is_a_cut() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path(), DAYS_30).await;
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
    let folder = tempfile::tempdir().unwrap();
    let site = Site::open(folder.path(), DAYS_30).await;
    site.record(3).await;
    let line = site.access.inner.store.last_audit().await.unwrap().unwrap();
    site.heads.write(&line, clock::now(), true).await;
    site.record(2).await;
    site.access.keep_within_limits(in_days(31)).await.unwrap();
    assert_eq!(site.access.audit_cut().unwrap().number, 4);
    drop(site);
    let site = Site::open(folder.path(), DAYS_30).await;
    site.access.hold_against_kept(&site.heads, 6, false).await.unwrap();
    assert_eq!(site.access.audit_alarms().broken, None);
    let last = site.access.inner.store.last_audit().await.unwrap().unwrap();
    site.heads.write(&last, clock::now(), true).await;
    let kept = std::fs::read_to_string(folder.path().join("heads")).unwrap();
    assert_eq!(kept.lines().count(), 2, "heads go on behind it");
}

#[test]
fn an_admin_is_told_before_lines_go() {
    assert_eq!(filling(79, 100), None);
    assert!(filling(80, 100).unwrap().starts_with("the audit log has 80 % of audit.max-gib"));
    assert!(filling(u64::MAX, 0).is_some(), "nothing overflows");
    assert_eq!(large(TOLD_BYTES - 1), None);
    assert!(large(TOLD_BYTES).unwrap().starts_with("the audit log has 16 GiB, and nothing is removed"));
}
