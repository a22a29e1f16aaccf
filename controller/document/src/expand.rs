//! `$NAME` and `${NAME}` in commands and arguments, and in values of the environment.

/// Puts values in the place of `$NAME` and `${NAME}`. A name that `lookup` does not know stays as
/// it is, for the shell in the container; `$$` becomes `$`, and what follows it is taken as it is.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // How much is left behind the last brace that closes one: from there on none is looked for.
    let left = text.rfind('}').map_or(text.len(), |at| text.len() - at);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let (name, length) = match tail.strip_prefix('{') {
            Some(_) if tail.len() < left => ("", 0),
            Some(inner) => inner.find('}').map_or(("", 0), |end| (&inner[..end], end + 2)),
            None => plain_name(tail),
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

/// Puts values in the place of `$NAME` and `${NAME}` in a value of the environment, but only of
/// names that `lookup` knows; `$$NAME` of such a name is `$NAME`. Everything else stays as it is,
/// `$$` too: a password may hold it.
#[must_use]
pub fn expand_known(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let (is_plain, behind) =
            tail.strip_prefix('$').map_or((false, tail), |behind| (true, behind));
        let (name, length) = match behind.strip_prefix('{').map(plain_name) {
            // In braces is a name and nothing else.
            Some((name, end)) if behind[1 + end..].starts_with('}') => (name, end + 2),
            Some(_) => ("", 0),
            None => plain_name(behind),
        };
        let Some(value) = is_name(name).then(|| lookup(name)).flatten() else {
            out.push('$');
            rest = tail;
            continue;
        };
        if is_plain {
            out.push('$');
            out.push_str(&behind[..length]);
        } else {
            out.push_str(&value);
        }
        rest = &behind[length..];
    }
    out.push_str(rest);
    out
}

/// The letters, digits and underscores that a text begins with, and how long they are, bytes.
fn plain_name(text: &str) -> (&str, usize) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (&text[..end], end)
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
            ("${a b $A} $A", "${a b $A} one"),
            ("${A} ${${A} ${A", "one ${${A} ${A"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn only_known_names_are_replaced_in_the_environment() {
        let of = |text: &str| {
            expand_known(text, |name| (name == "PATH").then(|| "/bin:$PATH".to_owned()))
        };
        for (text, expected) in [
            ("/opt/bin:$PATH", "/opt/bin:/bin:$PATH"),
            ("${PATH}:/x", "/bin:$PATH:/x"),
            ("$$PATH $${PATH} $$$PATH", "$PATH ${PATH} $$PATH"),
            (
                "pa$$word $HOME $$HOME ${HOME} $ $1 ${PATH",
                "pa$$word $HOME $$HOME ${HOME} $ $1 ${PATH",
            ),
            ("$PATHS", "$PATHS"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_names_nothing_known_stays(text in ".*") {
            prop_assert_eq!(expand_known(&text, |_| None), text);
        }

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
