//! Changing: two people, brakes, speeds, weights, rollback, grey releases, dry runs.

use crate::support::{SMALL, World, with_more};
use http::Method;
use quota_config::PrizeAt;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

fn state(answer: &crate::support::Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()["state"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn what_costs_money_takes_two_people() {
    let world = World::new().await;
    world.begin().await;
    let rich = with_more(50_000, 4);
    let waits = world.file("olga", "/v1/campaigns?reason=a%20sponsor", &rich).send().await;
    assert_eq!(state(&waits, 202), "waiting");
    let id = waits.json()["proposal"].as_str().unwrap().to_string();
    let listed = world.get("vic", "/v1/proposals?state=waiting&campaign=4").send().await.json();
    assert_eq!((&listed["items"][0]["id"], &listed["next"]), (&json!(id), &Value::Null));
    assert_eq!(world.get("vic", &format!("/v1/proposals/{id}")).send().await.json()["author"], "olga");
    let source = world.get("vic", &format!("/v1/proposals/{id}?source=true")).send().await;
    assert_eq!(source.text(), rich);

    let (approve, reject) = (format!("/v1/proposals/{id}/approve"), format!("/v1/proposals/{id}/reject"));
    let word = json!({"reason": "read and reckoned"});
    for who in ["vic", "olga", "otto"] {
        world.post(who, &approve, word.clone()).send().await.problem(403, "not-allowed");
    }
    world.post("otto", &reject, word.clone()).send().await.problem(403, "not-allowed");

    // A stop does not wait for it, and it takes the stop over.
    let stop = json!({"target": "prize:1/2", "reason": "wrong vouchers"});
    assert_eq!(state(&world.post("otto", "/v1/campaigns/4/stop", stop).send().await, 201), "active");
    assert!(world.fake.prizes.lock()[&PrizeAt::new(1, 2)].paused);
    let dry = world.post("anna", &format!("{approve}?dry_run=true"), word.clone()).send().await;
    assert_eq!(state(&dry, 200), "dry_run");
    let done = world.post("anna", &approve, word.clone()).send().await;
    assert_eq!((state(&done, 201).as_str(), &done.json()["seq_no"]), ("active", &json!("3")));
    let plan = world.get("vic", "/v1/campaigns/4").send().await.json();
    assert_eq!(plan["rounds"][0]["prizes"][0]["units"], "50100");
    assert_eq!(plan["rounds"][0]["prizes"][1]["paused"], true);
    assert_eq!(plan["version"]["approvals"][0]["name"], "anna");
    world.post("anna", &approve, word.clone()).send().await.problem(409, "conflict");
    world.post("anna", &reject, word.clone()).send().await.problem(409, "conflict");

    // What was stopped waits for a second person too; this one refuses.
    let go = json!({"target": "prize:1/2", "reason": "all is well"});
    let waits = world.post("olga", "/v1/campaigns/4/resume", go).send().await;
    assert_eq!(state(&waits, 202), "waiting");
    let reject = format!("/v1/proposals/{}/reject", waits.json()["proposal"].as_str().unwrap());
    assert_eq!(
        state(&world.post("anna", &format!("{reject}?dry_run=true"), word.clone()).send().await, 200),
        "dry_run"
    );
    assert_eq!(state(&world.post("anna", &reject, word.clone()).send().await, 200), "rejected");
    world.post("anna", "/v1/proposals/p-000000000000/approve", word).send().await.problem(404, "not-found");
    world.end().await;
}

#[tokio::test]
async fn a_file_that_overtakes_a_proposal_supersedes_it() {
    let world = World::new().await;
    world.begin().await;
    let waits = world.file("olga", "/v1/campaigns?reason=more", &with_more(50_000, 4)).send().await;
    let approve = format!("/v1/proposals/{}/approve", waits.json()["proposal"].as_str().unwrap());
    let other = SMALL.replace("name: One", "name: Erste");
    assert_eq!(world.file("otto", "/v1/campaigns?reason=name", &other).send().await.status, 201);
    let refused = world.post("anna", &approve, json!({"reason": "yes"})).send().await;
    assert!(refused.problem(409, "conflict").contains("superseded"));
    world.end().await;
}

#[tokio::test]
async fn every_change_beside_the_file_works_and_its_dry_run_changes_nothing() {
    let world = World::new().await;
    world.begin().await;
    let changes = [
        ("pause", json!({"target": "round:1", "reason": "r"})),
        ("resume", json!({"target": "round:1", "reason": "r"})),
        ("lower", json!({"prize": "1/1", "units": "10", "reason": "r"})),
        ("rate", json!({"target": "vendor:1", "per_second": 110, "reason": "r"})),
        ("rate", json!({"target": "vendor:1", "per_second": 100, "reason": "r"})),
        ("weight", json!({"prize": "1/1", "weight": 3, "reason": "r"})),
        ("rollback", json!({"to": "4", "reason": "r"})),
        ("stop", json!({"target": "vendor:1", "reason": "r"})),
    ];
    for (i, (what, body)) in changes.into_iter().enumerate() {
        let before = world.get("vic", "/v1/audit?limit=1000").send().await.json();
        let path = format!("/v1/campaigns/4/{what}");
        let dry = world.post("olga", &format!("{path}?dry_run=true"), body.clone()).send().await;
        assert_eq!((state(&dry, 200).as_str(), &dry.json()["seq_no"]), ("dry_run", &Value::Null), "{what}");
        assert_eq!(world.get("vic", "/v1/audit?limit=1000").send().await.json(), before, "{what}");
        world.post("vic", &path, body.clone()).send().await.problem(403, "not-allowed");
        let done = world.post("olga", &path, body).send().await;
        assert_eq!(state(&done, 201), "active", "{what}");
        assert_eq!(done.json()["seq_no"], (i + 2).to_string(), "{what}");
        if what == "lower" {
            let effect = &done.json()["effects"][0];
            assert_eq!((&effect["taken"], &effect["effective_units"]), (&json!("10"), &json!("90")));
        }
    }
    assert_eq!(world.fake.lowerings.load(Ordering::SeqCst), 1);
    let history = world.get("vic", "/v1/campaigns/4/versions").send().await.json();
    assert!(history["items"].as_array().unwrap().iter().all(|v| v["state"] == "active"));
    world.end().await;
}

#[tokio::test]
async fn a_grey_version_goes_out_grows_and_ends() {
    let world = World::new().await;
    world.begin().await;
    let grey = SMALL.replacen("weight: 10", "weight: 30", 1);
    let path = "/v1/campaigns?reason=try&grey_users_per_mille=50";
    let dry = world.file("olga", &format!("{path}&dry_run=true"), &grey).send().await;
    assert_eq!(state(&dry, 200), "dry_run");
    assert_eq!(state(&world.file("olga", path, &grey).send().await, 201), "grey");
    let listed = world.get("vic", "/v1/campaigns").send().await.json();
    assert_eq!(listed["items"][0]["grey"]["rollout"]["users_per_mille"], 50);
    let wider = "/v1/campaigns?reason=more&grey_users_per_mille=500&grey_nodes=1,2";
    let dry = world.file("olga", &format!("{wider}&dry_run=true"), &grey).send().await;
    assert!(dry.json()["preview"]["summary"][0].as_str().unwrap().contains("500 of 1000"));
    assert_eq!(state(&world.file("olga", wider, &grey).send().await, 201), "grey");
    world.file("olga", "/v1/campaigns?reason=no", SMALL).send().await.problem(409, "conflict");
    let why = json!({"reason": "enough"});
    let withdraw = "/v1/campaigns/4/grey/withdraw";
    let dry = world.post("olga", &format!("{withdraw}?dry_run=true"), why.clone()).send().await;
    assert_eq!(state(&dry, 200), "dry_run");
    assert_eq!(state(&world.post("olga", withdraw, why.clone()).send().await, 200), "withdrawn");
    world.post("olga", withdraw, why.clone()).send().await.problem(422, "refused");
    world.post("olga", &format!("{withdraw}?dry_run=true"), why.clone()).send().await.problem(422, "refused");
    world.file("olga", path, &grey).send().await;
    let promote = "/v1/campaigns/4/grey/promote";
    let dry = world.post("olga", &format!("{promote}?dry_run=true"), why.clone()).send().await;
    assert_eq!(state(&dry, 200), "dry_run");
    assert_eq!(state(&world.post("olga", promote, why).send().await, 201), "active");
    for wrong in ["grey_users_per_mille=1001", "grey_nodes=x", "grey_nodes=", "grey_users_per_mille=0"] {
        let path = format!("/v1/campaigns?reason=r&{wrong}");
        world.file("olga", &path, &grey).send().await.problem(400, "malformed");
    }
    world.end().await;
}

#[tokio::test]
async fn a_pause_goes_through_while_the_ledger_is_away_and_a_lowering_does_not() {
    let world = World::new().await;
    world.begin().await;
    world.fake.is_away.store(true, Ordering::SeqCst);
    let paused = world
        .post("olga", "/v1/campaigns/4/pause", json!({"target": "campaign", "reason": "r"}))
        .send()
        .await;
    assert_eq!(state(&paused, 201), "active");
    assert_eq!(paused.json()["effects"][0]["done"], false);
    let body = json!({"prize": "1/1", "units": "10", "reason": "r"});
    let away = world.post("olga", "/v1/campaigns/4/lower", body).send().await;
    away.problem(503, "unavailable");
    assert_eq!(away.header("retry-after"), "1");
    world.get("vic", "/v1/status").send().await.problem(503, "unavailable");
    world.end().await;
}

#[tokio::test]
async fn deliverys_pace_is_set_and_written_down() {
    let world = World::new().await;
    let body = json!({"per_second": 7, "reason": "the bank asks"});
    let dry = world.post("olga", "/v1/vendors/1/limit?dry_run=true", body.clone()).send().await;
    assert_eq!(dry.json(), json!({"vendor": 1, "per_second": 7}));
    assert!(world.fake.vendor_limits.lock().is_empty());
    assert_eq!(world.post("olga", "/v1/vendors/1/limit", body.clone()).send().await.status, 200);
    assert_eq!(world.fake.vendor_limits.lock()[&1], 7);
    let back = json!({"per_second": "configured", "reason": "it is well again"});
    let answer = world.post("olga", "/v1/vendors/1/limit", back).send().await;
    assert_eq!((answer.status, answer.json()), (200, json!({"vendor": 1, "per_second": null})));
    for wrong in [
        json!({"per_second": "none", "reason": "r"}),
        json!({"reason": "r"}),
        json!({"per_second": null, "reason": "r"}),
    ] {
        world.post("olga", "/v1/vendors/1/limit", wrong).send().await.problem(422, "refused");
    }
    for wrong in [json!(0), json!("configured"), json!(null), json!(-1)] {
        let body = json!({"target": "vendor:1", "per_second": wrong, "reason": "r"});
        world.post("olga", "/v1/campaigns/4/rate", body).send().await.problem(422, "refused");
    }
    for path in ["/v1/vendors/9/limit", "/v1/vendors/9/limit?dry_run=true"] {
        world.post("olga", path, body.clone()).send().await.problem(422, "refused");
    }
    world.post("vic", "/v1/vendors/1/limit", body).send().await.problem(403, "not-allowed");
    let trail = world.get("vic", "/v1/audit").send().await.json();
    assert_eq!(trail["items"][0]["action"], "vendor-limit");
    assert_eq!(
        world.ask(Method::GET, "/v1/vendors/1/limit").by(&world.tokens["vic"]).send().await.status,
        405
    );
    world.end().await;
}
