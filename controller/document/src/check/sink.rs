//! Where the checks put what they find.

use yaml_tree::{Diagnostics, IndexedTree, Location, Tree, did_you_mean};

/// Collects mistakes and warnings, each at the place of its path.
///
/// There are two kinds of mistakes, and a document is handed to them at two times:
///
/// | kind | means | refuses |
/// |---|---|---|
/// | [`Self::refuse`], [`Self::hint`] | it can be read, and is not accepted | at submission alone |
/// | [`Self::unreadable`], [`Self::unknown`] | what it says is not known, and was left out | always |
///
/// A document that an earlier release accepted and stored is read again without the first kind
/// (docs/decisions/0007-stored-plans.md). So a new rule is a `refuse`; never a narrower reading.
///
/// What is past the limit of mistakes is counted, and its place is not looked up.
#[derive(Debug)]
pub(crate) struct DiagnosticSink<'a> {
    places: IndexedTree<'a>,
    /// What is not accepted though it can be read.
    refused: Diagnostics,
    /// What could not be read.
    unreadable: Diagnostics,
    warnings: Diagnostics,
}

/// All that was noted, by kind.
#[derive(Debug)]
pub(crate) struct CollectedDiagnostics {
    pub(crate) refused: Diagnostics,
    pub(crate) unreadable: Diagnostics,
    pub(crate) warnings: Diagnostics,
    /// Steps of looking places up. Those of each kind are in itself.
    pub(crate) steps: u64,
}

impl<'a> DiagnosticSink<'a> {
    /// `unreadable`: what the walk over the tree could not read.
    pub(crate) fn new(tree: &'a Tree, unreadable: Diagnostics) -> Self {
        let (refused, warnings) = (Diagnostics::default(), Diagnostics::default());
        Self { places: IndexedTree::new(tree), refused, unreadable, warnings }
    }

    /// Refuses what can be read. Counts at submission alone.
    pub(crate) fn refuse(&mut self, path: &str, message: &str) {
        note(&mut self.refused, &self.places, path, || (message.to_owned(), None));
    }

    /// [`Self::refuse`] with a way to mend it.
    pub(crate) fn hint(&mut self, path: &str, message: &str, hint: &str) {
        note(&mut self.refused, &self.places, path, || (message.to_owned(), Some(hint.to_owned())));
    }

    /// Notes what is left out because nobody knows what it means. Counts whenever the document is
    /// read.
    pub(crate) fn unreadable(&mut self, path: &str, message: &str, hint: &str) {
        note(&mut self.unreadable, &self.places, path, || {
            (message.to_owned(), Some(hint.to_owned()))
        });
    }

    pub(crate) fn warn(&mut self, path: &str, message: &str) {
        note(&mut self.warnings, &self.places, path, || (message.to_owned(), None));
    }

    /// A name that is not there, with the nearest one that is: what refers to it cannot be read.
    pub(crate) fn unknown<'b>(
        &mut self,
        path: &str,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'b str>,
    ) {
        note(&mut self.unreadable, &self.places, path, || {
            (format!("there is no {what} {name:?}"), did_you_mean(name, known))
        });
    }

    /// [`Self::unknown`] at the first of some paths that the document has, or else at another.
    pub(super) fn unknown_at<'b>(
        &mut self,
        written: &[String],
        or_else: &str,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'b str>,
    ) {
        let place = match self.unreadable.is_full() {
            true => None,
            false => written.iter().find(|path| self.is_there(path)),
        };
        self.unknown(place.map_or(or_else, String::as_str), what, name, known);
    }

    /// A mistake was noted at this path or below. Of those that are only counted nothing is known:
    /// the answer then matters for their number alone.
    pub(crate) fn has(&self, path: &str) -> bool {
        let is_below =
            |rest: &str| rest.is_empty() || path.is_empty() || rest.starts_with(['.', '[']);
        let mut diagnostics = self.unreadable.iter().chain(self.refused.iter());
        diagnostics.any(|diagnostic| diagnostic.path.strip_prefix(path).is_some_and(is_below))
    }

    /// The document has something at exactly this path.
    pub(super) fn is_there(&self, path: &str) -> bool {
        let parent = path.rsplit_once(['.', '[']).map_or("", |(parent, _)| parent);
        let place = |path: &str| -> Option<Location> { self.places.find(path) };
        let (at, parent) = (place(path), place(parent));
        at.is_some() && at != parent && parent.is_some()
    }

    /// Counts what a loop looked at.
    pub(crate) fn count(&mut self, steps: usize) {
        self.warnings.count(steps);
    }

    pub(crate) fn into_noted(self) -> CollectedDiagnostics {
        let Self { places, refused, unreadable, warnings } = self;
        CollectedDiagnostics { refused, unreadable, warnings, steps: places.steps() }
    }
}

/// Notes a mistake at the place of a path.
fn note(
    diagnostics: &mut Diagnostics,
    places: &IndexedTree<'_>,
    path: &str,
    told: impl FnOnce() -> (String, Option<String>),
) {
    let at = match diagnostics.is_full() {
        true => places.start(),
        false => places.find(path).unwrap_or(places.start()),
    };
    diagnostics.add_with(at, path, told);
}
