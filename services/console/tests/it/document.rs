//! The OpenAPI document: what is checked in is what the code makes, and what is answered is what it says.

use crate::support::{Answer, World};
use http::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(console::document()).unwrap());
static VALIDATORS: LazyLock<Mutex<HashMap<String, std::sync::Arc<jsonschema::Validator>>>> =
    LazyLock::new(Mutex::default);

/// The document's path for a real one.
fn template(path: &str) -> Option<&'static str> {
    let real: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == real.len() && parts.iter().zip(&real).all(|(t, r)| t == r || t.starts_with('{'))
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    // `plan` before `{campaign}`.
    paths.keys().map(String::as_str).filter(|t| fits(t)).min_by_key(|t| t.matches('{').count())
}

/// Panics unless the document foresees the answer.
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let Some(template) = template(path) else {
        assert!([400, 401, 404, 429].contains(&answer.status), "{method} {path}: {}", answer.status);
        return;
    };
    let operation = &DOCUMENT["paths"][template][method.as_str().to_lowercase()];
    let response = &operation["responses"][answer.status.to_string()];
    let kind = answer.header("content-type").split(';').next().unwrap().to_string();
    let content = &response["content"][&kind];
    assert!(content.is_object(), "{method} {template}: {} as {kind:?} is not in the document", answer.status);
    if !kind.ends_with("json") {
        return;
    }
    let validator = {
        let key = format!("{method} {template} {} {kind}", answer.status);
        let mut all = VALIDATORS.lock().unwrap();
        let made = all.entry(key).or_insert_with(|| {
            let mut schema = content["schema"].clone();
            schema["components"] = closed(DOCUMENT["components"].clone());
            std::sync::Arc::new(jsonschema::validator_for(&schema).unwrap())
        });
        made.clone()
    };
    let body = answer.json();
    let errors: Vec<String> =
        validator.iter_errors(&body).map(|e| format!("{}: {e}", e.instance_path)).take(5).collect();
    assert!(errors.is_empty(), "{method} {template} {}: {errors:?} in {body}", answer.status);
}

/// Objects with fields have these and no others: a field that the document lacks is a mistake of the document.
fn closed(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            let old = std::mem::take(map);
            map.extend(old.into_iter().map(|(key, value)| (key, closed(value))));
            if map.get("type") == Some(&json!("object")) && map.contains_key("properties") {
                map.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| *value = closed(value.take())),
        _ => {}
    }
    value
}

#[test]
fn what_is_checked_in_is_what_the_code_makes() {
    let path = testkit::package().join("../../docs/openapi.json");
    let made = format!("{}\n", console::document().to_pretty_json().unwrap());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == made, "docs/openapi.json is not what the code makes: run this test with UPDATE_DOCS=1");
}

#[tokio::test]
async fn it_is_served_to_everybody_and_every_route_of_it_asks_for_a_token() {
    let world = World::new().await;
    let served = world.ask(Method::GET, "/openapi.json").send().await;
    assert_eq!((served.status, served.json()), (200, DOCUMENT.clone()));
    assert!(DOCUMENT["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes = 0;
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "delete", "patch"] {
            let Some(operation) = item.get(method) else { continue };
            routes += 1;
            if ["/openapi.json", "/healthz"].contains(&path.as_str()) {
                continue;
            }
            assert_ne!(operation["security"], json!([{}]), "{path}");
            let real = path.replace("{campaign}", "4").replace("{vendor}", "1").replace("{seq_no}", "1");
            let real = real.replace("{id}", "p-0123456789ab");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = world.ask(method, &real).by("hbo_wrong").send().await;
            assert!([401, 429].contains(&answer.status), "{path}: {}", answer.status);
        }
    }
    assert_eq!(routes, 33);
    world.end().await;
}
