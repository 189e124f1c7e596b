//! The site's file as a JSON Schema (draft 2020-12), made from the table in [`super::words`], so that editors complete
//! and check it. What a schema cannot say (templates, names of handlers, paths) `reactor check` says.

use serde_json::{Map, Value, json};

use super::words::{Block, EXEC, SITE, Shape, USE, Word};

/// What a duration looks like; [`handler_api::units::parse_duration`] has the last word.
const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d))+$";

/// The schema of a site's file.
#[must_use]
pub fn site() -> Value {
    let mut schema = block(&SITE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("reactor site, version 1");
    schema
}

fn block(of: &Block) -> Value {
    let properties: Map<String, Value> = of.words.iter().map(|word| (word.name.to_owned(), property(word))).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !of.open {
        schema["additionalProperties"] = json!(false);
    }
    let required: Vec<&str> = of.words.iter().filter(|word| word.required).map(|word| word.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if let [group] = of.exactly_one {
        schema["oneOf"] = group.iter().map(|name| json!({"required": [name]})).collect();
    }
    schema
}

fn property(word: &Word) -> Value {
    let mut schema = shape(&word.shape);
    schema["description"] = json!(word.about);
    schema
}

fn shape(of: &Shape) -> Value {
    let scalar = json!({"type": ["string", "number", "boolean"]});
    match of {
        Shape::Version => json!({"const": 1}),
        Shape::Text => json!({"type": "string", "minLength": 1}),
        Shape::Texts => {
            json!({"anyOf": [shape(&Shape::Text), {"type": "array", "items": shape(&Shape::Text), "minItems": 1}]})
        }
        Shape::Signers => json!({"anyOf": [shape(&Shape::Text), shape(&Shape::TextList)]}),
        Shape::TextList => json!({"type": "array", "items": shape(&Shape::Text)}),
        Shape::Duration => json!({"type": "string", "pattern": DURATION_PATTERN}),
        Shape::Count(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::OneOf(words) => json!({"enum": words}),
        Shape::Scalars => json!({"anyOf": [scalar, {"type": "array", "items": scalar, "minItems": 1}]}),
        Shape::Json => json!({}),
        Shape::JsonMap => json!({"type": "object"}),
        Shape::Block(inner) => block(inner),
        Shape::List(inner) => json!({"type": "array", "items": block(inner)}),
        Shape::Named(inner) => json!({"type": "object", "additionalProperties": shape(inner)}),
        Shape::OrBlock(other, inner) => json!({"anyOf": [shape(other), block(inner)]}),
        Shape::Confirm => json!({"type": ["boolean", "string"]}),
        Shape::Handler => json!({"anyOf": [block(&EXEC), block(&USE)], "not": {"required": ["exec", "use"]}}),
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
