//! Text of others as it may stand in a line for people: no character of it moves a cursor, changes
//! a screen, begins a line, or turns what is read round.
//!
//! It comes from nodes, jobs, images and users, and goes to terminals and logs. Such characters are
//! shown, not dropped: `\n`, `\x1b`, `\u{202e}`. JSON and YAML keep them, because their encoders
//! escape them and programs want what is.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Whether a character is not to be in a line: controls (C0, DEL, C1), what begins a line in some
/// programs, what changes the direction of text (Unicode Standard Annex #9, section 2), and what is
/// invisible and stands for something else (byte order mark, annotations, tags).
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// One line: also line feeds and tabs are shown as such. What has been through it stays as it is.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden)
}

/// Lines: line feeds and tabs stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_hidden(character) && !matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, is_hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            // A string takes all that is written to it.
            let _ = write_escape(&mut shown, character);
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn write_escape(out: &mut impl Write, character: char) -> fmt::Result {
    match character {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\0'..='\u{7f}' => write!(out, "\\x{:02x}", u32::from(character)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(character)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_hidden_is_shown() {
        let cases = [
            ("plain, ümläut, 🙂, a\\b", "plain, ümläut, 🙂, a\\b"),
            ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
            ("two\r\nlines\tand a tab", "two\\r\\nlines\\tand a tab"),
            ("c1 \u{9b}31m \u{85}", "c1 \\u{9b}31m \\u{85}"),
            ("\0\x7f", "\\x00\\x7f"),
            (
                "a\u{202e}cod.exe\u{2066}\u{200f}\u{2028}",
                "a\\u{202e}cod.exe\\u{2066}\\u{200f}\\u{2028}",
            ),
            ("\u{feff}\u{e0041}", "\\u{feff}\\u{e0041}"),
        ];
        for (text, shown) in cases {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("two\nlines\tand\x1b[31m\r\n"), "two\nlines\tand\\x1b[31m\\r\n");
        assert!(matches!(line("nothing to do"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_and_twice_is_as_once(text in "(?s:.)*") {
            let shown = line(&text);
            prop_assert!(!shown.contains(is_hidden));
            prop_assert_eq!(line(&shown), shown.as_ref());
            let many = lines(&text);
            prop_assert!(!many.contains(|c| is_hidden(c) && c != '\n' && c != '\t'));
            let count = |text: &str| text.matches('\n').count();
            prop_assert_eq!(count(&many), count(&text));
        }
    }
}
