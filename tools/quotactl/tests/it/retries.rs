//! Answers that are lost, servers that are away.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, problem};
use crate::support::Home;

const STOP: [&str; 6] = ["stop", "7", "prize:2/11", "--reason", "x", "--yes"];

fn done() -> Value {
    json!({"state": "active", "campaign": 7, "seq_no": "13", "proposal": null, "preview": null, "effects": []})
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_key() {
    let fake = Fake::start(|_, before| if before < 2 { Reply::HangUp } else { Reply::Json(201, done()) });
    Home::at(&fake).run(&STOP).expect(0);
    let seen = fake.seen();
    assert!(seen.len() >= 3, "{seen:#?}");
    assert!(seen[0].key.is_some());
    assert!(seen.iter().all(|again| again.key == seen[0].key && again.body == seen[0].body), "{seen:#?}");
}

#[test]
fn not_now_is_asked_again() {
    let fake = Fake::start(|_, before| match before {
        0 => problem(503, "Not now", "starting"),
        1 => Reply::Text(502, "text/html", "<h1>proxy</h1>".to_owned()),
        _ => Reply::Json(201, done()),
    });
    Home::at(&fake).run(&STOP).expect(0);
    let seen = fake.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|again| again.key == seen[0].key));
}

#[test]
fn tries_are_bounded_and_the_key_is_told() {
    let fake = Fake::always(Reply::HangUp);
    let home = Home::at(&fake);
    let ran = home.run(&STOP).expect(3);
    let key = fake.seen()[0].key.clone().unwrap();
    assert!(
        ran.err.contains("may have been made") && ran.err.contains(&format!("--idempotency-key {key}")),
        "{ran:#?}"
    );
    let tried = fake.seen().len();
    assert!((4..=8).contains(&tried), "{tried}");
    // Asked for again by hand, it is the same change.
    home.run(&[&STOP[..], &["--idempotency-key", &key]].concat()).expect(3);
    assert!(fake.seen().iter().all(|seen| seen.key.as_ref() == Some(&key)));
}

#[test]
fn a_server_that_is_away_has_its_own_code() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ran = Home::new().run(&["status", "--server", &format!("http://{address}")]).expect(3);
    assert!(ran.err.contains("refused") && ran.err.contains("is the platform running"), "{ran:#?}");
    let fake = Fake::always(problem(503, "Not now", "no leader"));
    let ran = Home::at(&fake).run(&["status", "--json"]).expect(3);
    assert_eq!(ran.json()["title"], "Not now");
    assert_eq!(fake.seen().len(), 4);
}

#[test]
fn another_server_is_recognised() {
    let fake = Fake::always(Reply::Text(404, "text/plain", "no such page".to_owned()));
    let ran = Home::at(&fake).run(&["status"]).expect(1);
    assert!(ran.err.contains("is this the admin API?"), "{ran:#?}");
    let fake = Fake::always(Reply::Text(200, "text/html", "<h1>hello</h1>".to_owned()));
    let ran = Home::at(&fake).run(&["history", "7"]).expect(1);
    assert!(ran.err.contains("not what this version of quotactl knows"), "{ran:#?}");
}
