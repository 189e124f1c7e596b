//! Topic patterns and their index: a trie over words. A match costs what the topic's words cost, not what the patterns cost.
//! No regular expressions, and nothing exponential: a pattern has at most [`DEEP_WORDS_MAX`] `**`.

use std::collections::HashMap;

use crate::message::{INTERNAL_PREFIX, TOPIC_BYTES_MAX, TOPIC_WORDS_MAX};

/// Most `**` in one pattern: each more multiplies what a match may cost.
pub const DEEP_WORDS_MAX: usize = 2;

const ONE: &str = "*";
const DEEP: &str = "**";

/// A topic pattern: words joined by dots; `*` is one word, `**` any number of words (also none).
///
/// A pattern that begins with a wildcard does not match reactor's own topics (`reactor.…`): a rule that wants those names
/// them, so that no rule answers its own outcome by accident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the topic pattern is empty".into());
        }
        if text.len() > TOPIC_BYTES_MAX {
            return Err(format!("the topic pattern has {} bytes, at most {TOPIC_BYTES_MAX} are allowed", text.len()));
        }
        let words = text.split('.').count();
        if words > TOPIC_WORDS_MAX {
            return Err(format!("the topic pattern has {words} words, at most {TOPIC_WORDS_MAX} are allowed"));
        }
        text.split('.').try_for_each(|word| check_word(text, word))?;
        let deep = text.split('.').filter(|word| *word == DEEP).count();
        if deep > DEEP_WORDS_MAX {
            return Err(format!("the topic pattern has {deep} `**`, at most {DEEP_WORDS_MAX} are allowed"));
        }
        Ok(Self(text.into()))
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether `topic` fits.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with(INTERNAL_PREFIX) && self.0.starts_with('*') {
            return false;
        }
        fits(Some(&self.0), Some(topic))
    }

    /// For "the most specific wins": more literal words first, then more `*`, then fewer `**`. Larger is more specific.
    #[must_use]
    pub fn specificity(&self) -> (usize, usize, usize) {
        let count = |wanted: &str| self.words().filter(|word| *word == wanted).count();
        let (ones, deeps) = (count(ONE), count(DEEP));
        (self.words().count() - ones - deeps, ones, DEEP_WORDS_MAX - deeps.min(DEEP_WORDS_MAX))
    }

    /// What every topic that fits begins with: its leading literal words, as a ZeroMQ subscription prefix.
    fn prefix(&self) -> String {
        let literal: Vec<&str> = self.words().take_while(|word| !is_wild(word)).collect();
        let dot = self.words().nth(literal.len()).is_some_and(|word| word == ONE) && !literal.is_empty();
        literal.join(".") + if dot { "." } else { "" }
    }
}

fn is_wild(word: &str) -> bool {
    word == ONE || word == DEEP
}

fn check_word(text: &str, word: &str) -> Result<(), String> {
    let shown = text.escape_debug();
    if word.is_empty() {
        return Err(format!("the topic pattern `{shown}` has an empty word"));
    }
    if word.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("the topic pattern `{shown}` has a white space or control character"));
    }
    if word == "#" {
        return Err(format!("`#` in `{shown}` is AMQP's wildcard; write `**` for any number of words"));
    }
    if word.contains('*') && !is_wild(word) {
        return Err(format!(
            "`{word}` in `{shown}` mixes `*` with text; `*` stands for one whole word and `**` for any number of words"
        ));
    }
    Ok(())
}

/// The first word and what is behind its dot.
fn cut(text: &str) -> (&str, Option<&str>) {
    text.split_once('.').map_or((text, None), |(word, rest)| (word, Some(rest)))
}

/// `None` = no words are left.
fn fits(pattern: Option<&str>, topic: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return topic.is_none() };
    let (want, later) = cut(pattern);
    if want == DEEP {
        let mut left = topic;
        loop {
            if fits(later, left) {
                return true;
            }
            let Some(text) = left else { return false };
            left = cut(text).1;
        }
    }
    let Some(topic) = topic else { return false };
    let (word, rest) = cut(topic);
    (want == ONE || want == word) && fits(later, rest)
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<str>, usize>,
    one: Option<usize>,
    deep: Option<usize>,
    /// Whose pattern ends here.
    ends: Vec<u32>,
}

/// Many patterns with their owners' numbers: which of them fit a topic?
#[derive(Debug)]
pub struct Index {
    nodes: Vec<Node>,
    prefixes: Vec<String>,
}

impl Index {
    /// Builds it. Several patterns may carry the same number.
    pub fn new(patterns: impl IntoIterator<Item = (Pattern, u32)>) -> Self {
        let mut index = Self { nodes: vec![Node::default()], prefixes: Vec::new() };
        for (pattern, id) in patterns {
            index.insert(&pattern, id);
            // No bus may bring an internal topic in, so none is asked for it.
            if !pattern.as_str().starts_with(INTERNAL_PREFIX) {
                index.prefixes.push(pattern.prefix());
            }
        }
        index.prefixes.sort();
        // Sorted, so whatever a prefix covers stands right behind it.
        index.prefixes.dedup_by(|longer, shorter| longer.starts_with(shorter.as_str()));
        index
    }

    fn insert(&mut self, pattern: &Pattern, id: u32) {
        let mut at = 0;
        for word in pattern.words() {
            let fresh = self.nodes.len();
            let node = &mut self.nodes[at];
            at = match word {
                ONE => *node.one.get_or_insert(fresh),
                DEEP => *node.deep.get_or_insert(fresh),
                _ => *node.words.entry(word.into()).or_insert(fresh),
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        self.nodes[at].ends.push(id);
    }

    /// Replaces what is in `found` by the numbers whose patterns fit, sorted, each once.
    pub fn matches(&self, topic: &str, found: &mut Vec<u32>) {
        found.clear();
        self.walk(topic, &mut |ids| {
            found.extend_from_slice(ids);
            false
        });
        found.sort_unstable();
        found.dedup();
    }

    /// Whether any pattern fits. Ends at the first one.
    #[must_use]
    pub fn any(&self, topic: &str) -> bool {
        self.walk(topic, &mut |_| true)
    }

    /// The smallest set of prefixes to subscribe to so that nothing is missed; `""` is everything.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        self.prefixes.clone()
    }

    fn walk(&self, topic: &str, enough: &mut impl FnMut(&[u32]) -> bool) -> bool {
        let root = &self.nodes[0];
        if topic.starts_with(INTERNAL_PREFIX) {
            let (word, rest) = cut(topic);
            return root.words.get(word).is_some_and(|next| self.step(*next, rest, enough));
        }
        self.step(0, Some(topic), enough)
    }

    /// Visits the ends that fit; true as soon as `enough` says so.
    fn step(&self, at: usize, topic: Option<&str>, enough: &mut impl FnMut(&[u32]) -> bool) -> bool {
        let node = &self.nodes[at];
        if let Some(deep) = node.deep {
            let mut left = topic;
            loop {
                if self.step(deep, left, enough) {
                    return true;
                }
                let Some(text) = left else { break };
                left = cut(text).1;
            }
        }
        let Some(topic) = topic else { return !node.ends.is_empty() && enough(&node.ends) };
        let (word, rest) = cut(topic);
        node.words.get(word).is_some_and(|next| self.step(*next, rest, enough))
            || node.one.is_some_and(|next| self.step(next, rest, enough))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_star_is_one_word_and_two_stars_are_any_number_of_words() {
        for (text, topic, fits) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.**", "a", true),
            ("a.**", "a.b.c", true),
            ("a.**", "ab", false),
            ("**.sync", "sync", true),
            ("**.sync", "a.b.sync", true),
            ("a.**.z", "a.z", true),
            ("a.**.z", "a.b.z.z", true),
            ("**.m.**", "a.m", true),
            ("**", "a.b", true),
        ] {
            assert_eq!(pattern(text).matches(topic), fits, "{text} {topic}");
        }
    }

    #[test]
    fn a_bad_pattern_is_refused_with_a_sentence() {
        for (text, part) in [
            ("", "empty"),
            ("a..b", "empty word"),
            ("foo*", "one whole word"),
            ("a.***", "one whole word"),
            ("a.#", "write `**`"),
            ("a b", "white space"),
            ("**.a.**.b.**", "at most 2"),
            (&["w"; 25].join("."), "at most 24"),
            (&"x".repeat(256), "at most 255"),
        ] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_wildcard_in_front_does_not_match_reactors_own_topics() {
        for text in ["**", "*.reaction.*", "**.held"] {
            assert!(!pattern(text).matches("reactor.reaction.held"), "{text}");
            assert!(!Index::new([(pattern(text), 0)]).any("reactor.reaction.held"), "{text}");
        }
        for text in ["reactor.**", "reactor.reaction.held", "reactor.*.held"] {
            assert!(pattern(text).matches("reactor.reaction.held"), "{text}");
            assert!(Index::new([(pattern(text), 0)]).any("reactor.reaction.held"), "{text}");
        }
    }

    #[test]
    fn the_more_literal_pattern_is_the_more_specific_one() {
        let order = ["**", "*.**", "a.**", "a.*.**", "a.*", "a.b.**", "a.b", "a.b.c"];
        for pair in order.windows(2) {
            assert!(pattern(pair[0]).specificity() < pattern(pair[1]).specificity(), "{pair:?}");
        }
    }

    #[test]
    fn the_prefixes_cover_all_patterns_and_nothing_twice() {
        let prefixes = |texts: &[&str]| Index::new(texts.iter().map(|t| (pattern(t), 0))).prefixes();
        assert_eq!(prefixes(&["a.b.c", "a.b.*.d", "a.b.c.e"]), ["a.b."]);
        assert_eq!(prefixes(&["a.b.**", "a.b.c", "x.y"]), ["a.b", "x.y"]);
        assert_eq!(prefixes(&["a.b", "**.c"]), [""]);
        assert_eq!(prefixes(&["reactor.reaction.held", "reactor.**"]), Vec::<String>::new());
    }

    #[test]
    fn two_deep_wildcards_on_the_longest_topic_stay_cheap() {
        let many = (0..1_000).map(|i| (pattern(&format!("**.w.**.x{i}")), i));
        let index = Index::new(many);
        assert!(!index.any(&["w"; 24].join(".")));
    }

    proptest! {
        #[test]
        fn the_index_says_what_each_pattern_says(
            texts in prop::collection::vec(prop::collection::vec("a|b|reactor|\\*|\\*\\*", 1..6), 1..12),
            topics in prop::collection::vec(prop::collection::vec("a|b|c|reactor", 1..7), 1..8),
        ) {
            let patterns: Vec<Pattern> = texts.iter().filter_map(|t| Pattern::parse(&t.join(".")).ok()).collect();
            let index = Index::new(patterns.iter().cloned().zip(0..));
            let prefixes = index.prefixes();
            for topic in topics.iter().map(|t| t.join(".")) {
                let brute: Vec<u32> = (0..).zip(&patterns).filter(|(_, p)| p.matches(&topic)).map(|(i, _)| i).collect();
                let mut found = vec![99];
                index.matches(&topic, &mut found);
                prop_assert_eq!(&found, &brute);
                prop_assert_eq!(index.any(&topic), !brute.is_empty());
                let internal = topic == "reactor" || topic.starts_with(INTERNAL_PREFIX);
                let covered = internal || prefixes.iter().any(|p| topic.starts_with(p.as_str()));
                prop_assert!(brute.is_empty() || covered);
            }
        }
    }
}
