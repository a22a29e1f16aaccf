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
//! ignored without a word, and a secret with it readable by all. One that is clearly meant as front
//! matter and is none is a mistake; one that may be is a comment, with a remark.

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
    /// What is hardly as it was meant.
    pub(super) remark: Option<TemplateError>,
}

impl Front {
    /// Reads the front matter of a template; one without any has the defaults.
    pub(super) fn read(source: &str) -> Result<Self, TemplateError> {
        let first = source.strip_prefix(BEGIN).and_then(|rest| rest.split_once('\n'));
        let Some((blanks, body)) = first.filter(|(line, _)| line.trim().is_empty()) else {
            return Self::without(source);
        };
        match Self::lines(body) {
            // With blanks or a carriage return there it was a comment up to now.
            Err(remark) if !blanks.is_empty() && !is_clear(comment(body)) => {
                Ok(Self { remark: Some(remark), ..Self::default() })
            }
            read => read,
        }
    }

    /// A template that does not begin with front matter.
    fn without(source: &str) -> Result<Self, TemplateError> {
        let Some((line, is_clear)) = nearly(source) else { return Ok(Self::default()) };
        let how = format!(
            "it must begin with exactly `{BEGIN}` at the very start of the file, then have one `key: value` a \
             line, and end with `-#}}`"
        );
        if is_clear {
            let message = format!("this comment is meant as front matter and is none: {how}");
            return Err(TemplateError { line, message });
        }
        let message = format!("this comment has no effect; if it is meant as front matter, {how}");
        Ok(Self { remark: Some(TemplateError { line, message }), ..Self::default() })
    }

    /// Reads what follows the first line.
    fn lines(rest: &str) -> Result<Self, TemplateError> {
        let unclosed = || match rest.find("#}") {
            Some(end) => wrong_end(rest[..end].matches('\n').count() + 2),
            None => {
                TemplateError { line: 1, message: "the front matter has no end `-#}`".to_owned() }
            }
        };
        let (body, _) = rest.split_once("-#}").ok_or_else(unclosed)?;
        let mut front = Self::default();
        for (index, line) in body.lines().enumerate() {
            let number = index + 2;
            if line.trim().is_empty() {
                continue;
            }
            if line.trim_start().starts_with("#}") {
                return Err(wrong_end(number));
            }
            front.line(number, line)?;
            if line.contains("#}") {
                front.remark(
                    "this `#}` ends the comment for Jinja: what follows is text of the file",
                    number,
                );
            }
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
        if is_repeated {
            self.remark(&format!("`{key}` is there twice; this one counts"), number);
        }
        Ok(())
    }

    /// The first remark stays.
    fn remark(&mut self, message: &str, line: usize) {
        self.remark.get_or_insert_with(|| TemplateError { line, message: message.to_owned() });
    }
}

fn wrong_end(line: usize) -> TemplateError {
    TemplateError {
        line,
        message: "the front matter ends with `#}`; it must end with `-#}`".to_owned(),
    }
}

/// What of a text is in the comment that it begins in.
fn comment(text: &str) -> &str {
    text.split_once("#}").map_or(text, |(comment, _)| comment)
}

/// The line of a comment that may be meant as front matter, in a template that has none, and
/// whether it clearly is.
fn nearly(source: &str) -> Option<(usize, bool)> {
    // What follows may be about templates.
    let raw = ["raw %}", "raw -%}"].iter().filter_map(|word| source.find(word)).min();
    let source = &source[..raw.unwrap_or(source.len())];
    let line = |start: usize| source[..start].matches('\n').count() + 1;
    let (mut from, mut vague) = (0, None);
    while let Some(at) = source[from..].find("{#") {
        let start = from + at;
        let inside = comment(&source[start + 2..]);
        let is_blank = |c| matches!(c, '\u{feff}' | ' ' | '\t' | '\r' | '\n');
        let is_first = from == 0 && source[..start].chars().all(is_blank);
        match meant(inside, is_first) {
            Some(true) => return Some((line(start), true)),
            Some(false) => vague = vague.or(Some(start)),
            None => {}
        }
        from = start + 2 + inside.len();
    }
    vague.map(|start| (line(start), false))
}

/// Whether a comment may be meant as front matter, and clearly is: it is called so and has a key of
/// it or nothing else. At the very start a mistyped name will do, or none.
fn meant(comment: &str, is_first: bool) -> Option<bool> {
    let text = comment.trim_matches(['-', '+', ' ', '\t', '\r', '\n']);
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let rest = rest.trim_start_matches(':');
    let has_key = || rest.lines().any(|line| key(line).is_some());
    if word.eq_ignore_ascii_case("bedplate") {
        return match has_key() {
            true => Some(is_first || is_clear(rest)),
            false => rest.trim().is_empty().then_some(false),
        };
    }
    // Of "template" it differs in two letters.
    let is_mistyped = || {
        !word.eq_ignore_ascii_case("template")
            && yaml_tree::did_you_mean(word, ["bedplate"]).is_some()
    };
    let begins_with_key = || text.lines().next().is_some_and(|line| key(line).is_some());
    let may_be = is_first && (begins_with_key() || (has_key() && is_mistyped()));
    may_be.then(|| is_clear(text))
}

/// Whether a text is hardly anything else than front matter: it has two keys of it, or a mode.
fn is_clear(text: &str) -> bool {
    let found: Vec<(&str, &str)> = text.lines().filter_map(key).collect();
    let is_mode = |value: &str| {
        let digits = value.trim_matches(['-', ' ', '\t', '\r', '"', '\'']);
        let digits = digits.strip_prefix("0o").unwrap_or(digits);
        (3..=5).contains(&digits.len()) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'))
    };
    found.iter().any(|(key, value)| *key == "mode" && is_mode(value))
        || found.iter().any(|(key, _)| *key != found[0].0)
}

/// The key of front matter, however it is spelt, and the value of a line.
fn key(line: &str) -> Option<(&'static str, &str)> {
    let (key, value) = line.split_once([':', '='])?;
    let key = key.trim().to_lowercase().replace('_', "-");
    KEYS.into_iter().find(|known| *known == key).map(|known| (known, value))
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
    fn what_is_meant_as_front_matter_and_is_none_is_a_diagnostic() {
        for source in [
            "{# bedplate\nmode: 0600\n#}\nsecret",
            "{#-bedplate\nmode: 0600\n-#}\nsecret",
            "{#- Bedplate\nmode: 0600\n-#}\nsecret",
            "{#-  bedplate\nmode: 0600\n-#}\nsecret",
            "{#+ bedplate\nmode: 0600\n-#}\nsecret",
            "{#- bedplate:\nmode: 0600\n-#}\nsecret",
            "{#- bedplate mode: 0600 -#}\nsecret",
            "{#- bedplaet\nmode: 0600\n-#}\nsecret",
            "{#- bedplate\r mode: 0600\r-#}",
            "{#-\nmode: 0600\n-#}\nsecret",
            "{#- mode: 0600 -#}\nsecret",
            "{#-\nbedplate\nmode: 0600\n-#}",
            "\u{feff}{#- bedplate\nmode: 0600\n-#}\nsecret",
            "\n{#- bedplate\nmode: 0600\n-#}\nsecret",
            " {#- bedplate\nmode: 0600\n-#}\nsecret",
            "{#- bedplate\nfor_each = x\n",
            "{#-\npath: /etc/x\nfor-each: y\n-#}",
            "{# Mode: \"0600\" #}",
            "{# of the site #}\n{#- bedplate\nmode: 0600\n-#}\nsecret",
        ] {
            // One of them is front matter but for its key, and one but for its end.
            let said = mode(source).unwrap_err();
            assert!(
                said.contains("meant as front matter") || said.contains("no end"),
                "{source:?}: {said}"
            );
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
    }

    /// All of it rendered before there was a word of it.
    #[test]
    fn what_may_be_meant_is_remarked_and_holds_nobody() {
        let none = "this comment has no effect";
        for (source, mode, remark) in [
            ("{# path: /etc/hosts #}\nx", None, none),
            ("{# Mode: as the image has it #}\nx", None, none),
            ("{#\n for-each: see below\n#}\nx", None, none),
            ("{# bedplate #}\nx", None, none),
            ("x\n{# Bedplate: #}\n", None, none),
            ("x\n{# bedplate path: as it is #}\n", None, none),
            ("{#- bedplate -#}\nmode: 0600\nsecret", None, none),
            ("{#- bedplaet\npath: /etc/x\n-#}\nx", None, none),
            ("{#- bedplate\r\nof the site\r\n-#}\r\nx", None, "is not `key: value`"),
            ("{#- bedplate\nmode: 0600\nmode: 0644\n-#}", Some(0o644), "`mode` is there twice"),
            (
                "{#- bedplate\nmode: 0600\npath: /x{# y #}\n-#}",
                Some(0o600),
                "this `#}` ends the comment",
            ),
        ] {
            let front = Front::read(source).unwrap();
            let said = front.remark.unwrap().to_string();
            assert!(front.mode == mode && said.contains(remark), "{source:?}: {said}");
        }
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
            assert_eq!(Front::read(source), Ok(Front::default()), "{source:?}");
        }
    }
}
