//! The schema and the parser say the same: key by key, and over mutations of every example campaign.

use crate::support::{EVENING_MS, KEY, SMALL};
use campaign::SeqNo;
use quota_config::schema::campaign_schema;
use quota_config::{CompileOptions, compile};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

fn schema() -> Value {
    serde_json::from_str(&campaign_schema()).unwrap()
}

/// What the parser says to a file; empty: accepted.
fn parser(text: &str) -> Vec<String> {
    let options = CompileOptions { seq_no: SeqNo(1), base_ms: EVENING_MS, seeds: &KEY, after: None };
    match compile(text.as_bytes(), &options) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .0
            .iter()
            .filter(|p| p.severity == quota_config::Severity::Error)
            .map(ToString::to_string)
            .collect(),
    }
}

fn shipped() -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(testkit::package().join("campaigns"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .map(|p| (p.display().to_string(), std::fs::read_to_string(&p).unwrap()))
        .collect();
    files.push(("SMALL".into(), SMALL.into()));
    files.push(("FULL".into(), FULL.into()));
    files
}

/// Every key of the format.
const FULL: &str = "\
campaign: 9
name: 2026
description: every key there is
time_zone: Asia/Shanghai
start: now
vendors:
  - {id: 1, name: Wallet, release_per_second: 5000, deliver_per_second: 4000}
limits: {wins_per_round: 3, wins_per_day: 9, wins_per_campaign: 20, participation: 30s, interval: 1s, shakes_per_second: 5}
stagger: {groups: 2, step: 250ms}
client: {submit_min: 1s, submit_max: 3s}
regions: {north: [110000-119999, 120101], south: [440100], 2026: [5]}
prize_sets:
  evening:
    - {id: 1, name: Lucky, kind: cash, weight: 5, vendor: 1, units: 100, sum: 400, min: 0.5, max: 20, tranches: [{units: 5, each: 2}, {units: 5, sum: 20, min: 1, max: 9}]}
    - {id: 2, name: Fixed, kind: cash, weight: 5, vendor: 1, units: 100, each: 8.88, curve: front-loaded, speed_max: 50, catch_up: 150%}
    - {id: 3, name: Tea, kind: voucher, weight: 5, vendor: 1, tranches: [{units: 7}], deliver: on_claim, term: 1h30m, value: 30}
    - {id: 4, name: Cover, kind: cover, weight: 5, vendor: 1, regions: [north, 2026], units: 7, curve: [{at: 0s, share: 0%}, {at: 50%, share: 2.5%}, {at: end, share: 100%}], deliver: at_once}
rounds:
  - {id: 1, name: One, open: 2026-02-16 20:00, duration: 1m, prizes: evening}
  - {id: 2, name: Two, open: +1h, duration: 1m, prizes: [{id: 1, name: Goods, kind: goods, weight: 1, vendor: 1, units: 3}]}
  - {id: 100, name: Hourly, repeat: {from: 2026-02-17, to: 2026-02-18, first: 10:00, last: 12:00, every: 30m}, duration: 10m, prizes: evening}
";

/// YAML as an editor sees it: plain scalars are what YAML 1.2's core schema makes of them.
fn yaml(text: &str) -> Value {
    enum Open {
        List(Vec<Value>),
        Map(Map<String, Value>, Option<String>),
    }
    let mut open: Vec<Open> = Vec::new();
    let mut root = Value::Null;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let done = match event.unwrap().0 {
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().unwrap() {
                Open::List(list) => Value::Array(list),
                Open::Map(map, _) => Value::Object(map),
            },
            Event::Scalar(text, style, ..) => {
                if let Some(Open::Map(_, key @ None)) = open.last_mut() {
                    *key = Some(text.into_owned());
                    continue;
                }
                if style == ScalarStyle::Plain { plain(&text) } else { Value::String(text.into_owned()) }
            }
            _ => continue,
        };
        match open.last_mut() {
            None => root = done,
            Some(Open::List(list)) => list.push(done),
            Some(Open::Map(map, key)) => {
                map.insert(key.take().unwrap(), done);
            }
        }
    }
    root
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(n) = text.parse::<i64>() {
        return json!(n);
    }
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(n) if numeric => json!(n),
        _ => Value::String(text.to_string()),
    }
}

/// A value as YAML that reads back as the same value: JSON is YAML, but keys stay plain for the parser's messages.
fn text(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}: {}", text(v))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// All places of a tree, as JSON pointers.
fn places(value: &Value, at: String, out: &mut Vec<String>) {
    out.push(at.clone());
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| places(v, format!("{at}/{k}"), out)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| places(v, format!("{at}/{i}"), out)),
        _ => {}
    }
}

/// Errors about shape, which a schema sees too; others (sums, times, references) only the compiler knows.
fn is_shape(problem: &str) -> bool {
    const SHAPE: [&str; 17] = [
        "unknown key",
        "is missing",
        "where a map belongs",
        "where a list belongs",
        "where a single value belongs",
        "is not known here",
        "is not a whole number",
        "is out of range; write a whole number",
        "is not an amount in yuan",
        "is not a share",
        "is not a duration",
        "is not a catch-up speed",
        "a cash prize without an amount",
        "only cash has an amount",
        "cash is worth its amount",
        "a term belongs to",
        "an amount without units",
    ];
    SHAPE.iter().any(|part| problem.contains(part))
}

#[test]
fn every_example_is_right_for_both() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (name, source) in shipped() {
        assert_eq!(parser(&source), Vec::<String>::new(), "{name}");
        let errors: Vec<String> = validator
            .iter_errors(&yaml(&source))
            .map(|e| format!("{name}: {}: {e}", e.instance_path))
            .collect();
        assert_eq!(errors, Vec::<String>::new());
        // What the mutations are made from says the same as the file.
        assert_eq!(parser(&text(&yaml(&source))), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_mutation_of_the_examples_is_judged_alike() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let wrong = [
        json!("nonsense"),
        json!(""),
        json!(-1),
        json!(0.001),
        Value::Null,
        json!([]),
        json!({}),
        json!({"nonsense": 1}),
        json!([1]),
        json!("5 apples"),
        json!(99_999_999_999_999u64),
    ];
    let (mut judged, mut refused) = (0, 0);
    let mut judge = |tree: &Value, how: &str| {
        let problems = parser(&text(tree));
        let valid = validator.is_valid(tree);
        let shape = problems.iter().find(|p| is_shape(p));
        assert!(
            valid || !problems.is_empty(),
            "{how}: refused by the schema alone: {:?}",
            validator.iter_errors(tree).map(|e| format!("{}: {e}", e.instance_path)).collect::<Vec<_>>()
        );
        assert!(!valid || shape.is_none(), "{how}: refused by the parser alone: {shape:?}");
        judged += 1;
        refused += usize::from(!valid);
    };
    for (name, source) in shipped() {
        let tree = yaml(&source);
        let mut all = Vec::new();
        places(&tree, String::new(), &mut all);
        for place in &all {
            for value in &wrong {
                let mut mutant = tree.clone();
                *mutant.pointer_mut(place).unwrap() = value.clone();
                judge(&mutant, &format!("{name}: {place} = {value}"));
            }
            if let Some(map) = tree.pointer(place).and_then(Value::as_object) {
                let mut mutant = tree.clone();
                mutant
                    .pointer_mut(place)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .insert("nonsense".into(), json!(1));
                // Any name is good for a prize set, but a number is no list.
                judge(&mutant, &format!("{name}: {place} with nonsense"));
                for key in map.keys() {
                    let mut mutant = tree.clone();
                    mutant.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key);
                    judge(&mutant, &format!("{name}: {place} without {key}"));
                }
            }
        }
    }
    assert!(judged > 3_000 && refused > 1_000, "{judged} judged, {refused} refused");
}

#[test]
fn values_that_hang_together_are_judged_alike() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let base = yaml(FULL);
    let prize = "/prize_sets/evening/";
    for (place, key, value) in [
        ("0", "each", json!(4)),
        ("0", "value", json!(4)),
        ("0", "term", json!("1h")),
        ("0", "kind", json!("goods")),
        ("1", "sum", json!(888)),
        ("1", "min", json!(1)),
        ("2", "each", json!(1)),
        ("2", "kind", json!("cash")),
        ("2", "deliver", json!("at_once")),
        ("2", "units", json!("12")),
        ("2", "sum", json!(1)),
        ("3", "deliver", json!("on_claim")),
        ("3", "curve", json!("steep")),
        ("3", "curve", json!([{"at": "0s", "share": "0%"}])),
        ("3", "value", json!("12.50")),
        ("3", "value", json!("12.505")),
    ] {
        let mut tree = base.clone();
        tree.pointer_mut(&format!("{prize}{place}")).unwrap()[key] = value.clone();
        let (problems, valid) = (parser(&text(&tree)), validator.is_valid(&tree));
        assert_eq!(problems.is_empty(), valid, "prize {place}: {key} = {value}: {problems:?}");
    }
    let mut tree = base.clone();
    tree.pointer_mut("/rounds/0").unwrap()["repeat"] = base.pointer("/rounds/2/repeat").unwrap().clone();
    assert!(!parser(&text(&tree)).is_empty() && !validator.is_valid(&tree), "both `open` and `repeat`");
}

/// The keys that the parser knows in a map, from what it says to one that it does not.
fn keys_at(place: &str) -> BTreeSet<String> {
    let mut tree = yaml(FULL);
    tree.pointer_mut(place).unwrap().as_object_mut().unwrap().insert("qqqqqqqqqqqq".into(), json!(1));
    let told = parser(&text(&tree));
    let line =
        told.iter().find(|p| p.contains("qqqqqqqqqqqq: unknown key")).unwrap_or_else(|| panic!("{told:?}"));
    line.split("known here: ").nth(1).unwrap().split(", ").map(str::to_string).collect()
}

#[test]
fn each_map_has_the_keys_that_the_parser_knows() {
    let schema = schema();
    let maps = [
        ("", ""),
        ("/vendors/0", "/$defs/Vendor"),
        ("/limits", "/$defs/Limits"),
        ("/stagger", "/$defs/Stagger"),
        ("/client", "/$defs/Client"),
        ("/rounds/0", "/$defs/Round"),
        ("/rounds/2/repeat", "/$defs/Repeat"),
        ("/prize_sets/evening/0", "/$defs/Prize"),
        ("/prize_sets/evening/0/tranches/0", "/$defs/Tranche"),
        ("/prize_sets/evening/3/curve/0", "/$defs/CurvePoint"),
    ];
    for (place, def) in maps {
        let object = schema.pointer(def).unwrap_or_else(|| panic!("the schema has no {def}"));
        let known: BTreeSet<String> = object["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys_at(place), known, "{place}");
        assert_eq!(object["additionalProperties"], json!(false), "{def}");
        for (key, value) in object["properties"].as_object().unwrap() {
            let told = value.get("description").is_some();
            assert!(told, "{def}/{key} has no help");
        }
    }
    let objects: Vec<_> = schema["$defs"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, d)| d.get("properties").is_some())
        .map(|(name, _)| format!("/$defs/{name}"))
        .collect();
    for object in objects {
        assert!(maps.iter().any(|m| m.1 == object), "{object} is not held against the parser");
    }
}

#[test]
fn examples_name_their_schema() {
    for (name, source) in shipped().into_iter().filter(|f| f.0.ends_with(".yaml")) {
        let line = "# yaml-language-server: $schema=../campaign.schema.json\n";
        assert!(source.starts_with(line), "{name}");
    }
    assert_eq!(quota_config::schema::SCHEMA_FILE, "campaign.schema.json");
}
