//! What a template may hold at all: values, and blocks of the few helpers. Pure.

use handlebars::Template;
use handlebars::template::{HelperTemplate, Parameter, TemplateElement};
use handler_api::words::quoted;

use super::helpers::ALLOWED;

/// Deepest blocks inside of each other.
const DEPTH_MAX: usize = 20;

/// Where and why a template can't be used.
type Refused = (Option<usize>, String);

/// Whether a template holds only what it may. Partials and decorators could call each other without an end.
pub(super) fn check(template: &Template) -> Result<(), Refused> {
    blocks(template, 0)
}

fn blocks(template: &Template, depth: usize) -> Result<(), Refused> {
    for (at, element) in template.elements.iter().enumerate() {
        let line = template.mapping.get(at).map(|place| place.0);
        if depth > DEPTH_MAX {
            return Err((line, format!("more than {DEPTH_MAX} blocks stand inside of each other")));
        }
        match element {
            TemplateElement::RawString(_) | TemplateElement::Comment(_) => {}
            TemplateElement::HtmlExpression(helper) | TemplateElement::Expression(helper) => {
                let is_value = helper.params.is_empty() && helper.hash.is_empty();
                words(helper, is_value).map_err(|why| (line, why))?;
            }
            TemplateElement::HelperBlock(helper) => {
                words(helper, false).map_err(|why| (line, why))?;
                for inner in [&helper.template, &helper.inverse].into_iter().flatten() {
                    blocks(inner, depth + 1)?;
                }
            }
            _ => return Err((line, "partials and decorators (`{{> …}}`, `{{* …}}`) have no place here".to_owned())),
        }
    }
    Ok(())
}

/// The helper's name and what it is given. `is_value` = no helper, `{{repo}}`.
fn words(helper: &HelperTemplate, is_value: bool) -> Result<(), String> {
    let name = helper.name.as_name().unwrap_or_default();
    if !is_value && !ALLOWED.contains(&name) {
        return Err(format!("{} is no helper here; there are {}", quoted(name), ALLOWED.join(", ")));
    }
    for given in helper.params.iter().chain(helper.hash.values()) {
        if let Parameter::Subexpression(inner) = given
            && let TemplateElement::Expression(inner) | TemplateElement::HtmlExpression(inner) = inner.as_element()
        {
            words(inner, false)?;
        }
    }
    Ok(())
}
