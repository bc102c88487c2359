//! Any JSON as an outline that reads well: used where an answer has more in it than this program needs to know, so
//! that a newer server's fields are shown too.

use serde_json::{Map, Value};

use super::paint::{Paint, Style};
use super::table::{Side, Table};
use super::value::{clean, line, named};

/// What stands first; the rest follows by name.
const FIRST: [&str; 16] = [
    "campaign", "round", "prize", "vendor", "id", "n", "seq_no", "name", "kind", "state", "author", "role",
    "reason", "at_ms", "open_ms", "close_ms",
];

/// The lines of an outline.
pub fn lines(value: &Value, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    outline(value, 0, paint, &mut out);
    out
}

fn outline(value: &Value, depth: usize, paint: Paint, out: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (key, value) in ordered(fields) {
                entry(key, value, depth, paint, out);
            }
        }
        Value::Array(items) if is_table(items) => {
            out.extend(table(items).lines(paint).into_iter().map(|row| format!("{indent}{row}")));
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                if !is_nested(item) {
                    out.push(format!("{indent}- {}", named("", item)));
                    continue;
                }
                if i > 0 {
                    out.push(String::new());
                }
                outline(item, depth, paint, out);
            }
        }
        other => out.push(format!("{indent}{}", named("", other))),
    }
}

fn entry(key: &str, value: &Value, depth: usize, paint: Paint, out: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let label = paint.style(Style::Bold, &label(key));
    match value {
        Value::Array(items) if items.is_empty() => out.push(format!("{indent}{label}: none")),
        Value::Object(fields) if fields.is_empty() => out.push(format!("{indent}{label}: none")),
        Value::Object(_) | Value::Array(_) => {
            out.push(format!("{indent}{label}:"));
            outline(value, depth + 1, paint, out);
        }
        Value::String(text) if text.contains('\n') => {
            out.push(format!("{indent}{label}:"));
            out.extend(clean(text).lines().map(|line| format!("{indent}  {line}")));
        }
        other => out.push(format!("{indent}{label}: {}", named(key, other))),
    }
}

fn ordered(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = fields.iter().collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    // Single values before what has a block of its own.
    entries.sort_by_key(|(key, value)| (is_nested(value), rank(key)));
    entries
}

/// A key as words. Money is shown in yuan, so `_fen` goes.
fn label(key: &str) -> String {
    let key = line(key);
    key.strip_suffix("_fen").unwrap_or(&key).replace('_', " ")
}

fn is_nested(value: &Value) -> bool {
    matches!(value, Value::Object(_) | Value::Array(_))
}

/// Objects of the same single values make rows.
fn is_table(items: &[Value]) -> bool {
    !items.is_empty()
        && items.iter().all(|item| {
            item.as_object().is_some_and(|fields| fields.len() <= 12 && !fields.values().any(is_nested))
        })
}

fn table(items: &[Value]) -> Table {
    let mut keys: Vec<(&String, &Value)> = Vec::new();
    for item in items.iter().filter_map(Value::as_object) {
        for (key, value) in ordered(item) {
            if !keys.iter().any(|(known, _)| *known == key) {
                keys.push((key, value));
            }
        }
    }
    let is_number = |value: &Value| match value {
        Value::String(text) => !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
        other => other.is_number(),
    };
    let heads: Vec<(String, Side)> = keys
        .iter()
        .map(|(key, value)| (label(key), if is_number(value) { Side::Right } else { Side::Left }))
        .collect();
    let mut table = Table::new(&heads);
    for item in items {
        table.plain(keys.iter().map(|(key, _)| item.get(*key).map_or(String::new(), |v| named(key, v))));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_and_blocks() {
        let value = json!({
            "rounds": [{"round": 1, "prizes": [
                {"prize": 11, "name": "现金", "budget_fen": "100000"},
                {"prize": 2, "name": "cover", "budget_fen": "0"},
            ]}],
            "name": "Evening", "campaign": "7", "adjustments": {}, "note": "one\ntwo",
        });
        assert_eq!(
            lines(&value, Paint::new(false)),
            [
                "campaign: 7",
                "name: Evening",
                "note:",
                "  one",
                "  two",
                "adjustments: none",
                "rounds:",
                "  round: 1",
                "  prizes:",
                "    prize  name          budget",
                "       11  现金   1,000.00 yuan",
                "        2  cover      0.00 yuan",
            ]
        );
    }
}
