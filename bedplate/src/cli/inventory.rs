//! `inventory`: questions about the hardware of all nodes.

use api::{
    inventory::{Answer, Answered},
    labels::Selector,
};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use serde_json::Value;

use super::{
    complete,
    context::Session,
    csv,
    output::{Format, Rows, print_data, print_note},
    table::{Cell, Style, table},
    words::{count, size},
};

/// Columns of tables and CSV where none are named.
const COLUMNS: &str =
    "name,status.phase,system.product,topology.cpu_model,topology.pus,memory_bytes,gpus.model";

/// Nodes of which the answer is unclear that are told one by one.
const MAX_UNCLEAR: usize = 5;

/// Query the hardware of all nodes.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the nodes whose hardware matches an expression.
    #[command(
        after_help = "EXPR is in CEL, the Common Expression Language. It sees the fields of `bedplate node inventory NODE -o json`, with `_`
for `-`, and `name`, `labels` and `status` of `bedplate node show NODE -o json`. A fact that a node has not reported is absent: has(FIELD)
tests for it. A node without a fact that EXPR needs is not listed, but named on standard error. KiB, MiB,
GiB and TiB are numbers. Without EXPR all nodes are listed.

Columns are fields too; a path through a list gives the values of all its elements. Without --columns json and yaml have whole
inventories. In CSV (RFC 4180) lists are JSON, and missing facts are empty.

Examples:
  bedplate inventory query 'memory_bytes < 512 * GiB'
  bedplate inventory query 'gpus.exists(g, g.model.contains(\"H100\")) && status.phase == \"ready\"'
  bedplate inventory query 'topology.pus >= 64' -l rack=a1 --columns 'name,labels.rack'
  bedplate inventory query 'size(faults) > 0' --columns name,faults.subject,faults.message
  bedplate inventory query 'devices.exists(d, has(d.sick))' --columns name,devices.name,devices.sick
  bedplate inventory query --columns name,firmware.version,topology.microcode -o csv > firmware.csv
  bedplate inventory query 'infiniband.exists(i, i.ports.exists(p, p.state != \"ACTIVE\"))' --nodes 'n[1-64]'"
    )]
    Query(Question),
}

/// A question.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// Expression in CEL that selects nodes [default: all].
    #[arg(value_name = "EXPR")]
    filter: Option<String>,
    /// Only these nodes: names, or host lists such as n[1-8],login1.
    #[arg(long, value_name = "NODES", add = ArgValueCompleter::new(complete::nodes))]
    nodes: Option<String>,
    /// Only nodes with such labels: rack=a1,tier!=test,gpu,!old.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    labels: Option<Selector>,
    /// Fields, such as name,topology.cpu_model,gpus.model.
    #[arg(long, value_name = "FIELDS")]
    columns: Option<String>,
}

pub(super) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let Verb::Query(Question { filter, nodes, columns, labels }) = verb;
    let format = session.out.format();
    let has_columns = matches!(format, Format::Table | Format::Csv);
    let columns = columns.as_deref().or_else(|| has_columns.then_some(COLUMNS));
    let client = session.client()?;
    let answer = client
        .query_inventory(filter.as_deref(), nodes.as_deref(), columns, labels.as_ref())
        .await?;
    for unclear in answer.unclear.iter().take(MAX_UNCLEAR) {
        print_note(&format!("{} is left out: {}", unclear.name, unclear.cause));
    }
    let more = answer.unclear.len().saturating_sub(MAX_UNCLEAR);
    if more > 0 {
        print_note(&format!("{} more are left out; -o json says why", count(more, "node")));
    }
    match format {
        Format::Csv => print_data(&records(&answer)),
        _ => session.out.show(&answer, |style| draw(*style, &answer)),
    }
}

fn draw(style: Style, answer: &Answer) -> String {
    if answer.nodes.is_empty() {
        return "no nodes\n".to_owned();
    }
    let header: Vec<String> = answer.columns.iter().map(|column| column.to_uppercase()).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |node: &Answered| {
        let cell = |(column, value): (&String, &Value)| Cell::new(format_value(column, value));
        answer.columns.iter().zip(&node.values).map(cell).collect()
    };
    table(style, &header, answer.nodes.iter().map(row))
}

/// A value for people: sizes in their unit, equal neighbours of a list counted.
fn format_value(column: &str, value: &Value) -> String {
    let is_size = column.replace('-', "_").ends_with("_bytes");
    match value {
        Value::Null => "-".to_owned(),
        Value::Number(number) if is_size => {
            number.as_u64().map_or_else(|| number.to_string(), size)
        }
        Value::String(text) => text.trim().to_owned(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(values) => {
            let mut runs: Vec<(String, usize)> = Vec::new();
            for value in values {
                let text = format_value(column, value);
                match runs.last_mut() {
                    Some((last, number)) if *last == text => *number += 1,
                    _ => runs.push((text, 1)),
                }
            }
            let run = |(text, number): (String, usize)| {
                if number == 1 { text } else { format!("{number} × {text}") }
            };
            runs.into_iter().map(run).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The columns that were asked for, a record for each node.
fn records(answer: &Answer) -> String {
    let line =
        |node: &Answered| csv::record(node.values.iter().map(|value| csv::field(Some(value))));
    let header = csv::record(answer.columns.iter().map(|column| csv::quoted(column)));
    answer.nodes.iter().map(line).fold(header, |text, line| text + &line)
}

impl Rows for Answer {
    /// Those of each answer are its own: `records` prints them.
    const COLUMNS: &'static [&'static str] = &[];
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn answer() -> Answer {
        let node = |name: &str, values: Value| {
            let Value::Array(values) = values else { unreachable!("an array is given") };
            Answered { name: name.parse().unwrap(), values, inventory: None }
        };
        Answer {
            columns: ["name", "memory_bytes", "gpus.model", "os.name"].map(str::to_owned).into(),
            nodes: vec![
                node(
                    "n1",
                    json!(["n1", 549_755_813_888_u64, ["H100", "H100", "A2"], "Debian, \"12\""]),
                ),
                node("n2", json!(["n2", null, [], "two\nlines"])),
            ],
            unclear: Vec::new(),
        }
    }

    #[test]
    fn a_table_for_people() {
        expect![[r#"
            NAME  MEMORY_BYTES  GPUS.MODEL    OS.NAME
            n1    512 GiB       2 × H100, A2  Debian, "12"
            n2    -             -             two\nlines
        "#]]
        .assert_eq(&draw(Style::PLAIN, &answer()));
        assert_eq!(draw(Style::PLAIN, &Answer::default()), "no nodes\n");
    }

    #[test]
    fn csv_as_the_standard_has_it() {
        let expected = "name,memory_bytes,gpus.model,os.name\r\n\
            n1,549755813888,\"[\"\"H100\"\",\"\"H100\"\",\"\"A2\"\"]\",\"Debian, \"\"12\"\"\"\r\n\
            n2,,[],\"two\nlines\"\r\n";
        assert_eq!(records(&answer()), expected);
    }
}
