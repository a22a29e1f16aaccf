//! Words of a command that is one text, as a shell splits them: at blanks, but for quotes and
//! backslashes (POSIX, Shell Command Language, section 2.2). Nothing else of a shell is done.

/// What separates words.
const BLANKS: [char; 3] = [' ', '\t', '\n'];

/// What a shell would do something with, and nobody does here.
const OPERATORS: [&str; 11] = ["|", "||", "&", "&&", ";", ">", ">>", "2>", "2>&1", "<", "<<"];

/// Longest form of words in a message, characters.
const MAX_SHOWN: usize = 300;

/// Why a text has no words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quote is opened and not closed.
    #[error("the {0} at its character {1} is not closed")]
    Quote(char, usize),
    /// It ends with a backslash.
    #[error("nothing follows the backslash at its end")]
    Backslash,
    /// There are blanks alone.
    #[error("it has no word")]
    Empty,
}

/// Whether a command of this one item is split at all.
#[must_use]
pub fn has_blanks(text: &str) -> bool {
    text.contains(BLANKS)
}

/// The words of a text. A `$` that quotes or a backslash protect is doubled, so that
/// [`crate::expand`] leaves it alone and the words can be written into a document.
///
/// # Errors
/// [`SplitError`].
pub fn split(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars().enumerate();
    while let Some((at, c)) = characters.next() {
        if BLANKS.contains(&c) {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        match c {
            '\'' => loop {
                match characters.next() {
                    Some((_, '\'')) => break,
                    Some((_, c)) => protect(word, c),
                    None => return Err(SplitError::Quote('\'', at + 1)),
                }
            },
            '"' => loop {
                match characters.next() {
                    Some((_, '"')) => break,
                    Some((_, '\\')) => match characters.next() {
                        Some((_, '\n')) => {}
                        Some((_, c @ ('$' | '`' | '"' | '\\'))) => protect(word, c),
                        Some((_, c)) => word.extend(['\\', c]),
                        None => return Err(SplitError::Quote('"', at + 1)),
                    },
                    Some((_, c)) => word.push(c),
                    None => return Err(SplitError::Quote('"', at + 1)),
                }
            },
            '\\' => match characters.next() {
                Some((_, c)) => protect(word, c),
                None => return Err(SplitError::Backslash),
            },
            c => word.push(c),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(SplitError::Empty) } else { Ok(words) }
}

/// Adds a character that stands for itself.
fn protect(word: &mut String, c: char) {
    if c == '$' {
        word.push('$');
    }
    word.push(c);
}

/// Words as a list of a document, cut where they are many.
pub(crate) fn list(words: &[String]) -> String {
    let mut shown = String::new();
    for word in words {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./=+$%@-".contains(c);
        let is_plain =
            word.len() > 1 && word.chars().all(is_plain) && !word.starts_with(['%', '@', '=']);
        if !shown.is_empty() {
            shown.push_str(", ");
        }
        let word = if is_plain { word.clone() } else { format!("{word:?}") };
        if shown.len() + word.len() > MAX_SHOWN {
            shown.push('…');
            break;
        }
        shown.push_str(&word);
    }
    format!("[{shown}]")
}

/// The first word that a shell would not have passed on as it is.
pub(crate) fn of_a_shell(words: &[String]) -> Option<&str> {
    let is_it = |word: &&String| {
        OPERATORS.contains(&word.as_str()) || word.contains("$(") || word.contains('`')
    };
    words.iter().find(is_it).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        for (text, expected) in [
            (
                "tar -C /data -zxf /data/input.tar.gz",
                &["tar", "-C", "/data", "-zxf", "/data/input.tar.gz"][..],
            ),
            (" a\tb\n ", &["a", "b"]),
            (r#"a'b c'd "e  f" ''"#, &["ab cd", "e  f", ""]),
            (r#"a\ b \' "\"\\\n" '\'"#, &["a b", "'", r#""\\n"#, r"\"]),
            (r#"$A '$B' "$C" "\$D" \$E"#, &["$A", "$$B", "$C", "$$D", "$$E"]),
            ("\"a\\\nb\"", &["ab"]),
            ("cat a | wc # b", &["cat", "a", "|", "wc", "#", "b"]),
            ("é 'ü ö'", &["é", "ü ö"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for (text, expected) in [
            ("it's me", SplitError::Quote('\'', 3)),
            ("a \"b", SplitError::Quote('"', 3)),
            ("a \"b\\", SplitError::Quote('"', 3)),
            ("a b\\", SplitError::Backslash),
            (" \t", SplitError::Empty),
        ] {
            assert_eq!(split(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn words_are_shown_as_a_list() {
        let words = |text: &str| split(text).unwrap();
        assert_eq!(list(&words("tar -C /data 'a b' - ''")), r#"[tar, -C, /data, "a b", "-", ""]"#);
        assert!(list(&words(&"word ".repeat(1_000))).ends_with(", word, …]"));
        assert_eq!(of_a_shell(&words("a b && c")), Some("&&"));
        assert_eq!(of_a_shell(&words("a $(date) b")), Some("$(date)"));
        assert_eq!(of_a_shell(&words("a -x b.c")), None);
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[^$]*", 1..5)) {
            let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
            let text = words.iter().map(quote).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&text), Ok(words));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            let _ = split(&text);
        }
    }
}
