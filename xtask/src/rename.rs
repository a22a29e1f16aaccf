//! `cargo xtask rename`: renames by the table `xtask/renames.toml`, one group after the other, so
//! that each becomes one commit without any logic in it.
//!
//! | module | is |
//! |---|---|
//! | [`table`] | the file, and what an entry may say |
//! | [`plan`] | what a group does to the tree; pure |
//! | [`rewrite`] | one source file: tokens, never the text of strings |
//! | [`guard`] | names that a derive shows outside: JSON, columns, options, the API |
//! | [`text`] | phrases of documents, comments and messages |
//! | [`rules`], [`lexer`], [`case`] | entries as tokens; tokens of Rust; cases of names |
//!
//! It knows no scopes and no types: a name is renamed wherever it is a token of the paths that the
//! entry has. What that breaks, the compiler finds; what the compiler would not find (two names
//! that become one, a name on the wire) is refused here.

pub(crate) mod case;
mod guard;
pub(crate) mod lexer;
pub(crate) mod plan;
mod rewrite;
mod rules;
pub(crate) mod table;
pub(crate) mod text;

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::run::{output, run};
use plan::{Plan, Tree, plan};
use table::{Group, Table};

/// What is renamed.
#[derive(Debug, clap::Args)]
pub(crate) struct Rename {
    /// Only this group of the table, mostly a crate.
    #[arg(long = "crate", value_name = "NAME")]
    group: Option<String>,
    /// Print what would be done, and do nothing.
    #[arg(long)]
    check: bool,
}

/// Renames all groups that are not applied yet, or one of them.
///
/// # Errors
/// If there is no such group, an entry is refused (then nothing of its group is written), or a file
/// cannot be read or written.
pub(crate) fn rename(options: &Rename) -> anyhow::Result<()> {
    let table = std::fs::read_to_string(table::PATH).context(table::PATH)?;
    let table = Table::parse(&table)?;
    let is_meant = |group: &&Group| match &options.group {
        Some(name) => group.name == *name,
        None => !table.applied.contains(&group.name),
    };
    let groups: Vec<&Group> = table.group.iter().filter(is_meant).collect();
    if let Some(name) = options.group.as_ref().filter(|_| groups.is_empty()) {
        let names: Vec<&str> = table.group.iter().map(|group| group.name.as_str()).collect();
        bail!("there is no group {name:?} in {}; there are {}", table::PATH, names.join(", "));
    }
    let mut tree = read_tree()?;
    let mut refused = 0;
    for group in groups {
        let plan = plan(group, &tree);
        report(group, &plan);
        refused += plan.refusals.len();
        if options.check {
            // The next group is planned on what this one would leave.
            tree.extend(plan.edits);
        } else if plan.refusals.is_empty() {
            write(group, &plan)?;
            tree = read_tree()?;
        } else {
            bail!("group {} is refused; nothing of it is written", group.name);
        }
    }
    if refused > 0 {
        bail!("{refused} refusals");
    }
    Ok(())
}

/// All text files that git knows.
fn read_tree() -> anyhow::Result<Tree> {
    let listed = String::from_utf8(output("git", &["ls-files", "--cached"])?)?;
    let mut tree = Tree::new();
    for path in listed.lines().filter(|path| Path::new(path).is_file()) {
        // What is not UTF-8 holds no names of ours.
        if let Ok(text) = String::from_utf8(std::fs::read(path).with_context(|| path.to_owned())?) {
            tree.insert(path.to_owned(), text);
        }
    }
    Ok(tree)
}

#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn report(group: &Group, plan: &Plan) {
    println!(
        "{}: {} entries, {} places, {} files change, {} move",
        group.name,
        group.identifiers.len() + group.words.len() + group.texts.len() + group.files.len(),
        plan.hits.values().sum::<usize>(),
        plan.edits.len(),
        plan.moves.len()
    );
    for idle in &plan.idle {
        println!("  finds nothing: {idle}");
    }
    for refusal in &plan.refusals {
        println!("  refused: {refusal}");
    }
}

/// Writes a group, formats the tree, and notes in the table that it is done.
fn write(group: &Group, plan: &Plan) -> anyhow::Result<()> {
    for (path, text) in &plan.edits {
        std::fs::write(path, text).with_context(|| format!("cannot write {path}"))?;
    }
    for (from, to) in &plan.moves {
        if let Some(parent) = Path::new(to).parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        run("git", &["mv", from, to])?;
    }
    run("cargo", &["fmt", "--all"])?;
    let table = std::fs::read_to_string(table::PATH).context(table::PATH)?;
    std::fs::write(table::PATH, with_applied(&table, &group.name)?).context(table::PATH)
}

/// The text of the table with one more group in `applied`, which is one line.
fn with_applied(table: &str, name: &str) -> anyhow::Result<String> {
    let line = table
        .lines()
        .find(|line| line.starts_with("applied = ["))
        .context("the table has no line `applied`")?;
    let open = line.trim_end().strip_suffix(']').context("`applied` is not one line")?;
    if line.contains(&format!("\"{name}\"")) {
        return Ok(table.to_owned());
    }
    let comma = if open.ends_with('[') { "" } else { ", " };
    Ok(table.replacen(line, &format!("{open}{comma}\"{name}\"]"), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_are_done_are_noted_once() {
        let first = with_applied("# x\napplied = []\n[[group]]\n", "api").unwrap();
        assert_eq!(first, "# x\napplied = [\"api\"]\n[[group]]\n");
        let second = with_applied(&first, "fleet").unwrap();
        assert!(second.contains("applied = [\"api\", \"fleet\"]\n"));
        assert_eq!(with_applied(&second, "api").unwrap(), second);
        assert!(with_applied("", "api").is_err());
    }
}
