//! `cargo xtask tidy`: what the lints cannot hold. Prints every finding, then fails
//! if there was one.
//!
//! | module | holds |
//! |---|---|
//! | [`edges`] | which crate may use which, and no tokio below ring 2 |
//! | [`dependencies`] | each dependency that is declared is used |
//! | [`sources`] | sizes of files and functions, `//!` first, `unsafe` in its two places, equal clippy.toml copies |
//! | [`errors`] | no error is a `String` |
//! | [`documents`] | paths named in the documents exist |
//! | [`words`] | names and phrases that a rename has removed do not come back |

mod dependencies;
mod documents;
mod edges;
mod errors;
mod sources;
mod words;

use anyhow::bail;

use crate::run::output;

/// Checks the whole tree.
///
/// # Errors
/// If anything was found, or the tree cannot be read.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
pub(crate) fn tidy() -> anyhow::Result<()> {
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let files: Vec<String> = String::from_utf8(listed)?
        .lines()
        .filter(|path| std::path::Path::new(path).exists())
        .map(str::to_owned)
        .collect();
    let mut findings = edges::findings()?;
    findings.extend(dependencies::findings(&files)?);
    findings.extend(sources::findings(&files)?);
    findings.extend(errors::findings(&files)?);
    findings.extend(documents::findings(&files)?);
    findings.extend(words::findings(&files)?);
    findings.sort();
    for finding in &findings {
        println!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    println!("tidy: {} files, nothing found", files.len());
    Ok(())
}
