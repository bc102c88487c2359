//! Whatever comes: never a 5xx, never a hang, never an answer that the document does not foresee.

use crate::support::{SMALL, World};
use http::Method;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["campaign", "round:1", "vendor:1", "prize:1/1", "1/1", "10", "r", "p-0"])
            .prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "target",
        "reason",
        "prize",
        "units",
        "per_second",
        "weight",
        "to",
        "source",
        "players",
        "arrivals",
        "x",
    ]);
    leaf.prop_recursive(3, 16, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(keys.clone().prop_map(str::to_string), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn path() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        Just("4".to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        "[a-z0-9%.-]{1,8}".prop_map(|s| s.replace('%', "%25")),
    ];
    let tail = prop::sample::select(vec![
        "",
        "/pause",
        "/resume",
        "/stop",
        "/lower",
        "/rate",
        "/weight",
        "/rollback",
        "/grey/promote",
        "/grey/withdraw",
        "/versions",
        "/versions/1",
        "/disclosure",
        "/tax.csv",
        "/winners.csv",
        "/x",
    ]);
    let query = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "?dry_run=true",
            "?dry_run=x",
            "?limit=3",
            "?after=18446744073709551615",
            "?source=true"
        ])
        .prop_map(str::to_string),
        "[?][a-z=&0-9]{0,12}",
    ];
    prop_oneof![
        (number.clone(), tail, query.clone()).prop_map(|(n, t, q)| format!("/v1/campaigns/{n}{t}{q}")),
        (number.clone(), query.clone()).prop_map(|(n, q)| format!("/v1/proposals/p-{n}/approve{q}")),
        (number.clone(), query.clone()).prop_map(|(n, q)| format!("/v1/vendors/{n}/limit{q}")),
        (number, query.clone()).prop_map(|(n, q)| format!("/v1/rehearsals/{n}{q}")),
        (
            prop::sample::select(vec![
                "audit",
                "audit/verify",
                "status",
                "proposals",
                "rehearsals",
                "campaigns"
            ]),
            query
        )
            .prop_map(|(p, q)| format!("/v1/{p}{q}")),
    ]
}

#[test]
fn nothing_that_comes_is_the_servers_fault() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    runtime.block_on(world.begin());
    world.stage.curtain.notify_one();
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let asked = (any::<bool>(), path(), json_value(), any::<bool>());
    let outcome = runner.run(&asked, |(is_post, path, body, keyed)| {
        let ask = if is_post { world.post("adam", &path, body) } else { world.get("adam", &path) };
        let ask = if keyed { ask.key("one for all") } else { ask };
        let answer = runtime.block_on(ask.unchecked().send());
        // A full queue of rehearsals is no fault.
        let full = answer.status == 503 && path.starts_with("/v1/rehearsals");
        prop_assert!(answer.status < 500 || full, "{} {}: {}", path, answer.status, answer.text());
        if answer.status >= 400 {
            prop_assert_eq!(answer.header("content-type"), "application/problem+json");
            prop_assert!(!answer.json()["detail"].as_str().unwrap().is_empty());
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn bodies_of_any_bytes_are_refused_in_words() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = runtime.block_on(World::new());
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let mangled = (prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), any::<bool>());
    let outcome = runner.run(&mangled, |(edits, is_file)| {
        let mut body = if is_file {
            SMALL.as_bytes().to_vec()
        } else {
            json!({"target": "campaign", "reason": "r"}).to_string().into_bytes()
        };
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let (path, kind) = match is_file {
            true => ("/v1/validate?jurisdiction=cn", "text/yaml"),
            false => ("/v1/campaigns/4/pause", "application/json"),
        };
        let ask =
            world.ask(Method::POST, path).by(&world.tokens["adam"]).header("content-type", kind).body(body);
        let answer = runtime.block_on(ask.send());
        prop_assert!(answer.status < 500, "{}", answer.text());
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}
