//! What `reactor status` says of the outcomes that are published (`confirm`).

use serde_json::Value;

use super::print::clean;

/// A line or a few; nothing where nothing is published.
#[must_use]
pub fn tell(confirms: &Value) -> String {
    if confirms.is_null() {
        return String::new();
    }
    let n = |name: &str| confirms[name].as_u64().unwrap_or(0);
    let mut text = format!("  confirmed to publishers: {} outcomes, {} more wait", n("sent"), n("waiting"));
    if n("given_up") > 0 {
        text.push_str(&format!(", {} were given up", n("given_up")));
    }
    text.push('\n');
    for problem in confirms["problems"].as_array().into_iter().flatten() {
        text.push_str(&format!("    problem: {}\n", clean(problem.as_str().unwrap_or(""))));
    }
    text
}
