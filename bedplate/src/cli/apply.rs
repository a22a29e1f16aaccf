//! `apply` and `export`: the whole cluster as a YAML document.

use std::path::PathBuf;

use anyhow::Context as _;
use api::machine::{Applied, Change};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    columns,
    context::Session,
    input::{print_diagnostics, read},
    output::{Format, Rows, print_data},
    words::count,
};

/// Create and change nodes and profiles to match a YAML document.
#[derive(Debug, Args)]
#[command(
    after_help = "The whole document is applied, or nothing. Every error is reported with its line and column.

Examples:
  bedplate apply -f cluster.yaml --dry-run
  bedplate export | sed s/debian@3/debian@4/ | bedplate apply -f -

A document:
  profiles:
    compute: { image: debian-node, kernel-args: [console=ttyS0] }
  nodes:
    n1:
      profiles: [compute]
      interfaces: { lan0: { mac: '52:54:00:12:34:56', address: 10.1.0.11/24 } }"
)]
pub(super) struct Apply {
    /// The document; - reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Also delete nodes and profiles that the document does not name.
    #[arg(long)]
    prune: bool,
}

pub(super) async fn apply(session: &Session, apply: &Apply) -> anyhow::Result<()> {
    let (name, document) = read(&apply.file)?;
    let request = api::machine::Apply { document, dry_run: apply.dry_run, prune: apply.prune };
    let applied = session.client()?.apply(&request).await;
    let applied = applied.map_err(|error| print_diagnostics(&name, error))?;
    session.out.show(&applied, |_| changes(&applied, apply.dry_run))
}

fn changes(applied: &Applied, dry_run: bool) -> String {
    let line = |change: &Change| {
        let head = format!("{} {} {}\n", change.kind, change.name, change.action);
        // Of what is new every field is new: the document has them.
        let fields = if change.action == "changed" { change.fields.as_slice() } else { &[] };
        head + &fields.iter().map(|field| format!("  {field}\n")).collect::<String>()
    };
    let lines: String = applied.changes.iter().map(line).collect();
    let number = count(applied.changes.len(), "change");
    match (applied.changes.is_empty(), dry_run) {
        (true, _) => "nothing to change\n".to_owned(),
        (false, true) => format!("{lines}{number} would be made\n"),
        (false, false) => format!("{lines}{number} made\n"),
    }
}

pub(super) async fn export(session: &Session) -> anyhow::Result<()> {
    let document = session.client()?.export().await?;
    match session.out.format() {
        // `apply` takes it as it is.
        Format::Table | Format::Yaml => print_data(&document),
        Format::Json | Format::Csv => {
            let document: Exported =
                serde_saphyr::from_str(&document).context("cannot read the server's document")?;
            session.out.show(&document, |_| String::new())
        }
    }
}

/// A document with all nodes and profiles.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Exported(Value);

impl Rows for Exported {
    const COLUMNS: &'static [&'static str] = columns::DECLARED;

    /// A row for each profile, then for each node.
    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let of = |(kind, section): (&'static str, &str)| {
            let named = self.0.get(section).and_then(Value::as_object).into_iter().flatten();
            named.map(move |(name, spec)| json!({"kind": kind, "name": name, "spec": spec}))
        };
        Ok([("profile", "profiles"), ("node", "nodes")].into_iter().flat_map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_exported_document_has_a_row_for_each_profile_and_node() {
        let document = "nodes: {n1: {image: a}}\nprofiles: {p: {image: b, groups: [x]}}\n";
        let document: Exported = serde_saphyr::from_str(document).unwrap();
        let rows = document.rows().unwrap();
        expect![[r#"
            {"kind":"profile","name":"p","spec":{"image":"b","groups":["x"]}}
            {"kind":"node","name":"n1","spec":{"image":"a"}}
        "#]]
        .assert_eq(&rows.iter().map(|row| format!("{row}\n")).collect::<String>());
        let empty: Exported = serde_saphyr::from_str("{}").unwrap();
        assert!(empty.rows().unwrap().is_empty());
    }

    #[test]
    fn changes_show_fields_of_what_was_there() {
        let change = |kind: &str, name: &str, action: &str, fields: &[&str]| Change {
            kind: kind.to_owned(),
            name: name.to_owned(),
            action: action.to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        let applied = Applied {
            changes: vec![
                change(
                    "profile",
                    "compute",
                    "changed",
                    &["image: debian@3 -> debian@4", "kernel: - -> 6.1"],
                ),
                change("node", "n1", "created", &["image: - -> debian"]),
            ],
        };
        expect![[r#"
            profile compute changed
              image: debian@3 -> debian@4
              kernel: - -> 6.1
            node n1 created
            2 changes made
        "#]]
        .assert_eq(&changes(&applied, false));
        expect![[r#"
            profile compute changed
              image: debian@3 -> debian@4
              kernel: - -> 6.1
            node n1 created
            2 changes would be made
        "#]]
        .assert_eq(&changes(&applied, true));
        expect![[r#"
            nothing to change
        "#]]
        .assert_eq(&changes(&Applied { changes: Vec::new() }, true));
    }
}
