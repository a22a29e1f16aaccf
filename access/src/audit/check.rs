//! The audit log as `bedplate server check` looks at it: beside a server that may run, in a few
//! statements. The whole chain is `bedplate audit verify`'s.

use api::access::AuditCut;
use database::{Database, DatabaseError, Number, statement};

use super::cut::{self, Cuts};
use crate::store::sql::SqlStore;

/// What is wrong with the tables of the audit log, a line each. The server starts all the same.
/// `key`: the server's public key, which must have signed the cuts; `None` if there is none yet.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn audit_problems(
    database: &Database,
    key: Option<&str>,
) -> Result<Vec<String>, DatabaseError> {
    let cuts = Cuts::new(SqlStore::audit_cuts_of(database).await?, key);
    let mut problems: Vec<String> = cuts.forged().into_iter().collect();
    let cut = cuts.that_counts();
    if let Some(cut) = cut
        && !is_told(database, cut).await?
    {
        problems.push(format!(
            "lines of the audit log up to {} were removed, and no line of it tells of that: the server \
             did not remove them",
            cut.number
        ));
    }
    problems.extend(gap(database, cut.map_or(0, |cut| cut.number)).await?);
    Ok(problems)
}

/// Does a row of the log, or one that is to become one, tell of this cut? One statement: the row
/// may get its number meanwhile.
async fn is_told(database: &Database, cut: &AuditCut) -> Result<bool, DatabaseError> {
    let text = "SELECT (SELECT COUNT(*) FROM access_audit
                         WHERE number > $1 AND action = $2 AND subject = $3 AND object = $4)
                     + (SELECT COUNT(*) FROM access_audit_pending
                         WHERE action = $2 AND subject = $3 AND object = $4)";
    let told = statement("look for what tells of a cut of the audit log", text)
        .bind(cut.number)
        .bind(cut::CUT)
        .bind(cut::subject(cut.number))
        .bind(&cut.hash);
    let (Number(told),): (Number<u64>,) = told.fetch_one(database).await?;
    Ok(told > 0)
}

/// What is said of rows that are missing behind a cut.
async fn gap(database: &Database, cut: u64) -> Result<Option<String>, DatabaseError> {
    let text = "SELECT COALESCE(MAX(number), 0), COUNT(*) FROM access_audit WHERE number > $1";
    let numbers = statement("read the audit log", text).bind(cut);
    let (Number(last), Number(lines)): (Number<u64>, Number<u64>) =
        numbers.fetch_one(database).await?;
    // Numbers have no gaps, begin with 1 or behind a cut, and a cut leaves a line at least.
    let is_whole = last.checked_sub(cut) == Some(lines);
    Ok((!is_whole).then(|| {
        let behind =
            if cut > 0 { format!(" behind line {cut}, where it was cut") } else { String::new() };
        format!(
            "the audit log ends with line {last} and has {lines} lines{behind}: some were removed; \
             `bedplate audit verify` tells where"
        )
    }))
}
