//! `docs/benchmarks.md`: what is between markers is written again by `--write`; what stands around
//! them is people's and stays.
//!
//! ```text
//! <!-- bench: NAME -->
//! …table…
//! <!-- /bench: NAME -->
//! ```
//!
//! `NAME` is a benchmark's, or [`MACHINE`].

use std::ops::Range;

use anyhow::Context as _;

/// The part that describes the machine of the last full run.
pub(crate) const MACHINE: &str = "machine";

/// The text with the part of this name replaced.
///
/// # Errors
/// If the text has no such part.
pub(crate) fn replaced(text: &str, name: &str, content: &str) -> anyhow::Result<String> {
    let part = part(text, name)
        .with_context(|| format!("it has no lines `{}` and `{}`", begin(name), end(name)))?;
    Ok(format!("{}\n{}\n{}", &text[..part.start], content.trim_end(), &text[part.end..]))
}

/// From behind the first marker to before the last.
fn part(text: &str, name: &str) -> Option<Range<usize>> {
    let start = text.find(&begin(name))? + begin(name).len();
    let length = text[start..].find(&end(name))?;
    Some(start..start + length)
}

fn begin(name: &str) -> String {
    format!("<!-- bench: {name} -->")
}

fn end(name: &str) -> String {
    format!("<!-- /bench: {name} -->")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_is_replaced() {
        let text = "# T\n\n<!-- bench: a -->\nold\n<!-- /bench: a -->\n\nprose\n<!-- bench: ab -->\n<!-- /bench: ab -->\n";
        let once = replaced(text, "a", "| new |\n").unwrap();
        assert_eq!(
            once,
            "# T\n\n<!-- bench: a -->\n| new |\n<!-- /bench: a -->\n\nprose\n<!-- bench: ab -->\n<!-- /bench: ab -->\n"
        );
        assert_eq!(replaced(&once, "a", "| new |").unwrap(), once);
        let error = replaced(text, "c", "x").unwrap_err().to_string();
        assert_eq!(error, "it has no lines `<!-- bench: c -->` and `<!-- /bench: c -->`");
    }
}
