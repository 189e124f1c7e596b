use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::message::Message;
use crate::rules::testkit::message;

fn value(source: &str, bodies: &[Value]) -> Result<Value, EvalError> {
    let messages: Vec<Message> = bodies.iter().map(|body| message("org.example.a", body.clone())).collect();
    let messages: Vec<&Message> = messages.iter().collect();
    Template::parse(source).unwrap_or_else(|e| panic!("{source}: {e:?}")).value(&Scope::new(&messages))
}

#[test]
fn one_whole_expression_keeps_its_type_and_text_around_it_makes_text() {
    let body = json!({"n": 3, "list": ["a"], "map": {"k": 1}, "s": "x", "none": null, "yes": true});
    for (source, wanted) in [
        ("{{msg.n}}", json!(3)),
        ("{{msg.list}}", json!(["a"])),
        ("{{msg.map}}", json!({"k": 1})),
        ("{{msg.none}}", json!(null)),
        ("{{{msg.s}}}", json!("x")),
        ("n={{msg.n}} {{msg.yes}}", json!("n=3 true")),
        ("{{msg.list.[0]}}{{msg.map.k}}", json!("a1")),
        ("<{{msg.s}}&>", json!("<x&>")),
        (r"\{{msg.s}}", json!("{{msg.s}}")),
        ("{{topic}} {{signer}} {{sent}}", json!("org.example.a unsigned 2023-11-14T22:13:20Z")),
        ("{{messages.[0].msg.n}}", json!(3)),
        ("{{#if msg.yes}}y{{else}}n{{/if}}", json!("y")),
        ("{{#unless (eq msg.n 3)}}other{{else if msg.yes}}three{{/unless}}", json!("three")),
        ("plain", json!("plain")),
    ] {
        assert_eq!(value(source, std::slice::from_ref(&body)), Ok(wanted), "{source}");
    }
}

#[test]
fn a_value_that_does_not_fit_into_text_is_an_error_with_a_hint() {
    let body = [json!({"none": null, "list": [1], "map": {}})];
    for (source, message) in [
        ("x{{msg.none}}", "msg.none is null, which can't stand in text"),
        ("x{{msg.list}}", "msg.list is a list, which can't stand in text"),
        ("x{{msg.map}}", "msg.map is a map, which can't stand in text"),
        ("{{msg.user}}", "msg has no `user`; it has none, list, map"),
        ("{{lower msg.list}}", "lower: wants text, this is a list"),
        ("{{first (split '' ',')}}{{msg.x}}", "msg has no `x`; it has none, list, map"),
        ("{{pluck messages 'x'}}", "msg has no `x`; it has none, list, map"),
    ] {
        let error = value(source, &body).unwrap_err();
        assert_eq!(error.message, message, "{source}");
    }
    assert!(value("x{{msg.none}}", &body).unwrap_err().hint.unwrap().contains("{{default msg.none ''}}"));
}

#[test]
fn a_bad_template_is_refused_at_its_place() {
    for (source, offset, part) in [
        ("user {{msg.user", 5, "without its"),
        ("{{ms.user}}", 2, "`ms` is not known here"),
        ("x {{uniqe (pluck messages 'p')}}", 4, "no helper `uniqe`"),
        ("{{unique}}", 2, "needs something to work on"),
        ("{{split msg.x}}", 2, "takes 2 values, here are 1"),
        ("a {{#each messages}}x{{/each}}", 5, "no block `each`"),
        ("{{> part}}", 0, "no partials"),
        ("{{join msg.x sep=','}}", 13, "values in order"),
        ("{{@root.msg}}", 2, ""),
        ("ä {{lower (msq.x)}}", 12, "`msq` is not known"),
        ("{{this}}", 2, "a path begins with"),
    ] {
        let error = Template::parse(source).unwrap_err();
        assert!(error.message.contains(part), "{source}: {error:?}");
        assert_eq!(error.offset, offset, "{source}: {error:?}");
    }
    let error = Template::parse("{{uniqe msg.x}}").unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("did you mean `unique`?"));
}

#[test]
fn parameters_are_rendered_all_through_and_errors_say_where() {
    let with = json!({"paths": "{{unique (pluck messages 'path')}}", "n": 3, "deep": {"list": ["a {{msg.path}}"]}});
    let with = WithTemplate::parse(with).unwrap();
    let (one, two) = (message("a", json!({"path": "x"})), message("a", json!({"path": "x"})));
    let rendered = with.render(&Scope::new(&[&one, &two])).unwrap();
    assert_eq!(Value::Object(rendered), json!({"paths": ["x"], "n": 3, "deep": {"list": ["a x"]}}));
    let error = with.render(&Scope::new(&[&message("a", json!({"path": null}))])).unwrap_err();
    assert_eq!(error.message, "with.deep.list.0: msg.path is null, which can't stand in text");
    let (path, error) = WithTemplate::parse(json!({"a": {"b": ["{{x}}"]}})).unwrap_err();
    assert_eq!((path, error.offset), (vec!["a".into(), "b".into(), "0".into()], 2));
    assert!(WithTemplate::parse(json!([])).is_err());
    assert!(WithTemplate::parse(json!(null)).unwrap().render(&Scope::new(&[])).unwrap().is_empty());
    let error = WithTemplate::parse(json!({"u": "{{msg.user}}"})).unwrap().render(&Scope::new(&[])).unwrap_err();
    assert_eq!(error.message, "with.u: there is no message: this reaction comes from `every:`");
}

#[test]
fn nothing_grows_without_bound() {
    let big = [json!({"a": "a".repeat(40_000), "many": vec!["x"; 20_000]})];
    for source in [
        "{{msg.a}}{{msg.a}}",
        "{{replace msg.a 'a' 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}}",
        "{{join msg.many 'aaaaaaaaaaaaaaaaaaaa'}}",
        "{{json msg}}",
    ] {
        assert!(value(source, &big).unwrap_err().message.contains("at most 65536"), "{source}");
    }
    assert!(value("{{split (replace msg.a 'a' ',') ','}}", &big).unwrap_err().message.contains("at most 10000"));
    assert!(Template::parse(&"x{{".repeat(SOURCE_BYTES_MAX)).unwrap_err().message.contains("at most 8192"));
    for open in ["(", "[", "{", "{{#if msg.x}}", "{{#if "] {
        assert!(Template::parse(&format!("{{{{lower {}", open.repeat(8_000 / open.len()))).is_err());
        assert!(Template::parse(&open.repeat(8_000 / open.len())).map_or(true, |_| !open.contains("{{")));
    }
}

/// The rows of the table that begin with a code span: its cells without the backquotes.
fn rows(page: &str, heading: &str) -> Vec<Vec<String>> {
    let section = page.split("\n## ").find(|part| part.starts_with(heading)).unwrap_or_default();
    let cells =
        |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`').to_owned()).collect();
    section.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

#[test]
fn every_example_in_the_documentation_is_true_and_every_helper_has_one() {
    let page = include_str!("../../../../docs/templates.md");
    let examples = rows(page, "Helpers");
    for cells in &examples {
        let [source, given, wanted] = cells.as_slice() else { panic!("three columns: {cells:?}") };
        let given: Value = serde_json::from_str(given).unwrap_or_else(|e| panic!("{given}: {e}"));
        let bodies = if let Value::Array(bodies) = given { bodies } else { vec![given] };
        let wanted: Value = serde_json::from_str(wanted).unwrap_or_else(|e| panic!("{wanted}: {e}"));
        assert_eq!(value(source, &bodies), Ok(wanted), "{source}");
    }
    for helper in &helpers::HELPERS {
        assert!(examples.iter().any(|cells| cells[0].contains(helper.name)), "{} has no example", helper.name);
    }
    let conditions = rows(page, "Conditions");
    assert!(!conditions.is_empty());
    for cells in conditions {
        let [source, given, wanted] = cells.as_slice() else { panic!("three columns: {cells:?}") };
        let message = message("org.example.a", serde_json::from_str(given).unwrap());
        let holds = crate::rules::condition::Condition::parse(source).unwrap().evaluate(&Scope::new(&[&message]));
        assert_eq!(holds.unwrap().to_string(), *wanted, "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_template_text_makes_the_parser_panic(
        text in "(\\{\\{|\\}\\}|\\{\\{#if |\\{\\{/if\\}\\}|\\{\\{else\\}\\}|~|msg|\\.|lower |'|\"|\\(|\\)|\\[|\\]|=|@|\\\\|x|1|\\n| |>|\\*|!|ä|null|this|as \\|x\\|){0,24}"
    ) {
        if let Ok(template) = Template::parse(&text) {
            let message = message("a", json!({"x": [1, "two"]}));
            let _ = template.value(&Scope::new(&[&message]));
        }
    }

    #[test]
    fn no_condition_text_makes_the_parser_panic(
        text in "(msg|\\.x|\\[0\\]|\\(|\\)|&&|\\|\\||!|==|>|\"a\"|'|1|1\\.5|in |size|\\.exists\\(x, |x| |ä|\\?|:|,|\\{|\\}|has\\(|matches|`|\\\\){0,24}"
    ) {
        if let Ok(condition) = crate::rules::condition::Condition::parse(&text) {
            let message = message("a", json!({"x": [1, "two"]}));
            let _ = condition.evaluate(&Scope::new(&[&message]));
            let _ = (condition.conjuncts(), condition.operands(&Scope::new(&[&message])));
        }
    }
}
