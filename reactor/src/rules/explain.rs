//! Why a rule matched a message, or did not: for every rule whose topic matched or came near. Pure.

use std::sync::Arc;

use serde::Serialize;

use super::condition::Condition;
use super::matcher::{Rules, key, patterns};
use super::scope::{Scope, did_you_mean, shown, walk};
use super::site::{FieldTest, Rule};
use super::topic::Pattern;
use crate::message::Message;

/// Words of a topic that may differ for it to have come near.
pub const NEAR_WORDS_MAX: usize = 2;

/// What one rule says of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The rule.
    pub rule: Arc<str>,
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence.
    pub text: String,
}

/// How far a rule got with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It asks for a reaction.
    Matched,
    /// Its reaction fails: something is missing or of the wrong type.
    Broken,
    /// A `where` does not hold.
    WhereFalse,
    /// An `unless` holds.
    UnlessTrue,
    /// The `when` is false.
    WhenFalse,
    /// Its topic is not the message's, but nearly.
    TopicNear,
}

/// What every rule whose topic matches or comes near says, in the order of the rules.
#[must_use]
pub fn explain(rules: &Rules, message: &Message) -> Vec<Explanation> {
    let topic = message.topic.as_str();
    let matches = |pattern: &Pattern| {
        pattern.matches(topic) && !(message.topic.is_internal() && pattern.as_str().starts_with('*'))
    };
    let one = |rule: &Arc<Rule>| {
        let (verdict, text) = if patterns(rule).iter().any(matches) {
            judge(rule, message)
        } else {
            (Verdict::TopicNear, patterns(rule).iter().find_map(|pattern| near(pattern, topic))?)
        };
        Some(Explanation { rule: rule.name.clone(), verdict, text })
    };
    rules.all().iter().filter_map(one).collect()
}

fn judge(rule: &Rule, message: &Message) -> (Verdict, String) {
    let broken = |error: super::scope::EvalError| {
        let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        (Verdict::Broken, format!("its reaction would fail: {}{hint}", error.message))
    };
    for test in &rule.where_all {
        match test.holds(&message.body) {
            Ok(true) => {}
            Ok(false) => return (Verdict::WhereFalse, format!("where false: {}", test_was(test, message))),
            Err(error) => return broken(error),
        }
    }
    for test in &rule.unless_any {
        match test.holds(&message.body) {
            Ok(false) => {}
            Ok(true) => return (Verdict::UnlessTrue, format!("unless true: {}", test_held(test, message))),
            Err(error) => return broken(error),
        }
    }
    let messages = [message];
    let scope = Scope::new(&messages);
    match rule.when.as_ref().map(|when| (when, when.evaluate(&scope))) {
        Some((when, Ok(false))) => return (Verdict::WhenFalse, format!("when false: {}", when_was(when, &scope))),
        Some((_, Err(error))) => return broken(error),
        _ => {}
    }
    match key(rule, &scope) {
        Ok(key) => (Verdict::Matched, format!("matches, key {key}")),
        Err(error) => broken(error),
    }
}

/// `fields has no ssh_key, it was [timezone]`.
fn test_was(test: &FieldTest, message: &Message) -> String {
    let path = test.path.join(".");
    let wanted = wanted(test);
    match walk("msg", &message.body, &test.path) {
        Ok(was) if was.is_array() => format!("{path} has no {wanted}, it was {}", shown(was)),
        Ok(was) => format!("{path} is not {wanted}, it was {}", shown(was)),
        Err(error) => error.message,
    }
}

fn test_held(test: &FieldTest, message: &Message) -> String {
    let was = walk("msg", &message.body, &test.path).map(shown).unwrap_or_default();
    format!("{} was {was}", test.path.join("."))
}

fn wanted(test: &FieldTest) -> String {
    let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| shown(value), super::scope::shorten);
    let words: Vec<String> = test.any_of.iter().map(plain).collect();
    words.join(" or ")
}

/// The first part of a conjunction that is false, with what its fields were.
fn when_was(when: &Condition, scope: &Scope<'_>) -> String {
    let parts = when.conjuncts();
    let part = parts.iter().find(|part| matches!(part.evaluate(scope), Ok(false))).unwrap_or(when);
    let fields: Vec<String> = part
        .operands(scope)
        .into_iter()
        .map(|(path, was)| was.map_or_else(|| format!("{path} is not there"), |was| format!("{path} was {}", shown(&was))))
        .collect();
    let fields = if fields.is_empty() { String::new() } else { format!("; {}", fields.join(", ")) };
    format!("{}{fields}", part.source().trim())
}

/// How a pattern just missed a topic; `None` if it did not come near.
fn near(pattern: &Pattern, topic: &str) -> Option<String> {
    let wanted: Vec<&str> = pattern.words().collect();
    let words: Vec<&str> = topic.split('.').collect();
    if wanted.contains(&"**") {
        return None;
    }
    if wanted.len() != words.len() {
        let shorter = wanted.len().min(words.len());
        let begins_alike = shorter >= 2 && fits(&wanted[..shorter], &words[..shorter]);
        return (begins_alike && wanted.len().abs_diff(words.len()) == 1)
            .then(|| format!("topic: it has {} words, the rule wants {} (`{}`)", words.len(), wanted.len(), pattern.as_str()));
    }
    let other: Vec<usize> = (0..words.len()).filter(|at| wanted[*at] != "*" && wanted[*at] != words[*at]).collect();
    let alike = words.len() - other.len();
    let typo = |at: &usize| did_you_mean(words[*at], [wanted[*at]]).is_some();
    let is_near = other.len() <= NEAR_WORDS_MAX && alike > other.len() && (other.len() == 1 || other.iter().any(typo));
    let differs = |at: &usize| format!("word {} is {}, the rule wants {}", at + 1, words[*at], wanted[*at]);
    is_near.then(|| format!("topic: {}", other.iter().map(differs).collect::<Vec<_>>().join("; ")))
}

fn fits(wanted: &[&str], words: &[&str]) -> bool {
    wanted.iter().zip(words).all(|(wanted, word)| *wanted == "*" || wanted == word)
}

#[cfg(test)]
mod tests {
    use super::super::file::load_str;
    use super::super::testkit::message;
    use super::*;
    use serde_json::{Value, json};

    fn said(rule: &str, topic: &str, body: Value) -> Option<(Verdict, String)> {
        let yaml = format!("version: 1\nhandlers: {{ h: {{ exec: /bin/true }} }}\nrules:\n  - {{ name: r, do: h, {rule} }}\n");
        let site = load_str("rules.yaml", &yaml, std::path::Path::new("/")).expect("a good site");
        explain(&Rules::new(site.rules), &message(topic, body)).pop().map(|e| (e.verdict, e.text))
    }

    #[test]
    fn why_it_did_not_match_is_said_with_what_was_there() {
        let rule = "on: a.b.c, where: { fields: ssh_key }, unless: { user: root }, when: msg.n > 1 && msg.user != 'x'";
        let body = |field, user, n| json!({"fields": [field], "user": user, "n": n});
        let cases = [
            (body("timezone", "u", 2), Verdict::WhereFalse, "where false: fields has no ssh_key, it was [timezone]"),
            (body("ssh_key", "root", 2), Verdict::UnlessTrue, "unless true: user was \"root\""),
            (body("ssh_key", "u", 0), Verdict::WhenFalse, "when false: msg.n > 1; msg.n was 0"),
            (body("ssh_key", "u", 2), Verdict::Matched, "matches, key r"),
        ];
        for (body, verdict, text) in cases {
            assert_eq!(said(rule, "a.b.c", body), Some((verdict, text.to_owned())));
        }
        let (verdict, text) = said(rule, "a.b.c", json!({"fieldz": []})).expect("said");
        assert_eq!(verdict, Verdict::Broken);
        assert!(text.contains("msg has no `fields`") && text.contains("did you mean `fieldz`?"), "{text}");
    }

    #[test]
    fn a_topic_that_came_near_is_told_and_a_far_one_is_not() {
        let rule = "on: org.fedoraproject.prod.fas.user.update";
        let of = |topic| said(rule, topic, json!({})).map(|(_, text)| text);
        assert_eq!(of("org.fedoraproject.stg.fas.user.update").as_deref(), Some("topic: word 3 is stg, the rule wants prod"));
        assert_eq!(of("org.fedoraproject.prod.fas.user.updat").as_deref(), Some("topic: word 6 is updat, the rule wants update"));
        assert!(of("org.fedoraproject.prod.fas.user").is_some_and(|text| text.contains("5 words, the rule wants 6")));
        assert_eq!(of("org.fedoraproject.prod.git.receive.x"), None);
        assert_eq!(of("a.b"), None);
    }
}
