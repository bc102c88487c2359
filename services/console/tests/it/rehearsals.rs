//! Rehearsals: one at a time, a few waiting, the report at the end.

use crate::support::{SMALL, World};
use serde_json::{Value, json};

fn body(players: &str) -> Value {
    json!({"source": SMALL, "players": players,
           "arrivals": [{"at_ms": "-1000", "share": 0.25}, {"at_ms": "60000", "share": 1}]})
}

async fn until(world: &World, id: &str, state: &str) -> Value {
    loop {
        let status = world.get("vic", &format!("/v1/rehearsals/{id}")).send().await.json();
        if status["state"] == state {
            return status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_runs_some_wait_and_each_has_its_report() {
    let world = World::new().await;
    let start = async |players: &str| world.post("olga", "/v1/rehearsals", body(players)).send().await;
    let first = start("5000000").await;
    assert_eq!(first.status, 202);
    let first = first.json()["id"].as_str().unwrap().to_string();
    // It says how far it is once it has begun.
    while until(&world, &first, "running").await["progress"] != 0.5 {}
    let second = start("13").await.json()["id"].as_str().unwrap().to_string();
    for _ in 0..3 {
        assert_eq!(start("1").await.status, 202);
    }
    let full = start("1").await;
    full.problem(503, "unavailable");
    assert_eq!(full.header("retry-after"), "10");
    let report = |id: &str| format!("/v1/rehearsals/{id}/report.html");
    world.get("vic", &report(&first)).send().await.problem(409, "conflict");
    world.stage.curtain.notify_one();
    let done = until(&world, &first, "done").await;
    assert_eq!((&done["summary"], &done["progress"]), (&json!({"players": "5000000"}), &json!(1.0)));
    let page = world.get("vic", &report(&first)).send().await;
    assert_eq!(page.text(), "<!doctype html>");
    assert!(page.header("content-security-policy").contains("sandbox"));
    until(&world, &second, "running").await;
    world.stage.curtain.notify_one();
    assert_eq!(until(&world, &second, "failed").await["error"], "nobody rehearses with 13");
    world.get("vic", "/v1/rehearsals/r-0").send().await.problem(404, "not-found");
    world.post("vic", "/v1/rehearsals", body("1")).send().await.problem(403, "not-allowed");
    world.end().await;
}

#[tokio::test]
async fn a_rehearsal_that_makes_no_sense_is_refused() {
    let world = World::new().await;
    let wrong = [
        json!({"source": SMALL, "players": "0", "arrivals": [{"at_ms": "0", "share": 1}]}),
        json!({"source": SMALL, "players": "5", "arrivals": []}),
        json!({"source": SMALL, "players": "5", "arrivals": [{"at_ms": "0", "share": 0}]}),
        json!({"source": SMALL, "players": "5", "arrivals": [{"at_ms": "0", "share": -1}]}),
        json!({"source": SMALL, "players": "5", "arrivals": [{"at_ms": "x", "share": 1}]}),
        json!({"source": SMALL, "players": "5", "arrivals": [{"at_ms": "1", "share": 1}, {"at_ms": "1", "share": 1}]}),
        json!({"source": SMALL, "players": 5, "arrivals": [{"at_ms": "0", "share": 1}]}),
        json!({"source": SMALL, "players": "5", "arrivals": [{"at_ms": "0", "share": 1}], "districts": "1".repeat(5 << 20)}),
    ];
    for body in wrong {
        world.post("olga", "/v1/rehearsals", body).send().await.problem(422, "refused");
    }
    world.end().await;
}
