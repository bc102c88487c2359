//! Every change: what is sent, what is told, and that nobody is overrun.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Seen, problem};
use crate::support::{Home, TOKEN};

fn preview() -> Value {
    json!({"campaign": 7, "base_seq_no": "12", "diff": [
        {"path": "round 2, prize 11, tranche 2", "before": null, "after": "200000 units of 1.00 yuan",
         "effect": "cash +200,000 yuan, exhausted 21:14 instead of 21:03"}],
        "summary": ["budget +200,000.00 yuan"], "warnings": [], "needs_two": []})
}

fn change(state: &str, seq_no: Value, proposal: Value) -> Value {
    json!({"state": state, "campaign": 7, "seq_no": seq_no, "proposal": proposal, "preview": preview(), "effects": []})
}

/// Answers changes as the admin API does.
fn answering(seen: &Seen, _: usize) -> Reply {
    if seen.is_dry() {
        return Reply::Json(200, change("dry_run", Value::Null, Value::Null));
    }
    Reply::Json(201, change("active", json!("13"), Value::Null))
}

type Pairs = &'static [(&'static str, &'static str)];

/// (arguments, path, query beside `dry_run`, body)
fn all() -> Vec<(&'static [&'static str], &'static str, Pairs, Value)> {
    vec![
        (
            &["rollback", "7", "11", "--reason", "wrong"],
            "/v1/campaigns/7/rollback",
            &[],
            json!({"to": "11", "reason": "wrong"}),
        ),
        (
            &["pause", "7", "prize:2/11", "--reason", "x"],
            "/v1/campaigns/7/pause",
            &[],
            json!({"target": "prize:2/11", "reason": "x"}),
        ),
        (
            &["resume", "7", "round:2", "--reason", "x"],
            "/v1/campaigns/7/resume",
            &[],
            json!({"target": "round:2", "reason": "x"}),
        ),
        (
            &["stop", "7", "campaign", "--reason", "红"],
            "/v1/campaigns/7/stop",
            &[],
            json!({"target": "campaign", "reason": "红"}),
        ),
        (
            &["stop", "7", "vendor:3", "--reason", "x"],
            "/v1/campaigns/7/stop",
            &[],
            json!({"target": "vendor:3", "reason": "x"}),
        ),
        (
            &["lower", "7", "2/11", "500", "--reason", "x"],
            "/v1/campaigns/7/lower",
            &[],
            json!({"prize": "2/11", "units": "500", "reason": "x"}),
        ),
        (
            &["set-rate", "7", "vendor:3", "20", "--reason", "x"],
            "/v1/campaigns/7/rate",
            &[],
            json!({"target": "vendor:3", "per_second": 20, "reason": "x"}),
        ),
        (
            &["set-rate", "7", "vendor:3", "none", "--reason", "x"],
            "/v1/campaigns/7/rate",
            &[],
            json!({"target": "vendor:3", "per_second": "none", "reason": "x"}),
        ),
        (
            &["set-rate", "7", "prize:2/11", "file", "--reason", "x"],
            "/v1/campaigns/7/rate",
            &[],
            json!({"target": "prize:2/11", "per_second": "file", "reason": "x"}),
        ),
        (
            &["vendor-limit", "3", "configured", "--reason", "x"],
            "/v1/vendors/3/limit",
            &[],
            json!({"per_second": "configured", "reason": "x"}),
        ),
        (
            &["set-weight", "7", "2/11", "0", "--reason", "x"],
            "/v1/campaigns/7/weight",
            &[],
            json!({"prize": "2/11", "weight": 0, "reason": "x"}),
        ),
        (&["promote", "7", "--reason", "x"], "/v1/campaigns/7/grey/promote", &[], json!({"reason": "x"})),
        (&["withdraw", "7", "--reason", "x"], "/v1/campaigns/7/grey/withdraw", &[], json!({"reason": "x"})),
        (
            &["vendor-limit", "3", "50", "--reason", "x"],
            "/v1/vendors/3/limit",
            &[],
            json!({"per_second": 50, "reason": "x"}),
        ),
        (
            &["approve", "p-0123456789ab"],
            "/v1/proposals/p-0123456789ab/approve",
            &[],
            json!({"reason": "approve p-0123456789ab"}),
        ),
        (
            &["apply", "bad.yaml", "--reason", "more & more"],
            "/v1/campaigns",
            &[("reason", "more & more")],
            Value::Null,
        ),
        (
            &["apply", "bad.yaml", "--reason", "x", "--grey-users", "2.5%"],
            "/v1/campaigns",
            &[("reason", "x"), ("grey_users_per_mille", "25")],
            Value::Null,
        ),
        (
            &["apply", "bad.yaml", "--reason", "x", "--grey-nodes", "1,2"],
            "/v1/campaigns",
            &[("reason", "x"), ("grey_nodes", "1,2")],
            Value::Null,
        ),
    ]
}

#[test]
fn each_is_sent_as_the_api_wants_it() {
    for (args, path, query, body) in all() {
        let fake = Fake::start(answering);
        let ran = Home::at(&fake).run(&[args, &["--yes"]].concat()).expect(0);
        assert!(ran.out.contains("done: campaign 7, SeqNo 13 is active"), "{ran:#?}");
        let seen = fake.seen();
        assert_eq!(seen.len(), 1, "{args:?}");
        let seen = &seen[0];
        assert_eq!(seen.what(), format!("POST {path}"));
        assert_eq!(seen.token.as_deref(), Some(TOKEN));
        let sent: Vec<(&str, &str)> = seen.query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut wanted = query.to_vec();
        wanted.sort_unstable();
        assert_eq!(sent, wanted, "{args:?}");
        assert!(seen.key.as_ref().is_some_and(|key| key.len() == 32), "{args:?}");
        if body.is_null() {
            assert_eq!(seen.content_type.as_deref(), Some("text/yaml"));
            assert_eq!(seen.body, include_str!("../golden/bad.yaml"));
        } else {
            assert_eq!(seen.content_type.as_deref(), Some("application/json"));
            assert_eq!(seen.json(), body, "{args:?}");
        }
    }
}

#[test]
fn a_dry_run_says_so_and_has_no_key() {
    for (args, path, ..) in all() {
        let fake = Fake::start(answering);
        let ran = Home::at(&fake).run(&[args, &["--dry-run"]].concat()).expect(0);
        assert!(ran.out.contains("exhausted 21:14 instead of 21:03"), "{ran:#?}");
        assert!(ran.out.ends_with("dry run: nothing was changed\n"), "{ran:#?}");
        let seen = fake.seen();
        assert_eq!((seen.len(), seen[0].path.as_str(), seen[0].is_dry()), (1, path, true));
        assert_eq!(seen[0].key, None);
    }
}

#[test]
fn where_nobody_can_be_asked_nothing_is_changed() {
    for (args, ..) in all() {
        let fake = Fake::start(answering);
        let ran = Home::at(&fake).run(args).expect(2);
        assert!(ran.err.contains("--yes"), "{ran:#?}");
        assert_eq!(fake.seen().len(), 0, "{args:?}");
        Home::at(&fake).run_with(args, "y\n").expect(2);
        assert_eq!(fake.seen().len(), 0, "a `y` that nobody typed counts for nothing");
    }
}

#[test]
fn keys_differ_from_change_to_change() {
    let fake = Fake::start(answering);
    let home = Home::at(&fake);
    for _ in 0..2 {
        home.run(&["promote", "7", "--reason", "x", "--yes"]).expect(0);
    }
    let seen = fake.seen();
    assert_ne!(seen[0].key, seen[1].key);
}

#[test]
fn rejecting_asks_nobody() {
    let fake = Fake::start(answering);
    Home::at(&fake).run(&["reject", "p-1", "--reason", "too much"]).expect(0);
    let seen = &fake.seen()[0];
    assert_eq!(
        (seen.path.as_str(), seen.json()),
        ("/v1/proposals/p-1/reject", json!({"reason": "too much"}))
    );
}

#[test]
fn waiting_for_a_second_person_is_no_failure() {
    let mut waiting = change("waiting", Value::Null, json!("p-0123456789ab"));
    waiting["preview"]["needs_two"] = json!(["budget up by 200,000.00 yuan"]);
    let fake = Fake::always(Reply::Json(202, waiting));
    let ran = Home::at(&fake).run(&["apply", "bad.yaml", "--reason", "x", "--yes"]).expect(0);
    assert!(ran.out.contains("needs a second person:\n  budget up by 200,000.00 yuan\n"), "{ran:#?}");
    let last = ran.out.lines().last().unwrap();
    assert!(last.starts_with("waiting for a second person; nothing has changed yet"), "{last}");
    assert!(last.contains("`quotactl approve p-0123456789ab`"), "{last}");
}

#[test]
fn a_stop_that_did_not_reach_everything_is_a_finding() {
    let mut partly = change("active", json!("13"), Value::Null);
    partly["effects"] = json!([
        {"prize": "2/11", "what": "paused", "effective_units": null, "taken": null, "done": true},
        {"prize": "2/12", "what": "the ledger did not answer", "effective_units": null, "taken": null, "done": false}]);
    let fake = Fake::always(Reply::Json(201, partly));
    let home = Home::at(&fake);
    let ran = home.run(&["stop", "7", "campaign", "--reason", "x", "--yes"]).expect(1);
    assert!(ran.out.contains("> prize 2/11: paused\n> NOT DONE: prize 2/12: the ledger"), "{ran:#?}");
    home.run(&["stop", "7", "campaign", "--reason", "x", "--yes", "--json"]).expect(1);
}

#[test]
fn json_is_the_answer_as_it_is() {
    // Neither the order of keys nor blanks change.
    let text = "{\"state\":\"active\",  \"campaign\":7,\"a\":1}\n";
    let fake = Fake::always(Reply::Text(201, "application/json", text.to_owned()));
    let home = Home::at(&fake);
    for how in ["--yes", "--dry-run"] {
        assert_eq!(home.run(&["promote", "7", "--reason", "x", "--json", how]).expect(0).out, text);
    }
    assert_eq!(home.run(&["plan", "bad.yaml", "--json"]).expect(0).out, text);
}

#[test]
fn a_refusal_is_told_with_the_places_in_the_file() {
    let body = json!({"type": "about:blank", "title": "The campaign file is wrong", "status": 422, "detail": "1 error",
        "errors": [{"line": 4, "column": 12, "path": "time_zone", "what": "unknown", "cure": "did you mean X?"}]});
    let fake = Fake::always(Reply::Text(422, "application/problem+json", body.to_string()));
    let home = Home::at(&fake);
    for command in [&["apply", "bad.yaml", "--reason", "x", "--yes"][..], &["plan", "bad.yaml"]] {
        let ran = home.run(command).expect(1);
        assert!(ran.err.contains("The campaign file is wrong: 1 error (POST /v1/campaigns"), "{ran:#?}");
        assert!(
            ran.err.ends_with("\nbad.yaml:4:12: error: time_zone: unknown; did you mean X?\n"),
            "{ran:#?}"
        );
        assert_eq!(ran.out, "");
        let ran = home.run(&[command, &["--json"]].concat()).expect(1);
        assert_eq!(ran.json(), body);
    }
    assert_eq!(fake.seen().len(), 4, "what was refused is not asked again");
}

#[test]
fn who_may_not_is_told_so() {
    for (status, told) in [(401, "quotactl login"), (403, "quotactl whoami")] {
        let fake = Fake::always(problem(status, "Not allowed", "operator is needed"));
        let ran = Home::at(&fake).run(&["stop", "7", "campaign", "--reason", "x", "--yes"]).expect(4);
        assert!(ran.err.contains("Not allowed: operator is needed") && ran.err.contains(told), "{ran:#?}");
        assert!(!ran.err.contains(TOKEN));
    }
}

#[test]
fn plan_shows_the_difference_and_its_effect() {
    let fake = Fake::always(Reply::Json(200, preview()));
    let ran = Home::at(&fake).run(&["plan", "bad.yaml"]).expect(0);
    assert_eq!(
        ran.out,
        "campaign 7, against SeqNo 12, which runs\n\
         + round 2, prize 11, tranche 2: 200000 units of 1.00 yuan\n    \
             cash +200,000 yuan, exhausted 21:14 instead of 21:03\n\
         = budget +200,000.00 yuan\n"
    );
    assert_eq!(fake.seen()[0].what(), "POST /v1/campaigns/plan");
}
