//! The schema against the reader, and against a small validator of the keywords that it uses.

use std::path::Path;

use super::*;
use crate::rules::diagnostics::Diagnostics;
use crate::rules::file::read_str;
use crate::rules::node;

/// Where `value` breaks `schema`, by the rules of draft 2020-12.
fn breaks(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (keyword, says) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => is_type(says, value),
            "const" => says == value,
            "enum" => says.as_array().unwrap().contains(value),
            "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= says.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|t| regex::Regex::new(says.as_str().unwrap()).unwrap().is_match(t)),
            "minimum" => value.as_f64().is_none_or(|number| number >= says.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= says.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= says.as_u64().unwrap()),
            "required" => has_all(says, value),
            "anyOf" => passing(says, value) > 0,
            "oneOf" => passing(says, value) == 1,
            "not" => !breaks(says, value, at).is_empty(),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrong.extend(breaks(says, item, &format!("{at}[{index}]")));
                }
                true
            }
            "properties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    wrong.extend(
                        says.get(name).map(|says| breaks(says, inner, &format!("{at}.{name}"))).unwrap_or_default(),
                    );
                }
                true
            }
            "additionalProperties" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    let listed = schema.get("properties").is_some_and(|listed| listed.get(name).is_some());
                    let at = format!("{at}.{name}");
                    match says {
                        _ if listed => {}
                        Value::Bool(allowed) => wrong.extend((!allowed).then(|| format!("{at}: unknown"))),
                        says => wrong.extend(breaks(says, inner, &at)),
                    }
                }
                true
            }
            other => panic!("the validator of this test does not know `{other}`"),
        };
        wrong.extend((!holds).then(|| format!("{at}: {keyword}")));
    }
    wrong
}

fn is_type(says: &Value, value: &Value) -> bool {
    let is = |word: &Value| match word.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("type {other}"),
    };
    says.as_array().map_or_else(|| is(says), |words| words.iter().any(is))
}

fn has_all(names: &Value, value: &Value) -> bool {
    names
        .as_array()
        .unwrap()
        .iter()
        .all(|name| value.as_object().is_none_or(|map| map.contains_key(name.as_str().unwrap())))
}

fn passing(schemas: &Value, value: &Value) -> usize {
    schemas.as_array().unwrap().iter().filter(|schema| breaks(schema, value, "").is_empty()).count()
}

/// A value with every word of the table in it, and with `extra` in every map that has words of its own.
fn full(of: &Shape, extra: Option<&str>) -> Value {
    match of {
        Shape::Version => json!(1),
        Shape::Text | Shape::Texts | Shape::Signers | Shape::Scalars | Shape::Json => json!("text"),
        Shape::TextList => json!(["text"]),
        Shape::Duration => json!("30s"),
        Shape::Count(least, _) => json!(least),
        Shape::Bool | Shape::Confirm => json!(true),
        Shape::OneOf(words) => json!(words[0]),
        Shape::JsonMap => json!({"any": [1]}),
        Shape::Block(block) => full_block(block, extra),
        Shape::List(block) => json!([full_block(block, extra)]),
        Shape::Named(inner) => json!({"name": full(inner, extra)}),
        Shape::OrBlock(_, block) => full_block(block, extra),
        Shape::Handler => full_block(&EXEC, extra),
    }
}

fn full_block(of: &Block, extra: Option<&str>) -> Value {
    // Of words that exclude each other, the first.
    let left_out = |name: &str| of.exactly_one.iter().any(|group| group[1..].contains(&name));
    let words = of.words.iter().filter(|word| !left_out(word.name));
    let mut map: Map<String, Value> = words.map(|word| (word.name.to_owned(), full(&word.shape, extra))).collect();
    map.extend(extra.map(|extra| (extra.to_owned(), json!(1))));
    Value::Object(map)
}

fn unknown_words(yaml: &str) -> usize {
    let loaded = read_str("rules.yaml", yaml, Path::new("/site"));
    loaded.diagnostics.iter().filter(|found| found.message.contains("is not a word of")).count()
}

fn blocks() -> Vec<&'static Block> {
    fn walk(shape: &'static Shape, into: &mut Vec<&'static Block>) {
        let block = match shape {
            Shape::Block(block) | Shape::List(block) | Shape::OrBlock(_, block) => block,
            Shape::Named(inner) => return walk(inner, into),
            Shape::Handler => return [&EXEC, &USE].into_iter().for_each(|block| collect(block, into)),
            _ => return,
        };
        collect(block, into);
    }
    fn collect(block: &'static Block, into: &mut Vec<&'static Block>) {
        into.push(block);
        block.words.iter().for_each(|word| walk(&word.shape, into));
    }
    let mut into = Vec::new();
    collect(&SITE, &mut into);
    into
}

#[test]
fn the_reader_and_the_schema_take_every_word_of_the_table() {
    let everything = full_block(&SITE, None);
    assert_eq!(breaks(&site(), &everything, "site"), Vec::<String>::new());
    assert_eq!(unknown_words(&everything.to_string()), 0);
}

#[test]
fn the_reader_and_the_schema_refuse_the_same_unknown_words() {
    let spoilt = full_block(&SITE, Some("zzz"));
    let maps = spoilt.to_string().matches("zzz").count();
    assert!(maps > 15, "{maps}");
    assert_eq!(unknown_words(&spoilt.to_string()), maps);
    assert!(!breaks(&site(), &spoilt, "site").is_empty());
}

#[test]
fn what_is_required_or_excluded_is_so_in_the_schema_too() {
    for (yaml, good) in [
        (json!({"version": 1}), true),
        (json!({}), false),
        (json!({"version": 2}), false),
        (json!({"version": 1, "rules": [{"name": "a", "on": "a.b", "do": "h"}]}), true),
        (json!({"version": 1, "rules": [{"name": "a", "do": "h"}]}), false),
        (json!({"version": 1, "rules": [{"name": "a", "on": "a.b", "every": "6h", "do": "h"}]}), false),
        (json!({"version": 1, "rules": [{"name": "a", "every": "6h", "do": "h", "timeout": 30}]}), false),
        (json!({"version": 1, "handlers": {"h": {"use": "ssh-keys", "hosts": ["a"]}}}), true),
        (json!({"version": 1, "handlers": {"h": {"use": "ssh-keys", "exec": "a"}}}), false),
        (json!({"version": 1, "bus": {"b": {"fedmsg": {"dns": "a"}}}}), true),
        (json!({"version": 1, "bus": {"b": {"fedmsg": {"dsn": "a"}}}}), false),
    ] {
        assert_eq!(breaks(&site(), &yaml, "site").is_empty(), good, "{yaml}");
    }
}

#[test]
fn what_other_tools_call_it_leads_to_our_word() {
    for block in blocks() {
        for word in block.words {
            for also in word.also {
                assert_eq!(block.meant_by(also), Some(word.name), "{also} in {}", block.what);
            }
        }
    }
}

#[test]
fn the_example_site_fits_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Diagnostics::default();
    let example = node::read(0, &text, &mut found).unwrap().to_json();
    assert_eq!(breaks(&site(), &example, "site"), Vec::<String>::new());
}

#[test]
fn every_word_says_what_it_means() {
    for block in blocks() {
        for word in block.words {
            assert!(word.about.len() > 8 && !word.about.ends_with('.'), "{} in {}", word.name, block.what);
        }
    }
}
