//! `xtask/renames.toml`: which names are to become which. Read by the command and by tidy.
//!
//! ```toml
//! applied = ["controller"]      # groups that are done; the command writes it, tidy bans their words
//!
//! [[group]]
//! name = "controller"           # one group, one commit
//! paths = ["controller/src/**"] # where its entries apply, unless they say otherwise
//! users = ["bedplate/**"]       # where those with `public = true` apply as well
//! identifiers = [{ from = "Flow", to = "WorkflowState", banned = true }]
//! words = [{ from = "folder", to = "directory", except = ["folder_of_libc"] }]
//! texts = [{ from = "hardware address", to = "MAC address" }]
//! files = [{ from = "controller/src/flow.rs", to = "controller/src/workflow_state.rs" }]
//! ```

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::lexer::{Kind, code};

/// Where the table is, from the root of the repository.
pub(crate) const PATH: &str = "xtask/renames.toml";

/// All renames.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    /// Names of the groups that are done.
    #[serde(default)]
    pub(crate) applied: Vec<String>,
    #[serde(default)]
    pub(crate) group: Vec<Group>,
}

/// What becomes one commit: mostly a crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// Globs.
    pub(crate) paths: Vec<String>,
    /// Globs of those that use the crate's public names.
    #[serde(default)]
    pub(crate) users: Vec<String>,
    #[serde(default)]
    pub(crate) identifiers: Vec<Identifier>,
    #[serde(default)]
    pub(crate) words: Vec<Word>,
    #[serde(default)]
    pub(crate) texts: Vec<Text>,
    #[serde(default)]
    pub(crate) files: Vec<File>,
}

/// An identifier, or a sequence of tokens of which identifiers change (`.tell(` to `.try_send(`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identifier {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Globs in place of those of the group.
    #[serde(default, rename = "in")]
    pub(crate) within: Vec<String>,
    /// Globs that are left out.
    #[serde(default)]
    pub(crate) except: Vec<String>,
    /// The users of the crate as well.
    #[serde(default)]
    pub(crate) public: bool,
    /// The new name stands in these files already, and was looked at.
    #[serde(default)]
    pub(crate) beside: bool,
    /// A public name, and the same name elsewhere is something else.
    #[serde(default)]
    pub(crate) outside: bool,
    /// The name on the wire, which stays.
    pub(crate) serde: Option<String>,
    /// The name of the column, which stays.
    pub(crate) column: Option<String>,
    /// An attribute of clap that keeps what the command line shows: `arg(long = "old")`.
    pub(crate) clap: Option<String>,
    /// The name of the type in the OpenAPI document, which stays.
    pub(crate) schema: Option<String>,
    /// The name of the operation in the OpenAPI document, which stays.
    pub(crate) operation: Option<String>,
    /// tidy refuses the old name once the group is applied.
    #[serde(default)]
    pub(crate) banned: bool,
}

/// A part of identifiers, in whatever case they are written: `folder` in `RunFolder`
/// and `MAX_FOLDER`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Word {
    pub(crate) from: String,
    pub(crate) to: String,
    #[serde(default, rename = "in")]
    pub(crate) within: Vec<String>,
    /// Identifiers that stay.
    #[serde(default)]
    pub(crate) except: Vec<String>,
    /// Globs of files that are left out.
    #[serde(default)]
    pub(crate) without: Vec<String>,
    /// Globs of files in which the new identifiers stand already, and were looked at.
    #[serde(default)]
    pub(crate) beside: Vec<String>,
    #[serde(default)]
    pub(crate) banned: bool,
}

/// A phrase of documents, comments and messages. One without a space stays as it is in strings that
/// hold no space either, since those are keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    pub(crate) from: String,
    pub(crate) to: String,
    #[serde(default, rename = "in")]
    pub(crate) within: Vec<String>,
    #[serde(default)]
    pub(crate) except: Vec<String>,
    #[serde(default)]
    pub(crate) banned: bool,
}

/// A file that moves, and the directory of its modules with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Table {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// If it is not TOML of this form, or an entry cannot be meant.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let table: Self = toml::from_str(text).context(PATH)?;
        let mut names = BTreeSet::new();
        for group in &table.group {
            if !names.insert(group.name.as_str()) {
                bail!("{PATH}: group {} is there twice", group.name);
            }
            group.check().with_context(|| format!("{PATH}: group {}", group.name))?;
        }
        if let Some(unknown) = table.applied.iter().find(|name| !names.contains(name.as_str())) {
            bail!("{PATH}: {unknown:?} is applied, and there is no such group");
        }
        Ok(table)
    }
}

impl Group {
    fn check(&self) -> anyhow::Result<()> {
        if self.paths.is_empty() {
            bail!("it has no paths");
        }
        let mut seen = BTreeSet::new();
        for entry in &self.identifiers {
            check_identifier(entry)?;
            if !seen.insert((&entry.from, &entry.within)) {
                bail!("{} is there twice for the same paths", entry.from);
            }
        }
        for word in &self.words {
            let is_plain =
                |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_lowercase());
            if !is_plain(&word.from) || !word.to.split('_').all(is_plain) {
                bail!("word {:?} to {:?}: words are lower-case letters", word.from, word.to);
            }
        }
        match self.texts.iter().find(|text| text.from.is_empty() || text.from == text.to) {
            Some(text) => bail!("text {:?} to {:?}: nothing would change", text.from, text.to),
            None => Ok(()),
        }
    }
}

fn check_identifier(entry: &Identifier) -> anyhow::Result<()> {
    let (from, to) = (code(&entry.from), code(&entry.to));
    if from.len() != to.len() || entry.from == entry.to {
        bail!("{:?} to {:?}: both must have the same tokens but for names", entry.from, entry.to);
    }
    for (old, new) in from.iter().zip(&to) {
        if old.kind != new.kind || (old.kind != Kind::Identifier && old.text != new.text) {
            bail!("{:?} to {:?}: only identifiers may differ", entry.from, entry.to);
        }
        if old.text != new.text && (is_keyword(old.text) || is_keyword(new.text)) {
            bail!("{:?} to {:?}: {} is a keyword", entry.from, entry.to, new.text);
        }
    }
    if !from.iter().any(|token| token.kind == Kind::Identifier) {
        bail!("{:?} holds no identifier", entry.from);
    }
    if entry.banned && from.len() > 1 {
        bail!("{:?}: a sequence cannot be banned", entry.from);
    }
    Ok(())
}

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: &str = " as async await break const continue crate dyn else enum extern false fn for gen if \
         impl in let loop match mod move mut pub ref return self Self static struct super trait true type \
         unsafe use where while abstract become box do final macro override priv try typeof unsized virtual \
         yield ";
    KEYWORDS.contains(&format!(" {word} "))
}

/// Whether a path matches a glob: `**` is any number of directories, `*` anything within one part.
pub(crate) fn matches(glob: &str, path: &str) -> bool {
    let glob: Vec<&str> = glob.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    parts_match(&glob, &path)
}

/// Whether a path matches one of the globs.
pub(crate) fn matches_any(globs: &[String], path: &str) -> bool {
    globs.iter().any(|glob| matches(glob, path))
}

fn parts_match(glob: &[&str], path: &[&str]) -> bool {
    match (glob.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => (0..=path.len()).any(|skip| parts_match(rest, &path[skip..])),
        (Some((part, rest)), Some((name, others))) => {
            part_matches(part, name) && parts_match(rest, others)
        }
        _ => false,
    }
}

fn part_matches(part: &str, name: &str) -> bool {
    let Some((head, tail)) = part.split_once('*') else { return part == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    (0..=rest.len())
        .filter(|&at| rest.is_char_boundary(at))
        .any(|at| part_matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(entries: &str) -> String {
        let text = format!("[[group]]\nname = \"g\"\npaths = [\"a/**\"]\n{entries}\n");
        format!("{:#}", Table::parse(&text).unwrap_err())
    }

    #[test]
    fn globs() {
        assert!(matches("a/src/**", "a/src/b/c.rs") && matches("a/src/**", "a/src/c.rs"));
        assert!(matches("**/*.rs", "a.rs") && matches("a/*/c*.rs", "a/b/cd.rs"));
        assert!(!matches("a/*.rs", "a/b/c.rs") && !matches("a/src/**", "b/src/c.rs"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let identifiers = |entry: &str| refusal(&format!("identifiers = [{entry}]"));
        assert!(identifiers(r#"{ from = "a", to = "type" }"#).contains("type is a keyword"));
        assert!(identifiers(r#"{ from = ".tell(", to = ".try.send(" }"#).contains("same tokens"));
        assert!(
            identifiers(r#"{ from = "a::b", to = "a.:b" }"#)
                .contains("only identifiers may differ")
        );
        assert!(
            identifiers(r#"{ from = ".a(", to = ".b(", banned = true }"#)
                .contains("cannot be banned")
        );
        let twice = r#"{ from = "a", to = "b" }, { from = "a", to = "c" }"#;
        assert!(identifiers(twice).contains("twice"));
        assert!(
            refusal(r#"words = [{ from = "Folder", to = "directory" }]"#).contains("lower-case")
        );
        assert!(
            refusal(r#"texts = [{ from = "a b", to = "a b" }]"#).contains("nothing would change")
        );
        assert!(refusal(r#"renames = []"#).contains("renames"));
    }

    #[test]
    fn only_groups_of_the_table_are_applied() {
        let error = Table::parse("applied = [\"x\"]\n").unwrap_err().to_string();
        assert!(error.contains("no such group"), "{error}");
    }

    #[test]
    fn the_table_of_this_repository_can_be_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/renames.toml");
        let table = Table::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
        let entries =
            |group: &Group| group.identifiers.len() + group.words.len() + group.texts.len();
        assert!(table.group.iter().map(entries).sum::<usize>() > 100);
    }
}
