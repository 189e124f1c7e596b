//! Which rules a message concerns, with which key. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::scope::{EvalError, Scope};
use super::site::{On, Rule};
use super::topic::{Index, Pattern};
use crate::message::Message;

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// What one rule says of one message.
#[derive(Debug)]
pub struct Decision {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The key of the reaction it asks for; or what broke, so that its reaction fails visibly.
    pub what: Result<String, EvalError>,
}

/// All rules of a site, ready to be asked.
#[derive(Debug)]
pub struct Rules {
    rules: Vec<Arc<Rule>>,
    by_name: HashMap<Arc<str>, usize>,
    /// Reactor's own topics are matched only by patterns that name them (see [`Pattern`]).
    index: Index,
    keeps_envelopes: bool,
}

impl Rules {
    /// Takes the rules of a site, in their order.
    #[must_use]
    pub fn new(rules: Vec<Arc<Rule>>) -> Self {
        let numbered = rules.iter().zip(0_u32..);
        let all = numbered.flat_map(|(rule, id)| patterns(rule).iter().map(move |pattern| (pattern.clone(), id)));
        Self {
            by_name: rules.iter().enumerate().map(|(at, rule)| (rule.name.clone(), at)).collect(),
            index: Index::new(all),
            rules,
            keeps_envelopes: false,
        }
    }

    /// The same, for a site that tells others what came (`http: { history: … }`).
    #[must_use]
    pub fn keeping_envelopes(self, keeps_envelopes: bool) -> Self {
        Self { keeps_envelopes, ..self }
    }

    /// Whether the journal keeps what stood beside a message's body, for those who want to check its signature too.
    #[must_use]
    pub const fn keeps_envelopes(&self) -> bool {
        self.keeps_envelopes
    }

    /// Whether any rule's topic fits. Called for every message on the bus.
    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        self.index.any(topic)
    }

    /// The least that a bus must be subscribed to, as prefixes of topics; internal topics left out.
    #[must_use]
    pub fn prefixes(&self) -> Vec<String> {
        self.index.prefixes()
    }

    /// The rules that match, or that broke, in their order.
    #[must_use]
    pub fn decide(&self, message: &Message) -> Vec<Decision> {
        let mut found = Vec::new();
        self.index.matches(message.topic.as_str(), &mut found);
        let rules = found.into_iter().filter_map(|id| self.rules.get(id as usize));
        rules.filter_map(|rule| Some(Decision { rule: rule.clone(), what: ask(rule, message).transpose()? })).collect()
    }

    /// The rule of that name.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&Arc<Rule>> {
        self.by_name.get(name).and_then(|at| self.rules.get(*at))
    }

    /// All rules, in their order.
    #[must_use]
    pub fn all(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    /// The parameters of a reaction: the rule's `with`, rendered over its messages, oldest first.
    ///
    /// # Errors
    /// A missing field, or a value that does not fit.
    pub fn params(&self, rule: &Rule, messages: &[&Message]) -> Result<Map<String, Value>, EvalError> {
        rule.with.render(&Scope::new(messages))
    }
}

/// The topics that a rule waits for.
#[must_use]
pub fn patterns(rule: &Rule) -> &[Pattern] {
    match &rule.on {
        On::Topics(patterns) => patterns,
        On::Every(_) => &[],
    }
}

/// The key if the rule matches, `None` if it does not.
fn ask(rule: &Rule, message: &Message) -> Result<Option<String>, EvalError> {
    for test in &rule.where_all {
        if !test.holds(&message.body).map_err(|error| inside("where", error))? {
            return Ok(None);
        }
    }
    for test in &rule.unless_any {
        if test.holds(&message.body).map_err(|error| inside("unless", error))? {
            return Ok(None);
        }
    }
    let messages = [message];
    let scope = Scope::new(&messages);
    if let Some(when) = &rule.when
        && !when.evaluate(&scope).map_err(|error| inside("when", error))?
    {
        return Ok(None);
    }
    key(rule, &scope).map(Some)
}

/// Names the word of the rule that broke.
pub(super) fn inside(word: &str, error: EvalError) -> EvalError {
    EvalError { message: format!("{word}: {}", error.message), ..error }
}

/// The key of a reaction: the rule's `key`, or its name.
///
/// # Errors
/// A missing field, or a key that can't be one.
pub fn key(rule: &Rule, scope: &Scope<'_>) -> Result<String, EvalError> {
    let Some(template) = &rule.key else { return Ok(rule.name.to_string()) };
    let key = template.render(scope).map_err(|error| inside("key", error))?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
        let hint = format!("a key is 1 to {KEY_BYTES_MAX} bytes of text");
        return Err(EvalError::new(format!("the key {:?} can't be one", super::scope::shorten(&key))).hint(hint));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::super::file::load_str;
    use super::super::testkit::message;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn rules(yaml: &str) -> Rules {
        let head = "version: 1\nhandlers: { h: { exec: /bin/true } }\nrules:\n";
        let site = load_str("rules.yaml", &format!("{head}{yaml}"), std::path::Path::new("/")).expect("a good site");
        Rules::new(site.rules)
    }

    fn matching(rules: &Rules, topic: &str, body: Value) -> Vec<(String, Option<String>)> {
        let decisions = rules.decide(&message(topic, body));
        decisions.into_iter().map(|d| (d.rule.name.to_string(), d.what.ok())).collect()
    }

    #[test]
    fn a_rule_matches_when_topic_where_unless_and_when_all_agree() {
        let rules = rules(
            "  - { name: r, on: a.*.c, do: h, where: { fields: [x, y] }, unless: { user: root }, when: msg.n > 1, key: '{{msg.user}}' }\n",
        );
        let body = |fields, user, n| json!({"fields": [fields], "user": user, "n": n});
        let yes = vec![("r".to_owned(), Some("u".to_owned()))];
        assert_eq!(matching(&rules, "a.b.c", body("y", "u", 2)), yes);
        for (topic, body) in [
            ("a.c", body("y", "u", 2)),
            ("a.b.c", body("z", "u", 2)),
            ("a.b.c", body("x", "root", 2)),
            ("a.b.c", body("x", "u", 1)),
        ] {
            assert_eq!(matching(&rules, topic, body.clone()), vec![], "{topic} {body}");
        }
    }

    #[test]
    fn a_missing_field_breaks_the_rule_and_is_never_no_match() {
        for rule in ["where: { user: u }", "unless: { user: u }", "when: msg.user == 'u'", "key: '{{msg.user}}'"] {
            let rules = rules(&format!("  - {{ name: r, on: a, do: h, {rule} }}\n"));
            assert_eq!(matching(&rules, "a", json!({"agent": "x"})), vec![("r".to_owned(), None)], "{rule}");
        }
    }

    #[test]
    fn a_wildcard_never_matches_reactors_own_messages_but_their_name_does() {
        let rules = rules("  - { name: all, on: '**', do: h }\n  - { name: own, on: reactor.reaction.*, do: h }\n");
        assert_eq!(matching(&rules, "reactor.reaction.failed", json!({})), vec![("own".into(), Some("own".into()))]);
        assert_eq!(matching(&rules, "a.b", json!({})), vec![("all".into(), Some("all".into()))]);
        assert!(rules.wants("x.y") && rules.wants("reactor.reaction.done") && !rules.wants("reactor.other"));
        assert_eq!(rules.prefixes(), [""]);
    }

    #[test]
    fn a_key_that_can_not_be_one_breaks_the_rule() {
        let rules = rules("  - { name: r, on: a, do: h, key: '{{msg.user}}' }\n");
        for user in ["", "a\nb", &"x".repeat(300)] {
            assert_eq!(matching(&rules, "a", json!({"user": user})), vec![("r".to_owned(), None)], "{user:?}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[abn]|[a-c]{2}|.{0,4}", inner), 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_message_makes_a_rule_panic(body in any_json()) {
            let rules = rules(HOSTILE);
            let message = message("x.y", body);
            for decision in rules.decide(&message) {
                let _ = rules.params(&decision.rule, &[&message]);
            }
            let _ = super::super::explain::explain(&rules, &message);
        }
    }

    const HOSTILE: &str = r#"  - { name: '1', do: h, on: '**', where: { a.b: [1, x] }, key: "{{lower msg.a}}{{length msg.b}}" }
  - { name: '2', do: h, on: '**', when: "msg.a + msg.b > msg.n || -msg.a == 1" }
  - { name: '3', do: h, on: '**', when: "msg.a.exists(x, x in msg.b) && msg.a[0] / msg.b[0] == msg.n % 2" }
  - { name: '4', do: h, on: '**', when: "int(msg.a) > 1 || string(msg.b).matches(msg.a) || size(msg.n) == 1" }
  - name: '5'
    do: h
    on: '**'
    key: "{{default msg.n 'x'}}"
    with: { a: "{{join (sort (unique (flatten msg.a))) msg.b}}", b: ["{{split msg.n msg.a}}"] }
"#;
}
