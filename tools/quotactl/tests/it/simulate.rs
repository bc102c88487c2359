//! `simulate`: here by way of `hongbao`, and on a server.

use serde_json::json;

use crate::fake::{Fake, Reply};
use crate::support::Home;

fn arguments<'a>(csv: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["simulate", "bad.yaml", "--players", "5000000", "--arrivals", csv][..], more].concat()
}

#[test]
fn hongbao_gets_the_arguments_and_its_code_comes_back() {
    let more = [
        "--json",
        "--html",
        "out.html",
        "--districts",
        "d.csv",
        "--hongbao",
        "./hongbao",
        "--",
        "--seed",
        "7",
    ];
    let ran = Home::new().run(&arguments("evening.csv", &more)).expect(64);
    let told: Vec<&str> = ran.out.lines().collect();
    assert_eq!(
        told,
        [
            "rehearse",
            "bad.yaml",
            "--players",
            "5000000",
            "--arrivals",
            "evening.csv",
            "--districts",
            "d.csv",
            "--html",
            "out.html",
            "--json",
            "-",
            "--seed",
            "7"
        ]
    );
    // Where it is nowhere, that is told.
    let ran = Home::new().run(&arguments("evening.csv", &["--hongbao", "./nowhere"])).expect(1);
    assert!(ran.err.contains("./nowhere") && ran.err.contains("put `hongbao` beside quotactl"), "{ran:#?}");
}

#[test]
fn a_server_that_is_named_rehearses() {
    let fake = Fake::start(|seen, before| match (seen.path.as_str(), before) {
        ("/v1/rehearsals", _) => Reply::Json(202, json!({"id": "r-1"})),
        ("/v1/rehearsals/r-1", 1) => {
            Reply::Json(200, json!({"state": "running", "progress": 0.5, "summary": null}))
        }
        ("/v1/rehearsals/r-1", _) => {
            Reply::Json(200, json!({"state": "done", "progress": 1, "summary": {"draws": "100000000"}}))
        }
        _ => Reply::Text(200, "text/html", "<html></html>".to_owned()),
    });
    let home = Home::new().with("HONGBAO_TOKEN", "t");
    let csv = home.file("evening.csv", "minute,share\n0,60\n5,40\n");
    let html = home.dir.path().join("out.html");
    let districts = home.file("d.csv", "district,share\n310000,1\n");
    let districts = districts.to_str().unwrap();
    let more = ["--server", &fake.url, "--html", html.to_str().unwrap(), "--districts", districts];
    let ran = home.run(&arguments(csv.to_str().unwrap(), &more)).expect(0);
    assert_eq!(ran.out, "draws: 100000000\n");
    assert_eq!(std::fs::read_to_string(html).unwrap(), "<html></html>");
    let seen = fake.seen();
    let what: Vec<String> = seen.iter().map(|seen| seen.what()).collect();
    assert_eq!(
        what,
        [
            "POST /v1/rehearsals",
            "GET /v1/rehearsals/r-1",
            "GET /v1/rehearsals/r-1",
            "GET /v1/rehearsals/r-1/report.html"
        ]
    );
    assert!(seen[0].key.is_some());
    let body = seen[0].json();
    assert_eq!(body["districts"], "district,share\n310000,1\n");
    assert_eq!(body["source"], include_str!("../golden/bad.yaml"));
    assert_eq!(body["arrivals"], json!([{"at_ms": "0", "share": 60.0}, {"at_ms": "300000", "share": 40.0}]));
}

#[test]
fn a_rehearsal_that_fails_is_a_failure() {
    let fake = Fake::start(|seen, _| match seen.path.as_str() {
        "/v1/rehearsals" => Reply::Json(202, json!({"id": "r-1"})),
        _ => Reply::Json(
            200,
            json!({"state": "failed", "progress": 0, "summary": null, "error": "no such zone"}),
        ),
    });
    let home = Home::new();
    let csv = home.file("evening.csv", "minute,share\n0,60\n");
    let ran = home.run(&arguments(csv.to_str().unwrap(), &["--server", &fake.url])).expect(1);
    assert!(ran.err.contains("rehearsal r-1: no such zone"), "{ran:#?}");
    let wrong = home.file("wrong.csv", "hour,share\n0,60\n");
    let ran = home.run(&arguments(wrong.to_str().unwrap(), &["--server", &fake.url])).expect(1);
    assert!(ran.err.contains("wrong.csv:1: the header"), "{ran:#?}");
}
