//! Operators at work on a running platform: over the admin API, with two people, through a crash.

use crate::http::{Answer, Client};
use crate::platform::{CROWD, PATIENCE, Place, Platform};
use crate::players::outcome;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The crowd's campaign with 30,000 yuan more in the first round.
fn raised() -> String {
    let one = "units: 60000, sum: 120000, min: 0.50, max: 20}";
    let two = "units: 60000, sum: 120000, min: 0.50, max: 20, tranches: [{units: 15000, each: 2.00}]}";
    assert!(CROWD.contains(one));
    CROWD.replacen(one, two, 1)
}

fn operator(place: &Place, platform: &Platform, name: &str, role: &str) -> Client {
    let token = place.print(&["token", "operator", "--name", name, "--role", role]);
    Client::new(platform.console, &token)
}

/// Waits until the status is as it should be.
#[track_caller]
fn until(client: &mut Client, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let answer = client.get("/v1/status").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        if is(&answer.body) {
            return answer.body;
        }
        assert!(since.elapsed() < PATIENCE, "{what}: {}", answer.body);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn runs(status: &Value, seq_no: &str) -> bool {
    status["nodes"][0]["plans"][0]["seq_no"] == seq_no
}

fn prize<'a>(status: &'a Value, at: &str) -> &'a Value {
    let prizes = status["prizes"].as_array().unwrap();
    prizes.iter().find(|p| p["at"] == at).unwrap_or_else(|| panic!("no {at} in {status}"))
}

#[track_caller]
fn expect(answer: Answer, status: u16, state: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.body["state"], state, "{answer:?}");
    answer.body
}

#[test]
fn two_people_change_a_campaign_and_every_change_is_on_the_trail() {
    let place = Place::new(CROWD);
    let platform = place.start();
    let mut viewer = operator(&place, &platform, "vic", "viewer");
    let mut alice = operator(&place, &platform, "alice", "operator");
    let mut bob = operator(&place, &platform, "bob", "approver");
    let stranger = Client::new(platform.console, "nobody").get("/v1/status").unwrap();
    assert_eq!(stranger.status, 401, "{stranger:?}");
    until(&mut viewer, "the node runs the file's version", |s| runs(s, "1"));

    let pause = json!({"target": "prize:1/1", "reason": "the wallet is down"});
    assert_eq!(viewer.post("/v1/campaigns/7/pause", &pause).unwrap().status, 403);
    let dry = alice.post("/v1/campaigns/7/pause?dry_run=true", &pause).unwrap();
    expect(dry, 200, "dry_run");
    let paused = expect(alice.post("/v1/campaigns/7/pause", &pause).unwrap(), 201, "active");
    assert_eq!(paused["seq_no"], "2");
    until(&mut viewer, "the pause reaches the node", |s| runs(s, "2") && prize(s, "1/1")["paused"] == true);
    // What is left of the leases of before is called back within moments; then nobody wins cash.
    until(&mut viewer, "its leases come back", |s| prize(s, "1/1")["open_leases"] == 0);
    let before = until(&mut viewer, "flow has counted", |_| true);
    let mut player = Client::new(platform.http, &place.user_token(41));
    for counter in 1..40 {
        let body = json!({"campaign": 7, "round": 1, "counter": counter, "shakes": 3});
        let answer = player.post("/v1/submit", &body).unwrap();
        assert_ne!(answer.body["award"]["prize"], 1, "{answer:?}");
        assert!(!outcome(&answer).is_empty());
        std::thread::sleep(Duration::from_millis(11));
    }
    std::thread::sleep(Duration::from_millis(500));
    let after = until(&mut viewer, "flow has counted", |_| true);
    assert_eq!(prize(&before, "1/1")["awarded"], prize(&after, "1/1")["awarded"]);

    let file = |client: &mut Client, text: &str| {
        let path = "/v1/campaigns?reason=more%20for%20all";
        client.send("POST", path, "text/yaml", text).unwrap()
    };
    let waiting = expect(file(&mut alice, &raised()), 202, "waiting");
    let proposal = waiting["proposal"].as_str().unwrap().to_owned();
    assert!(!waiting["preview"]["needs_two"].as_array().unwrap().is_empty(), "{waiting}");
    // A stop does not wait for the second person, and the proposal takes it over.
    let stop = json!({"target": "prize:1/2", "reason": "the cups are broken"});
    assert_eq!(expect(alice.post("/v1/campaigns/7/stop", &stop).unwrap(), 201, "active")["seq_no"], "3");
    let yes = json!({"reason": "seen"});
    let path = format!("/v1/proposals/{proposal}/approve");
    let own = alice.post(&path, &yes).unwrap();
    assert!(own.status == 403, "nobody is his own second person: {own:?}");
    let agreed = expect(bob.post(&path, &yes).unwrap(), 201, "active");
    until(&mut viewer, "the raise reaches the ledger", |s| {
        prize(s, "1/1")["budget"] == "75000" && ["1/1", "1/2"].iter().all(|at| prize(s, at)["paused"] == true)
    });
    let lower = json!({"prize": "1/2", "units": "5000", "reason": "fewer cups"});
    let lowered = alice.post("/v1/campaigns/7/lower", &lower).unwrap();
    expect(lowered, 201, "active");
    until(&mut viewer, "the lowering shows", |s| prize(s, "1/2")["budget"] == "15000");

    // Through a crash everything stands as it stood.
    std::fs::write(place.campaign(), raised()).unwrap();
    platform.kill();
    let platform = place.start();
    let mut viewer = Client::new(platform.console, viewer.token());
    let status = until(&mut viewer, "it comes back", |s| prize(s, "1/1")["budget"] == "75000");
    assert_eq!(prize(&status, "1/2")["budget"], "15000", "{status}");
    assert_eq!(prize(&status, "1/2")["paused"], true, "{status}");
    let verified = viewer.get("/v1/audit/verify").unwrap().body;
    assert_eq!(verified["ok"], true, "{verified}");
    let history = viewer.get("/v1/campaigns/7/versions").unwrap().body;
    let seq_nos: Vec<_> = history["items"].as_array().unwrap().iter().map(|v| v["seq_no"].clone()).collect();
    assert!(seq_nos.contains(&agreed["seq_no"]), "{history}");
    let mut alice = Client::new(platform.console, alice.token());
    let resume = json!({"target": "prize:1/1", "reason": "the wallet is back"});
    expect(alice.post("/v1/campaigns/7/resume", &resume).unwrap(), 201, "active");
    let resume = json!({"target": "prize:1/2", "reason": "the cups are back"});
    expect(alice.post("/v1/campaigns/7/resume", &resume).unwrap(), 202, "waiting");
    until(&mut viewer, "cash goes on", |s| prize(s, "1/1")["paused"] == false);
}

#[test]
fn a_grey_version_goes_to_some_users_and_back() {
    let place = Place::new(CROWD);
    let platform = place.start();
    let mut admin = operator(&place, &platform, "ada", "admin");
    until(&mut admin, "the node runs the file's version", |s| runs(s, "1"));
    let grey = CROWD.replacen("weight: 3, vendor: 1, units: 60000", "weight: 9, vendor: 1, units: 60000", 1);
    let path = "/v1/campaigns?reason=try&grey_users_per_mille=300";
    let out = admin.send("POST", path, "text/yaml", &grey).unwrap();
    let out = expect(out, 201, "grey");
    until(&mut admin, "the node has both", |s| {
        runs(s, "1") && s["nodes"][0]["plans"][0]["grey"] == out["seq_no"]
    });
    let other = CROWD.replacen("units: 60000", "units: 60001", 1);
    let refused = admin.send("POST", "/v1/campaigns?reason=no", "text/yaml", &other).unwrap();
    assert!(refused.status == 409 || refused.status == 422, "a grey version is out: {refused:?}");
    let back = admin.post("/v1/campaigns/7/grey/withdraw", &json!({"reason": "enough"})).unwrap();
    assert!(back.status < 300, "{back:?}");
    until(&mut admin, "everybody has one plan again", |s| s["nodes"][0]["plans"][0]["grey"].is_null());
}
