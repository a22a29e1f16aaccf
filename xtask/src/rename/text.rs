//! Phrases of documents, comments and messages.
//!
//! A phrase is found wherever its words follow each other, over the end of a line too, with a small
//! or a capital first letter. What is code is left alone: text between backticks, fenced blocks,
//! and in sources every string that is a key, a statement of SQL, or raw (those are documents of
//! tests, and snapshots).

use super::lexer::{Kind, Token, tokens};

/// What became of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) text: String,
    pub(crate) hits: usize,
}

/// Replaces a phrase in a file, by its kind.
pub(crate) fn replace_in_file(path: &str, text: &str, from: &str, to: &str) -> Replaced {
    let mut word = from.split(' ').next().unwrap_or_default().chars();
    word.next();
    if !text.contains(word.as_str()) {
        return Replaced { text: text.to_owned(), hits: 0 };
    }
    if path.ends_with(".rs") { replace_in_source(text, from, to) } else { replace(text, from, to) }
}

/// Replaces a phrase in prose.
pub(crate) fn replace(prose: &str, from: &str, to: &str) -> Replaced {
    let code = code_bytes(prose);
    let mut text = String::with_capacity(prose.len());
    let (mut hits, mut at) = (0, 0);
    while at < prose.len() {
        let found = (!code[at]).then(|| phrase_at(prose, at, from)).flatten();
        let Some(found) = found else {
            let next = prose[at..].chars().next().map_or(1, char::len_utf8);
            text.push_str(&prose[at..at + next]);
            at += next;
            continue;
        };
        text.push_str(&in_its_place(&found, to, prose[at..].starts_with(char::is_uppercase)));
        hits += 1;
        at += found.length;
        // The line must end somewhere: where the new phrase has no space for it, after it.
        if let Some(end) = found.line_end.filter(|_| !to.contains(' ')) {
            text.push_str(end);
            at += usize::from(prose[at..].starts_with(' '));
        }
    }
    Replaced { text, hits }
}

/// Replaces a phrase in the comments and messages of Rust source.
fn replace_in_source(source: &str, from: &str, to: &str) -> Replaced {
    let mut replaced = Replaced { text: String::with_capacity(source.len()), hits: 0 };
    let found = tokens(source);
    let mut at = 0;
    while at < found.len() {
        let comments = comment_run(&found[at..]);
        let token = found[at];
        let length = comments.max(1);
        let text = &source[token.at..found.get(at + length).map_or(source.len(), |next| next.at)];
        if comments > 0 || (token.kind == Kind::String && is_message(&found, at, from)) {
            let piece = replace(text, from, to);
            replaced.hits += piece.hits;
            replaced.text.push_str(&piece.text);
        } else {
            replaced.text.push_str(text);
        }
        at += length;
    }
    replaced
}

/// How many tokens belong to the comment that begins here: lines that follow each other are one.
fn comment_run(found: &[Token<'_>]) -> usize {
    let is_comment = |at: usize| found.get(at).is_some_and(|token| token.kind == Kind::Comment);
    let is_line_end =
        |at: usize| found.get(at).is_some_and(|token| token.text.matches('\n').count() == 1);
    if !is_comment(0) {
        return 0;
    }
    let mut length = 1;
    while is_line_end(length) && found[length].kind == Kind::Space && is_comment(length + 1) {
        length += 2;
    }
    length
}

/// Whether a string is for people.
fn is_message(found: &[Token<'_>], at: usize, phrase: &str) -> bool {
    let text = found[at].text.trim_matches('"');
    let is_statement =
        ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE ", "ALTER ", "WITH ", "DROP "];
    let is_raw = !found[at].text.starts_with('"');
    let is_key = !text.contains(' ') && !phrase.contains(' ');
    // `rename = "…"`, `alias = "…"` of attributes, and `.get("…")`.
    let before: Vec<&str> = found[..at]
        .iter()
        .rev()
        .filter(|token| token.kind != Kind::Space)
        .take(2)
        .map(|token| token.text)
        .collect();
    let is_name = matches!(
        before[..],
        ["=", "rename" | "alias" | "tag" | "content" | "path" | "name"] | ["(", "get"]
    );
    !is_raw
        && !is_key
        && !is_name
        && !is_statement.iter().any(|word| text.trim_start().starts_with(word))
}

/// A phrase where it was found.
struct Found<'a> {
    length: usize,
    /// The end of the line that is in it, with what opens the next one.
    line_end: Option<&'a str>,
}

fn phrase_at<'a>(text: &'a str, at: usize, phrase: &str) -> Option<Found<'a>> {
    // `{name}` is an argument, `x.name` and `"name":` are keys.
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '{' | '}');
    if text[..at].ends_with(is_part) || text[..at].ends_with('.') {
        return None;
    }
    let mut found = Found { length: 0, line_end: None };
    for (index, word) in phrase.split(' ').enumerate() {
        if index > 0 {
            let rest = &text[at + found.length..];
            let gap = gap(rest)?;
            if rest[..gap].contains('\n') {
                found.line_end = Some(&rest[..gap]);
            }
            found.length += gap;
        }
        let rest = &text[at + found.length..];
        found.length += if index == 0 {
            first_word(rest, word)?
        } else {
            rest.strip_prefix(word)?;
            word.len()
        };
    }
    let rest = &text[at + found.length..];
    let is_key = rest.starts_with("\":") || rest.starts_with("\\\":");
    (!rest.starts_with(is_part) && !is_key).then_some(found)
}

/// Length of the word here, if it is `word` but for the case of its first letter.
fn first_word(text: &str, word: &str) -> Option<usize> {
    let (mut here, mut wanted) = (text.chars(), word.chars());
    let (first, meant) = (here.next()?, wanted.next()?);
    let is_same = first == meant || first.to_lowercase().eq(meant.to_lowercase());
    (is_same && here.as_str().starts_with(wanted.as_str()))
        .then_some(first.len_utf8() + wanted.as_str().len())
}

/// Length of what parts two words: a space, or the end of a line with the marker of a comment or
/// a list's indent.
fn gap(text: &str) -> Option<usize> {
    let spaces = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let line = spaces(text);
    let rest = &text[line..];
    // A string goes on in the next line after a backslash.
    let line = if rest.starts_with("\\\n") { line + 1 } else { line };
    if !text[line..].starts_with('\n') {
        return (line == 1).then_some(1);
    }
    let mut length = line + 1;
    length += spaces(&text[length..]);
    if text[length..].starts_with("//") {
        length += text[length..].len() - text[length..].trim_start_matches(['/', '!']).len();
        length += spaces(&text[length..]);
    }
    let is_paragraph = text[length..].starts_with('\n') || text[length..].is_empty();
    (!is_paragraph).then_some(length)
}

/// The new phrase, with the capital and the end of line of the old one.
fn in_its_place(found: &Found<'_>, to: &str, is_capital: bool) -> String {
    let mut characters = to.chars();
    let first = characters.next().map(String::from).unwrap_or_default();
    let first = if is_capital { first.to_uppercase() } else { first };
    let to = first + characters.as_str();
    match found.line_end {
        Some(end) => to.replacen(' ', end, 1),
        None => to,
    }
}

/// For each byte, whether it is code: between backticks, or in a fenced block.
fn code_bytes(prose: &str) -> Vec<bool> {
    let mut code = Vec::with_capacity(prose.len());
    let (mut is_fenced, mut is_span) = (false, false);
    for line in prose.split_inclusive('\n') {
        let text = line.trim_start().trim_start_matches(['/', '!']).trim();
        if text.starts_with("```") {
            is_fenced = !is_fenced;
            code.resize(code.len() + line.len(), true);
            continue;
        }
        // A span does not go on into another paragraph.
        is_span &= !text.is_empty();
        for byte in line.bytes() {
            is_span ^= byte == b'`' && !is_fenced;
            code.push(is_fenced || is_span);
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(prose: &str) -> String {
        replace(prose, "hardware address", "MAC address").text
    }

    #[test]
    fn a_phrase_is_replaced_over_lines_and_with_its_capital() {
        assert_eq!(
            mac("A hardware address, the hardware\naddress."),
            "A MAC address, the MAC\naddress."
        );
        assert_eq!(mac("/// a hardware\n    /// address"), "/// a MAC\n    /// address");
        assert_eq!(
            replace("Stand still. They stand still.", "stand still", "pause").text,
            "Pause. They pause."
        );
        let one = replace("may stand\nstill and wait", "stand still", "pause");
        assert_eq!(one, Replaced { text: "may pause\nand wait".to_owned(), hits: 1 });
    }

    #[test]
    fn other_words_code_and_other_paragraphs_stay() {
        for text in [
            "hardware addresses_x",
            "hardware addressed",
            "`hardware address`",
            "```\nhardware address\n```\n",
            "hardware\n\naddress",
            "hardware\n///\n/// address",
            "x/hardware address",
            "a.hardware address",
            "\"hardware address\": 1",
            "hardware address-x",
        ] {
            assert_eq!(mac(text), text);
        }
    }

    #[test]
    fn in_sources_comments_and_messages_change_and_keys_do_not() {
        let source =
            "// the folder\nfn folder() { get(\"folder\"); bail!(\"no folder {folder}\") }";
        let wanted =
            "// the directory\nfn folder() { get(\"folder\"); bail!(\"no directory {folder}\") }";
        assert_eq!(replace_in_source(source, "folder", "directory").text, wanted);
    }

    #[test]
    fn statements_attributes_and_raw_strings_stay() {
        for source in [
            "\"SELECT a hardware address FROM x\"",
            "r#\"a hardware address\"#",
            "#[serde(rename = \"hardware address\")]",
            "#[serde(alias = \"hardware address\")]",
            "row.get(\"hardware address\")",
            "json!({\"hardware-address\": 1})",
        ] {
            assert_eq!(replace_in_source(source, "hardware address", "MAC address").text, source);
        }
        let error = "#[error(\"no hardware \\\n    address\")]";
        let wanted = "#[error(\"no MAC \\\n    address\")]";
        assert_eq!(replace_in_source(error, "hardware address", "MAC address").text, wanted);
    }

    #[test]
    fn a_second_replacement_finds_nothing() {
        let once = mac("hardware address");
        assert_eq!(replace(&once, "hardware address", "MAC address").hits, 0);
    }
}
