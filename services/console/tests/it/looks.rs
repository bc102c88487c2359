//! Looking: who one is, campaigns, history, versions, status, trail, disclosure, pages.

use crate::support::{SMALL, World, config, sql, with_more};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn everybody_sees_what_runs_and_how_it_came_to_be() {
    let world = World::new().await;
    assert_eq!(world.ask(Method::GET, "/healthz").send().await.text(), "ok\n");
    for (who, role) in [("vic", "viewer"), ("olga", "operator"), ("anna", "approver"), ("adam", "admin")] {
        let answer = world.get(who, "/v1/whoami").send().await;
        assert_eq!(answer.json(), json!({"name": who, "role": role}));
        assert_eq!((answer.header("cache-control"), answer.header("x-frame-options")), ("no-store", "DENY"));
    }
    assert_eq!(world.get("vic", "/v1/campaigns").send().await.json(), json!({"items": [], "next": null}));
    world.get("vic", "/v1/campaigns/4").send().await.problem(404, "not-found");
    world.begin().await;
    let listed = world.get("vic", "/v1/campaigns").send().await.json();
    assert_eq!(listed["items"][0]["name"], "Small");
    assert_eq!((&listed["items"][0]["seq_no"], &listed["items"][0]["state"]), (&json!("1"), &json!("open")));

    let plan = world.get("vic", "/v1/campaigns/4").send().await.json();
    assert_eq!(plan["rounds"][0]["prizes"][0]["prize"], "1/1");
    assert_eq!(plan["budget"], json!({"units": "400", "fen": "80000"}));
    let page = world.get("vic", "/v1/campaigns/4?limit=1").send().await.json();
    assert_eq!((page["rounds"].as_array().unwrap().len(), &page["next"]), (1, &json!("1")));
    let page = world.get("vic", "/v1/campaigns/4?limit=1&after=1").send().await.json();
    assert_eq!((&page["rounds"][0]["round"], &page["next"]), (&json!(2), &Value::Null));

    let version = world.get("vic", "/v1/campaigns/4/versions/1").send().await.json();
    assert_eq!((&version["author"], &version["reason"]), (&json!("olga"), &json!("first")));
    let source = world.get("vic", "/v1/campaigns/4/versions/1?source=true").send().await;
    assert_eq!(source.text(), SMALL);
    world.get("vic", "/v1/campaigns/4/versions/2").send().await.problem(404, "not-found");
    let text = world.get("vic", "/v1/campaigns/4/disclosure").send().await.json();
    assert!(text["text_zh"].as_str().unwrap().contains("Small") && text["rows"].is_array());
    let status = world.get("vic", "/v1/status").send().await.json();
    assert_eq!(status["prizes"][0]["at"], "1/1");
    world.end().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    world.begin().await;
    for weight in 1..=5 {
        let body = json!({"prize": "1/1", "weight": weight, "reason": "trying"});
        assert_eq!(world.post("olga", "/v1/campaigns/4/weight", body).send().await.status, 201);
    }
    for path in ["/v1/campaigns/4/versions", "/v1/audit"] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = world.get("vic", &format!("{path}?limit=2{after}")).send().await.json();
            let items = page["items"].as_array().unwrap();
            assert!((1..=2).contains(&items.len()));
            let name = |item: &Value| {
                item.get("seq_no").filter(|_| path.contains("versions")).unwrap_or(&item["n"]).clone()
            };
            seen.extend(items.iter().map(name));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        let all: Vec<Value> = (1..=seen.len()).map(|n| json!(n.to_string())).collect();
        assert_eq!(seen, all);
        assert!(seen.len() >= 6);
    }
    for wrong in ["limit=0", "limit=1001", "limit=x", "after=x", "after=-1", "afterr=1", "limit=1&limit=2"] {
        world.get("vic", &format!("/v1/audit?{wrong}")).send().await.problem(400, "malformed");
    }
    assert_eq!(
        world.get("vic", "/v1/audit?after=18446744073709551615").send().await.json()["items"],
        json!([])
    );
    world.end().await;
}

#[tokio::test]
async fn files_are_checked_without_touching_anything() {
    let world = World::new().await;
    let good = world.file("vic", "/v1/validate?jurisdiction=cn", SMALL).send().await.json();
    assert_eq!(good["ok"], true);
    assert!(good["disclosure"].as_str().unwrap().contains("Small"));
    let bad =
        world.file("vic", "/v1/validate", &SMALL.replace("weight: 10", "weihgt: 10")).send().await.json();
    assert_eq!(bad["ok"], false);
    let problem = bad["problems"].as_array().unwrap().iter().find(|p| p["severity"] == "error").unwrap();
    assert!(problem["line"].as_u64().unwrap() > 5 && !problem["cure"].as_str().unwrap().is_empty());
    world.file("vic", "/v1/validate?jurisdiction=us", SMALL).send().await.problem(400, "malformed");

    let first = world.file("vic", "/v1/campaigns/plan", SMALL).send().await.json();
    assert_eq!(first["base_seq_no"], "0");
    world.begin().await;
    let more = world.file("vic", "/v1/campaigns/plan", &with_more(50_000, 4)).send().await.json();
    assert_eq!(more["base_seq_no"], "1");
    assert!(
        !more["needs_two"].as_array().unwrap().is_empty() && !more["diff"].as_array().unwrap().is_empty()
    );
    let wrong = world.file("vic", "/v1/campaigns/plan", "campaign: 4\n").send().await;
    wrong.problem(422, "invalid-file");
    assert!(!wrong.json()["errors"].as_array().unwrap().is_empty());
    assert_eq!(world.get("vic", "/v1/campaigns/4").send().await.json()["seq_no"], "1");
    world.end().await;
}

#[tokio::test]
async fn a_trail_that_was_tampered_with_is_found() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let repository = sql(dir.path()).await;
    let world = World::on(dir.clone(), config(), repository, crate::support::Fake::with_prizes()).await;
    world.begin().await;
    let body = json!({"target": "campaign", "reason": "something looks wrong"});
    assert_eq!(world.post("olga", "/v1/campaigns/4/pause", body).send().await.status, 201);
    let whole = world.get("vic", "/v1/audit/verify").send().await.json();
    assert_eq!((&whole["ok"], &whole["broken_at"]), (&json!(true), &Value::Null));
    let sql = storage::Sql::open(&dir.path().join("plans.db"), storage::SqlOptions::patient()).await.unwrap();
    let mut write = sql.write().await.unwrap();
    storage::sqlx::query("UPDATE plan_audit SET who = 'somebody else' WHERE n = 2")
        .execute(&mut *write)
        .await
        .unwrap();
    write.commit().await.unwrap();
    let broken = world.get("vic", "/v1/audit/verify").send().await.json();
    assert_eq!((&broken["ok"], &broken["broken_at"]), (&json!(false), &json!("2")));
    assert!(broken["why"].as_str().unwrap().contains("edited"));
    world.end().await;
}
