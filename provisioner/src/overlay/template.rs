//! One template: its compiled form, and rendering it to no, one or several files. How it says what
//! files: [`super::front_matter`].

use std::{fmt, sync::Arc};

use bytes::Bytes;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value,
    syntax::SyntaxConfig,
    value::{Rest, ValueOrKwargs},
};
use sha2::{Digest as _, Sha256};

use super::{
    Content, Entry, MAX_FILE_BYTES, check_path, front_matter::Front, variables::Variables,
};

/// Files that one template may make for one node: a hundred times what a large node has interfaces.
const MAX_ITEMS: usize = 4096;

/// Steps for one file: an instruction, or 64 bytes that are written or made. `/etc/hosts` of
/// 65,536 nodes takes four million. What a template holds in memory at a time is bounded by
/// it, too: 512 MiB.
const MAX_STEPS: u64 = 8_000_000;

/// Steps for all files of one template for one node: those that are skipped, their paths and
/// `for-each` are counted, too.
const MAX_STEPS_OF_ALL: u64 = 4 * MAX_STEPS;

/// A template of an overlay.
pub struct Template {
    /// Path on the node without `.j2`; the path of its files unless the front matter
    /// says otherwise.
    path: String,
    /// Permission bits of its files.
    mode: u32,
    environment: Environment<'static>,
    front: Front,
    /// Variables that it reads, sorted.
    reads: Vec<String>,
    /// SHA-256 of everything that its files depend on besides variables.
    digest: [u8; 32],
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("path", &self.path)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TemplateError {
    /// Line in the file, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Carried by the error that ends a template which called `skip()`.
#[derive(Debug, thiserror::Error)]
#[error("skipped")]
struct Skipped {
    /// What the file took until then.
    steps: u64,
}

const BODY: &str = "body";
const PATH: &str = "path";

/// Function that returns the steps taken so far. The engine tells them of templates, and of
/// expressions only from within.
const STEPS: &str = "__steps";

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// A mistake in the front matter or in the syntax, with its line.
    pub fn compile(path: &str, mode: u32, source: &str) -> Result<Self, TemplateError> {
        let front = Front::read(source)?;
        let mut environment = environment().map_err(|error| located(&error))?;
        environment
            .add_template_owned(BODY.to_owned(), source.to_owned())
            .map_err(|error| located(&error))?;
        let mut reads = environment
            .get_template(BODY)
            .map(|template| template.undeclared_variables(false))
            .map_err(|error| located(&error))?;
        let in_front = |error: &Error, key: &str| TemplateError {
            line: 1,
            message: format!("{key} of the front matter: {}", describe(error)),
        };
        if let Some(path) = &front.path {
            environment
                .add_template_owned(PATH.to_owned(), path.clone())
                .map_err(|e| in_front(&e, "path"))?;
            let template = environment.get_template(PATH).map_err(|e| in_front(&e, "path"))?;
            reads.extend(template.undeclared_variables(false));
        }
        if let Some(expression) = &front.for_each {
            let compiled = environment.compile_expression(expression);
            reads.extend(
                compiled.map_err(|e| in_front(&e, "for-each"))?.undeclared_variables(false),
            );
        }
        let mut reads: Vec<String> = reads.into_iter().collect();
        reads.sort_unstable();
        let mode = front.mode.unwrap_or(mode);
        let digest = Sha256::new()
            .chain_update(path)
            .chain_update([0])
            .chain_update(mode.to_be_bytes())
            .chain_update(source)
            .finalize()
            .into();
        Ok(Self { path: path.to_owned(), mode, environment, front, reads, digest })
    }

    /// Variables that it reads, sorted; functions among them.
    #[must_use]
    pub fn reads(&self) -> &[String] {
        &self.reads
    }

    /// What of its front matter is hardly as it was meant.
    #[must_use]
    pub fn remark(&self) -> Option<&TemplateError> {
        self.front.remark.as_ref()
    }

    /// A hash over the template, its path and its mode.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Permission bits of its files.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Path of its files as written, placeholders included.
    #[must_use]
    pub fn path(&self) -> &str {
        self.front.path.as_deref().unwrap_or(&self.path)
    }

    /// Everything that its files depend on: equal keys, equal files.
    #[must_use]
    pub fn key(&self, variables: &Variables) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.digest);
        for name in &self.reads {
            if let Some(variable) = variables.get(name) {
                hash.update(name.as_bytes());
                hash.update([0]);
                hash.update(variable.digest());
            }
        }
        hash.finalize().into()
    }

    /// Renders its files, unless nobody waits for them any more: `is_waited_for` is
    /// asked before each.
    ///
    /// # Errors
    /// An unknown variable, `fail()`, a bad path, or too much, with the line; or that nobody waits.
    pub fn render(
        &self,
        variables: &Variables,
        is_waited_for: &dyn Fn() -> bool,
    ) -> Result<Arc<[Entry]>, TemplateError> {
        let mut steps = 0;
        let abandoned =
            || TemplateError { line: 1, message: "whoever asked for it has gone".to_owned() };
        if !is_waited_for() {
            return Err(abandoned());
        }
        let Some(expression) = &self.front.for_each else {
            return Ok(self.file(variables, None, &mut steps)?.into_iter().collect());
        };
        let line_one = |message: String| TemplateError { line: 1, message };
        let items = self.items(expression, variables, &mut steps);
        let items = items.map_err(|error| line_one(format!("for-each: {}", describe(&error))))?;
        if items.len() > MAX_ITEMS {
            return Err(line_one(format!(
                "for-each: more than {MAX_ITEMS} files, which are made at most"
            )));
        }
        let file = |item| {
            if !is_waited_for() {
                return Err(abandoned());
            }
            if steps > MAX_STEPS_OF_ALL {
                let message =
                    format!("for-each: all files together take more than {MAX_STEPS_OF_ALL} steps");
                return Err(line_one(message));
            }
            self.file(variables, Some(item), &mut steps)
        };
        let files: Result<Vec<Option<Entry>>, TemplateError> =
            items.into_iter().map(file).collect();
        Ok(files?.into_iter().flatten().collect())
    }

    /// What files are made of, [`MAX_ITEMS`] and one at most. `steps`: what the expression
    /// takes is added.
    fn items(
        &self,
        expression: &str,
        variables: &Variables,
        steps: &mut u64,
    ) -> Result<Vec<Value>, Error> {
        // Lists are made from left to right.
        let counted = format!("[({expression}), {STEPS}()]");
        let counted = self.environment.compile_expression(&counted)?;
        let counted = counted.eval(variables.context(&self.reads, None))?;
        let items = counted.get_item_by_index(0)?;
        *steps += u64::try_from(counted.get_item_by_index(1)?)?;
        if items.is_undefined() {
            return Err(Error::new(
                ErrorKind::UndefinedError,
                format!("`{expression}` is undefined"),
            ));
        }
        // They may be made one by one and be endlessly many.
        Ok(items.try_iter()?.take(MAX_ITEMS + 1).collect())
    }

    /// `steps`: what the file takes is added, whether there is one in the end or not.
    fn file(
        &self,
        variables: &Variables,
        item: Option<Value>,
        steps: &mut u64,
    ) -> Result<Option<Entry>, TemplateError> {
        let context = variables.context(&self.reads, item);
        let body = self
            .environment
            .get_template(BODY)
            .and_then(|body| body.render_captured(context.clone()));
        let body = match body {
            Ok(body) => {
                *steps += taken(body.state());
                body.into_output()
            }
            Err(error) => {
                let Some(skipped) = skipped(&error) else { return Err(located(&error)) };
                *steps += skipped.steps;
                return Ok(None);
            }
        };
        let too_large = body.len() > MAX_FILE_BYTES;
        if too_large {
            return Err(TemplateError {
                line: 1,
                message: format!("more than {MAX_FILE_BYTES} bytes come of it"),
            });
        }
        let path = match &self.front.path {
            None => self.path.clone(),
            Some(_) => {
                let path = self
                    .environment
                    .get_template(PATH)
                    .and_then(|path| path.render_captured(context));
                let path = path.map_err(|error| TemplateError {
                    line: 1,
                    message: format!("path: {}", describe(&error)),
                })?;
                *steps += taken(path.state());
                path.into_output()
            }
        };
        check_path(&path).map_err(|rule| TemplateError {
            line: 1,
            message: format!("the path {path:?} is wrong: {rule}"),
        })?;
        Ok(Some(Entry { path, mode: self.mode, content: Content::file(Bytes::from(body)) }))
    }
}

/// Strict, no escaping, blocks do not leave empty lines, the last newline stays.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.add_filter("format", format);
    environment.add_function("skip", skip);
    environment.add_function(STEPS, taken);
    environment.add_function("fail", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    Ok(environment)
}

/// The filter `format`, of whose widths and precisions no more is asked than a file may have: the
/// engine would make the text first.
fn format(
    state: &mut State<'_, '_>,
    text: &Value,
    values: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let asked = text.as_str().map_or(0, asked_bytes);
    if asked > MAX_FILE_BYTES {
        let why = format!("{asked} bytes are too wide: a file has {MAX_FILE_BYTES} at most");
        return Err(Error::new(ErrorKind::InvalidOperation, why));
    }
    minijinja::filters::format(state, text, values)
}

/// Bytes that the widths and precisions of a format ask for, together: `%-8s`, `%(name).3f`.
fn asked_bytes(format: &str) -> usize {
    let mut asked: usize = 0;
    let mut rest = format;
    while let Some((_, spec)) = rest.split_once('%') {
        let spec = match spec.strip_prefix('(').and_then(|named| named.split_once(')')) {
            Some((_, spec)) => spec,
            None => spec,
        };
        let spec = spec.trim_start_matches(['#', '0', '-', ' ', '+']);
        let (width, after) = number(spec);
        let (precision, after) = after.strip_prefix('.').map_or((0, after), number);
        asked = asked.saturating_add(width).saturating_add(precision);
        // The second of `%%` begins nothing.
        rest = after.strip_prefix('%').unwrap_or(after);
    }
    asked
}

/// The number at the beginning of a text, 0 without one, and what follows. As large as can be
/// counted where it is larger.
fn number(text: &str) -> (usize, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    (number, rest)
}

/// Steps taken so far.
fn taken(state: &State<'_, '_>) -> u64 {
    state.fuel_levels().map_or(MAX_STEPS, |(consumed, _)| consumed)
}

/// `skip()`: ends the file that is rendered.
fn skip(state: &State<'_, '_>) -> Result<String, Error> {
    let skipped = Skipped { steps: taken(state) };
    Err(Error::new(ErrorKind::InvalidOperation, "skipped").with_source(skipped))
}

fn skipped(error: &Error) -> Option<&Skipped> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(skipped) = error.downcast_ref::<Skipped>() {
            return Some(skipped);
        }
        source = error.source();
    }
    None
}

fn located(error: &Error) -> TemplateError {
    TemplateError { line: error.line().unwrap_or(1), message: describe(error) }
}

/// The kind of the error and its detail, without the place that [`TemplateError`] tells already.
fn describe(error: &Error) -> String {
    match error.detail() {
        _ if error.kind() == ErrorKind::OutOfFuel => {
            format!("it takes more than {MAX_STEPS} steps; loop over less, or write less")
        }
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(source: &str, expect: &Expect) {
        let variables = Variables::of_json(&json!({
            "name": "n1",
            "tags": {"a-b": "x"},
            "interfaces": [{"name": "e0", "mac": null}, {"name": "e1", "mac": "52:54:00:00:00:01"}],
        }));
        let rendered = Template::compile("/etc/x", 0o644, source)
            .and_then(|template| template.render(&variables, &|| true));
        let text = match rendered {
            Err(error) => error.to_string(),
            Ok(entries) => entries
                .iter()
                .map(|entry| match &entry.content {
                    Content::File { bytes, .. } => {
                        format!(
                            "{} {:o}\n{}",
                            entry.path,
                            entry.mode,
                            String::from_utf8_lossy(bytes)
                        )
                    }
                    other => format!("{other:?}"),
                })
                .collect(),
        };
        expect.assert_eq(&text);
    }

    #[test]
    fn one_file() {
        check(
            "a {{ name }}\n{% if true %}\nb\n{% endif %}\n",
            &expect![[r#"
            /etc/x 644
            a n1
            b
        "#]],
        );
        check(
            "{{ tags['a-b'] }}{% if tags.c is defined %}c{% endif %}",
            &expect![[r#"
            /etc/x 644
            x"#]],
        );
    }

    #[test]
    fn several_files_and_none() {
        check(
            "{#- bedplate\nfor-each: interfaces\npath: /etc/{{ item.name }}.conf\nmode: 0600\n-#}\n\
             {% if not item.mac %}{{ skip() }}{% endif %}\nmac={{ item.mac }}\n",
            &expect![[r#"
                /etc/e1.conf 600
                mac=52:54:00:00:00:01
            "#]],
        );
        check("{{ skip() }}", &expect![""]);
    }

    /// A file of a Windows editor: its secret is the owner's alone, and its lines stay as they are.
    #[test]
    fn lines_may_end_as_on_windows() {
        let source = "{#- bedplate\r\nmode: 0600\r\n-#}\r\npassword = {{ name }}\r\nlast\r\n";
        let variables = Variables::of_json(&json!({"name": "n1"}));
        let rendered = Template::compile("/etc/x", 0o644, source)
            .unwrap()
            .render(&variables, &|| true)
            .unwrap();
        let file = Content::file(Bytes::from_static(b"password = n1\r\nlast\r\n"));
        assert_eq!((rendered[0].mode, &rendered[0].content), (0o600, &file));
    }

    #[test]
    fn diagnostics_have_their_line() {
        check("a\n{{ nmae }}\n", &expect!["line 2: undefined value: `nmae` is undefined"]);
        check(
            "a\n\n{% if x %}\n",
            &expect!["line 3: syntax error: unexpected end of input, expected end of block"],
        );
        check("a\n{{ fail('no ' ~ name) }}\n", &expect!["line 2: no n1"]);
        check("{#- bedplate\nmode: 9\n-#}\n", &expect![[r#"line 2: "9" is not an octal mode"#]]);
        check(
            "{#- bedplate\nfor_each: x\n-#}\n",
            &expect![[
                r#"line 2: unknown key "for_each" in the front matter (did you mean `for-each`?)"#
            ]],
        );
        check(
            "{#- bedplate\nfor-each: x\n-#}\n",
            &expect!["line 1: `for-each` makes several files and needs a `path`"],
        );
        check(
            "{#- bedplate\nfor-each: nope\npath: /x\n-#}\n",
            &expect!["line 1: for-each: undefined value: `nope` is undefined"],
        );
        check(
            "{#- bedplate\npath: /etc/../{{ name }}\n-#}\n",
            &expect![[
                r#"line 1: the path "/etc/../n1" is wrong: it has an empty part, or a part . or .."#
            ]],
        );
        check("{#- bedplate\npath: x\n", &expect!["line 1: the front matter has no end `-#}`"]);
    }

    /// Each of them ran on, or filled the memory, after its client had left.
    #[test]
    fn templates_end_when_their_steps_are_used_up() {
        let render = |source: &str| {
            let template = Template::compile("/etc/x", 0o644, source).unwrap();
            template
                .render(&Variables::of_json(&json!({"name": "n1"})), &|| true)
                .unwrap_err()
                .to_string()
        };
        let loops =
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
        for source in [
            loops.to_owned(),
            format!("{{% macro f() %}}{loops}{{% endmacro %}}{{{{ f() }}}}"),
            format!("{{#- bedplate\nfor-each: range(2)\npath: /etc/{{{{ item }}}}\n-#}}\n{loops}"),
        ] {
            let told = render(&source);
            assert!(told.contains("it takes more than 8000000 steps"), "{source}: {told}");
        }
        // What is refused by its size, too, one way or the other.
        for source in [
            "{{ ('a' * 1000000) * 1000 }}",
            "{{ '%099999999d' | format(1) }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        ] {
            let told = render(source);
            let words = ["more than", "too large", "too wide", "recursion limit"];
            assert!(words.iter().any(|word| told.contains(word)), "{source}: {told}");
        }
    }

    #[test]
    fn widths_are_counted_before_a_text_is_made() {
        for (format, asked) in [
            ("%099999999d", 99_999_999),
            ("%5d and %-3.4s", 12),
            ("100%% of %(name)7s", 7),
            ("%%99d", 0),
            ("%99999999999999999999999s%9s", usize::MAX),
            ("plain 12", 0),
            ("%", 0),
        ] {
            assert_eq!(asked_bytes(format), asked, "{format}");
        }
        let told = |source: &str| {
            let template = Template::compile("/etc/x", 0o644, source).unwrap();
            template.render(&Variables::of_json(&json!({})), &|| true).unwrap_err().to_string()
        };
        let wide = format!("{{{{ '%0{}d' | format(1) }}}}", MAX_FILE_BYTES + 1);
        assert!(told(&wide).contains("are too wide"), "{}", told(&wide));
        check(
            "{{ '%04d|%-3s|%.2f|%%' | format(7, 'a', 1.5) }}",
            &expect![[r#"
            /etc/x 644
            0007|a  |1.50|%"#]],
        );
    }

    #[test]
    fn no_file_is_made_for_who_has_gone() {
        let source = "{#- bedplate\nfor-each: range(100)\npath: /etc/{{ item }}\n-#}\nx";
        let template = Template::compile("/etc/x", 0o644, source).unwrap();
        let asked = std::cell::Cell::new(0);
        let waits = || {
            asked.set(asked.get() + 1);
            asked.get() <= 10
        };
        let told =
            template.render(&Variables::of_json(&json!({})), &waits).unwrap_err().to_string();
        assert_eq!(told, "line 1: whoever asked for it has gone");
        assert_eq!(asked.get(), 11);
    }

    #[test]
    fn all_files_of_a_template_have_steps_together() {
        // Each of them takes a fifth of what one may.
        let body =
            "{% for i in range(100000) %}{{ i }}{{ i }}{{ i }}{{ i }}{{ i }}{{ i }}{% endfor %}";
        let source = |files: usize| {
            format!(
                "{{#- bedplate\nfor-each: range({files})\npath: /etc/{{{{ item }}}}\n-#}}\n{{% if true %}}{body}{{% endif %}}"
            )
        };
        let render = |files: usize| {
            let template = Template::compile("/etc/x", 0o644, &source(files)).unwrap();
            template.render(&Variables::of_json(&json!({})), &|| true).map(|entries| entries.len())
        };
        assert_eq!(render(2), Ok(2));
        let told = render(1_000).unwrap_err().to_string();
        assert_eq!(told, "line 1: for-each: all files together take more than 32000000 steps");
        let told = render(100_000).unwrap_err().to_string();
        assert_eq!(told, "line 1: for-each: more than 4096 files, which are made at most");
    }

    /// A file that is not made took its steps, and a path is rendered as a file is.
    #[test]
    fn steps_of_skipped_files_of_paths_and_of_for_each_are_counted() {
        let loops = "{% for i in range(100000) %}{% endfor %}";
        let render = |path: &str, body: &str| {
            let source =
                format!("{{#- bedplate\nfor-each: range(1000)\npath: {path}\n-#}}\n{body}");
            let template = Template::compile("/etc/x", 0o644, &source).unwrap();
            template.render(&Variables::of_json(&json!({})), &|| true).unwrap_err().to_string()
        };
        let refused = "line 1: for-each: all files together take more than 32000000 steps";
        assert_eq!(render("/etc/{{ item }}", &format!("{loops}{{{{ skip() }}}}")), refused);
        assert_eq!(render(&format!("/etc/{loops}{{{{ item }}}}"), "x"), refused);
        let expression = "[range(100000) | list | length]";
        let source =
            format!("{{#- bedplate\nfor-each: {expression}\npath: /etc/{{{{ item }}}}\n-#}}\nx");
        let template = Template::compile("/etc/x", 0o644, &source).unwrap();
        let mut steps = 0;
        let items =
            template.items(expression, &Variables::of_json(&json!({})), &mut steps).unwrap();
        assert_eq!(items, [Value::from(100_000)]);
        assert!(steps >= 100_000, "{steps} steps");
    }

    #[test]
    fn eight_times_the_loop_takes_at_most_ten_times_the_steps() {
        let steps = |count: usize| {
            let source = format!("{{% for i in range({count}) %}}{{{{ i }}}} {{% endfor %}}");
            let template = Template::compile("/etc/x", 0o644, &source).unwrap();
            let mut steps = 0;
            template.file(&Variables::of_json(&json!({})), None, &mut steps).unwrap();
            steps
        };
        let (small, large) = (steps(1_000), steps(8_000));
        assert!(small >= 1_000 && large <= 10 * small, "{small} and {large} steps");
    }

    #[test]
    fn the_key_covers_what_is_read_and_nothing_else() {
        let template =
            Template::compile("/x", 0o644, "{{ a }}{% for b in c %}{{ b }}{% endfor %}").unwrap();
        let key = |json: serde_json::Value| template.key(&Variables::of_json(&json));
        let one = key(json!({"a": 1, "b": 1, "c": []}));
        assert_eq!(one, key(json!({"a": 1, "b": 2, "c": []})));
        assert_ne!(one, key(json!({"a": 2, "b": 1, "c": []})));
        assert_ne!(one, key(json!({"a": 1, "b": 1, "c": [1]})));
    }
}
