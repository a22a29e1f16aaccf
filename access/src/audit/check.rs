//! The audit log as `bedplate server check` looks at it: beside a server that may run, in two
//! statements. The whole chain is `bedplate audit verify`'s.

use database::{Database, DatabaseError, Number, statement};

/// What is wrong with the tables of the audit log, a line each. The server starts all the same.
///
/// # Errors
/// [`DatabaseError`] if the tables cannot be read.
pub async fn audit_problems(database: &Database) -> Result<Vec<String>, DatabaseError> {
    let text = "SELECT COALESCE(MAX(number), 0), COUNT(*) FROM access_audit";
    let numbers = statement("read the audit log", text);
    let (Number(last), Number(lines)): (Number<u64>, Number<u64>) = numbers.fetch_one(database).await?;
    // Numbers have no gaps, and begin with 1.
    let problem = (last != lines).then(|| {
        format!(
            "the audit log ends with line {last} and has {lines} lines: some were removed; \
             `bedplate audit verify` tells where"
        )
    });
    Ok(problem.into_iter().collect())
}
