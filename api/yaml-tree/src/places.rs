//! Where the values of paths begin: [`crate::find`] for many paths in one tree, without a look at
//! all keys for each.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeSet, HashMap},
};

use crate::{Key, Kind, Location, Tree};

/// A tree, and an index of those of its maps that were looked into.
#[derive(Debug)]
pub struct IndexedTree<'a> {
    tree: &'a Tree,
    /// By the address of a map's entries, which do not move while the tree is borrowed.
    maps: RefCell<HashMap<*const (Key, Tree), Keys<'a>>>,
    steps: Cell<u64>,
}

/// The keys of one map.
#[derive(Debug, Default)]
struct Keys<'a> {
    /// Number of the entry; the last one of a key that is there twice.
    by_text: HashMap<&'a str, usize>,
    /// How long keys are, bytes: only so long beginnings of a path are looked up.
    lengths: BTreeSet<usize>,
}

impl<'a> IndexedTree<'a> {
    /// An index of nothing yet.
    #[must_use]
    pub fn new(tree: &'a Tree) -> Self {
        Self { tree, maps: RefCell::default(), steps: Cell::new(0) }
    }

    /// The location of a field by its path; see [`crate::find`].
    #[must_use]
    pub fn find(&self, field: &str) -> Option<Location> {
        self.below(self.tree, field)
    }

    /// Where the tree begins.
    #[must_use]
    pub fn start(&self) -> Location {
        self.tree.at
    }

    /// Keys put into the index and looked up so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    fn count(&self, steps: usize) {
        self.steps.set(self.steps.get() + steps as u64);
    }

    fn below(&self, tree: &'a Tree, field: &str) -> Option<Location> {
        let field = field.strip_prefix('.').unwrap_or(field);
        if field.is_empty() {
            return Some(tree.at);
        }
        match &tree.kind {
            Kind::Map(entries) => {
                let number = self.longest(entries, field)?;
                let (key, value) = &entries[number];
                if value.is_null() {
                    return Some(key.at);
                }
                self.below(value, &field[key.text.len()..]).or(Some(key.at))
            }
            Kind::List(elements) => {
                self.count(1);
                let (index, rest) = field.strip_prefix('[')?.split_once(']')?;
                self.below(elements.get(index.parse::<usize>().ok()?)?, rest)
            }
            Kind::Scalar { .. } => None,
        }
    }

    /// Number of the entry with the longest key that the path begins with.
    fn longest(&self, entries: &'a [(Key, Tree)], field: &str) -> Option<usize> {
        let mut maps = self.maps.borrow_mut();
        let keys = maps.entry(entries.as_ptr()).or_insert_with(|| {
            self.count(entries.len());
            let mut keys = Keys::default();
            for (number, (key, _)) in entries.iter().enumerate() {
                keys.by_text.insert(&key.text, number);
                keys.lengths.insert(key.text.len());
            }
            keys
        });
        let mut lengths = keys.lengths.range(..=field.len()).rev();
        lengths.find_map(|&length| {
            self.count(1);
            let (begin, rest) = field.split_at_checked(length)?;
            let is_whole = rest.is_empty() || rest.starts_with(['.', '[']);
            is_whole.then(|| keys.by_text.get(begin).copied()).flatten()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{find, parse};

    #[test]
    fn finds_what_a_look_at_all_keys_finds() {
        let text =
            "a: {b: [1, {c: 2}], eth0: {x: 1}, eth0.7: {x: 2}, é: 3}\nn: ~\na: {d: 1}\n'': 4\n";
        let tree = parse(text).unwrap().unwrap();
        let places = IndexedTree::new(&tree);
        for field in [
            "",
            ".",
            "a",
            "a.b",
            "a.b[1].c",
            "a.b[9]",
            "a.eth0.x",
            "a.eth0.7.x",
            "a.é",
            "a.d",
            "a.nope",
            "n",
            "n.x",
            "nope",
            "a[0]",
            "aé",
            ".a.b[1]",
            "[0]",
        ] {
            assert_eq!(places.find(field), find(&tree, field), "{field}");
        }
    }

    #[test]
    fn a_map_is_gone_through_once_for_all_paths() {
        let steps = |count: usize| {
            let text: String = (0..count).map(|number| format!("k{number}: {{x: 1}}\n")).collect();
            let tree = parse(&text).unwrap().unwrap();
            let places = IndexedTree::new(&tree);
            for number in 0..count {
                assert!(places.find(&format!("k{number}.x")).is_some());
            }
            places.steps()
        };
        assert!(steps(8_000) <= 10 * steps(1_000), "{} {}", steps(8_000), steps(1_000));
    }
}
