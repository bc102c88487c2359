//! A newcomer's first minutes, with the campaign file that the repository brings for them.

use crate::http::Client;
use crate::platform::{PATIENCE, Place, Platform};
use crate::players::{number, outcome};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TOUR: &str = include_str!("../../../../quota-config/campaigns/tour.yaml");

fn submit(client: &mut Client, counter: u32) -> crate::http::Answer {
    let body = json!({"campaign": 2, "round": 1, "counter": counter, "shakes": 5});
    client.post("/v1/submit", &body).unwrap()
}

/// Shakes as the answers say until it wins: the counter and the award.
fn win(client: &mut Client, mut counter: u32) -> (u32, Value) {
    let since = Instant::now();
    loop {
        let answer = submit(client, counter);
        if outcome(&answer) == "WON" {
            assert_eq!(number(&answer.body["counter"]), u64::from(counter));
            return (counter, answer.body["award"].clone());
        }
        assert!(matches!(outcome(&answer), "LOST" | "TOO_EARLY" | "PENDING"), "{answer:?}");
        assert!(since.elapsed() < PATIENCE, "never wins");
        counter = number(&answer.body["nextCounter"]) as u32;
        std::thread::sleep(Duration::from_millis(number(&answer.body["nextSubmitMs"]).clamp(20, 2_000)));
    }
}

fn states(client: &mut Client) -> Vec<(String, String)> {
    let answer = client.get("/v1/prizes").unwrap();
    assert_eq!(answer.status, 200);
    let text = |a: &Value, name: &str| a[name].as_str().unwrap().to_owned();
    answer.body["awards"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| (text(a, "award"), text(a, "state")))
        .collect()
}

/// Waits until the award is in the list, in another state than `not`.
fn wait_for(client: &mut Client, award: &str, not: &str) -> String {
    let since = Instant::now();
    loop {
        if let Some((_, state)) = states(client).into_iter().find(|(id, state)| id == award && state != not) {
            return state;
        }
        assert!(since.elapsed() < PATIENCE, "{award} is not in the list, or stays {not}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status(place: &Place, platform: &Platform) -> Value {
    let answer = platform.client(&place.admin_token()).get("/admin/status").unwrap();
    assert_eq!(answer.status, 200);
    answer.body
}

#[test]
fn win_claim_stop_and_go_on() {
    let place = Place::new(TOUR);
    let platform = place.start();
    let token = place.user_token(1001);
    let mut player = platform.client(&token);
    assert_eq!(player.get("/healthz").unwrap().body, json!("ok\n"));
    let campaigns = player.get("/v1/campaigns").unwrap();
    assert_eq!(number(&campaigns.body["campaigns"][0]["campaign"]), 2, "{campaigns:?}");

    let (counter, award) = win(&mut player, 1);
    assert_eq!((number(&award["fen"]), &award["prizeName"]), (88, &json!("Pocket money")));
    let id = award["award"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 26);
    assert_eq!(wait_for(&mut player, &id, "AWARD_STATE_WON"), "AWARD_STATE_CLAIMABLE");
    let claimed = player.post("/v1/claim", &json!({"award": id})).unwrap();
    assert_eq!((claimed.status, &claimed.body["award"]["award"]), (200, &json!(id)), "{claimed:?}");
    wait_for(&mut player, &id, "AWARD_STATE_CLAIMABLE");
    let since = Instant::now();
    loop {
        let stands = status(&place, &platform);
        if (&stands["node"]["wins"], &stands["node"]["session"]) == (&json!(1), &json!(true)) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{stands}");
        std::thread::sleep(Duration::from_millis(20));
    }
    platform.stop();

    let platform = place.start();
    let mut player = platform.client(&token);
    // The first answers of a start may be 'pending', while users are read back.
    let since = Instant::now();
    let again = loop {
        let again = submit(&mut player, counter);
        if outcome(&again) != "PENDING" {
            break again;
        }
        assert!(since.elapsed() < PATIENCE, "stays pending");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((outcome(&again), &again.body["award"]["award"]), ("WON", &json!(id)));
    assert_eq!(number(&again.body["nextCounter"]), u64::from(counter) + 1);
    // What was claimed stays claimed; the list hears of it from delivery's journal, a moment behind the start.
    wait_for(&mut player, &id, "AWARD_STATE_CLAIMABLE");
    std::thread::sleep(Duration::from_millis(number(&again.body["nextSubmitMs"])));
    let (_, second) = win(&mut player, counter + 1);
    assert_ne!(second["award"], json!(id));
    platform.stop();
}
