//! YAML text to JSON values: plain data only, so anchors and aliases are refused.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// A list or map that is still being read.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// The documents of a file.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut parser = Parser::new_from_str(text);
    let (mut open, mut done) = (Vec::new(), Vec::new());
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let value = match event {
            Event::Alias(_) => return Err(format!("line {}: an alias", span.start.line())),
            Event::Scalar(text, style, ..) => scalar(&text, style == ScalarStyle::Plain),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => done.push(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match (key.take(), value) {
                (None, Value::String(name)) => *key = Some(name),
                (None, other) => return Err(format!("line {}: {other} as a key", span.start.line())),
                (Some(name), value) => {
                    if map.insert(name.clone(), value).is_some() {
                        return Err(format!("line {}: `{name}` is there twice", span.start.line()));
                    }
                }
            },
        }
    }
    Ok(done)
}

fn scalar(text: &str, plain: bool) -> Value {
    match text {
        "true" if plain => Value::Bool(true),
        "false" if plain => Value::Bool(false),
        "" | "~" | "null" if plain => Value::Null,
        _ if plain => text.parse::<u64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::documents;
    use serde_json::json;

    #[test]
    fn plain_data_is_read_and_anything_else_refused() {
        let text = "a: {b: [1, \"2\", x y]}\nc: true\n---\n- ~\n";
        assert_eq!(
            documents(text).unwrap(),
            [json!({"a": {"b": [1, "2", "x y"]}, "c": true}), json!([null])]
        );
        for wrong in ["a: 1\na: 2\n", "a: &x 1\nb: *x\n", "a: [1\n", "a: b: c\n"] {
            assert!(documents(wrong).is_err(), "{wrong}");
        }
    }
}
