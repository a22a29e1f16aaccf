//! `$NAME` and `${NAME}` in commands and arguments.

/// Puts values in the place of `$NAME` and `${NAME}`. A name that `lookup` does not know stays as it is, for the shell in the
/// container; `$$` becomes `$`, and what follows it is taken as it is.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, length) = match tail.strip_prefix('{') {
            Some(inner) => match inner.find('}') {
                Some(end) => (&inner[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let end = tail.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(tail.len());
                (&tail[..end], end)
            }
        };
        match is_name(name).then(|| lookup(name)).flatten() {
            Some(value) => out.push_str(&value),
            None => {
                out.push('$');
                out.push_str(&tail[..length]);
            }
        }
        rest = &tail[length..];
    }
    out.push_str(rest);
    out
}

/// A name of an environment variable (POSIX, section 8.1).
pub(crate) fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(word) && text.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> String {
        expand(text, |name| match name {
            "A" => Some("one".to_owned()),
            "FB_TASK_ID" => Some("7".to_owned()),
            "D" => Some("$A".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn names_are_replaced_once() {
        for (text, expected) in [
            ("$FB_TASK_ID", "7"),
            ("in-${A}.txt", "in-one.txt"),
            ("$A$A ${A}A", "oneone oneA"),
            ("$B ${B} ${A", "$B ${B} ${A"),
            ("$$A $$$A", "$A $one"),
            ("$ $1 ${} ${1} $", "$ $1 ${} ${1} $"),
            ("$D", "$A"),
            ("${A:-x} $(ls)", "${A:-x} $(ls)"),
            ("ä$Aä", "äoneä"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn without_dollars_nothing_changes(text in "[^$]*") {
            prop_assert_eq!(expand(&text, |_| Some(String::new())), text);
        }

        #[test]
        fn doubled_dollars_protect_any_text(text in ".*") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), |_| Some("x".to_owned())), text);
        }
    }
}
