//! Mistakes of a document: as many as a person reads, the others counted. Filled by [`crate::walk`]
//! and by those who check what it found right.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use api::problem::Diagnostic;

use crate::{Key, Location};

/// Mistakes told at once. The others are counted: an answer must not grow with what is wrong.
pub const MAX_DIAGNOSTICS: usize = 200;

/// Longest path, message or hint of a mistake, characters: they quote what strangers wrote.
const MAX_TEXT_CHARS: usize = 1_000;

/// The mistakes found in a document, sorted and each once; past a limit they are only counted.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    noted: BTreeSet<Diagnostic>,
    more: usize,
    steps: u64,
}

impl Diagnostics {
    /// Notes one, unless [`MAX_DIAGNOSTICS`] are noted.
    pub fn add(
        &mut self,
        at: Location,
        path: impl fmt::Display,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add_with(at, path, || (message.into(), hint));
    }

    /// [`Self::add`] where message and hint cost something: they are not made for what
    /// is only counted.
    pub fn add_with(
        &mut self,
        at: Location,
        path: impl fmt::Display,
        told: impl FnOnce() -> (String, Option<String>),
    ) {
        self.count(1);
        if self.is_full() {
            self.more += 1;
            return;
        }
        let (message, hint) = told();
        self.noted.insert(Diagnostic {
            line: at.line,
            column: at.column,
            path: cut(path.to_string().trim_start_matches('.')),
            message: cut(&message),
            hint: hint.as_deref().map(cut),
        });
    }

    /// Refuses every second use of a key. Returns whether `key` is the first one of its
    /// name in `seen`.
    pub fn first_use<'a>(
        &mut self,
        seen: &mut BTreeMap<&'a str, Location>,
        key: &'a Key,
        path: impl fmt::Display,
    ) -> bool {
        if let Some(first) = seen.get(key.text.as_str()) {
            let message = || format!("the key is there twice; first in line {}", first.line);
            self.add_with(key.at, path, || (message(), None));
            return false;
        }
        seen.insert(&key.text, key.at);
        true
    }

    /// Whether the next one is only counted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.noted.len() >= MAX_DIAGNOSTICS
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// How many there are, those that are only counted too.
    #[must_use]
    pub fn total(&self) -> usize {
        self.noted.len() + self.more
    }

    /// Those that are noted, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.noted.iter()
    }

    /// Counts what a loop looked at. Tests hold the sum against the size of the input.
    pub fn count(&mut self, steps: usize) {
        self.steps += steps as u64;
    }

    /// Values, keys and mistakes looked at so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes over those of another. Of too many the first ones by place are kept.
    pub fn append(&mut self, other: Self) {
        self.more += other.more;
        self.steps += other.steps;
        self.noted.extend(other.noted);
        while self.noted.len() > MAX_DIAGNOSTICS {
            self.noted.pop_last();
            self.more += 1;
        }
    }

    /// What a person is told: those noted, by place, and at the end how many more there are.
    #[must_use]
    pub fn told(self) -> Vec<Diagnostic> {
        let mut told: Vec<Diagnostic> = self.noted.into_iter().collect();
        if self.more > 0 {
            let message = format!("and {} mistakes more", self.more);
            // Where the last one is that is told: the others have no place of their own.
            let (line, column) = told.last().map_or((1, 1), |last| (last.line, last.column));
            told.push(Diagnostic { line, column, path: String::new(), message, hint: None });
        }
        told
    }
}

/// The beginning of a text that quotes what a stranger wrote.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64) -> Location {
        Location { line, column: 1 }
    }

    #[test]
    fn what_is_past_the_limit_is_counted_and_not_made() {
        let mut diagnostics = Diagnostics::default();
        for line in 1..=MAX_DIAGNOSTICS as u64 {
            diagnostics.add(at(line), "", "wrong", None);
        }
        for line in 1..=3 {
            diagnostics.add_with(at(line), "a.b", || unreachable!("it is only counted"));
        }
        assert_eq!(diagnostics.total(), MAX_DIAGNOSTICS + 3);
        let told = diagnostics.told();
        assert_eq!(told.len(), MAX_DIAGNOSTICS + 1);
        let last = &told[MAX_DIAGNOSTICS];
        assert_eq!(
            (last.line, last.column),
            (MAX_DIAGNOSTICS as u64, 1),
            "the place of the last one told"
        );
        assert_eq!(last.message, "and 3 mistakes more");
    }

    #[test]
    fn a_diagnostic_quotes_the_beginning_of_what_is_long() {
        let mut diagnostics = Diagnostics::default();
        let long = "é".repeat(1 << 20);
        diagnostics.add(at(1), &long, long.clone(), Some(long.clone()));
        let [told]: [Diagnostic; 1] = diagnostics.told().try_into().unwrap();
        assert_eq!(told.path.chars().count(), MAX_TEXT_CHARS + 1);
        assert!(told.message.ends_with("é…") && told.hint.unwrap().ends_with("é…"));
    }

    #[test]
    fn the_same_diagnostic_is_told_once() {
        let (mut diagnostics, mut others) = (Diagnostics::default(), Diagnostics::default());
        for line in [2, 1, 2] {
            diagnostics.add(at(line), "", "wrong", None);
            others.add(at(line + 1), "", "wrong", None);
        }
        diagnostics.append(others);
        let lines: Vec<u64> = diagnostics.iter().map(|diagnostic| diagnostic.line).collect();
        assert_eq!(lines, [1, 2, 3]);
    }
}
