//! Runs a `when`: our own left-to-right `&&`, `||`, `!`; everything below them is CEL's.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{Expr, operators};
use cel::common::types::CelBool;
use cel::{Context, Env, ExecutionError, IdedExpr, Value as CelValue};

use super::json::{Looks, Names};
use super::{LOOKS_MAX, check};
use crate::rules::scope::{EvalError, Scope, shorten, shown};

/// CEL's own functions; built once, it never changes.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

pub(super) fn truth(expression: &IdedExpr, scope: &Scope) -> Result<bool, EvalError> {
    let names = Names { scope: *scope, newest: scope.newest()?, looks: Looks::default() };
    let mut context = Context::with_env(ENV.clone());
    context.set_variable_resolver(&names);
    let answer = spine(expression, &context, scope);
    if names.looks.too_many() {
        return Err(EvalError::new(format!("`when` looked at more than {LOOKS_MAX} values of the message"))
            .hint("let the handler look at messages of this size"));
    }
    answer
}

/// `&&`, `||`, `!` and `?:` over everything else.
fn spine(node: &IdedExpr, context: &Context, scope: &Scope) -> Result<bool, EvalError> {
    if let Expr::Call(call) = &node.expr {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => {
                return Ok(spine(left, context, scope)? && spine(right, context, scope)?);
            }
            (operators::LOGICAL_OR, [left, right]) => {
                return Ok(spine(left, context, scope)? || spine(right, context, scope)?);
            }
            (operators::LOGICAL_NOT, [inner]) => return Ok(!spine(inner, context, scope)?),
            (operators::CONDITIONAL, [test, then, or]) => {
                return spine(if spine(test, context, scope)? { then } else { or }, context, scope);
            }
            _ => {}
        }
    }
    let value = CelValue::resolve_val(node, context).map_err(|error| explain(node, scope, &error))?;
    value.downcast_ref::<CelBool>().map(|answer| *answer.inner()).ok_or_else(|| {
        let what = check::path(node).map_or_else(String::new, |path| format!("{} is ", path.join(".")));
        let beside = scope.get(&check::path(node).unwrap_or_default()).map(|value| shown(&value));
        let kind = value.get_type().name().to_owned();
        EvalError::new(format!(
            "{what}{}, not true or false",
            beside.unwrap_or(format!("the answer is of type {kind}"))
        ))
        .hint("compare it: ==, !=, <, >, in, has(…)")
    })
}

/// CEL's error with what the operands were.
fn explain(node: &IdedExpr, scope: &Scope, error: &ExecutionError) -> EvalError {
    let mut paths = Vec::new();
    check::paths(node, &mut paths);
    if matches!(
        error,
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) | ExecutionError::NoSuchOverload(_)
    ) && let Some(missing) = paths.iter().find_map(|path| scope.get(path).err())
    {
        let hint = missing.hint.clone().or_else(|| Some(absent_hint(&paths)));
        return EvalError { hint, ..missing };
    }
    let values: Vec<String> = paths
        .iter()
        .filter_map(|path| Some(format!("{} is {}", path.join("."), shown(scope.get(path).ok()?.as_ref()))))
        .collect();
    let what = match error {
        ExecutionError::NoSuchKey(key) => format!("an element has no `{}`", shorten(key)),
        ExecutionError::NoSuchOverload(wrong) => {
            let operator = wrong.function().trim_matches('_').trim_start_matches('@').replace('_', "");
            format!("`{operator}` does not work on {}", wrong.argument_types().join(" and "))
        }
        other => shorten(&other.to_string()),
    };
    let beside = if values.is_empty() { String::new() } else { format!("; {}", values.join(", ")) };
    EvalError { message: what + &beside, hint: None, missing: matches!(error, ExecutionError::NoSuchKey(_)) }
}

fn absent_hint(paths: &[Vec<String>]) -> String {
    let name = paths.first().map_or_else(|| "msg.x".into(), |path| path.join("."));
    format!("if it may be absent, write has({}) && …", shorten(&name))
}
