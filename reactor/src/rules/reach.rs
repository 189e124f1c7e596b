//! Which rules no bus can ever bring a message for. Pure.

use super::site::{On, Rule, Site};
use crate::message::INTERNAL_PREFIX;

/// A topic of `rule` that no bus subscribes to; `None` where a message can come, or where the rule needs none. A site
/// without a listening bus says nothing: its messages come from a file.
#[must_use]
pub fn unreachable<'r>(rule: &'r Rule, site: &Site) -> Option<&'r str> {
    let On::Topics(patterns) = &rule.on else { return None };
    let listening: Vec<&[String]> =
        site.buses.values().filter(|bus| bus.listens()).map(|bus| bus.topics.as_slice()).collect();
    if listening.is_empty() {
        return None;
    }
    // A bus without prefixes subscribes to what the rules need.
    let reached = |pattern: &str| {
        pattern.starts_with(INTERNAL_PREFIX)
            || listening
                .iter()
                .any(|prefixes| prefixes.is_empty() || prefixes.iter().any(|prefix| meet(pattern, prefix)))
    };
    if patterns.iter().any(|pattern| reached(pattern.as_str())) {
        return None;
    }
    patterns.first().map(super::topic::Pattern::as_str)
}

/// Whether a topic can match `pattern` and begin with `prefix`; in doubt (a wildcard before the prefix ends) yes.
fn meet(pattern: &str, prefix: &str) -> bool {
    match pattern.find('*') {
        None => pattern.starts_with(prefix),
        Some(at) => pattern[..at].starts_with(prefix) || prefix.starts_with(&pattern[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::meet;

    #[test]
    fn a_pattern_meets_a_prefix_where_some_topic_fits_both() {
        for (pattern, prefix) in
            [("a.b.c", "a.b"), ("a.*.c", "a.b"), ("**", "a"), ("a.b.**", "a.b.c.d"), ("a.b", "a.b")]
        {
            assert!(meet(pattern, prefix), "{pattern} {prefix}");
        }
        for (pattern, prefix) in [("a.b.c", "a.c"), ("a.b.*", "a.c"), ("a", "a.b")] {
            assert!(!meet(pattern, prefix), "{pattern} {prefix}");
        }
    }
}
