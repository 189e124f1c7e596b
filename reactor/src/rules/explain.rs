//! Why a rule matched a message, or did not: for every rule whose topic matched or came near. Pure.

use std::sync::Arc;

use serde::Serialize;

use super::condition::Condition;
use super::matcher::{Rules, inside, key, patterns};
use super::scope::{EvalError, Scope, shorten, shown, walk};
use super::site::{FieldTest, Rule};
use super::topic::Pattern;
use crate::message::Message;
use handler_api::spelling::edits;

/// Words of a topic that may differ for it to have come near.
pub const NEAR_WORDS_MAX: usize = 2;
/// Rules whose topic only came near that are told, the nearest of them: sites have many rules with topics alike.
pub const NEAR_RULES_MAX: usize = 5;

/// The same where some rule's topic is the message's: then nobody asks why another system's rule is silent.
const NEAR_COST_IF_ANY_MATCHES: usize = 100;

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

/// What every rule says whose topic matches, in the order of the rules; then those whose topic came near, the nearest first
/// (one word beside the message's, or two if no rule's topic matches).
#[must_use]
pub fn explain(rules: &Rules, message: &Message) -> Vec<Explanation> {
    let topic = message.topic.as_str();
    let (mut all, mut close) = (Vec::new(), Vec::new());
    for rule in rules.all() {
        let said = |verdict, text| Explanation { rule: rule.name.clone(), verdict, text };
        if patterns(rule).iter().any(|pattern| pattern.matches(topic)) {
            let (verdict, text) = judge(rule, message);
            all.push(said(verdict, text));
        } else if let Some((cost, text)) = patterns(rule).iter().filter_map(|pattern| near(pattern, topic)).min() {
            close.push((cost, said(Verdict::TopicNear, format!("topic: {text}"))));
        }
    }
    if !all.is_empty() {
        close.retain(|(cost, _)| *cost <= NEAR_COST_IF_ANY_MATCHES);
    }
    close.sort_by_key(|(cost, _)| *cost);
    all.extend(close.into_iter().take(NEAR_RULES_MAX).map(|(_, said)| said));
    all
}

fn judge(rule: &Rule, message: &Message) -> (Verdict, String) {
    let broken = |error: EvalError| {
        let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        (Verdict::Broken, format!("its reaction would fail: {}{hint}", error.message))
    };
    for test in &rule.where_all {
        match test.holds(&message.body) {
            Ok(true) => {}
            Ok(false) => return (Verdict::WhereFalse, format!("where false: {}", test_was(test, message))),
            Err(error) => return broken(inside("where", error)),
        }
    }
    for test in &rule.unless_any {
        match test.holds(&message.body) {
            Ok(false) => {}
            Ok(true) => return (Verdict::UnlessTrue, format!("unless true: {}", test_held(test, message))),
            Err(error) => return broken(inside("unless", error)),
        }
    }
    let messages = [message];
    let scope = Scope::new(&messages);
    match rule.when.as_ref().map(|when| (when, when.evaluate(&scope))) {
        Some((when, Ok(false))) => return (Verdict::WhenFalse, format!("when false: {}", when_was(when, &scope))),
        Some((_, Err(error))) => return broken(inside("when", error)),
        _ => {}
    }
    match key(rule, &scope) {
        Ok(key) => (Verdict::Matched, format!("matches, key {}", shorten(&key))),
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
    let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| shown(value), shorten);
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
        .map(|(path, was)| {
            was.map_or_else(|| format!("{path} is not there"), |was| format!("{path} was {}", shown(&was)))
        })
        .collect();
    let fields = if fields.is_empty() { String::new() } else { format!("; {}", fields.join(", ")) };
    format!("{}{fields}", part.source().trim())
}

/// How far a topic is from a pattern (in hundreds a word, less for a typo), and how it differs; `None` if it is far.
fn near(pattern: &Pattern, topic: &str) -> Option<(usize, String)> {
    let longer = Pattern::parse(&format!("{}.**", pattern.as_str()));
    if longer.is_ok_and(|longer| longer.matches(topic)) {
        let rest: Vec<&str> = topic.split('.').skip(pattern.words().count()).collect();
        let text =
            format!("goes on with {}, the rule's topic ends before; end it with .** to take those", rest.join("."));
        return Some((100, text));
    }
    let want: Vec<&str> = pattern.words().collect();
    let have: Vec<&str> = topic.split('.').collect();
    let literal = want.iter().filter(|word| !word.contains('*')).count();
    let steps = differences(&want, &have);
    if steps.is_empty() || steps.len() > NEAR_WORDS_MAX || steps.len() >= literal {
        return None;
    }
    let cost = steps.iter().map(Difference::cost).sum();
    let texts: Vec<String> = steps.iter().map(Difference::text).collect();
    Some((cost, texts.join("; ")))
}

/// One word that differs; positions count from 1 in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Difference<'w> {
    Other { at: usize, have: &'w str, want: &'w str },
    Extra { at: usize, have: &'w str },
    Lacks { at: usize, want: &'w str },
}

impl Difference<'_> {
    fn cost(&self) -> usize {
        match self {
            Self::Other { have, want, .. } => 80 + edits(have, want).min(20),
            _ => 100,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Other { at, have, want } => format!("word {at} is {}, the rule wants {want}", shorten(have)),
            Self::Extra { at, have } => format!("word {at}, {}, is not in the rule's topic", shorten(have)),
            Self::Lacks { at, want } => format!("the rule wants {want} as word {at}"),
        }
    }
}

/// The fewest words to change so that the topic fits the pattern (edit distance over words; both have at most 24).
fn differences<'w>(want: &[&'w str], have: &[&'w str]) -> Vec<Difference<'w>> {
    let (rows, columns) = (want.len() + 1, have.len() + 1);
    // cost[w][h]: the cheapest way to make want[w..] fit have[h..].
    let mut cost = vec![vec![0_usize; columns]; rows];
    for w in (0..rows).rev() {
        for h in (0..columns).rev() {
            cost[w][h] = cheapest(want, have, (w, h), &cost).0;
        }
    }
    let (mut w, mut h, mut steps) = (0, 0, Vec::new());
    while w < want.len() || h < have.len() {
        let (_, (dw, dh)) = cheapest(want, have, (w, h), &cost);
        match (dw, dh) {
            (1, 1) if want[w] != "*" && want[w] != "**" && want[w] != have[h] => {
                steps.push(Difference::Other { at: h + 1, have: have[h], want: want[w] });
            }
            (0, 1) if want.get(w) != Some(&"**") => steps.push(Difference::Extra { at: h + 1, have: have[h] }),
            (1, 0) if want[w] != "**" => steps.push(Difference::Lacks { at: h + 1, want: want[w] }),
            _ => {}
        }
        (w, h) = (w + dw, h + dh);
    }
    steps
}

/// The cost from here and the step to take: how many pattern words and topic words it uses up.
fn cheapest(want: &[&str], have: &[&str], (w, h): (usize, usize), cost: &[Vec<usize>]) -> (usize, (usize, usize)) {
    let mut ways = Vec::with_capacity(3);
    let deep = want.get(w) == Some(&"**");
    if let (Some(word), Some(other)) = (want.get(w), have.get(h))
        && !deep
    {
        ways.push((cost[w + 1][h + 1] + usize::from(*word != "*" && word != other), (1, 1)));
    }
    if w < want.len() {
        ways.push((cost[w + 1][h] + usize::from(!deep), (1, 0)));
    }
    if h < have.len() {
        ways.push((cost[w][h + 1] + usize::from(!deep), (0, 1)));
    }
    ways.into_iter().min_by_key(|(cost, _)| *cost).unwrap_or((0, (0, 0)))
}

#[cfg(test)]
mod tests {
    use super::super::file::load_str;
    use super::super::testkit::message;
    use super::*;
    use serde_json::{Value, json};

    fn said(rule: &str, topic: &str, body: Value) -> Option<(Verdict, String)> {
        let yaml =
            format!("version: 1\nhandlers: {{ h: {{ exec: /bin/true }} }}\nrules:\n  - {{ name: r, do: h, {rule} }}\n");
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

    fn topic(pattern: &str, topic: &str) -> Option<String> {
        said(&format!("on: '{pattern}'"), topic, json!({})).map(|(_, text)| text)
    }

    #[test]
    fn a_topic_that_came_near_is_told_and_a_far_one_is_not() {
        let topic_is = "org.fedoraproject.stg.fas.user.update";
        for (pattern, text) in [
            ("org.fedoraproject.prod.fas.user.update", "topic: word 3 is stg, the rule wants prod"),
            ("org.fedoraproject.stg.fas.users.update", "topic: word 5 is user, the rule wants users"),
            ("org.fedoraproject.*.fas.user.create", "topic: word 6 is update, the rule wants create"),
            ("org.fedoraproject.prod.**", "topic: word 3 is stg, the rule wants prod"),
            ("**.user.updates", "topic: word 6 is update, the rule wants updates"),
            (
                "org.fedoraproject.stg.fas.user",
                "topic: goes on with update, the rule's topic ends before; end it with .** to take those",
            ),
            ("org.fedoraproject.stg.fas.user.key.update", "topic: the rule wants key as word 6"),
            ("org.fedoraproject.stg.user.update", "topic: word 4, fas, is not in the rule's topic"),
        ] {
            assert_eq!(topic(pattern, topic_is).as_deref(), Some(text), "{pattern}");
        }
        for far in ["com.example.prod.fas.group.create", "x.**", "a.b"] {
            assert_eq!(topic(far, topic_is), None, "{far}");
        }
    }

    #[test]
    fn of_many_rules_that_came_near_the_nearest_are_told() {
        let mut yaml = "version: 1\nhandlers: { h: { exec: /bin/true } }\nrules:\n".to_owned();
        for (name, on) in
            (0..20).map(|n| (format!("r{n}"), format!("a.b.c{n}xyz"))).chain([("typo".into(), "a.b.upbate".into())])
        {
            yaml.push_str(&format!("  - {{ name: {name}, do: h, on: {on} }}\n"));
        }
        let site = load_str("rules.yaml", &yaml, std::path::Path::new("/")).expect("a good site");
        let said = explain(&Rules::new(site.rules), &message("a.b.update", json!({})));
        assert_eq!((said.len(), &*said[0].rule), (NEAR_RULES_MAX, "typo"));
    }

    #[test]
    fn where_a_topic_matches_only_one_word_beside_it_is_told() {
        let yaml = "version: 1\nhandlers: { h: { exec: /bin/true } }\nrules:\n\
                    - { name: two, do: h, on: a.b.x.y }\n- { name: one, do: h, on: a.b.c.x }\n- { name: it, do: h, on: a.b.c.d }\n";
        let site = load_str("rules.yaml", yaml, std::path::Path::new("/")).expect("a good site");
        let rules = Rules::new(site.rules);
        let names = |topic: &str| -> Vec<String> {
            explain(&rules, &message(topic, json!({}))).iter().map(|said| said.rule.to_string()).collect()
        };
        assert_eq!(names("a.b.c.d"), ["it", "one"]);
        assert_eq!(names("a.b.x.d"), ["two", "it", "one"]);
    }
}
