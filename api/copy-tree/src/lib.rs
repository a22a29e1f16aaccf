//! A file or directory as a stream, and back: what `bedplate workflow cp` carries. Used at both
//! ends: by the command line on the user's files and by the substrate on a job's, as the job's user
//! in its container. Neither end trusts the other.
//!
//! The stream is tar (GNU) with a fixed name at the top, so that the receiver alone names
//! what it gets, and a last entry, so that a stream which broke off between two files is not
//! taken for whole:
//!
//! ```text
//! copy            the file, or the folder …
//! copy/a/b        … and what is in it
//! end             empty
//! ```
//! Files, directories and symbolic links travel, with mode and time of change. Owners do not: what
//! is made belongs to who makes it. What does not travel is named in [`api::stream::Copied`].

mod error;
mod pack;
mod unpack;

pub use error::CopyError;
pub use pack::{Limits, pack, pack_directory, size_of};
pub use unpack::{Target, unpack};

use api::stream::{Copied, MAX_LEFT_OUT};

/// Name of what is copied, in the stream.
const TOP: &str = "copy";

/// Name of the last entry.
const END: &str = "end";

/// Deepest directory in a directory: paths stay below the kernel's longest, and no tree costs
/// all of the stack.
const MAX_DEPTH: usize = 128;

/// Longest path or target of a link, bytes (`PATH_MAX` of the kernel).
const MAX_PATH_BYTES: u64 = 4096;

/// Longest line about something left out, characters: all of them travel in one message.
const MAX_LINE: usize = 400;

fn skip(copied: &mut Copied, what: &str, why: &str) {
    copied.left_out_count += 1;
    if copied.left_out.len() < MAX_LEFT_OUT {
        copied.left_out.push(format!("{what}: {why}").chars().take(MAX_LINE).collect());
    }
}

#[cfg(test)]
mod tests;
