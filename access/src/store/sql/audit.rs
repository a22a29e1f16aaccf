//! The audit log in the shared database.

use api::{access::AuditCut, ids::Timestamp};
use async_trait::async_trait;
use database::{
    Database, Number, Value,
    outbox::{Insert as _, WrittenWith},
    statement,
};
use sqlx::{AssertSqlSafe, FromRow};

use super::{Hash, SqlStore};
use crate::{
    audit::{AuditLine, AuditQuery, Details, PendingRow},
    store::{
        StoreError,
        audit::{AuditStore, PendingLine},
    },
};

/// Columns of an [`AuditRow`]: a number, [`EntryColumns`], and what the chain adds.
const AUDIT: &str = "number, at, principal, action, subject, outcome, object, difference, source, token, form, hash";

/// Rows that one statement writes.
const ROWS_PER_STATEMENT: usize = 64;

/// Cuts that are read: those of decades.
const MAX_CUTS: u32 = 10_000;

/// What a row tells, with a number or without.
#[derive(FromRow)]
struct EntryColumns {
    at: i64,
    principal: String,
    action: String,
    subject: String,
    outcome: String,
    object: String,
    difference: String,
    source: String,
    token: String,
}

#[derive(FromRow)]
struct AuditRow {
    number: Number<u64>,
    #[sqlx(flatten)]
    entry: EntryColumns,
    form: Number<u32>,
    #[sqlx(try_from = "Vec<u8>")]
    hash: Hash,
}

#[derive(FromRow)]
struct PendingColumns {
    id: Number<u64>,
    #[sqlx(flatten)]
    entry: EntryColumns,
}

#[derive(FromRow)]
struct CutRow {
    number: Number<u64>,
    at: i64,
    hash: String,
    cut_at: i64,
    why: String,
    signing_key: String,
    signature: String,
}

impl From<AuditRow> for AuditLine {
    fn from(AuditRow { number, entry, form, hash }: AuditRow) -> Self {
        let EntryColumns {
            at,
            principal,
            action,
            subject,
            outcome,
            object,
            difference,
            source,
            token,
        } = entry;
        let details = Details { object, difference, source, token };
        let (number, at, form, hash) = (number.0, Timestamp(at), form.0, hash.0);
        Self { number, at, principal, action, subject, outcome, details, form, hash }
    }
}

impl From<PendingColumns> for PendingLine {
    fn from(PendingColumns { id, entry }: PendingColumns) -> Self {
        let EntryColumns {
            at,
            principal,
            action,
            subject,
            outcome,
            object,
            difference,
            source,
            token,
        } = entry;
        let details = Details { object, difference, source, token };
        Self { id: id.0, at: Timestamp(at), principal, action, subject, outcome, details }
    }
}

impl From<CutRow> for AuditCut {
    fn from(row: CutRow) -> Self {
        Self {
            number: row.number.0,
            at: Timestamp(row.at),
            hash: row.hash,
            cut_at: Timestamp(row.cut_at),
            why: row.why,
            key: row.signing_key,
            signature: row.signature,
        }
    }
}

fn values(line: &AuditLine) -> [Value; 12] {
    [
        line.number.into(),
        line.at.0.into(),
        (&line.principal).into(),
        (&line.action).into(),
        (&line.subject).into(),
        (&line.outcome).into(),
        (&line.details.object).into(),
        (&line.details.difference).into(),
        (&line.details.source).into(),
        (&line.details.token).into(),
        line.form.into(),
        line.hash.as_slice().into(),
    ]
}

impl SqlStore {
    /// The cuts, newest first, also of a database that is only read.
    pub(crate) async fn audit_cuts_of(database: &Database) -> Result<Vec<AuditCut>, StoreError> {
        let text = "SELECT number, at, hash, cut_at, why, signing_key, signature
                      FROM access_audit_cuts ORDER BY number DESC LIMIT $1";
        let cuts = statement("read the cuts of the audit log", text).bind(MAX_CUTS);
        let rows: Vec<CutRow> = cuts.fetch_all(database).await?;
        Ok(rows.into_iter().map(AuditCut::from).collect())
    }
}

#[async_trait]
impl AuditStore for SqlStore {
    async fn put_pending(&self, row: &PendingRow) -> Result<bool, StoreError> {
        Ok(row.insert(WrittenWith::Nothing).execute(&self.database).await? == 1)
    }

    async fn pending(&self, after: u64, limit: u32) -> Result<Vec<PendingLine>, StoreError> {
        let text =
            "SELECT id, at, principal, action, subject, outcome, object, difference, source, token
                      FROM access_audit_pending WHERE id > $1 ORDER BY id LIMIT $2";
        let rows = statement("read what is to be chained", text).bind(after).bind(limit);
        let rows: Vec<PendingColumns> = rows.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(PendingLine::from).collect())
    }

    async fn newest_pending(&self) -> Result<u64, StoreError> {
        let text = "SELECT COALESCE(MAX(id), 0) FROM access_audit_pending";
        let newest = statement("read what is to be chained", text);
        let (Number(id),): (Number<u64>,) = newest.fetch_one(&self.database).await?;
        Ok(id)
    }

    async fn chain(&self, lines: &[(u64, AuditLine)]) -> Result<(), StoreError> {
        const ACTION: &str = "chain the audit log";
        let mut transaction = self.database.begin().await?;
        for lines in lines.chunks(ROWS_PER_STATEMENT) {
            let text = format!("INSERT INTO access_audit ({AUDIT})");
            statement(ACTION, AssertSqlSafe(text))
                .rows(lines.iter().map(|(_, line)| values(line)), "")
                .execute(&mut transaction)
                .await?;
            statement(ACTION, "DELETE FROM access_audit_pending WHERE id IN (")
                .rows(lines.iter().map(|(id, _)| [Value::from(*id)]), ")")
                .execute(&mut transaction)
                .await?;
        }
        let bytes: u64 = lines.iter().map(|(_, line)| line.bytes()).sum();
        let counted =
            statement(ACTION, "UPDATE access_audit_size SET bytes = bytes + $1").bind(bytes);
        counted.execute(&mut transaction).await?;
        transaction.commit(ACTION).await
    }

    async fn last_audit(&self) -> Result<Option<AuditLine>, StoreError> {
        let text = format!("SELECT {AUDIT} FROM access_audit ORDER BY number DESC LIMIT 1");
        let line = statement("read the audit log", AssertSqlSafe(text));
        let row: Option<AuditRow> = line.fetch_optional(&self.database).await?;
        Ok(row.map(AuditLine::from))
    }

    async fn audit_after(&self, after: u64, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        let text =
            format!("SELECT {AUDIT} FROM access_audit WHERE number > $1 ORDER BY number LIMIT $2");
        let lines = statement("read the audit log", AssertSqlSafe(text)).bind(after).bind(limit);
        let rows: Vec<AuditRow> = lines.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(AuditLine::from).collect())
    }

    async fn audit_between(
        &self,
        bottom: u64,
        top: u64,
        query: &AuditQuery,
        limit: u32,
    ) -> Result<Vec<AuditLine>, StoreError> {
        // No principal and no action is empty.
        let text = format!(
            "SELECT {AUDIT} FROM access_audit
              WHERE number > $1 AND number < $2 AND at >= $3
                AND ($4 = '' OR principal = $4) AND ($5 = '' OR action = $5)
              ORDER BY number DESC LIMIT $6"
        );
        let lines = statement("read the audit log", AssertSqlSafe(text))
            .bind(bottom)
            .bind(top)
            .bind(query.since.map_or(i64::MIN, |since| since.0))
            .bind(query.principal.as_deref().unwrap_or_default())
            .bind(query.action.as_deref().unwrap_or_default())
            .bind(limit);
        let rows: Vec<AuditRow> = lines.fetch_all(&self.database).await?;
        Ok(rows.into_iter().map(AuditLine::from).collect())
    }

    async fn audit_bytes(&self) -> Result<u64, StoreError> {
        let bytes =
            statement("read the size of the audit log", "SELECT bytes FROM access_audit_size");
        let (Number(bytes),): (Number<u64>,) = bytes.fetch_one(&self.database).await?;
        Ok(bytes)
    }

    async fn audit_cuts(&self) -> Result<Vec<AuditCut>, StoreError> {
        Self::audit_cuts_of(&self.database).await
    }

    async fn cut_audit(&self, cut: &AuditCut, bytes: u64) -> Result<(), StoreError> {
        const ACTION: &str = "cut the audit log";
        let mut transaction = self.database.begin().await?;
        let text =
            "INSERT INTO access_audit_cuts (number, at, hash, cut_at, why, signing_key, signature)
                    VALUES ($1, $2, $3, $4, $5, $6, $7)";
        statement(ACTION, text)
            .bind(cut.number)
            .bind(cut.at.0)
            .bind(&cut.hash)
            .bind(cut.cut_at.0)
            .bind(&cut.why)
            .bind(&cut.key)
            .bind(&cut.signature)
            .execute(&mut transaction)
            .await?;
        // Lines of an older release were counted in characters.
        let text =
            "UPDATE access_audit_size SET bytes = CASE WHEN bytes > $1 THEN bytes - $1 ELSE 0 END";
        statement(ACTION, text).bind(bytes).execute(&mut transaction).await?;
        transaction.commit(ACTION).await
    }

    async fn sign_cut_again(&self, cut: &AuditCut) -> Result<(), StoreError> {
        const ACTION: &str = "sign a cut of the audit log again";
        let mut transaction = self.database.begin().await?;
        let text = "UPDATE access_audit_cuts SET cut_at = $1, signing_key = $2, signature = $3
                     WHERE number = $4 AND hash = $5";
        let signed = statement(ACTION, text)
            .bind(cut.cut_at.0)
            .bind(&cut.key)
            .bind(&cut.signature)
            .bind(cut.number)
            .bind(&cut.hash)
            .execute(&mut transaction)
            .await?;
        if signed != 1 {
            transaction.rollback().await?;
            return Err(StoreError::Statement { action: ACTION, source: sqlx::Error::RowNotFound });
        }
        transaction.commit(ACTION).await
    }

    async fn remove_audit(&self, number: u64, limit: u32) -> Result<u64, StoreError> {
        let text = "DELETE FROM access_audit
                     WHERE number <= $1 AND number < (SELECT MIN(number) FROM access_audit) + $2";
        let removed = statement("remove old lines of the audit log", text).bind(number).bind(limit);
        removed.execute(&self.database).await
    }
}
