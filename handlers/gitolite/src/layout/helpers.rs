//! The helpers a template has. Pure.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonTruthy, Output, RenderContext, RenderError,
    RenderErrorReason, Renderable,
};

/// Those that a template may name. The rest of handlebars' own is taken away.
pub(super) const ALLOWED: [&str; 9] = ["if", "unless", "each", "with", "eq", "ne", "and", "or", "not"];

/// Those of handlebars that have no use here, or write elsewhere (`log`).
const TAKEN_AWAY: [&str; 8] = ["lookup", "raw", "log", "gt", "gte", "lt", "lte", "len"];

/// `if` and `unless` that take a value that is not there for an error, as everything else does in strict mode: the original
/// takes it for false, and a mistyped `{{#if pull_request_only}}` would give access.
struct Condition {
    positive: bool,
}

impl HelperDef for Condition {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let value = helper.param(0).ok_or(RenderErrorReason::ParamNotFoundForIndex("if", 0))?;
        if value.is_value_missing() {
            return Err(RenderError::strict_error(value.relative_path()));
        }
        let holds = value.value().is_truthy(false) == self.positive;
        match if holds { helper.template() } else { helper.inverse() } {
            Some(template) => template.render(registry, context, state, out),
            None => Ok(()),
        }
    }
}

/// Gives the registry these helpers and no others.
pub(super) fn register(registry: &mut Handlebars<'static>) {
    for name in TAKEN_AWAY {
        registry.unregister_helper(name);
    }
    registry.register_helper("if", Box::new(Condition { positive: true }));
    registry.register_helper("unless", Box::new(Condition { positive: false }));
}
