//! A reference to a version of an OS image, as nodes and profiles have it.

use api::ids::{ImageName, InvalidId};

/// A checked reference to an image: `NAME` or `NAME@VERSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The image.
    pub name: ImageName,
    /// The version; `None` follows the newest.
    pub version: Option<u32>,
}

/// Why a text is no reference to an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    /// What follows the `@`.
    #[error("{0:?} is not a version number")]
    Version(String),
    /// What stands before it.
    #[error(transparent)]
    Name(#[from] InvalidId),
}

impl ImageReference {
    /// Reads `NAME` or `NAME@VERSION`.
    ///
    /// # Errors
    /// [`ImageReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ImageReferenceError> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => {
                let parsed = version.parse::<u32>().ok().filter(|version| *version > 0);
                let number =
                    parsed.ok_or_else(|| ImageReferenceError::Version(version.to_owned()))?;
                (name, Some(number))
            }
            None => (text, None),
        };
        Ok(Self { name: name.parse()?, version })
    }
}
