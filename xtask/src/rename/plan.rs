//! What a group of renames does to the tree: texts in, texts and moves out. Reads and
//! writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    case::has_part,
    lexer::{Kind, code},
    rewrite::{Rewritten, rewrite, spans},
    rules::{Rules, is_in_scope, is_word_in_scope},
    table::{Group, Text, matches_any},
    text::replace_in_file,
};

/// Files by path.
pub(super) type Tree = BTreeMap<String, String>;

/// History, and what tells of renames.
const LEFT_ALONE: &[&str] = &["CHANGELOG.md", "docs/glossary.md", "xtask/renames.toml"];

/// Directories that are left alone: migrations are in databases already, and the tool's
/// tests are of names.
const LEFT_FOLDERS: &[&str] =
    &["xtask/src/rename", "xtask/src/tidy/words.rs", "/migrations/", "/corpus/", "/captures/"];

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Texts of files that change, by the path that they have now.
    pub(super) edits: Tree,
    /// Files that move.
    pub(super) moves: Vec<(String, String)>,
    /// How often each entry found something.
    pub(super) hits: BTreeMap<String, usize>,
    /// Entries that found nothing.
    pub(super) idle: Vec<String>,
    /// Why it may not be done.
    pub(super) refusals: Vec<String>,
}

/// Whether renames leave a file alone.
pub(crate) fn is_left(path: &str) -> bool {
    LEFT_ALONE.contains(&path) || LEFT_FOLDERS.iter().any(|folder| path.contains(folder))
}

/// Plans a group.
pub(super) fn plan(group: &Group, tree: &Tree) -> Plan {
    let mut plan = Plan::default();
    let mut public: BTreeSet<String> = BTreeSet::new();
    for (path, source) in tree.iter().filter(|(path, _)| !is_left(path)) {
        let mut text = source.clone();
        if path.ends_with(".rs") {
            let rules = Rules::of(group, path, source);
            if !rules.is_empty() {
                text = plan.take(rewrite(path, source, &rules), &mut public);
            }
        } else if path.ends_with(".md") {
            text = document(group, source);
        }
        text = plan.phrases(group, path, text);
        for file in &group.files {
            text = text.replace(&file.from, &file.to);
            text = text.replace(&directory(&file.from), &directory(&file.to));
        }
        if text != *source {
            plan.edits.insert(path.clone(), text);
        }
    }
    plan.refusals.extend(used_outside(group, &public, tree));
    plan.move_files(group, tree);
    let entries = group.identifiers.iter().map(|entry| &entry.from);
    let entries = entries.chain(group.texts.iter().map(|text| &text.from));
    plan.idle = entries.filter(|from| !plan.hits.contains_key(*from)).cloned().collect();
    plan
}

impl Plan {
    fn take(&mut self, rewritten: Rewritten, public: &mut BTreeSet<String>) -> String {
        for (from, hits) in rewritten.hits {
            *self.hits.entry(from).or_default() += hits;
        }
        public.extend(rewritten.public);
        self.refusals.extend(rewritten.refusals);
        rewritten.text
    }

    fn phrases(&mut self, group: &Group, path: &str, mut text: String) -> String {
        if !path.ends_with(".rs") && !path.ends_with(".md") {
            return text;
        }
        for phrase in group.texts.iter().filter(|phrase| is_in(phrase, group, path)) {
            let replaced = replace_in_file(path, &text, &phrase.from, &phrase.to);
            if replaced.hits > 0 {
                *self.hits.entry(phrase.from.clone()).or_default() += replaced.hits;
            }
            text = replaced.text;
        }
        text
    }

    /// A file, and the directory of its modules.
    fn move_files(&mut self, group: &Group, tree: &Tree) {
        for file in &group.files {
            let (from, to) = (directory(&file.from), directory(&file.to));
            for path in tree.keys() {
                let moved = if *path == file.from {
                    file.to.clone()
                } else if let Some(rest) = path.strip_prefix(&from) {
                    format!("{to}{rest}")
                } else {
                    continue;
                };
                if tree.contains_key(&moved) {
                    self.refusals.push(format!("{path}: {moved} is there already"));
                }
                self.moves.push((path.clone(), moved));
            }
            if !tree.contains_key(&file.from) {
                self.refusals.push(format!("{} does not exist", file.from));
            }
        }
    }
}

/// Where the modules of a file are.
fn directory(path: &str) -> String {
    format!("{}/", path.trim_end_matches(".rs"))
}

/// Whether a phrase is replaced in a file.
pub(crate) fn is_in(phrase: &Text, group: &Group, path: &str) -> bool {
    let scope = if phrase.within.is_empty() { &group.paths } else { &phrase.within };
    matches_any(scope, path) && !matches_any(&phrase.except, path)
}

/// Code between backticks of a document that names something of the group: `FILE.rs::NAME`, a path
/// of Rust, or a type.
fn document(group: &Group, source: &str) -> String {
    spans(source, |span| {
        let is_meant = group.identifiers.iter().any(|entry| span.contains(&entry.from))
            || group.words.iter().any(|word| has_part(span, &word.from));
        // One with lines is a fenced block.
        if !is_meant || span.contains('\n') {
            return span.to_owned();
        }
        let (file, name) =
            span.split_once(".rs::").map_or((None, span), |(file, name)| (Some(file), name));
        let is_type = span.starts_with(|c: char| c.is_ascii_uppercase())
            && span.bytes().any(|c| c.is_ascii_lowercase());
        let path = match file {
            Some(file) => format!("{file}.rs"),
            None if is_type || span.contains("::") => match group.paths.first() {
                Some(glob) => glob.replace("**", "lib.rs").replace('*', "lib.rs"),
                None => return span.to_owned(),
            },
            None => return span.to_owned(),
        };
        let rules = Rules::of(group, &path, name);
        let renamed = rewrite(&path, name, &rules).text;
        file.map_or(renamed.clone(), |file| format!("{file}.rs::{renamed}"))
    })
}

/// Whether a name is renamed in a file as well.
fn comes_along(group: &Group, name: &str, path: &str) -> bool {
    group.identifiers.iter().any(|entry| entry.from == name && is_in_scope(group, entry, path))
        || group
            .words
            .iter()
            .any(|word| has_part(name, &word.from) && is_word_in_scope(group, word, path))
}

/// Public names of the group that other files use too, where the table does not say that
/// those are others.
fn used_outside(group: &Group, public: &BTreeSet<String>, tree: &Tree) -> Vec<String> {
    let is_known = |name: &&String| {
        !group.identifiers.iter().any(|entry| entry.from == **name && entry.outside)
    };
    let public: Vec<&String> = public.iter().filter(is_known).collect();
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, source) in tree.iter().filter(|(path, _)| path.ends_with(".rs") && !is_left(path)) {
        if !public.iter().any(|name| source.contains(name.as_str())) {
            continue;
        }
        let names: BTreeSet<&str> = code(source)
            .iter()
            .filter(|token| token.kind == Kind::Identifier)
            .map(|token| token.text)
            .collect();
        let names = public.iter().filter(|name| names.contains(name.as_str()));
        for name in names.filter(|name| !comes_along(group, name, path)) {
            users.entry(name).or_default().push(path);
        }
    }
    let listed = |(name, paths): (&str, Vec<&str>)| {
        let more =
            if paths.len() > 3 { format!(" and {} more", paths.len() - 3) } else { String::new() };
        let paths = paths.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        format!("{name} is public and also in {paths}{more}: widen `in` or say outside = true")
    };
    users.into_iter().map(listed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rename::table::Table;

    fn planned(group: &str, files: &[(&str, &str)]) -> Plan {
        let table =
            Table::parse(&format!("[[group]]\nname = \"g\"\npaths = [\"a/**\"]\n{group}\n"))
                .unwrap();
        let tree = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        plan(&table.group[0], &tree)
    }

    const TOLD: &str = r#"identifiers = [{ from = "told", to = "reported" }]"#;

    #[test]
    fn only_the_paths_of_the_group_change() {
        let plan =
            planned(TOLD, &[("a/b.rs", "told"), ("c/d.rs", "told"), ("a/migrations/1.rs", "told")]);
        assert_eq!(plan.edits, Tree::from([("a/b.rs".to_owned(), "reported".to_owned())]));
        assert_eq!((plan.hits["told"], plan.refusals.len(), plan.idle.len()), (1, 0, 0));
    }

    #[test]
    fn what_finds_nothing_is_listed() {
        assert_eq!(planned(TOLD, &[("c/d.rs", "told")]).idle, ["told"]);
    }

    #[test]
    fn public_names_that_others_use_are_refused_unless_they_come_along() {
        let files =
            [("a/b.rs", "pub fn told() {}"), ("c/d.rs", "a::told()"), ("c/e.rs", "\"told\"")];
        let refusals = planned(TOLD, &files).refusals;
        assert_eq!(
            refusals,
            ["told is public and also in c/d.rs: widen `in` or say outside = true"]
        );
        let outside = r#"identifiers = [{ from = "told", to = "reported", outside = true }]"#;
        assert!(planned(outside, &files).refusals.is_empty());
        let users = r#"users = ["c/**"]
identifiers = [{ from = "told", to = "reported", public = true }]"#;
        let plan = planned(users, &files);
        assert!(plan.refusals.is_empty());
        assert_eq!(plan.edits["c/d.rs"], "a::reported()");
    }

    #[test]
    fn files_move_with_their_modules_and_all_that_name_them() {
        let files = [
            ("a/folder.rs", "mod x;"),
            ("a/folder/x.rs", "fn told() {}"),
            ("docs/y.md", "see `a/folder.rs`, `a/folder/x.rs::told`, `told`"),
            ("CHANGELOG.md", "a/folder.rs"),
        ];
        let group =
            format!("{TOLD}\nfiles = [{{ from = \"a/folder.rs\", to = \"a/directory.rs\" }}]");
        let plan = planned(&group, &files);
        let moves = [("a/folder.rs", "a/directory.rs"), ("a/folder/x.rs", "a/directory/x.rs")];
        assert_eq!(plan.moves, moves.map(|(from, to)| (from.to_owned(), to.to_owned())));
        assert_eq!(
            plan.edits["docs/y.md"],
            "see `a/directory.rs`, `a/directory/x.rs::reported`, `told`"
        );
        assert_eq!(plan.edits.len(), 2);
        assert!(planned(&group, &[]).refusals[0].contains("does not exist"));
        let both = [("a/folder.rs", ""), ("a/directory.rs", "")];
        assert!(planned(&group, &both).refusals[0].contains("is there already"));
    }

    #[test]
    fn phrases_change_where_the_table_says() {
        let group = r#"texts = [{ from = "hardware address", to = "MAC address", in = ["**/*.md"], except = ["x.md"] }]"#;
        let text = "hardware address";
        let plan =
            planned(group, &[("a/b.rs", "// hardware address"), ("y.md", text), ("x.md", text)]);
        assert_eq!(plan.edits, Tree::from([("y.md".to_owned(), "MAC address".to_owned())]));
    }
}
