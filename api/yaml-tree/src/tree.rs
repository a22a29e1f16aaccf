//! A YAML document as a tree whose every node knows its line and column.
//!
//! Built from the events of `granit-parser`, the parser under `serde-saphyr`; why not from
//! `serde-saphyr` itself: `docs/decisions/0004-yaml-locations.md`.
//!
//! An alias (`*name`) becomes a copy of what its anchor (`&name`) is at, with the lines of the
//! anchor: a mistake in it is told where it is written. A merge key (`<<: *name`) adds the entries
//! of a map that are not written beside it. Both are bounded: a few lines of aliases of aliases
//! would otherwise fill the memory.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Deepest nesting read: four times what the deepest field needs.
const MAX_DEPTH: usize = 32;

/// Most nodes that aliases of a document may copy: 10,000 machines that share 20 lines.
const MAX_COPIED_NODES: usize = 200_000;

/// Most text that they may copy, bytes.
const MAX_COPIED_BYTES: usize = 8 << 20;

/// The merge key (https://yaml.org/type/merge.html).
const MERGE: &str = "<<";

/// Where something begins, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters.
    pub column: u64,
}

impl Location {
    fn of(span: &Span) -> Self {
        Self { line: span.start.line() as u64, column: span.start.col() as u64 + 1 }
    }
}

/// One node of the tree.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where it begins.
    pub at: Location,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A scalar.
    Scalar {
        /// Its text, escapes resolved.
        text: String,
        /// Written without quotes and not as a block: may be a number or null.
        plain: bool,
    },
    /// A list.
    List(Vec<Tree>),
    /// A map in the order written, duplicate keys included.
    Map(Vec<(Key, Tree)>),
}

/// A key of a map.
#[derive(Debug, Clone)]
pub struct Key {
    /// Where it begins.
    pub at: Location,
    /// Its text.
    pub text: String,
}

impl Tree {
    /// `~`, `null` or nothing at all.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// Why a text is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where reading failed.
    pub at: Location,
    /// Why it cannot be read, for people.
    pub message: String,
}

impl From<ScanError> for Unreadable {
    fn from(error: ScanError) -> Self {
        let marker = error.marker();
        Self {
            at: Location { line: marker.line() as u64, column: marker.col() as u64 + 1 },
            message: error.kind().to_string(),
        }
    }
}

/// Reads a text that holds at most one document; `None` where it is empty.
///
/// # Errors
/// [`Unreadable`] for what is no YAML, for tags, keys that are not scalars, a second document, and
/// for aliases that copy too much or merge what is no map.
pub fn parse(text: &str) -> Result<Option<Tree>, Unreadable> {
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        anchors: BTreeMap::new(),
        copied: Copied::default(),
    };
    let mut tree = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd => {}
            event if tree.is_none() => tree = Some(reader.node(event, &span, 0)?),
            _ => {
                let message = "a second YAML document; put everything into one".to_owned();
                return Err(Unreadable { at: Location::of(&span), message });
            }
        }
    }
    Ok(tree)
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    /// What anchors are at, by the parser's number of the anchor. One is known when it is whole.
    anchors: BTreeMap<usize, Tree>,
    copied: Copied,
}

/// What aliases have copied so far.
#[derive(Debug, Default)]
struct Copied {
    nodes: usize,
    bytes: usize,
}

impl Copied {
    /// Counts a tree that is to stand at `depth`. `at`: where the document asks for the copy.
    fn add(&mut self, tree: &Tree, depth: usize, at: Location) -> Result<(), Unreadable> {
        if depth > MAX_DEPTH {
            let message = "nested too deeply, with what the alias stands for".to_owned();
            return Err(Unreadable { at, message });
        }
        self.nodes += 1;
        match &tree.kind {
            Kind::Scalar { text, .. } => self.bytes += text.len(),
            Kind::List(elements) => {
                for element in elements {
                    self.add(element, depth + 1, at)?;
                }
            }
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.bytes += key.text.len();
                    self.add(value, depth + 1, at)?;
                }
            }
        }
        if self.nodes > MAX_COPIED_NODES || self.bytes > MAX_COPIED_BYTES {
            let message = format!(
                "the anchors and aliases of this document stand for more than {MAX_COPIED_NODES} \
                 values or {} MiB",
                MAX_COPIED_BYTES >> 20
            );
            return Err(Unreadable { at, message });
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Unreadable> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Err(error)) => return Err(error.into()),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Tree, Unreadable> {
        let at = Location::of(span);
        let refuse = |message: &str| Err(Unreadable { at, message: message.to_owned() });
        if depth > MAX_DEPTH {
            return refuse("nested too deeply");
        }
        let anchor = match &event {
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(_, anchor, _)
            | Event::MappingStart(_, anchor, _) => *anchor,
            _ => 0,
        };
        let kind = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => {
                return refuse("a tag (`!…`) has no meaning here");
            }
            Event::Scalar(text, style, ..) => {
                Kind::Scalar { text: text.into_owned(), plain: matches!(style, ScalarStyle::Plain) }
            }
            Event::SequenceStart(..) => Kind::List(self.list(depth)?),
            Event::MappingStart(..) => Kind::Map(self.map(depth)?),
            Event::Alias(anchor) => {
                let Some(tree) = self.anchors.get(&anchor) else {
                    return refuse("the alias stands for something that it is a part of");
                };
                self.copied.add(tree, depth, at)?;
                return Ok(tree.clone());
            }
            _ => return refuse("not a value"),
        };
        let tree = Tree { at, kind };
        // The parser counts anchors from 1. What they are at is a copy, too.
        if anchor > 0 {
            self.copied.add(&tree, depth, at)?;
            self.anchors.insert(anchor, tree.clone());
        }
        Ok(tree)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Tree>, Unreadable> {
        let mut elements = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            elements.push(self.node(event, &span, depth + 1)?);
        }
        Ok(elements)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Tree)>, Unreadable> {
        let mut entries = Vec::new();
        let mut merged: Option<Tree> = None;
        while let Some((event, span)) = self.next()? {
            let at = Location::of(&span);
            let refuse = |message: &str| Err(Unreadable { at, message: message.to_owned() });
            let (text, is_merge) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => {
                    let is_merge = text == MERGE && matches!(style, ScalarStyle::Plain);
                    (text.into_owned(), is_merge)
                }
                _ => return refuse("a key must be a plain word"),
            };
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span, depth + 1)?;
            if !is_merge {
                entries.push((Key { at, text }, value));
            } else if merged.replace(value).is_some() {
                return refuse("`<<` is there twice; merge several maps as in `<<: [*a, *b]`");
            }
        }
        if let Some(merged) = merged {
            merge(&mut entries, merged)?;
        }
        Ok(entries)
    }
}

/// Adds the entries of a map, or of several in a list, whose keys are not there; the first one that
/// has a key wins.
fn merge(entries: &mut Vec<(Key, Tree)>, merged: Tree) -> Result<(), Unreadable> {
    let maps = match merged.kind {
        Kind::List(maps) => maps,
        _ => vec![merged],
    };
    let mut known: BTreeSet<String> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    for Tree { at, kind } in maps {
        let Kind::Map(more) = kind else {
            let message = "`<<` merges a map, or a list of maps".to_owned();
            return Err(Unreadable { at, message });
        };
        let own = entries.len();
        entries.extend(more.into_iter().filter(|(key, _)| !known.contains(&key.text)));
        // Behind the map: a key that it has twice is a mistake of its own.
        known.extend(entries[own..].iter().map(|(key, _)| key.text.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
