//! Entries of the table as sequences of tokens, and where they are in a source.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    case,
    lexer::{Kind, Token, code},
    table::{Group, Identifier, Word, matches_any},
};

/// The renames of one file.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) rules: Vec<Rule>,
    /// Rules by the identifier that is looked for first.
    by_anchor: HashMap<String, Vec<usize>>,
}

/// One rename.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) entry: Identifier,
    from: Vec<String>,
    to: Vec<String>,
    /// Index of the first identifier in `from`.
    anchor: usize,
}

impl Rules {
    /// Those of a group that apply to a file.
    pub(super) fn of(group: &Group, path: &str, source: &str) -> Self {
        let in_scope = |entry: &&Identifier| is_in_scope(group, entry, path);
        let mut entries: Vec<Identifier> =
            group.identifiers.iter().filter(in_scope).cloned().collect();
        let words: Vec<&Word> =
            group.words.iter().filter(|word| is_word_in_scope(group, word, path)).collect();
        if !words.is_empty() {
            let taken: BTreeSet<String> = entries.iter().map(|entry| entry.from.clone()).collect();
            let tokens = code(source);
            let names = tokens
                .iter()
                .filter(|token| token.kind == Kind::Identifier)
                .map(|token| token.text);
            let names: BTreeSet<&str> = names.filter(|name| !taken.contains(*name)).collect();
            entries.extend(names.into_iter().filter_map(|name| by_words(&words, path, name)));
        }
        Self::from_entries(entries)
    }

    pub(super) fn from_entries(entries: Vec<Identifier>) -> Self {
        let texts =
            |text: &str| code(text).iter().map(|token| token.text.to_owned()).collect::<Vec<_>>();
        let is_name = |token: &Token<'_>| token.kind == Kind::Identifier;
        let mut rules: Vec<Rule> = entries
            .into_iter()
            .map(|entry| Rule {
                from: texts(&entry.from),
                to: texts(&entry.to),
                anchor: code(&entry.from).iter().position(is_name).unwrap_or(0),
                entry,
            })
            .collect();
        // Where two are at the same token, the longer one knows better.
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.from.len()));
        let mut by_anchor: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_anchor.entry(rule.from[rule.anchor].clone()).or_default().push(index);
        }
        Self { rules, by_anchor }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Index of each token that changes, with the rule and its new text.
    pub(super) fn changes(&self, code: &[Token<'_>]) -> BTreeMap<usize, (usize, &str)> {
        let mut found: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
        let mut longest: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, token) in
            code.iter().enumerate().filter(|(_, token)| token.kind == Kind::Identifier)
        {
            for &index in self.by_anchor.get(token.text).into_iter().flatten() {
                let rule = &self.rules[index];
                let Some(start) =
                    at.checked_sub(rule.anchor).filter(|&start| rule.is_at(code, start))
                else {
                    continue;
                };
                for (offset, (from, to)) in rule.from.iter().zip(&rule.to).enumerate() {
                    let length = longest.entry(start + offset).or_default();
                    if from != to && *length < rule.from.len() {
                        *length = rule.from.len();
                        found.insert(start + offset, (index, to));
                    }
                }
            }
        }
        found
    }

    /// The new name where `name` alone is one that is renamed.
    pub(super) fn single(&self, name: &str) -> Option<(usize, &str)> {
        let indexes = self.by_anchor.get(name)?;
        let index = indexes.iter().copied().find(|&index| self.rules[index].from.len() == 1)?;
        Some((index, self.rules[index].to[0].as_str()))
    }
}

/// Whether an entry applies to a file.
pub(super) fn is_in_scope(group: &Group, entry: &Identifier, path: &str) -> bool {
    let is_within = if entry.within.is_empty() {
        matches_any(&group.paths, path) || (entry.public && matches_any(&group.users, path))
    } else {
        matches_any(&entry.within, path)
    };
    is_within && !matches_any(&entry.except, path)
}

/// Whether a word applies to a file.
pub(super) fn is_word_in_scope(group: &Group, word: &Word, path: &str) -> bool {
    let scope = if word.within.is_empty() { &group.paths } else { &word.within };
    matches_any(scope, path) && !matches_any(&word.without, path)
}

/// What words make of a name.
fn by_words(words: &[&Word], path: &str, name: &str) -> Option<Identifier> {
    let mut to = name.to_owned();
    let mut beside = false;
    for word in words.iter().filter(|word| !word.except.iter().any(|left| left == name)) {
        if let Some(replaced) = case::replace_part(&to, &word.from, &word.to) {
            to = replaced;
            beside |= matches_any(&word.beside, path);
        }
    }
    (to != name).then(|| Identifier { from: name.to_owned(), to, beside, ..Identifier::default() })
}

impl Rule {
    fn is_at(&self, code: &[Token<'_>], start: usize) -> bool {
        let tokens = code.get(start..start + self.from.len());
        tokens.is_some_and(|tokens| {
            tokens.iter().zip(&self.from).all(|(token, from)| token.text == from)
        })
    }
}
