use serde_json::json;

use super::*;
use crate::rules::site::Place;
use crate::rules::testkit::message;

fn eval(source: &str, body: Value) -> Result<bool, EvalError> {
    let message = message("org.example.a", body);
    Condition::parse(source).unwrap_or_else(|e| panic!("{source}: {e:?}")).evaluate(&Scope::new(&[&message]))
}

fn test(path: &str, any_of: Value) -> FieldTest {
    let any_of = if let Value::Array(items) = any_of { items } else { vec![any_of] };
    FieldTest { path: path.split('.').map(String::from).collect(), any_of, place: Place::default() }
}

#[test]
fn a_field_test_is_equal_or_in_the_list_or_held_by_the_list() {
    let body = json!({"fields": ["ssh_key", 3], "n": 1, "u": {"name": "x"}, "none": null, "empty": []});
    for (path, wanted, holds) in [
        ("fields", json!("ssh_key"), true),
        ("fields", json!(3.0), true),
        ("fields", json!("timezone"), false),
        ("n", json!([0, 1.0]), true),
        ("n", json!("1"), false),
        ("u.name", json!(["y", "x"]), true),
        ("none", json!(null), true),
        ("n", json!(null), false),
        ("empty", json!(null), false),
    ] {
        assert_eq!(test(path, wanted.clone()).holds(&body), Ok(holds), "{path} {wanted}");
    }
}

#[test]
fn a_field_test_on_a_missing_field_is_an_error_and_not_false() {
    let error = test("fieldz", json!(1)).holds(&json!({"agent": 1, "fields": 2, "user": 3})).unwrap_err();
    assert_eq!(error.message, "msg has no `fieldz`; it has agent, fields, user");
    assert_eq!(error.hint.as_deref(), Some("did you mean `fields`?"));
}

#[test]
fn conditions_see_the_message() {
    let body = json!({"bytes": 7, "path": "pub/x", "groups": ["packager"], "user": {"name": "x"}, "big": u64::MAX,
        "f": 1.5, "none": null, "items": [{"n": 1}, {"n": 2}]});
    for source in [
        r#"msg.bytes > 0 && msg.path.startsWith("pub/")"#,
        r#""packager" in msg.groups"#,
        r#"msg.groups == ["packager"] && ["packager"] == msg.groups"#,
        r#"msg.user == {"name": "x"} && {"name": "x"} == msg.user && msg.user != {"name": "y"}"#,
        r#"msg["user"]["name"] == "x" && "name" in msg.user && size(msg.user) == 1"#,
        r#"msg.items.exists(i, i.n == 2) && msg.items.all(i, i.n > 0) && msg.items[1].n == 2"#,
        r#"msg.items.map(i, i.n) == [1, 2] && msg.items.filter(i, i.n > 1).size() == 1"#,
        r#"has(msg.user.name) && !has(msg.user.mail)"#,
        r#"msg.big > 5u && msg.f > 1.0 && msg.none == null"#,
        r#"topic == "org.example.a" && signer == "unsigned" && id != "" && size(messages) == 1"#,
        r#"messages[0].msg.bytes == msg.bytes && messages.all(m, m.topic == topic)"#,
        r#"sent >= "2000-01-01" && size(headers) == 0"#,
        r#"msg.path.matches("^pub/") && msg.path.endsWith("x") && msg.path.contains("b/")"#,
        r#"msg.bytes == 0 ? false : string(msg.bytes) == "7""#,
        r#"type(msg.bytes) == int && double(msg.bytes) == 7.0 && uint(7) == 7u && int("7") == 7"#,
        r#"msg.user.all(k, k == "name") && dyn(msg.bytes) == 7 && bytes("a") == b"a" && bool("true")"#,
    ] {
        assert_eq!(eval(source, body.clone()), Ok(true), "{source}");
    }
}

#[test]
fn a_missing_field_is_an_error_with_what_is_there() {
    let body = json!({"a": 1, "user": {"name": "x"}, "list": [1], "items": [{"n": 1}]});
    for (source, message) in [
        ("msg.x > 1", "msg has no `x`; it has a, user, list, items"),
        ("msg.user.nam == 'x'", "msg.user has no `nam`; it has name"),
        ("msg.x == 1 && msg.a == 2", "msg has no `x`; it has a, user, list, items"),
        ("msg.x == 1 || true", "msg has no `x`; it has a, user, list, items"),
        ("msg.list[3] == 1", "msg.list is a list of 1, it has no `3`"),
        ("msg.items.exists(i, i.m == 2)", "an element has no `m`; msg.items is […]"),
        ("msg.a.b == 1", "msg.a is 1, it has no `b`"),
        ("has(msg.x.y)", "msg has no `x`; it has a, user, list, items"),
    ] {
        let error = eval(source, body.clone()).unwrap_err();
        assert_eq!(error.message, message, "{source}");
    }
    assert_eq!(eval("msg.user.nam == 'x'", body).unwrap_err().hint.as_deref(), Some("did you mean `name`?"));
}

#[test]
fn an_answer_that_is_not_true_or_false_is_an_error_naming_it() {
    assert_eq!(eval("msg.a", json!({"a": "yes"})).unwrap_err().message, "msg.a is \"yes\", not true or false");
    assert!(eval("1 + 1", json!({})).unwrap_err().message.contains("type int, not true or false"));
    assert!(eval("msg.a && true", json!({"a": 1})).unwrap_err().message.contains("msg.a is 1"));
}

#[test]
fn operands_that_do_not_fit_are_shown() {
    let error = eval("msg.bytes > 3", json!({"bytes": "many"})).unwrap_err();
    assert_eq!(error.message, "`>` does not work on string and int; msg.bytes is \"many\"");
}

#[test]
fn a_bad_condition_is_refused_at_its_place() {
    for (source, offset, part) in [
        ("msg.a >", 7, "found the end where an expression is expected"),
        ("msg.a == 1 and msg.b", 11, "found `and` where the end is expected"),
        ("foo.a == 1", 0, "`foo` is not known here"),
        ("msg.a == 1 && topik == 'x'", 14, "`topik` is not known"),
        ("msg.a.lower() == 'x'", 6, "no function `lower`"),
        ("sise(msg.a) == 1", 0, "no function `sise`"),
        ("msg.a.matches('(x')", 15, "not a regular expression"),
        ("", 0, "empty"),
    ] {
        let error = Condition::parse(source).unwrap_err();
        assert_eq!(error.offset, offset, "{source}: {error:?}");
        assert!(error.message.contains(part), "{source}: {error:?}");
    }
    assert_eq!(Condition::parse("topik == 'x'").unwrap_err().hint.as_deref(), Some("did you mean `topic`?"));
}

#[test]
fn cost_is_bounded_when_loaded_and_when_run() {
    assert!(Condition::parse("msg.a.all(x, msg.a.all(y, x == y))").is_ok());
    let deep = Condition::parse("msg.a.all(x, msg.a.all(y, msg.a.all(z, x == z)))").unwrap_err();
    assert!(deep.message.contains("at most 2"), "{deep:?}");
    let long = format!("msg.a == \"{}\"", "x".repeat(SOURCE_BYTES_MAX));
    assert!(Condition::parse(&long).unwrap_err().message.contains("at most 4096"));
    for deep in ["(", "!", "-", "[", "{1: ", "true ? true : ", "size("] {
        assert!(Condition::parse(&deep.repeat(SOURCE_BYTES_MAX / deep.len())).is_err(), "{deep}");
    }
    for long in [".a", "[0]", " + 1", " == 1", " in [1]"] {
        let source = format!("msg{}", long.repeat((SOURCE_BYTES_MAX - 3) / long.len()));
        assert!(Condition::parse(&source).unwrap_err().message.contains("steps deep"), "{long}");
    }
    let many: Vec<u32> = (0..2_000).collect();
    let error = eval("msg.a.all(x, msg.a.exists(y, x == y))", json!({"a": many})).unwrap_err();
    assert!(error.message.contains("more than 100000 values"), "{error}");
}

#[test]
fn a_conjunction_is_taken_apart_and_nothing_else_is() {
    let parts = |source: &str| -> Vec<String> {
        Condition::parse(source).unwrap().conjuncts().iter().map(|part| part.source().to_owned()).collect()
    };
    assert_eq!(
        parts("msg.a > 0 && (msg.b || msg.c) && msg.d == '&&'"),
        ["msg.a > 0", "(msg.b || msg.c)", "msg.d == '&&'"]
    );
    assert_eq!(parts("msg.a || msg.b && msg.c"), ["msg.a || msg.b && msg.c"]);
}
