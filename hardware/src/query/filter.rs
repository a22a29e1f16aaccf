//! Which nodes: an expression in CEL, the Common Expression Language.
//!
//! Users write it and the server evaluates it, so its cost is bounded before it is evaluated: its
//! length ([`MAX_EXPRESSION_BYTES`]), loops within loops ([`MAX_NESTED_LOOPS`]), additions
//! ([`MAX_ADDITIONS`]: each may double a text or a list), and the functions that may be called.
//! While it is evaluated its steps are counted ([`meter`]). `map` would let values grow with each
//! use and is refused; `all`, `exists`, `exists_one` and `filter` say which nodes there are.

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Env, ParseErrors, Program,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue},
    objects::{Key, Map},
};
use rest::Abandoned;
use serde_json::Value;

use super::{
    AnswerError, Diagnostic, Facts, fields,
    meter::{self, Meter, Patterns},
};

/// Longest expression.
const MAX_EXPRESSION_BYTES: usize = 1024;

/// Loops within each other: two go through a thousand hardware threads a million times, which is
/// a second or so.
const MAX_NESTED_LOOPS: usize = 2;

/// Additions of any kind in one expression.
const MAX_ADDITIONS: usize = 8;

/// Stack of the thread that reads expressions: the parser descends into each bracket,
/// up to 96 of them.
const STACK_BYTES: usize = 16 << 20;

/// What may be called, beside operators.
const FUNCTIONS: [&str; 10] = [
    "contains",
    "double",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Sizes that can be written out: `memory_bytes >= 512 * GiB`.
const SIZES: [(&str, i64); 4] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// An expression that was read and may be evaluated.
pub(crate) struct Filter {
    /// With steps that are counted.
    expression: IdedExpr,
    env: Arc<Env>,
    patterns: Patterns,
}

impl Filter {
    /// Reads an expression. Blocks; the mistake is the first.
    pub(crate) fn read(text: &str) -> Result<Self, Diagnostic> {
        let first = |message: String| Diagnostic { line: 1, column: 1, message };
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(first(format!("longer than {MAX_EXPRESSION_BYTES} bytes")));
        }
        let owned = text.to_owned();
        let reading = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let env = Env::stdlib();
            env.compile(&owned).map(|program| (program, env)).map_err(|errors| diagnostic(&errors))
        });
        let reading =
            reading.map_err(|error| first(format!("the server cannot read it now: {error}")))?;
        let (program, env) =
            reading.join().map_err(|_| first("it cannot be read".to_owned()))??;
        let patterns = Patterns::default();
        let mut check =
            Check { program: &program, text, bound: Vec::new(), additions: 0, patterns: &patterns };
        check.visit(program.expression(), 0)?;
        let expression = meter::metered(program.expression().clone());
        Ok(Self { expression, env: Arc::new(env), patterns })
    }

    /// Whether a node is meant. `abandoned`: nobody waits for the answer, and there is none.
    ///
    /// # Errors
    /// Why it cannot be said of this node: mostly a field that it does not tell.
    pub(crate) fn is_true_of(
        &self,
        facts: &Facts,
        abandoned: &Abandoned,
    ) -> Result<bool, AnswerError> {
        self.evaluate(facts, &Arc::new(Meter::new(abandoned)))
    }

    pub(super) fn evaluate(&self, facts: &Facts, meter: &Arc<Meter>) -> Result<bool, AnswerError> {
        let mut context = Context::with_env(self.env.clone());
        for (name, value) in &facts.0 {
            context.add_variable_from_value(name.as_str(), of_json(value));
        }
        for (name, bytes) in SIZES {
            context.add_variable_from_value(name, cel::Value::Int(bytes));
        }
        let added = meter::add_functions(&mut context, meter, &self.patterns);
        added.map_err(|error| AnswerError::Evaluation(error.to_string()))?;
        let result = context.resolve(&self.expression);
        if meter.is_spent() {
            return Err(AnswerError::TooManySteps);
        }
        match result {
            Ok(cel::Value::Bool(is_meant)) => Ok(is_meant),
            Ok(other) => Err(AnswerError::NotBoolean(other.type_of().to_string())),
            Err(
                cel::ExecutionError::NoSuchKey(field)
                | cel::ExecutionError::UndeclaredReference(field),
            ) => Err(AnswerError::NotTold(field.to_string())),
            Err(error) => Err(AnswerError::Evaluation(error.to_string())),
        }
    }
}

/// The first error of the parser without its drawing.
fn diagnostic(errors: &ParseErrors) -> Diagnostic {
    let at = |number: isize| u32::try_from(number.max(1)).unwrap_or(1);
    match errors.errors.first() {
        Some(error) => Diagnostic {
            line: at(error.pos.0),
            column: at(error.pos.1),
            message: plain(&error.msg),
        },
        None => Diagnostic { line: 1, column: 1, message: "it is no expression".to_owned() },
    }
}

/// What the parser says, without the list of all that could stand there.
fn plain(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    let found = message.split(" expecting ").next().unwrap_or(message);
    let found = found.replace("'<EOF>'", "end of the expression");
    found.replace("mismatched input", "unexpected").replace("extraneous input", "unexpected")
}

/// Goes through an expression and refuses what is unknown or may cost too much.
struct Check<'a> {
    program: &'a Program,
    text: &'a str,
    /// Names that loops around this place give to elements.
    bound: Vec<String>,
    additions: usize,
    patterns: &'a Patterns,
}

impl Check<'_> {
    fn wrong(&self, at: &IdedExpr, message: String) -> Diagnostic {
        let offset =
            self.program.source_info().offset_for(at.id).map_or(0, |(start, _)| start as usize);
        let before: String = self.text.chars().take(offset).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Diagnostic { line: number(line), column: number(column), message }
    }

    fn visit(&mut self, at: &IdedExpr, loops: usize) -> Result<(), Diagnostic> {
        match &at.expr {
            Expr::Ident(name) => self.name(at, name),
            Expr::Select(select) => {
                // Which labels there are nobody knows before the nodes are looked at.
                if select.operand.expr == Expr::Ident(fields::LABELS.to_owned()) {
                    return self.visit(&select.operand, loops);
                }
                if !fields::is_known(&select.field) {
                    return Err(self.wrong(at, fields::unknown(&select.field, true)));
                }
                self.visit(&select.operand, loops)
            }
            Expr::Call(call) => {
                self.call(at, &call.func_name)?;
                self.pattern(call)?;
                call.target.iter().try_for_each(|target| self.visit(target, loops))?;
                call.args.iter().try_for_each(|argument| self.visit(argument, loops))
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.visit(element, loops))
            }
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, loops)?;
                    self.visit(&entry.value, loops)
                }
                EntryExpr::StructField(field) => self.visit(&field.value, loops),
            }),
            Expr::Comprehension(comprehension) => self.comprehension(at, comprehension, loops),
            Expr::Struct(_) => {
                Err(self.wrong(at, "there are no types to make values of".to_owned()))
            }
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn name(&self, at: &IdedExpr, name: &str) -> Result<(), Diagnostic> {
        let is_known = self.bound.iter().any(|bound| bound == name)
            || SIZES.iter().any(|(size, _)| *size == name)
            || fields::is_top(name);
        if is_known { Ok(()) } else { Err(self.wrong(at, fields::unknown(name, false))) }
    }

    fn call(&mut self, at: &IdedExpr, function: &str) -> Result<(), Diagnostic> {
        if function == cel::common::ast::operators::ADD {
            self.additions += 1;
            if self.additions > MAX_ADDITIONS {
                return Err(self.wrong(at, format!("more than {MAX_ADDITIONS} additions")));
            }
        }
        // Operators are named by what no function can be called: `_+_`, `!_`, `@in`.
        let is_operator =
            function.contains('_') && !function.starts_with(|c: char| c.is_ascii_alphabetic());
        if is_operator || function.starts_with('@') || FUNCTIONS.contains(&function) {
            return Ok(());
        }
        Err(self.wrong(
            at,
            format!("there is no function `{function}`; there are {}", FUNCTIONS.join(", ")),
        ))
    }

    /// A regular expression that is written out is known to be one before any node is looked at.
    fn pattern(&self, call: &CallExpr) -> Result<(), Diagnostic> {
        let Some(last) = call.args.last().filter(|_| call.func_name == meter::WRITTEN_MATCHES)
        else {
            return Ok(());
        };
        let Expr::Literal(LiteralValue::String(text)) = &last.expr else { return Ok(()) };
        let compiled = self.patterns.compiled(text.inner());
        compiled.map(drop).map_err(|error| self.wrong(last, error.to_string()))
    }

    fn comprehension(
        &mut self,
        at: &IdedExpr,
        comprehension: &ComprehensionExpr,
        loops: usize,
    ) -> Result<(), Diagnostic> {
        self.visit(&comprehension.iter_range, loops)?;
        if loops == MAX_NESTED_LOOPS {
            return Err(
                self.wrong(at, format!("more than {MAX_NESTED_LOOPS} loops within each other"))
            );
        }
        if makes_other_elements(comprehension) {
            return Err(self.wrong(
                at,
                "`map` cannot be used here; `exists`, `all`, `exists_one` and `filter` can"
                    .to_owned(),
            ));
        }
        let before = (self.bound.len(), self.additions);
        self.bound.push(comprehension.iter_var.clone());
        self.bound.extend(comprehension.iter_var2.clone());
        self.bound.push(comprehension.accu_var.clone());
        for part in [
            &comprehension.accu_init,
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ] {
            self.visit(part, loops + 1)?;
        }
        self.bound.truncate(before.0);
        // One of them is how `filter` and `exists_one` gather what they found.
        self.additions = self.additions.saturating_sub(usize::from(self.additions > before.1));
        Ok(())
    }
}

/// Whether a loop gathers anything but the elements that it goes through.
fn makes_other_elements(comprehension: &ComprehensionExpr) -> bool {
    fn gathers_other(at: &IdedExpr, comprehension: &ComprehensionExpr) -> bool {
        let Expr::Call(call) = &at.expr else { return false };
        let is_accu =
            |argument: &IdedExpr| argument.expr == Expr::Ident(comprehension.accu_var.clone());
        if call.func_name == cel::common::ast::operators::ADD
            && call.args.first().is_some_and(is_accu)
        {
            let Some(Expr::List(list)) = call.args.get(1).map(|argument| &argument.expr) else {
                return false;
            };
            return list
                .elements
                .iter()
                .any(|element| element.expr != Expr::Ident(comprehension.iter_var.clone()));
        }
        call.args.iter().any(|argument| gathers_other(argument, comprehension))
    }
    matches!(comprehension.accu_init.expr, Expr::List(_))
        && gathers_other(&comprehension.loop_step, comprehension)
}

fn of_json(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(is_true) => cel::Value::Bool(*is_true),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => cel::Value::Int(number),
            (None, number) => cel::Value::Float(number.unwrap_or(f64::NAN)),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(values) => cel::Value::List(Arc::new(values.iter().map(of_json).collect())),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                (Key::String(Arc::new(key.clone())), of_json(value))
            };
            let map: HashMap<Key, cel::Value> = map.iter().map(entry).collect();
            cel::Value::Map(Map { map: Arc::new(map) })
        }
    }
}
