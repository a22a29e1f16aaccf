//! Quotas of users: how they are shown, and how limits are said in `user set --quota`.

use std::{collections::BTreeMap, str::FromStr};

use api::quota::{
    LimitError, QuotaName, QuotaUnit, QuotaUse, SetQuotas, UnknownQuota, UserQuotas, parse_limit,
};
use client::Client;
use serde_json::{Value, json};

use super::{
    columns,
    output::Rows,
    table::{Style, cells, table},
    words::size,
};

/// A limit as somebody says it: `logs=20GiB`, `tokens=none`, `images=default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuotaFlag {
    name: QuotaName,
    limit: NewLimit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NewLimit {
    /// That of everybody.
    Default,
    /// The user's own; `None`: no limit.
    Own(Option<u64>),
}

/// Text that says no limit.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuotaFlagError {
    #[error("write QUOTA=LIMIT, such as logs=20GiB, tokens=none or images=default")]
    Form,
    #[error(transparent)]
    Unknown(#[from] UnknownQuota),
    #[error("{0}; `default` for that of everybody")]
    Limit(LimitError),
}

impl FromStr for QuotaFlag {
    type Err = QuotaFlagError;

    fn from_str(text: &str) -> Result<Self, QuotaFlagError> {
        let (name, limit) = text.split_once('=').ok_or(QuotaFlagError::Form)?;
        let name: QuotaName = name.parse()?;
        let limit = match limit {
            "default" => NewLimit::Default,
            limit => NewLimit::Own(parse_limit(name.unit(), limit).map_err(QuotaFlagError::Limit)?),
        };
        Ok(Self { name, limit })
    }
}

/// Sets limits of a user; those that are not said stay.
pub(super) async fn set(client: &Client, user: &str, flags: &[QuotaFlag]) -> anyhow::Result<()> {
    let before = client.quotas(user).await?;
    client.set_quotas(user, &SetQuotas { limits: merged(&before, flags) }).await?;
    Ok(())
}

/// The user's own limits, with those that are said.
fn merged(before: &UserQuotas, flags: &[QuotaFlag]) -> BTreeMap<String, Option<u64>> {
    let own = before.quotas.iter().filter(|quota| quota.own);
    let mut limits: BTreeMap<String, Option<u64>> =
        own.map(|quota| (quota.name.clone(), quota.limit)).collect();
    for QuotaFlag { name, limit } in flags {
        match limit {
            NewLimit::Default => limits.remove(name.as_str()),
            NewLimit::Own(limit) => limits.insert(name.as_str().to_owned(), *limit),
        };
    }
    limits
}

impl Rows for UserQuotas {
    const COLUMNS: &'static [&'static str] = columns::QUOTA;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let row = |quota: &QuotaUse| {
            let mut row = json!({"user": self.user});
            if let (Value::Object(row), Value::Object(quota)) =
                (&mut row, serde_json::to_value(quota)?)
            {
                row.extend(quota);
            }
            Ok(row)
        };
        self.quotas.iter().map(row).collect()
    }
}

/// What a user has of what the user may have.
pub(super) fn quota_table(style: Style, quotas: &UserQuotas) -> String {
    let row = |quota: &QuotaUse| {
        let number = |number: u64| match quota.unit {
            QuotaUnit::Bytes => size(number),
            QuotaUnit::Count | QuotaUnit::Unknown => number.to_string(),
        };
        cells([
            quota.name.clone(),
            number(quota.used),
            quota.limit.map_or_else(|| "none".to_owned(), number),
            if quota.own { "own" } else { "" }.to_owned(),
        ])
    };
    table(style, &["QUOTA", "USED", "LIMIT", ""], quotas.quotas.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_and_merged() {
        let flag = |text: &str| text.parse::<QuotaFlag>();
        let quota = |name: &str, limit, own| QuotaUse {
            name: name.to_owned(),
            unit: QuotaUnit::Count,
            used: 0,
            limit,
            own,
        };
        let quotas = vec![
            quota("tokens", Some(5), true),
            quota("tasks", None, true),
            quota("logs", Some(9), false),
        ];
        let before = UserQuotas { user: "ann".to_owned(), quotas };
        let flags = ["logs=20GiB", "tokens=default", "images=none"].map(|text| flag(text).unwrap());
        let limits = merged(&before, &flags);
        let wanted = [("images", None), ("logs", Some(20 << 30)), ("tasks", None)];
        let wanted = BTreeMap::from(wanted.map(|(name, limit)| (name.to_owned(), limit)));
        assert_eq!(limits, wanted);
        for (wrong, told) in [
            ("logs", "write QUOTA=LIMIT"),
            ("disk=1", "\"disk\" is no quota; there are tokens"),
            ("tokens=1GiB", "\"1GiB\" is no limit: write a number, or `none`"),
        ] {
            let error = flag(wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_is_used_stands_beside_the_limit() {
        let quota = |name: &str, unit, used, limit, own| QuotaUse {
            name: name.to_owned(),
            unit,
            used,
            limit,
            own,
        };
        let quotas = vec![
            quota("tokens", QuotaUnit::Count, 3, Some(100), false),
            quota("logs", QuotaUnit::Bytes, 3 << 29, Some(20 << 30), true),
            quota("tasks", QuotaUnit::Count, 0, None, true),
        ];
        let shown = quota_table(Style::PLAIN, &UserQuotas { user: "ann".to_owned(), quotas });
        let words: Vec<Vec<&str>> =
            shown.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        let line = |index: usize| {
            words[index].iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>()
        };
        assert_eq!(line(0), ["QUOTA", "USED", "LIMIT"]);
        assert_eq!(line(1), ["tokens", "3", "100"]);
        assert_eq!(line(2), ["logs", "1.5 GiB", "20 GiB", "own"]);
        assert_eq!(line(3), ["tasks", "0", "none", "own"]);
    }
}
