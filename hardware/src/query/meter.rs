//! What it may cost to evaluate an expression: steps, counted inside its loops.
//!
//! The evaluator has no limit of its own, so what is evaluated is a copy of the expression in which
//! each loop asks [`TICK`] before each element, and in which texts are matched by [`MATCHES`].
//! Neither can be written in an expression: `@` begins no name there. [`TICK`] is the condition of
//! a conditional, whose error ends the loop; of `&&` and `||` an error would be forgotten where the
//! other side decides.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use cel::{
    Context, ExecutionError, IdedExpr, Value,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, operators},
};
use regex::{Regex, RegexBuilder};
use rest::Abandoned;

/// Steps for one node: two loops within each other over a thousand hardware threads, twice.
pub(super) const MAX_STEPS: u64 = 2_000_000;

/// What a regular expression that is not known yet costs, steps.
const STEPS_OF_PATTERN: u64 = 1_000;

/// Bytes of a text that are matched in one step.
const BYTES_IN_STEP: u64 = 64;

/// Largest compiled regular expression, bytes: some twenty times `\w`, which stands for
/// 140,000 characters.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// Regular expressions of one question that are kept compiled: it has few, unless nodes tell them.
const MAX_PATTERNS: usize = 32;

/// Function that a loop asks before each element: true, or an error.
const TICK: &str = "@tick";

/// Function in the place of `matches`.
const MATCHES: &str = "@matches";

/// The function that [`MATCHES`] takes the place of.
pub(super) const WRITTEN_MATCHES: &str = "matches";

/// Counts the steps of one evaluation.
#[derive(Debug)]
pub(super) struct Meter {
    left: AtomicU64,
    abandoned: Abandoned,
}

impl Meter {
    pub(super) fn new(abandoned: &Abandoned) -> Self {
        Self { left: AtomicU64::new(MAX_STEPS), abandoned: abandoned.clone() }
    }

    /// It ended because of its cost: whatever came of it is no answer.
    pub(super) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Steps so far.
    pub(super) fn steps(&self) -> u64 {
        MAX_STEPS - self.left.load(Ordering::Relaxed)
    }

    fn spend(&self, steps: u64) -> Result<(), ExecutionError> {
        if self.abandoned.is_set() {
            self.left.store(0, Ordering::Relaxed);
        }
        // One thread evaluates; what is atomic here is so because functions must be `Sync`.
        let left = self.left.load(Ordering::Relaxed).saturating_sub(steps);
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            return Err(ExecutionError::function_error(TICK, "too many steps"));
        }
        Ok(())
    }
}

/// Regular expressions of one question.
#[derive(Debug, Clone, Default)]
pub(super) struct Patterns(Arc<Mutex<HashMap<String, Regex>>>);

impl Patterns {
    /// A compiled regular expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compiled(&self, text: &str) -> Result<Regex, PatternError> {
        if let Some(known) = self.known(text) {
            return Ok(known);
        }
        let compiled = RegexBuilder::new(text)
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES)
            .build()
            .map_err(|error| PatternError { cause: told(&error) })?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_PATTERNS {
            known.insert(text.to_owned(), compiled.clone());
        }
        Ok(compiled)
    }

    fn known(&self, text: &str) -> Option<Regex> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned()
    }
}

/// Why a regular expression is not used.
#[derive(Debug, thiserror::Error)]
#[error("no regular expression: {cause}")]
pub(super) struct PatternError {
    cause: String,
}

/// What the compiler says, without its drawing.
fn told(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!("it is too large; compiled it may have {MAX_PATTERN_BYTES} bytes")
        }
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

/// Gives a context the functions that [`metered`] expressions call.
///
/// # Errors
/// The evaluator's, if it had such functions itself.
pub(super) fn add_functions(
    context: &mut Context<'_, '_>,
    meter: &Arc<Meter>,
    patterns: &Patterns,
) -> Result<(), cel::DeclarationError> {
    let ticking = meter.clone();
    let tick = move || -> Result<Value, ExecutionError> {
        ticking.spend(1)?;
        Ok(Value::Bool(true))
    };
    context.add_function(TICK, tick)?;
    let (meter, patterns) = (meter.clone(), patterns.clone());
    let matches = move |text: Value, pattern: Value| -> Result<Value, ExecutionError> {
        let wrong = |why: String| ExecutionError::function_error(WRITTEN_MATCHES, why);
        let (Value::String(text), Value::String(pattern)) = (text, pattern) else {
            return Err(wrong("it takes a text and a regular expression".to_owned()));
        };
        if patterns.known(&pattern).is_none() {
            meter.spend(STEPS_OF_PATTERN)?;
        }
        meter.spend(1 + text.len() as u64 / BYTES_IN_STEP)?;
        let pattern = patterns.compiled(&pattern).map_err(|error| wrong(error.to_string()))?;
        Ok(Value::Bool(pattern.is_match(&text)))
    };
    context.add_function(MATCHES, matches)
}

/// The expression that is evaluated in the place of another.
pub(super) fn metered(written: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = written;
    let expr = match expr {
        Expr::Select(mut select) => {
            select.operand = Box::new(metered(*select.operand));
            Expr::Select(select)
        }
        Expr::Call(call) => Expr::Call(called(call)),
        Expr::List(mut list) => {
            list.elements = list.elements.into_iter().map(metered).collect();
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        entry.key = metered(std::mem::take(&mut entry.key));
                        entry.value = metered(std::mem::take(&mut entry.value));
                    }
                    EntryExpr::StructField(field) => {
                        field.value = metered(std::mem::take(&mut field.value));
                    }
                }
            }
            Expr::Map(map)
        }
        Expr::Comprehension(comprehension) => Expr::Comprehension(Box::new(looped(*comprehension))),
        other => other,
    };
    IdedExpr { id, expr }
}

fn called(mut call: CallExpr) -> CallExpr {
    call.target = call.target.map(|target| Box::new(metered(*target)));
    call.args = call.args.into_iter().map(metered).collect();
    if call.func_name == WRITTEN_MATCHES {
        let text = call.target.take().map(|text| *text);
        call.args = text.into_iter().chain(call.args).collect();
        call.func_name = MATCHES.to_owned();
    }
    call
}

fn looped(mut comprehension: ComprehensionExpr) -> ComprehensionExpr {
    let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } =
        &mut comprehension;
    for part in [iter_range, &mut *accu_init, &mut *loop_cond, &mut *loop_step, result] {
        *part = metered(std::mem::take(part));
    }
    // The evaluator gathers the elements of `filter` in place, as long as nothing but its guard is
    // looked at before each.
    let gathers = matches!(accu_init.expr, Expr::List(_));
    match &mut loop_step.expr {
        Expr::Call(step) if gathers && step.func_name == operators::CONDITIONAL => {
            if let Some(guard) = step.args.first_mut() {
                *guard = ticked(std::mem::take(guard));
            }
        }
        _ => *loop_cond = ticked(std::mem::take(loop_cond)),
    }
    comprehension
}

/// A condition that is not looked at when the steps are used up.
fn ticked(condition: IdedExpr) -> IdedExpr {
    let id = condition.id;
    let call = |name: &str, args| {
        let call = CallExpr { func_name: name.to_owned(), target: None, args };
        IdedExpr { id, expr: Expr::Call(call) }
    };
    // The third one is never looked at: a tick is true, or an error.
    call(operators::CONDITIONAL, vec![call(TICK, Vec::new()), condition, call(TICK, Vec::new())])
}
