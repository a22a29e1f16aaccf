//! A YAML document as a tree whose every node knows its line and column.
//!
//! Built from the events of `granit-parser`, the parser under `serde-saphyr`; why not from `serde-saphyr` itself:
//! `docs/decisions/0004-yaml-locations.md`. Aliases are refused: an alias hides where a value is written.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Deepest nesting read: four times what the deepest field needs.
const MAX_DEPTH: usize = 32;

/// Where something begins, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
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
    /// Where.
    pub at: Location,
    /// Why.
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
/// [`Unreadable`] for what is no YAML, for aliases, tags, keys that are not scalars, and a second document.
pub fn parse(text: &str) -> Result<Option<Tree>, Unreadable> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut tree = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
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
        let kind = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => return refuse("a tag (`!…`) has no meaning here"),
            Event::Scalar(text, style, ..) => {
                Kind::Scalar { text: text.into_owned(), plain: matches!(style, ScalarStyle::Plain) }
            }
            Event::SequenceStart(..) => Kind::List(self.list(depth)?),
            Event::MappingStart(..) => Kind::Map(self.map(depth)?),
            Event::Alias(_) => {
                return refuse("aliases (`*name`) are not read; write the value out");
            }
            _ => return refuse("not a value"),
        };
        Ok(Tree { at, kind })
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
        while let Some((event, span)) = self.next()? {
            let at = Location::of(&span);
            let text = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Unreadable { at, message: "a key must be a plain word".to_owned() }),
            };
            let Some((event, span)) = self.next()? else { break };
            entries.push((Key { at, text }, self.node(event, &span, depth + 1)?));
        }
        Ok(entries)
    }
}
