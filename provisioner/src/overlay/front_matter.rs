//! The front matter of a template: a comment at the very start. Pure.
//!
//! ```text
//! {#- bedplate
//! for-each: interfaces
//! path: /etc/systemd/network/10-{{ item.name }}.network
//! mode: 0600
//! -#}
//! ```
//!
//! Lines may end as on Windows. To Jinja it is a comment, so one that is only nearly right would be
//! ignored without a word, and a secret with it readable by all: what is meant as front matter and
//! is none is a mistake.

use super::template::TemplateError;

/// How it begins.
const BEGIN: &str = "{#- bedplate";

/// Keys that it may have.
const KEYS: [&str; 3] = ["for-each", "path", "mode"];

/// What a template says of its files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) for_each: Option<String>,
    pub(super) path: Option<String>,
    pub(super) mode: Option<u32>,
}

impl Front {
    /// Reads the front matter of a template; one without any has the defaults.
    pub(super) fn read(source: &str) -> Result<Self, TemplateError> {
        let mut front = Self::default();
        let Some(body) = body(source)? else { return Ok(front) };
        for (index, line) in body.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            front.line(index + 2, line)?;
        }
        if front.for_each.is_some() && front.path.is_none() {
            let message = "`for-each` makes several files and needs a `path`".to_owned();
            return Err(TemplateError { line: 1, message });
        }
        Ok(front)
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), TemplateError> {
        let wrong = |message: String| TemplateError { line: number, message };
        let (key, value) =
            line.split_once(':').ok_or_else(|| wrong(format!("{line:?} is not `key: value`")))?;
        let (key, value) = (key.trim(), value.trim());
        let is_repeated = match key {
            "for-each" => self.for_each.replace(value.to_owned()).is_some(),
            "path" => self.path.replace(value.to_owned()).is_some(),
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                let mode = mode.ok_or_else(|| wrong(format!("{value:?} is not an octal mode")))?;
                self.mode.replace(mode).is_some()
            }
            other => {
                let hint = yaml_tree::did_you_mean(other, KEYS);
                let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                return Err(wrong(format!("unknown key {other:?} in the front matter{hint}")));
            }
        };
        if is_repeated { Err(wrong(format!("`{key}` is there twice"))) } else { Ok(()) }
    }
}

/// The lines between begin and end; `None` if there is no front matter.
fn body(source: &str) -> Result<Option<&str>, TemplateError> {
    let first = source.strip_prefix(BEGIN).and_then(|rest| rest.split_once('\n'));
    let Some((_, body)) = first.filter(|(line, _)| line.trim().is_empty()) else {
        return match nearly(source) {
            None => Ok(None),
            Some(line) => Err(TemplateError {
                line,
                message: format!(
                    "this comment is meant as front matter and is none: it must begin with exactly `{BEGIN}` \
                     at the very start of the file, then have one `key: value` a line, and end with `-#}}`"
                ),
            }),
        };
    };
    let Some(end) = body.find("#}") else {
        return Err(TemplateError { line: 1, message: "the front matter has no end `-#}`".to_owned() });
    };
    let (body, line) = (&body[..end], body[..end].matches('\n').count() + 2);
    let body = body.strip_suffix('-').ok_or_else(|| TemplateError {
        line,
        message: "the front matter ends with `#}`; it must end with `-#}`".to_owned(),
    })?;
    Ok(Some(body))
}

/// The line of a comment that is meant as front matter, in a template that has none.
fn nearly(source: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = source[from..].find("{#") {
        let start = from + at;
        let before = &source[..start];
        // What follows may be about templates.
        if before.contains("raw %}") || before.contains("raw -%}") {
            return None;
        }
        let inside = &source[start + 2..];
        let end = inside.find("#}").unwrap_or(inside.len());
        let is_first = before.trim_matches(['\u{feff}', ' ', '\t', '\r', '\n']).is_empty();
        if is_meant(&inside[..end], is_first) {
            return Some(before.matches('\n').count() + 1);
        }
        from = start + 2 + end;
    }
    None
}

/// Whether a comment is meant as front matter: it is called so and has a key of it or nothing else.
/// At the very start a mistyped name will do, or none.
fn is_meant(comment: &str, is_first: bool) -> bool {
    let text = comment.trim_matches(['-', '+', ' ', '\t', '\r', '\n']);
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let is_name = word.eq_ignore_ascii_case("bedplate");
    // Of "template" it differs in two letters.
    let is_mistyped =
        !word.eq_ignore_ascii_case("template") && yaml_tree::did_you_mean(word, ["bedplate"]).is_some();
    let has_key = || rest.trim_start_matches(':').lines().any(is_key);
    if is_name {
        return has_key() || rest.trim_matches([':', ' ']).is_empty();
    }
    is_first && ((is_mistyped && has_key()) || text.lines().next().is_some_and(is_key))
}

fn is_key(line: &str) -> bool {
    let Some((key, _)) = line.split_once([':', '=']) else { return false };
    let key = key.trim().to_lowercase().replace('_', "-");
    KEYS.contains(&key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(source: &str) -> Result<Option<u32>, String> {
        Front::read(source).map(|front| front.mode).map_err(|error| error.to_string())
    }

    #[test]
    fn line_ends_do_not_count() {
        for source in [
            "{#- bedplate\nmode: 0600\n-#}\nsecret\n",
            "{#- bedplate\r\nmode: 0600\r\n-#}\r\nsecret\r\n",
            "{#- bedplate \t\r\n\r\n  mode : 0600  \r\n-#}",
            "{#- bedplate\nmode: 0600 -#}",
        ] {
            assert_eq!(mode(source), Ok(Some(0o600)), "{source:?}");
        }
    }

    #[test]
    fn what_is_meant_as_front_matter_and_is_none_is_a_mistake() {
        for source in [
            "{# bedplate\nmode: 0600\n#}\nsecret",
            "{#-bedplate\nmode: 0600\n-#}\nsecret",
            "{#- Bedplate\nmode: 0600\n-#}\nsecret",
            "{#-  bedplate\nmode: 0600\n-#}\nsecret",
            "{#+ bedplate\nmode: 0600\n-#}\nsecret",
            "{#- bedplate:\nmode: 0600\n-#}\nsecret",
            "{#- bedplate mode: 0600 -#}\nsecret",
            "{#- bedplate -#}\nmode: 0600\nsecret",
            "{#- bedplaet\nmode: 0600\n-#}\nsecret",
            "{#- bedplate\r mode: 0600\r-#}",
            "{#-\nmode: 0600\n-#}\nsecret",
            "{#- mode: 0600 -#}\nsecret",
            "{#-\nbedplate\nmode: 0600\n-#}",
            "\u{feff}{#- bedplate\nmode: 0600\n-#}\nsecret",
            "\n{#- bedplate\nmode: 0600\n-#}\nsecret",
            " {#- bedplate\nmode: 0600\n-#}\nsecret",
            "{#- bedplate\nfor_each = x\n",
            "{# of the site #}\n{#- bedplate\nmode: 0600\n-#}\nsecret",
        ] {
            // One of them is front matter but for its key, and one but for its end.
            let said = mode(source).unwrap_err();
            assert!(said.contains("meant as front matter") || said.contains("no end"), "{source:?}: {said}");
        }
        assert_eq!(
            mode("# ours\n\n{#- bedplate\nmode: 0600\n-#}").unwrap_err(),
            "line 3: this comment is meant as front matter and is none: it must begin with exactly \
             `{#- bedplate` at the very start of the file, then have one `key: value` a line, and end with \
             `-#}`"
        );
        assert_eq!(
            mode("{#- bedplate\nmode: 0600\n#}\n{#- more -#}").unwrap_err(),
            "line 3: the front matter ends with `#}`; it must end with `-#}`"
        );
        assert_eq!(
            mode("{#- bedplate\nmode: 0600\nmode: 0644\n-#}").unwrap_err(),
            "line 3: `mode` is there twice"
        );
    }

    #[test]
    fn comments_stay_comments() {
        for source in [
            "",
            "plain",
            "{# Bedplate writes this file; changes are lost #}\n",
            "{# Template: hosts\nMode: as it is\n#}\nx",
            "{#- of node {{ node.name }} -#}\n",
            "a\n{# mode: 7 #}\n",
            "{% raw %}\n{#- bedplate\nmode: 0600\n-#}\n{% endraw %}",
            "echo ${#list[@]}",
            "{#",
        ] {
            assert_eq!(mode(source), Ok(None), "{source:?}");
        }
    }
}
