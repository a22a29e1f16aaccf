//! Source in, source out.

use super::*;
use crate::rename::table::Table;

/// The source after the identifiers of a table's group, and what was refused.
fn rename(identifiers: &str, source: &str) -> (String, Vec<String>) {
    let text = format!("[[group]]\nname = \"g\"\npaths = [\"**\"]\n{identifiers}\n");
    let table = Table::parse(&text).unwrap();
    let rules = Rules::of(&table.group[0], "a.rs", source);
    let rewritten = rewrite("a.rs", source, &rules);
    (rewritten.text, rewritten.refusals)
}

fn renamed_to(identifiers: &str, source: &str) -> String {
    let (text, refusals) = rename(identifiers, source);
    assert_eq!(refusals, Vec::<String>::new());
    text
}

const TOLD: &str = r#"identifiers = [{ from = "told", to = "reported" }]"#;

#[test]
fn whole_identifiers_change_and_strings_do_not() {
    let source = "fn told(told_before: u8) { row.get(\"told\"); json!({\"told\": 'a'}); told(1) }";
    let wanted =
        "fn reported(told_before: u8) { row.get(\"told\"); json!({\"told\": 'a'}); reported(1) }";
    assert_eq!(renamed_to(TOLD, source), wanted);
    assert_eq!(renamed_to(TOLD, "r#told 'told"), "r#told 'told");
}

#[test]
fn names_in_format_strings_change() {
    let source =
        r#"format!("{told} {{told}} {told:?} {x:>told$} told"); f("{told}"); expect!["{told}"];"#;
    let wanted = r#"format!("{reported} {{told}} {reported:?} {x:>reported$} told"); f("{told}"); expect!["{told}"];"#;
    assert_eq!(renamed_to(TOLD, source), wanted);
    let error = "#[derive(Error)] enum E { #[error(\"it {told}\")] A { told: u8 } }";
    assert!(renamed_to(TOLD, error).contains("#[error(\"it {reported}\")] A { reported: u8 }"));
}

#[test]
fn paths_in_serde_attributes_change_and_wire_names_do_not() {
    let source = "#[serde(default = \"x::told\", rename = \"told\", alias = \"told\")] y: u8";
    let wanted = "#[serde(default = \"x::reported\", rename = \"told\", alias = \"told\")] y: u8";
    assert_eq!(renamed_to(TOLD, source), wanted);
}

#[test]
fn code_in_comments_changes() {
    let source = "/// [`told`] is told: `x.told()`.\n/// ```\n/// told();\n/// ```\nfn told() {} // `told` told\n";
    let wanted = "/// [`reported`] is told: `x.reported()`.\n/// ```\n/// reported();\n/// ```\nfn reported() {} // `reported` told\n";
    assert_eq!(renamed_to(TOLD, source), wanted);
    // Without it in code, it may as well be a key.
    assert_eq!(renamed_to(TOLD, "/// `told`\nfn f() {}"), "/// `told`\nfn f() {}");
}

#[test]
fn a_sequence_changes_what_is_in_it_alone() {
    let entries = r#"identifiers = [{ from = "fleet.tell(", to = "fleet.try_send(" },
        { from = "Flow::take", to = "Flow::adopt" }, { from = "Flow", to = "WorkflowState" }]"#;
    let source = "fleet.tell(1); other.tell(2); Flow::take(); Flow::new(); take();";
    let wanted =
        "fleet.try_send(1); other.tell(2); WorkflowState::adopt(); WorkflowState::new(); take();";
    assert_eq!(renamed_to(entries, source), wanted);
}

#[test]
fn a_word_changes_in_every_case_and_what_has_an_entry_follows_that() {
    let entries = r#"identifiers = [{ from = "folder_path", to = "path" }]
words = [{ from = "folder", to = "directory", except = ["old_folder"] }]"#;
    let source = "let folder: RunFolder = MAX_FOLDER; folder_path; old_folder; folders;";
    let wanted = "let directory: RunDirectory = MAX_DIRECTORY; path; old_folder; folders;";
    assert_eq!(renamed_to(entries, source), wanted);
}

#[test]
fn two_things_do_not_become_one() {
    let (_, refusals) = rename(TOLD, "fn told() {} fn reported() {}");
    assert_eq!(refusals, ["a.rs: told to reported: reported is there already"]);
    let both =
        r#"identifiers = [{ from = "told", to = "reported" }, { from = "said", to = "reported" }]"#;
    assert_eq!(rename(both, "told(); said();").1.len(), 1);
    let beside = r#"identifiers = [{ from = "told", to = "reported", beside = true }]"#;
    assert_eq!(renamed_to(beside, "told(); reported();"), "reported(); reported();");
    let swapped =
        r#"identifiers = [{ from = "told", to = "said" }, { from = "said", to = "reported" }]"#;
    assert_eq!(renamed_to(swapped, "told(); said();"), "said(); reported();");
}

#[test]
fn a_wire_name_is_kept_or_the_rename_refused() {
    let source =
        "#[derive(Serialize)] #[serde(rename_all = \"kebab-case\")]\nstruct A { pub run_told: u8 }";
    let entry =
        |more: &str| format!("identifiers = [{{ from = \"run_told\", to = \"report\"{more} }}]");
    let (_, refusals) = rename(&entry(""), source);
    assert_eq!(
        refusals,
        ["a.rs:2: run_told: serde shows its name; serde = \"run-told\" in the table keeps it"]
    );
    let (_, refusals) = rename(&entry(", serde = \"run_told\""), source);
    assert!(refusals[0].contains("the name there is \"run-told\""), "{refusals:?}");
    let kept = renamed_to(&entry(", serde = \"run-told\""), source);
    assert!(
        kept.ends_with("struct A { #[serde(rename = \"run-told\")]\npub report: u8 }"),
        "{kept}"
    );
}

#[test]
fn columns_options_schemas_and_operations_are_kept_or_refused() {
    let cases = [
        (
            "#[derive(FromRow)] struct R { told: i64 }",
            "column = \"told\"",
            "#[sqlx(rename = \"told\")]",
        ),
        (
            "#[derive(Args)] struct R { #[arg(long)] told: i64 }",
            "clap = 'arg(long = \"told\")'",
            "#[arg(long)] #[arg(long = \"told\")]\nreported",
        ),
        (
            "#[derive(ToSchema)]\npub struct told(u8);",
            "schema = \"told\"",
            "#[schema(as = told)]\npub struct",
        ),
        (
            "#[cfg_attr(feature = \"openapi\", derive(ToSchema))] struct told(u8);",
            "schema = \"told\"",
            "#[cfg_attr(feature = \"openapi\", schema(as = told))]\nstruct",
        ),
        (
            "#[utoipa::path(get)] fn told() {}",
            "operation = \"told\"",
            "path(get, operation_id = \"told\")]",
        ),
    ];
    for (source, pin, kept) in cases {
        let (_, refusals) = rename(TOLD, source);
        assert_eq!(refusals.len(), 1, "{source}");
        let entry = format!("identifiers = [{{ from = \"told\", to = \"reported\", {pin} }}]");
        let text = renamed_to(&entry, source);
        assert!(text.contains(kept), "{text}");
    }
}

#[test]
fn public_names_are_told_apart() {
    let names = |source: &str| {
        let text = format!("[[group]]\nname = \"g\"\npaths = [\"**\"]\n{TOLD}\n");
        let table = Table::parse(&text).unwrap();
        rewrite("a.rs", source, &Rules::of(&table.group[0], "a.rs", source)).public.len()
    };
    for source in
        ["pub fn told() {}", "struct A { pub told: u8 }", "pub async fn told() {}", "pub mod told;"]
    {
        assert_eq!(names(source), 1, "{source}");
    }
    for source in
        ["fn told() {}", "pub(crate) fn told() {}", "struct A { pub x: told }", "let told = 1;"]
    {
        assert_eq!(names(source), 0, "{source}");
    }
}
