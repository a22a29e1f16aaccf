//! Renders the overlays of a node, and remembers files by what went into them.
//!
//! A file is rendered once for all nodes on which it reads the same values: `/etc/hosts` once for
//! the whole cluster. Archives are not remembered: packing is copying, where remembering would take
//! the size of the cluster's `/etc/hosts` for each node.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use api::overlay::MAX_ARCHIVE_BYTES;

use super::{
    Content, Entry,
    library::{File, Library},
    template::TemplateError,
    variables::Variables,
};

/// Rendered templates remembered: those of 10,000 nodes with a dozen files of their own. Past it
/// all are forgotten.
const MAX_FILES: usize = 131_072;

/// Bytes of rendered files remembered. Past it all are forgotten.
const MAX_BYTES: usize = 256 << 20;

/// Why a node's overlays cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// There is no such overlay.
    #[error("overlay {overlay:?} does not exist")]
    UnknownOverlay {
        /// Its name.
        overlay: String,
    },
    /// A part of the overlay cannot be read.
    #[error("overlay {overlay}: {cause}")]
    Unreadable {
        /// The overlay, as nodes and profiles list it.
        overlay: String,
        /// Which part, and why.
        cause: String,
    },
    /// A template has a mistake.
    #[error("overlay {overlay}, {path}.j2, {error}")]
    Template {
        /// The overlay.
        overlay: String,
        /// Path on the node.
        path: String,
        /// Line and mistake.
        error: TemplateError,
    },
    /// More comes of the overlays than a node takes.
    #[error("the rendered files have {bytes} bytes; a node takes at most {MAX_ARCHIVE_BYTES}")]
    TooLarge {
        /// Size of the archive that they would make.
        bytes: u64,
    },
    /// The files cannot be packed.
    #[error("the rendered files cannot be packed: {cause}")]
    Pack {
        /// Why.
        cause: String,
    },
}

impl RenderError {
    /// What it says without naming the overlay.
    #[must_use]
    pub fn within(&self) -> String {
        match self {
            Self::Unreadable { cause, .. } => cause.clone(),
            Self::Template { path, error, .. } => format!("{path}.j2, {error}"),
            other => other.to_string(),
        }
    }
}

/// Remembers what it rendered.
#[derive(Debug, Default)]
pub struct Renderer {
    files: Mutex<Memory<Arc<[Entry]>>>,
}

#[derive(Debug)]
struct Memory<T> {
    by_key: HashMap<[u8; 32], T>,
    bytes: usize,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), bytes: 0 }
    }
}

impl<T: Clone> Memory<T> {
    fn put(&mut self, key: [u8; 32], value: T, bytes: usize) {
        if self.by_key.len() >= MAX_FILES || self.bytes.saturating_add(bytes) > MAX_BYTES {
            self.by_key.clear();
            self.bytes = 0;
        }
        if bytes <= MAX_BYTES {
            self.by_key.insert(key, value);
            self.bytes += bytes;
        }
    }
}

impl Renderer {
    /// Everything that these overlays put on a node, by path; later overlays win.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn entries(
        &self,
        library: &Library,
        overlays: &[String],
        variables: &Variables,
    ) -> Result<Vec<Entry>, RenderError> {
        self.entries_while(library, overlays, variables, &|| true)
    }

    /// The same, as long as somebody waits for them.
    ///
    /// # Errors
    /// See [`RenderError`]; that nobody waits any more is told of the template that
    /// was not rendered.
    pub fn entries_while(
        &self,
        library: &Library,
        overlays: &[String],
        variables: &Variables,
        is_waited_for: &dyn Fn() -> bool,
    ) -> Result<Vec<Entry>, RenderError> {
        // First, so that what is known without a node is told in the same words of every node.
        if let Some(error) = overlays.iter().find_map(|name| library.unusable(name)) {
            return Err(error);
        }
        let mut by_path: BTreeMap<String, Entry> = BTreeMap::new();
        for name in overlays {
            let unknown = || RenderError::UnknownOverlay { overlay: name.clone() };
            let overlay = library.get(name).ok_or_else(unknown)?;
            for file in &overlay.files {
                match file {
                    File::Plain(entry) => {
                        by_path.insert(entry.path.clone(), entry.clone());
                    }
                    File::Template { path, compiled, .. } => {
                        let failed = |error: TemplateError| RenderError::Template {
                            overlay: name.clone(),
                            path: path.clone(),
                            error,
                        };
                        let template =
                            compiled.as_ref().as_ref().map_err(|error| failed(error.clone()))?;
                        let key = template.key(variables);
                        let known = lock(&self.files).by_key.get(&key).cloned();
                        let rendered = match known {
                            Some(rendered) => rendered,
                            None => {
                                let rendered =
                                    template.render(variables, is_waited_for).map_err(failed)?;
                                let bytes = rendered.iter().map(size).sum();
                                lock(&self.files).put(key, rendered.clone(), bytes);
                                rendered
                            }
                        };
                        by_path.extend(
                            rendered.iter().map(|entry| (entry.path.clone(), entry.clone())),
                        );
                    }
                }
            }
        }
        Ok(by_path.into_values().collect())
    }
}

fn size(entry: &Entry) -> usize {
    match &entry.content {
        Content::File { bytes, .. } => bytes.len() + entry.path.len(),
        _ => entry.path.len(),
    }
}

/// A panic while the lock was held leaves a map that is still whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
