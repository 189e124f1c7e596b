//! What to ask a datagrepper for: the topics that the rules want, where these are exact, since it knows no wildcards; else
//! their categories; else everything. What comes beside it is dropped by its topic here. Pure.

use accounts::curl::encode;

use crate::message::INTERNAL_PREFIX;
use crate::rules::topic::Pattern;

/// Longest part of a query that a filter makes, in bytes: servers stop at some 4 KiB of URL.
pub const FILTER_BYTES_MAX: usize = 2_048;
/// Which word of a topic is its category, from 0 (`datanommer.models`, `Message._get_category`).
const CATEGORY_WORD: usize = 3;

/// What to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// These topics.
    Topics(Vec<String>),
    /// What is in these categories.
    Categories(Vec<String>),
    /// Everything.
    All,
}

impl Filter {
    /// The narrowest that has all that fits these patterns.
    #[must_use]
    pub fn of<'a>(patterns: impl Iterator<Item = &'a Pattern> + Clone) -> Self {
        let patterns = patterns.filter(|pattern| !pattern.as_str().starts_with(INTERNAL_PREFIX));
        let topics: Option<Vec<String>> = patterns.clone().map(exact).collect();
        let categories = || -> Option<Vec<String>> { patterns.clone().map(category).collect() };
        for (make, words) in [(Self::Topics as fn(_) -> _, topics), (Self::Categories, categories())] {
            let Some(mut words) = words else { continue };
            words.sort_unstable();
            words.dedup();
            let filter = make(words);
            if filter.query().len() <= FILTER_BYTES_MAX {
                return filter;
            }
        }
        Self::All
    }

    /// Whether nobody wants anything.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Topics(topics) if topics.is_empty())
    }

    /// As a part of a query: nothing, or `&topic=…&topic=…`.
    #[must_use]
    pub fn query(&self) -> String {
        let (word, values) = match self {
            Self::Topics(topics) => ("topic", topics),
            Self::Categories(categories) => ("category", categories),
            Self::All => return String::new(),
        };
        values.iter().map(|value| format!("&{word}={}", encode(value))).collect()
    }
}

fn exact(pattern: &Pattern) -> Option<String> {
    (!pattern.as_str().contains('*')).then(|| pattern.as_str().to_owned())
}

fn category(pattern: &Pattern) -> Option<String> {
    let words: Vec<&str> = pattern.words().take(CATEGORY_WORD + 1).collect();
    // Topics of ActiveMQ have it elsewhere.
    let is_literal =
        words.len() > CATEGORY_WORD && !words.iter().any(|word| word.contains('*') || *word == "VirtualTopic");
    is_literal.then(|| words[CATEGORY_WORD].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(texts: &[&str]) -> String {
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        Filter::of(patterns.iter()).query()
    }

    #[test]
    fn the_narrowest_filter_that_has_it_all() {
        let fas = "org.fedoraproject.prod.fas.user.update";
        assert_eq!(query(&[fas, "reactor.reaction.*", fas]), format!("&topic={fas}"));
        assert_eq!(
            query(&[fas, "org.fedoraproject.prod.git.**", "org.fedoraproject.prod.fas.role.*"]),
            "&category=fas&category=git"
        );
        for wide in ["org.fedoraproject.*.fas.x", "org.**", "org.fedoraproject.prod.*", "**", "a.VirtualTopic.c.d"] {
            assert_eq!(query(&[fas, wide, "a.b.c.*"]), "", "{wide}");
        }
    }

    #[test]
    fn where_no_rule_wants_a_message_of_a_bus_there_is_nothing_to_ask_for() {
        let of = |text: &str| Filter::of([Pattern::parse(text).expect("a pattern")].iter());
        assert!(Filter::of([].iter()).is_nothing() && of("reactor.bus.gap").is_nothing());
        assert!(!of("a.b").is_nothing() && !of("**").is_nothing());
    }

    #[test]
    fn too_many_topics_are_asked_for_by_category_and_too_many_of_those_not_at_all() {
        let topics: Vec<String> = (0..200).map(|n| format!("org.example.prod.fas.topic{n}")).collect();
        assert_eq!(query(&topics.iter().map(String::as_str).collect::<Vec<_>>()), "&category=fas");
        let topics: Vec<String> = (0..200).map(|n| format!("org.example.prod.category{n}.x")).collect();
        assert_eq!(query(&topics.iter().map(String::as_str).collect::<Vec<_>>()), "");
    }
}
