//! Tokens of Rust source, as far as renaming needs them. Nothing is lost: the texts of all tokens,
//! one after the other, are the source. What does not lex (half a string at the end of a file)
//! becomes one token up to the end, since the compiler has the last word on it.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Spaces and line ends.
    Space,
    /// A line comment without its line end, or a block comment.
    Comment,
    /// An identifier or a keyword; raw ones with their `r#`.
    Identifier,
    /// `'a`.
    Lifetime,
    /// A string of any kind, with prefix and quotes.
    String,
    /// A character or a byte, with its quotes.
    Char,
    /// A number with its suffix.
    Number,
    /// One character of punctuation.
    Mark,
}

/// A piece of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// Where it begins, bytes.
    pub(crate) at: usize,
}

impl Token<'_> {
    /// Whether it is the punctuation `mark`.
    pub(crate) fn is(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    /// Whether it is the identifier or keyword `word`.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Identifier && self.text == word
    }
}

/// All tokens of a source text.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        let rest = &source[at..];
        let (kind, length) = next(rest, first);
        found.push(Token { kind, text: &rest[..length], at });
        at += length;
    }
    found
}

/// The tokens that the compiler sees: neither spaces nor comments.
pub(crate) fn code(source: &str) -> Vec<Token<'_>> {
    let mut found = tokens(source);
    found.retain(|token| !matches!(token.kind, Kind::Space | Kind::Comment));
    found
}

/// Line of a place in the source, from 1.
pub(crate) fn line_of(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

fn next(rest: &str, first: char) -> (Kind, usize) {
    if first.is_whitespace() {
        return (Kind::Space, run(rest, char::is_whitespace));
    }
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    if let Some(length) = string(rest) {
        return (Kind::String, length);
    }
    if first == '\'' || rest.starts_with("b'") {
        return quoted(rest);
    }
    if is_part(first) && !first.is_ascii_digit() {
        let raw = if rest.starts_with("r#") { 2 } else { 0 };
        return (Kind::Identifier, raw + run(&rest[raw..], is_part));
    }
    if first.is_ascii_digit() {
        return (Kind::Number, number(rest));
    }
    (Kind::Mark, first.len_utf8())
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Bytes at the beginning of `text` whose characters all are `wanted`.
fn run(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !wanted(c)).unwrap_or(text.len())
}

/// Length of a block comment; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a string, if one begins here: `"`, `b"`, `c"`, `r"`, `br"`, `cr"`, the
/// raw ones with `#`.
fn string(rest: &str) -> Option<usize> {
    let prefix = run(rest, |c| matches!(c, 'b' | 'c' | 'r'));
    let (head, tail) = rest.split_at(prefix);
    let is_raw = head.ends_with('r');
    if !matches!(head, "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    let hashes = if is_raw { run(tail, |c| c == '#') } else { 0 };
    let body = tail[hashes..].strip_prefix('"')?;
    let opened = prefix + hashes + 1;
    if is_raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(opened + body.find(&close).map_or(body.len(), |end| end + close.len()));
    }
    let mut is_escaped = false;
    for (index, byte) in body.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(opened + index + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// A character, a byte, or a lifetime.
fn quoted(rest: &str) -> (Kind, usize) {
    let opened = if rest.starts_with('b') { 2 } else { 1 };
    let body = &rest[opened..];
    let mut characters = body.chars();
    let first = characters.next();
    let second = characters.next();
    if first == Some('\\') {
        // The escaped character may be a quote itself.
        let escape = 1 + second.map_or(0, char::len_utf8);
        let close = body[escape..].find('\'').map_or(body.len(), |end| escape + end + 1);
        return (Kind::Char, opened + close);
    }
    match (first, second) {
        (Some(character), Some('\'')) => (Kind::Char, opened + character.len_utf8() + 1),
        _ => (Kind::Lifetime, opened + run(body, is_part)),
    }
}

fn number(rest: &str) -> usize {
    let whole = run(rest, is_part);
    let mut after = rest[whole..].chars();
    let has_fraction =
        after.next() == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit());
    let end = if has_fraction { whole + 1 + run(&rest[whole + 1..], is_part) } else { whole };
    let is_exponent = rest[..end].ends_with(['e', 'E']) && !rest.starts_with("0x");
    if is_exponent && rest[end..].starts_with(['+', '-']) {
        return end + 1 + run(&rest[end + 1..], is_part);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, &str)> {
        code(source).into_iter().map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn strings_are_one_token_each() {
        let sources =
            [r#""a \" b""#, r##"r#"a " b"#"##, r#"b"x""#, r#"br"x\""#, r#"c"x""#, "\"half"];
        for source in sources {
            assert_eq!(kinds(source), [(Kind::String, source)]);
        }
    }

    #[test]
    fn characters_and_lifetimes_differ() {
        for source in ["'a'", "'\\''", "'\\\\'", "b'x'", "b'\\''", "'\\u{1F}'", "'é'"] {
            assert_eq!(kinds(source), [(Kind::Char, source)]);
        }
        assert_eq!(kinds("&'a str")[1], (Kind::Lifetime, "'a"));
        assert_eq!(kinds("'_>")[0], (Kind::Lifetime, "'_"));
    }

    #[test]
    fn raw_identifiers_numbers_and_comments() {
        assert_eq!(kinds("r#type"), [(Kind::Identifier, "r#type")]);
        assert_eq!(kinds("1_000.5e-3f64"), [(Kind::Number, "1_000.5e-3f64")]);
        assert_eq!(kinds("0..n").len(), 4);
        assert_eq!(kinds("a /* b /* c */ d */ e // f\n g").len(), 3);
    }

    #[test]
    fn nothing_of_this_repository_is_lost() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![root];
        let mut seen = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = std::fs::read_to_string(&path).unwrap();
                let joined: String = tokens(&source).iter().map(|token| token.text).collect();
                assert_eq!(joined, source, "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 10);
    }
}
