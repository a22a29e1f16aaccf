//! Whether overlays are as they were.

use sha2::{Digest as _, Sha256};

use super::{File, Library};
use crate::overlay::Content;

impl Library {
    /// A hash over everything that anybody sees of the overlays: equal hashes, equal overlays.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut put = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        self.problems().iter().for_each(|problem| put(problem.as_bytes()));
        for (name, overlay) in &self.overlays {
            put(b"overlay");
            put(name.as_str().as_bytes());
            put(overlay.source.as_str().as_bytes());
            put(overlay.summary.as_bytes());
            put(&overlay.bytes.to_be_bytes());
            for file in &overlay.files {
                put(file.path().as_bytes());
                let (mode, content) = match file {
                    File::Plain(entry) => (entry.mode, &entry.content),
                    File::Template { mode, compiled, .. } => {
                        put(&mode.to_be_bytes());
                        match compiled.as_ref() {
                            Ok(template) => put(&template.digest()),
                            Err(error) => put(error.to_string().as_bytes()),
                        }
                        continue;
                    }
                };
                put(&mode.to_be_bytes());
                match content {
                    Content::Directory => put(b"folder"),
                    Content::File { digest, .. } => put(digest),
                    Content::Link(target) => put(target.as_bytes()),
                }
            }
        }
        hash.finalize().into()
    }
}
