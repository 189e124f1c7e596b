//! `where`, `unless` (field tests) and `when` (CEL). Pure, bounded, and strict: what can't be evaluated is an error that
//! says why, never a silent "no match".
//!
//! * [`check`]: what is refused when the file is loaded
//! * [`json`]: the message as CEL values, without a copy

mod check;
mod evaluate;
mod json;

use cel::IdedExpr;
use cel::parser::PrattParser;
use serde_json::Value;

use super::ExprError;
use super::scope::{EvalError, Scope, walk};
use super::site::FieldTest;

/// Longest `when`, in bytes.
pub const SOURCE_BYTES_MAX: usize = 4 * 1024;
/// Most macros (`all`, `exists`, `exists_one`, `map`, `filter`) inside one another: each level multiplies the cost.
pub const MACRO_DEPTH_MAX: usize = 2;
/// Most values of a message that one evaluation looks at.
pub const LOOKS_MAX: u32 = 100_000;
/// Most brackets inside one another; also most `!`, `-` or `?` in a row.
pub const DEPTH_MAX: usize = 32;
/// Deepest syntax tree: evaluation takes stack for each level.
pub const NODE_DEPTH_MAX: usize = 128;

/// A parsed `when`.
///
/// `&&` and `||` are evaluated from left to right and stop as soon as the answer is known; an error on the way is an error
/// of the whole (plain CEL lets `error && false` pass as false). `sent` is text (RFC 3339, UTC), and `messages` holds
/// the one message that is looked at.
#[derive(Debug)]
pub struct Condition {
    source: String,
    expression: IdedExpr,
}

impl Condition {
    /// Parses a CEL expression.
    ///
    /// # Errors
    /// What is wrong and where in `source`.
    pub fn parse(source: &str) -> Result<Self, ExprError> {
        check::source(source)?;
        let expression = PrattParser::new().parse(source).map_err(|errors| check::parse_error(source, &errors))?;
        check::expression(source, &expression)?;
        Ok(Self { source: source.into(), expression })
    }

    /// The expression as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// A missing field, a type that does not fit, an answer that is not true or false, too much to look at.
    pub fn evaluate(&self, scope: &Scope) -> Result<bool, EvalError> {
        evaluate::truth(&self.expression, scope)
    }

    /// The parts that `&&` joins, each with its source; the whole if it is not a plain conjunction.
    #[must_use]
    pub fn conjuncts(&self) -> Vec<Self> {
        let pieces = check::split_and(&self.source);
        let parsed: Vec<Self> = pieces.iter().filter_map(|piece| Self::parse(piece.trim()).ok()).collect();
        if parsed.len() == pieces.len() { parsed } else { Self::parse(&self.source).into_iter().collect() }
    }

    /// The message's fields that it names (not those inside macros), each with its value where it is there.
    #[must_use]
    pub fn operands(&self, scope: &Scope) -> Vec<(String, Option<Value>)> {
        let mut paths = Vec::new();
        check::paths(&self.expression, &mut paths);
        paths.dedup();
        paths
            .into_iter()
            .map(|path| (path.join("."), scope.get(&path).ok().map(std::borrow::Cow::into_owned)))
            .collect()
    }
}

impl FieldTest {
    /// Whether the field of `body` equals one of the wanted values, or is a list that holds one. Numbers compare as
    /// numbers; `null` is wanted only by `null`.
    ///
    /// # Errors
    /// The field is not there: which part of the path, and what is there.
    pub fn holds(&self, body: &Value) -> Result<bool, EvalError> {
        let field = walk("msg", body, &self.path)?;
        let is_wanted = |value: &Value| self.any_of.iter().any(|wanted| same(wanted, value));
        Ok(is_wanted(field) || field.as_array().is_some_and(|items| items.iter().any(is_wanted)))
    }
}

/// Equal, numbers by value: 1 is 1.0.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b
                || (a.is_f64() || b.is_f64())
                    && a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a.total_cmp(&b).is_eq())
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;
