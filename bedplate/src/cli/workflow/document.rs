//! `workflow validate` and `workflow render`: documents as the server understands them; `workflow
//! document`: one as it was handed in.

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use api::workflow::Checked;
use client::{Client, ClientError};

use super::super::{
    context::Session,
    input::{print_diagnostics, read},
    output::{Format, print_data, print_note},
    words::count,
};

/// Checks a document against the server's cluster, or by itself where there is none.
pub(super) async fn validate(session: &Session, file: &Path) -> anyhow::Result<ExitCode> {
    let (file, document) = read(file)?;
    // The server's word counts where there is one: it may be of a later release.
    let of_server = if session.path().exists() {
        match session.client()?.validate_workflow(document.clone()).await {
            Err(ClientError::Unreachable { server, .. }) => {
                Err(format!("the server at {server} cannot be reached"))
            }
            answer => Ok(answer?),
        }
    } else {
        Err("no context names a server".to_owned())
    };
    let checked = of_server.unwrap_or_else(|why| {
        print_note(&format!("checked without a cluster, which may lack what it needs: {why}"));
        match ::document::parse(&document) {
            Ok(parsed) => Checked { diagnostics: Vec::new(), warnings: parsed.warnings },
            Err(diagnostics) => Checked { diagnostics, warnings: Vec::new() },
        }
    });
    session.out.show(&checked, |_| verdict(&file, &checked))?;
    Ok(if checked.diagnostics.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a workflow is called after the file of its document, `None` if the document names it itself
/// or comes from standard input.
pub(super) fn name_of_file(file: &Path, document: &str) -> Option<String> {
    if file == Path::new("-") {
        return None;
    }
    // What cannot be read here, the server may tell.
    let own = ::document::parse(document).ok()?.workflow.name;
    let stem = file.file_stem()?.to_str()?;
    let name: String = stem.chars().filter(|one| !one.is_control()).take(MAX_NAME).collect();
    (own.is_none() && !matches!(name.as_str(), "" | "." | "..")).then_some(name)
}

/// Longest name of a workflow, characters.
const MAX_NAME: usize = 63;

fn verdict(file: &str, checked: &Checked) -> String {
    let mut text: String =
        checked.diagnostics.iter().map(|diagnostic| format!("{file}:{diagnostic}\n")).collect();
    for warning in &checked.warnings {
        text.push_str(&format!("{file}:{warning} (warning)\n"));
    }
    let verdict = match checked.diagnostics.len() {
        0 => format!("{file} can be started\n"),
        diagnostics => format!("{file} has {}\n", count(diagnostics, "mistake")),
    };
    text + &verdict
}

pub(super) async fn render(session: &Session, client: &Client, file: &Path) -> anyhow::Result<()> {
    session.out.refuse_csv("workflow render")?;
    let (file, document) = read(file)?;
    let rendered =
        client.render_workflow(document).await.map_err(|error| print_diagnostics(&file, error))?;
    if session.out.format() == Format::Json {
        let value: serde_json::Value =
            serde_saphyr::from_str(&rendered).context("cannot read the server's document")?;
        return print_data(
            &(serde_json::to_string_pretty(&value).context("cannot write as JSON")? + "\n"),
        );
    }
    print_data(&rendered)
}

/// Prints the document of a workflow as it was handed in, byte for byte.
pub(super) async fn submitted(
    session: &Session,
    client: &Client,
    workflow: &str,
) -> anyhow::Result<()> {
    session.out.refuse_format("workflow document")?;
    print_data(&client.workflow_document(workflow).await?)
}

#[cfg(test)]
mod tests {
    use api::problem::Diagnostic;
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_verdict_names_file_line_and_column() {
        let diagnostic = |line, message: &str| Diagnostic {
            line,
            column: 3,
            path: "jobs.a".to_owned(),
            message: message.to_owned(),
            hint: None,
        };
        let mut checked =
            Checked { diagnostics: Vec::new(), warnings: vec![diagnostic(2, "is not used")] };
        expect![[r#"
            w.yaml:2:3: jobs.a: is not used (warning)
            w.yaml can be started
        "#]]
        .assert_eq(&verdict("w.yaml", &checked));
        checked.diagnostics.push(diagnostic(4, "has no image"));
        expect![[r#"
            w.yaml:4:3: jobs.a: has no image
            w.yaml:2:3: jobs.a: is not used (warning)
            w.yaml has 1 mistake
        "#]]
        .assert_eq(&verdict("w.yaml", &checked));
    }
}
