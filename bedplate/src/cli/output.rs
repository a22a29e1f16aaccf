//! Standard output: a table for people; JSON, YAML or CSV for programs.
//!
//! One thing has one shape: JSON and YAML print the value as the API has it, alone or in a list,
//! and CSV prints the columns of its kind ([`Rows`]). With one of the three nothing else goes to
//! standard output: what is for people goes to standard error.
//!
//! What is for people may hold text of nodes, jobs, images and other users. Here is the one place
//! that sees to it that none of it does anything to a terminal or passes for a line of ours
//! ([`api::visible`]). What is for programs holds the data as it is: JSON escapes such characters,
//! YAML and CSV show them only where standard output is a terminal. What a user asked for as bytes
//! (the log of a job, a session in it) is nobody's to change: [`print_bytes`].

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use api::visible;
use clap::ValueEnum;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

pub(super) use super::stderr::print_note;
use super::{csv, error::Usage, table::Style};

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines for people.
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
    /// A header and a line for each thing (RFC 4180).
    Csv,
}

/// What can be printed in every format.
pub(super) trait Rows: Serialize {
    /// The columns of CSV: paths through the JSON of a row.
    const COLUMNS: &'static [&'static str];

    /// A JSON object for each row of CSV. A thing is one row, a list has one for each element.
    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        Ok(vec![serde_json::to_value(self)?])
    }
}

impl<T: Rows> Rows for [T] {
    const COLUMNS: &'static [&'static str] = T::COLUMNS;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let rows: Vec<Vec<Value>> = self.iter().map(Rows::rows).collect::<Result<_, _>>()?;
        Ok(rows.into_iter().flatten().collect())
    }
}

impl<T: Rows> Rows for Vec<T> {
    const COLUMNS: &'static [&'static str] = T::COLUMNS;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        self.as_slice().rows()
    }
}

impl<T: Rows + ?Sized> Rows for &T {
    const COLUMNS: &'static [&'static str] = T::COLUMNS;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        (**self).rows()
    }
}

/// What was done to things, by their names: `{"deleted": ["n1", "n2"]}`, in CSV a row for each.
#[derive(Debug, Default)]
pub(super) struct Done(Vec<(String, Vec<String>)>);

impl Done {
    /// One action on some things.
    pub(super) fn new<T: ToString>(action: &str, names: impl IntoIterator<Item = T>) -> Self {
        let names = names.into_iter().map(|name| name.to_string()).collect();
        Self(vec![(action.to_owned(), names)])
    }

    /// Notes an action on one more thing.
    pub(super) fn push(&mut self, action: &str, name: impl ToString) {
        let name = name.to_string();
        match self.0.iter_mut().find(|(known, _)| known == action) {
            Some((_, names)) => names.push(name),
            None => self.0.push((action.to_owned(), vec![name])),
        }
    }

    /// Nothing was done.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A line for each action: `deleted a, b`.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(action, names)| format!("{action} {}\n", names.join(", "))).collect()
    }
}

impl Serialize for Done {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (action, names) in &self.0 {
            map.serialize_entry(action, names)?;
        }
        map.end()
    }
}

impl Rows for Done {
    const COLUMNS: &'static [&'static str] = super::columns::DONE;

    fn rows(&self) -> serde_json::Result<Vec<Value>> {
        let row = |action: &str, name: &str| serde_json::json!({"action": action, "name": name});
        let of = |(action, names): &(String, Vec<String>)| {
            names.iter().map(|name| row(action, name)).collect::<Vec<_>>()
        };
        Ok(self.0.iter().flat_map(of).collect())
    }
}

/// Where values go.
#[derive(Debug)]
pub(super) struct Stdout {
    asked: Option<Format>,
    /// What the screen can do.
    pub(super) style: Style,
    /// A stream of rows has its header.
    has_header: AtomicBool,
}

impl Stdout {
    pub(super) fn new(asked: Option<Format>) -> Self {
        let (terminal, color) = (io::stdout().is_terminal(), has_color());
        Self { asked, style: Style { terminal, color }, has_header: AtomicBool::new(false) }
    }

    /// The format to print in.
    pub(super) fn format(&self) -> Format {
        self.asked.unwrap_or(Format::Table)
    }

    /// A program reads it.
    pub(super) fn is_for_programs(&self) -> bool {
        self.format() != Format::Table
    }

    /// Refuses `-o` for what has one form only.
    pub(super) fn refuse_format(&self, verb: &str) -> Result<(), Usage> {
        match self.asked {
            Some(_) => Err(Usage(format!("{verb} has one form of output: leave out -o"))),
            None => Ok(()),
        }
    }

    /// Refuses CSV for what has no rows, such as a document.
    pub(super) fn refuse_csv(&self, verb: &str) -> Result<(), Usage> {
        match self.format() {
            Format::Csv => Err(Usage(format!(
                "{verb} prints a document, which has no rows: use -o yaml or json"
            ))),
            _ => Ok(()),
        }
    }

    /// Prints a value, in a table as `text` says.
    pub(super) fn show<T: Rows + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(&Style) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.format() {
            Format::Table => return print(&text(&self.style)),
            Format::Json => json(value)?,
            Format::Yaml => yaml(value)?,
            Format::Csv => csv::header(T::COLUMNS) + &records(value)?,
        };
        print_data(&text)
    }

    /// Prints one value of many that come one after the other: JSON is one line each, YAML one
    /// document each, CSV has its header before the first.
    pub(super) fn stream<T: Rows + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(&Style) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.format() {
            Format::Table => return print(&text(&self.style)),
            Format::Json => {
                escape_json(serde_json::to_string(value).context("cannot write as JSON")?) + "\n"
            }
            Format::Yaml => "---\n".to_owned() + &yaml(value)?,
            Format::Csv => {
                let is_first = !self.has_header.swap(true, Ordering::Relaxed);
                let header = if is_first { csv::header(T::COLUMNS) } else { String::new() };
                header + &records(value)?
            }
        };
        print_data(&text)
    }

    /// The same, for what has no text for people: nothing in a table.
    pub(super) fn stream_to_programs<T: Rows + ?Sized>(&self, value: &T) -> anyhow::Result<()> {
        if self.is_for_programs() { self.stream(value, |_| String::new()) } else { Ok(()) }
    }
}

fn records<T: Rows + ?Sized>(value: &T) -> anyhow::Result<String> {
    let rows = value.rows().context("cannot write as CSV")?;
    Ok(rows.iter().map(|row| csv::line(T::COLUMNS, row)).collect())
}

/// Prints text for people.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(screen(text, has_color()).as_bytes())
}

/// Prints text for programs, as it is. A person who looks at it on a terminal is shown
/// what is hidden.
pub(super) fn print_data(text: &str) -> anyhow::Result<()> {
    let text = if io::stdout().is_terminal() { data_on_screen(text) } else { Cow::Borrowed(text) };
    print_bytes(text.as_bytes())
}

/// Colours are wanted on standard output.
fn has_color() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Text for people as it may go to a terminal: of all controls only line feeds, tabs and,
/// with colours, those that change the look of text (SGR, ECMA-48 section 8.3.117), which
/// tables are made with.
fn screen(text: &str, color: bool) -> Cow<'_, str> {
    if !color || !text.contains(CONTROL) {
        return visible::lines(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(CONTROL) {
        let (before, control) = rest.split_at(at);
        shown.push_str(&visible::lines(before));
        let parameters = control[CONTROL.len()..].bytes();
        let length = parameters.take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
        let (code, behind) = control.split_at(CONTROL.len() + length);
        match behind.strip_prefix('m') {
            Some(behind) => {
                shown.push_str(code);
                shown.push('m');
                rest = behind;
            }
            None => {
                shown.push_str(&visible::lines(code));
                rest = behind;
            }
        }
    }
    shown.push_str(&visible::lines(rest));
    Cow::Owned(shown)
}

/// Begins a control sequence.
const CONTROL: &str = "\x1b[";

/// The ends of lines of CSV stay.
fn data_on_screen(text: &str) -> Cow<'_, str> {
    let lines: Vec<Cow<'_, str>> = text.split("\r\n").map(visible::lines).collect();
    Cow::Owned(lines.join("\r\n"))
}

/// JSON with what is hidden escaped: the same value. Encoders escape some of it only (RFC 8259
/// section 7), and outside of strings there is none.
fn escape_json(json: String) -> String {
    let is_hidden = |character: char| visible::is_hidden(character) && !matches!(character, '\n');
    if !json.contains(is_hidden) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // A string takes all that is written to it.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Prints bytes as they are.
pub(super) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).context("cannot write to standard output")
}

fn json<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    Ok(escape_json(serde_json::to_string_pretty(value).context("cannot write as JSON")?) + "\n")
}

fn yaml<T: Serialize + ?Sized>(value: &T) -> anyhow::Result<String> {
    let mut text = serde_saphyr::to_string(&value).context("cannot write as YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_done_has_a_row_for_each_name() {
        let mut done = Done::new("deleted", ["a", "b"]);
        done.push("reverted", "hosts");
        done.push("deleted", "c");
        let value = serde_json::to_value(&done).unwrap();
        assert_eq!(value, json!({"deleted": ["a", "b", "c"], "reverted": ["hosts"]}));
        assert_eq!(
            records(&done).unwrap(),
            "deleted,a\r\ndeleted,b\r\ndeleted,c\r\nreverted,hosts\r\n"
        );
        assert_eq!(done.text(), "deleted a, b, c\nreverted hosts\n");
    }

    proptest::proptest! {
        #[test]
        fn no_text_does_anything_to_a_screen(text in "(?s:.|\x1b\\[[0-9;]*[mHJ])*") {
            let is_ours = |c: char| c == '\n' || c == '\t';
            let plain = screen(&text, false);
            proptest::prop_assert!(!plain.contains(|c| visible::is_hidden(c) && !is_ours(c)));
            let colored = screen(&text, true);
            for (at, character) in colored.char_indices().filter(|(_, c)| visible::is_hidden(*c) && !is_ours(*c)) {
                let style = colored[at..].strip_prefix(CONTROL).map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
                proptest::prop_assert!(style.is_some_and(|rest| rest.starts_with('m')), "{character:?}");
            }
            let data = data_on_screen(&text);
            proptest::prop_assert!(!data.replace("\r\n", "").contains(|c| visible::is_hidden(c) && !is_ours(c)));
        }

        #[test]
        fn json_is_the_same_value_whatever_it_holds(text in "(?s:.)*", pretty in proptest::bool::ANY) {
            let value = json!({text.clone(): [text, 1]});
            let written = if pretty { json(&value).unwrap() } else { escape_json(value.to_string()) };
            proptest::prop_assert!(!written.contains(|c| visible::is_hidden(c) && c != '\n'));
            proptest::prop_assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
    }

    #[test]
    fn only_colours_pass_and_only_where_they_are_wanted() {
        let text = "\x1b[38;5;10mready\x1b[39m \x1b[2J\x1b]0;t\x07\x1b[31\n";
        assert_eq!(
            screen(text, true),
            "\x1b[38;5;10mready\x1b[39m \\x1b[2J\\x1b]0;t\\x07\\x1b[31\n"
        );
        assert_eq!(screen("\x1b[1mx", false), "\\x1b[1mx");
        assert_eq!(data_on_screen("a,\x1b\r\n\"b\rc\"\r\n"), "a,\\x1b\r\n\"b\\rc\"\r\n");
    }

    /// What YAML may take for something else than text.
    const TEXTS: &[&str] = &[
        "",
        " ",
        "~",
        "null",
        "Null",
        "true",
        "no",
        "on",
        "y",
        "1",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x1f",
        "0o7",
        "017",
        ".inf",
        ".nan",
        "1_000",
        "12:30:45",
        "2026-11-23",
        "---",
        "...",
        "- a",
        "-",
        "? a",
        "a: b",
        ":",
        "a:",
        "a #b",
        "#",
        "<<",
        "=",
        "%a",
        "@a",
        "`a",
        "*a",
        "&a",
        "!a",
        "|",
        ">",
        "'",
        "\"",
        "a\"b",
        "a'b",
        "\\",
        "{",
        "[]",
        ",",
        "two\nlines",
        "two\nlines\n",
        "lines\n\n",
        "\n",
        "\na",
        " a\n b",
        "a\n\n  b\n",
        "\r\n",
        "a\rb",
        "\t",
        "a\tb",
        "a ",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{7f}",
        "\u{1}",
        "\0",
        "\u{1b}[31m",
        "ümläut",
        "🙂",
    ];

    /// Whatever text a name, a reason or a comment is: YAML is the same tree as JSON.
    #[test]
    fn yaml_is_the_tree_of_json() {
        for text in TEXTS {
            for value in
                [json!(text), json!([text, [text]]), json!({"a": text, "b": {"c": [text, 1]}})]
            {
                let written = yaml(&value).unwrap();
                let read: Result<Value, _> = serde_saphyr::from_str(&written);
                assert_eq!(read.ok().as_ref(), Some(&value), "{text:?}: {written:?}");
            }
        }
        for value in
            [json!(null), json!([]), json!({}), json!([{}, []]), json!(u64::MAX), json!(i64::MIN)]
        {
            let read: Value = serde_saphyr::from_str(&yaml(&value).unwrap()).unwrap();
            assert_eq!(read, value);
        }
    }
}
