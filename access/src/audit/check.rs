//! The audit log as `bedplate server check` looks at it: beside a server that may run, in two
//! statements. The whole chain is `bedplate audit verify`'s.

use database::{Database, DatabaseError, Number, statement};

/// What is wrong with the tables of the audit log, a line each. The server starts all the same.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn audit_problems(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let text = "SELECT COALESCE(MAX(number), 0) FROM access_audit_cuts";
    let cut = statement("read the cut of the audit log", text);
    let (Number(cut),): (Number<u64>,) = cut.fetch_one(database).await?;
    let text = "SELECT COALESCE(MAX(number), 0), COUNT(*) FROM access_audit WHERE number > $1";
    let numbers = statement("read the audit log", text).bind(cut);
    let (Number(last), Number(lines)): (Number<u64>, Number<u64>) = numbers.fetch_one(database).await?;
    // Numbers have no gaps, begin with 1 or behind a cut, and a cut leaves a line at least.
    let problem = (last.checked_sub(cut) != Some(lines)).then(|| {
        let behind = if cut > 0 { format!(" behind line {cut}, where it was cut") } else { String::new() };
        format!(
            "the audit log ends with line {last} and has {lines} lines{behind}: some were removed; \
             `bedplate audit verify` tells where"
        )
    });
    Ok(problem.into_iter().collect())
}
