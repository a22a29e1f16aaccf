//! Renames in one source file. Identifiers are replaced as tokens, and in three places where they
//! hide in text: `{name}` in the format strings of macros and of `#[error(…)]`, paths of functions
//! in `#[serde(with = "…")]` and the like, and code between backticks in comments. All other
//! strings stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    guard::{self, Exposed, Shown},
    lexer::{Kind, Token, code, line_of, tokens},
    rules::Rules,
    table::Identifier,
};

/// Macros whose strings are no format strings.
const NO_FORMAT: &[&str] =
    &["expect", "expect_file", "json", "vec", "concat", "matches", "include_str", "env"];

/// Keys of `#[serde(…)]` whose strings are paths in the program.
const SERDE_PATHS: &[&str] = &[
    "bound",
    "default",
    "deserialize_with",
    "from",
    "getter",
    "into",
    "remote",
    "serialize_with",
    "skip_serializing_if",
    "try_from",
    "with",
];

/// What became of a file.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub(super) text: String,
    /// How often each old name was replaced.
    pub(super) hits: BTreeMap<String, usize>,
    /// Old names that were public for other crates.
    pub(super) public: BTreeSet<String>,
    /// Why it may not be so.
    pub(super) refusals: Vec<String>,
}

/// Renames in the source of `path`.
pub(super) fn rewrite(path: &str, source: &str, rules: &Rules) -> Rewritten {
    let code = code(source);
    let changes = rules.changes(&code);
    let mut rewritten = Rewritten::default();
    for (&index, &(rule, _)) in &changes {
        let from = &rules.rules[rule].entry.from;
        *rewritten.hits.entry(from.clone()).or_default() += 1;
        if is_public(&code, index) {
            rewritten.public.insert(from.clone());
        }
    }
    rewritten.refusals.extend(collisions(path, &code, &changes, rules));
    let by_place: BTreeMap<usize, (usize, &str)> =
        changes.iter().map(|(&index, &change)| (code[index].at, change)).collect();
    let mut pins = BTreeMap::new();
    for exposed in guard::exposed(&code) {
        let Some(&(rule, _)) = by_place.get(&exposed.at) else { continue };
        match pin(&exposed, &rules.rules[rule].entry) {
            Ok(text) => pins.entry(exposed.before).or_insert_with(String::new).push_str(&text),
            Err(NotKept(why)) => {
                let line = line_of(source, exposed.at);
                rewritten
                    .refusals
                    .push(format!("{path}:{line}: {}: {why}", rules.rules[rule].entry.from));
            }
        }
    }
    rewritten.text = written(source, &code, &by_place, &pins, rules);
    rewritten
}

/// Puts the file together.
fn written(
    source: &str,
    code: &[Token<'_>],
    changes: &BTreeMap<usize, (usize, &str)>,
    pins: &BTreeMap<usize, String>,
    rules: &Rules,
) -> String {
    let strings = strings_with_names(code);
    let used: BTreeSet<usize> = changes.values().map(|&(rule, _)| rule).collect();
    let mut text = String::with_capacity(source.len());
    let mut is_fenced = false;
    for token in tokens(source) {
        text.push_str(pins.get(&token.at).map_or("", String::as_str));
        match token.kind {
            Kind::Comment => text.push_str(&comment(token.text, rules, &used, &mut is_fenced)),
            Kind::String => match strings.get(&token.at) {
                Some(Names::Format) => text.push_str(&format_string(token.text, rules)),
                Some(Names::Path) => text.push_str(&snippet(token.text, rules)),
                None => text.push_str(token.text),
            },
            _ => text.push_str(changes.get(&token.at).map_or(token.text, |&(_, to)| to)),
        }
    }
    text
}

/// Why a shown name is not kept by the table: a text for whoever writes it.
#[derive(Debug)]
struct NotKept(String);

/// The attribute that keeps a shown name, as the table has it.
fn pin(exposed: &Exposed, entry: &Identifier) -> Result<String, NotKept> {
    let kept = |key: &str, given: &Option<String>, name: &str, what: &str| match given {
        None => Err(NotKept(format!("{what}; {key} = {name:?} in the table keeps it"))),
        Some(given) if given != name => {
            Err(NotKept(format!("{key} = {given:?}, but the name there is {name:?}")))
        }
        Some(_) => Ok(()),
    };
    let attribute = match &exposed.shown {
        Shown::Serde(name) => {
            kept("serde", &entry.serde, name, "serde shows its name")?;
            format!("serde(rename = \"{name}\")")
        }
        Shown::Column(name) => {
            kept("column", &entry.column, name, "it is the name of a column")?;
            format!("sqlx(rename = \"{name}\")")
        }
        Shown::Schema(name) => {
            kept("schema", &entry.schema, name, "it is a schema of the API")?;
            format!("schema(as = {name})")
        }
        Shown::Operation { name, after_comma } => {
            kept("operation", &entry.operation, name, "it is an operation of the API")?;
            return Ok(format!(
                "{}operation_id = \"{name}\"",
                if *after_comma { " " } else { ", " }
            ));
        }
        Shown::Clap => {
            let refusal = "the command line shows it; clap = \"arg(…)\" in the table keeps it";
            entry.clap.clone().ok_or_else(|| NotKept(refusal.to_owned()))?
        }
    };
    Ok(match &exposed.condition {
        Some(condition) => format!("#[cfg_attr({condition}, {attribute})]\n"),
        None => format!("#[{attribute}]\n"),
    })
}

/// New names that are in the file already: two things would become one.
fn collisions(
    path: &str,
    code: &[Token<'_>],
    changes: &BTreeMap<usize, (usize, &str)>,
    rules: &Rules,
) -> Vec<String> {
    let is_name = |token: &Token<'_>| token.kind == Kind::Identifier;
    let stays: BTreeMap<&str, usize> = code
        .iter()
        .enumerate()
        .filter(|(index, token)| is_name(token) && !changes.contains_key(index))
        .map(|(_, token)| (token.text, token.at))
        .collect();
    let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (&index, &(rule, to)) in changes {
        let entry = &rules.rules[rule].entry;
        sources.entry(to).or_default().insert(code[index].text);
        if !entry.beside && (stays.contains_key(to) || sources[to].len() > 1) {
            found.insert(format!("{path}: {} to {to}: {to} is there already", entry.from));
        }
    }
    found.into_iter().collect()
}

/// Whether the name here is declared for other crates: `pub fn x`, `pub x: u8`.
fn is_public(code: &[Token<'_>], index: usize) -> bool {
    let mut before = index;
    while before > 0 {
        before -= 1;
        match code[before].text {
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "mod" | "async"
            | "unsafe" => {}
            "pub" => {
                return code.get(index + 1).is_none_or(|next| before + 1 < index || next.is(":"));
            }
            _ => return false,
        }
    }
    false
}

/// What names a string holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// `{name}`.
    Format,
    /// A path of the program.
    Path,
}

/// Strings that hold names, by their place.
fn strings_with_names(code: &[Token<'_>]) -> BTreeMap<usize, Names> {
    let mut found = BTreeMap::new();
    // Whether strings inside each open bracket are format strings.
    let mut open: Vec<bool> = Vec::new();
    let mut serde_until = 0;
    for (index, token) in code.iter().enumerate() {
        if let Some(end) = guard::attribute_end(code, index) {
            let is_serde = code[index..end].iter().any(|token| token.is_word("serde"));
            serde_until = if is_serde { end } else { serde_until };
        }
        match (token.kind, token.text) {
            (Kind::Mark, "(" | "[" | "{") => {
                let outer = open.last().copied().unwrap_or(false);
                open.push(macro_name(code, index).map_or(outer, |name| !NO_FORMAT.contains(&name)));
            }
            (Kind::Mark, ")" | "]" | "}") => drop(open.pop()),
            (Kind::String, _) if index < serde_until => {
                let key = index.checked_sub(2).map_or("", |key| code[key].text);
                if SERDE_PATHS.contains(&key) {
                    found.insert(token.at, Names::Path);
                }
            }
            (Kind::String, _) if open.last() == Some(&true) => {
                found.insert(token.at, Names::Format);
            }
            _ => {}
        }
    }
    found
}

/// The macro, or `error` of `#[error(…)]`, whose arguments open here.
fn macro_name<'a>(code: &[Token<'a>], open: usize) -> Option<&'a str> {
    let name = |at: usize| code.get(at).filter(|token| token.kind == Kind::Identifier);
    if code.get(open.checked_sub(1)?)?.is("!") {
        return name(open.checked_sub(2)?).map(|token| token.text);
    }
    let attribute = open.checked_sub(3)?;
    let is_error =
        code[attribute].is("#") && code[attribute + 1].is("[") && code[open - 1].is_word("error");
    is_error.then_some("error")
}

/// A format string with the names of its arguments replaced.
fn format_string(text: &str, rules: &Rules) -> String {
    let mut written = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, after) = rest.split_at(at + 1);
        written.push_str(before);
        rest = after;
        if let Some(escaped) = rest.strip_prefix('{') {
            written.push('{');
            rest = escaped;
            continue;
        }
        let Some(end) = rest.find('}') else { break };
        let (argument, after) = rest.split_at(end);
        let (name, form) = argument.split_at(argument.find(':').unwrap_or(argument.len()));
        written.push_str(rules.single(name).map_or(name, |(_, to)| to));
        written.push_str(&widths(form, rules));
        rest = after;
    }
    written.push_str(rest);
    written
}

/// `:>width$.precision$`, with their names replaced.
fn widths(form: &str, rules: &Rules) -> String {
    let found = tokens(form);
    let is_argument = |index: usize| found.get(index + 1).is_some_and(|next| next.is("$"));
    let pieces = found.iter().enumerate().map(|(index, token)| {
        let name = rules.single(token.text).filter(|_| is_argument(index));
        name.map_or(token.text, |(_, to)| to)
    });
    pieces.collect()
}

/// A string that holds a path, or code of a comment.
fn snippet(text: &str, rules: &Rules) -> String {
    let (quote, inner) = match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => ("\"", inner),
        None => ("", text),
    };
    format!("{quote}{}{quote}", renamed(inner, rules, |_| true))
}

fn renamed(text: &str, rules: &Rules, is_meant: impl Fn(usize) -> bool) -> String {
    let code = code(text);
    let changes = rules.changes(&code);
    let mut written = String::with_capacity(text.len());
    let mut end = 0;
    for (index, (rule, to)) in changes {
        if is_meant(rule) {
            written.push_str(&text[end..code[index].at]);
            written.push_str(to);
            end = code[index].at + code[index].text.len();
        }
    }
    written.push_str(&text[end..]);
    written
}

/// A comment, with names replaced in its code. A plain lower-case word is taken for a name only
/// where the file's own code has it, since it may as well be a key.
fn comment(text: &str, rules: &Rules, used: &BTreeSet<usize>, is_fenced: &mut bool) -> String {
    let body = text.trim_start_matches(['/', '!']);
    let marker = &text[..text.len() - body.len()];
    if body.trim_start().starts_with("```") {
        *is_fenced = marker.len() > 2 && !*is_fenced;
        return text.to_owned();
    }
    let is_meant = |rule: usize| {
        let name = &rules.rules[rule].entry.from;
        used.contains(&rule) || name.bytes().any(|c| !c.is_ascii_lowercase())
    };
    if *is_fenced && marker.len() > 2 {
        return format!("{marker}{}", renamed(body, rules, is_meant));
    }
    *is_fenced = false;
    format!("{marker}{}", spans(body, |span| renamed(span, rules, is_meant)))
}

/// The text with what stands between backticks replaced.
pub(super) fn spans(text: &str, replace: impl Fn(&str) -> String) -> String {
    let pieces: Vec<&str> = text.split('`').collect();
    let mut written = String::with_capacity(text.len());
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            written.push('`');
        }
        if index % 2 == 1 && index + 1 < pieces.len() {
            written.push_str(&replace(piece));
        } else {
            written.push_str(piece);
        }
    }
    written
}

#[cfg(test)]
mod tests;
