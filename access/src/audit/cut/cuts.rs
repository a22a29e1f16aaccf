//! The cuts that the database has, and which of them counts.

use api::access::AuditCut;

use super::verify_cut;

/// Cuts of a database, into which others may have written.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// Newest first.
    all: Vec<AuditCut>,
    /// The place of the newest that counts; behind the last one if none does.
    good: usize,
}

impl Cuts {
    /// `all`: newest first. `key`: the public key that must have signed them. Without one the
    /// newest counts: there is nothing to check it with.
    pub(crate) fn new(all: Vec<AuditCut>, key: Option<&str>) -> Self {
        let mut cuts = Self { all, good: 0 };
        if let Some(key) = key {
            cuts.judge(key);
        }
        cuts
    }

    /// From now on those count that this key signed.
    pub(crate) fn judge(&mut self, key: &str) {
        let good = self.all.iter().position(|cut| verify_cut(cut, key).is_ok());
        self.good = good.unwrap_or(self.all.len());
    }

    pub(crate) fn newest(&self) -> Option<&AuditCut> {
        self.all.first()
    }

    /// The newest that counts.
    pub(crate) fn that_counts(&self) -> Option<&AuditCut> {
        self.all.get(self.good)
    }

    /// What is said of the newest, if it does not count.
    pub(crate) fn forged(&self) -> Option<String> {
        let AuditCut { number, .. } = self.newest().filter(|_| self.good > 0)?;
        Some(format!(
            "the cut of the audit log up to line {number} is not signed by this server: find out who \
             changed the database, or restore `audit.key` if it was lost. If it was lost and is in no \
             backup, stop the server, and accept the cut with `bedplate server accept-audit-cut \
             {number}`. Until then no line is removed"
        ))
    }
}
