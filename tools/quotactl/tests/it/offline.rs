//! `validate` without a server.

use serde_json::json;

use crate::fake::{Fake, Reply};
use crate::support::Home;

const GOOD: &str = "../../../../quota-config/campaigns/new-years-eve.yaml";

#[test]
fn a_good_file_is_told_in_a_line() {
    let ran = Home::new().run(&["validate", GOOD]).expect(0);
    assert!(ran.out.lines().last().unwrap().contains(": campaign 1 "), "{ran:#?}");
    assert!(ran.out.contains("good") && ran.err.is_empty(), "{ran:#?}");
}

#[test]
fn a_bad_file_is_told_whole_with_places_and_cures() {
    let golden = include_str!("../golden/bad.txt");
    let ran = Home::new().run(&["validate", "bad.yaml"]).expect(1);
    assert_eq!(ran.out, golden);
    assert_eq!(ran.err, "");
    let source = include_str!("../golden/bad.yaml");
    let ran = Home::new().run_with(&["validate", "-"], source).expect(1);
    assert_eq!(ran.out, golden.replace("bad.yaml", "standard input"));
}

#[test]
fn json_has_the_same_problems() {
    let ran = Home::new().run(&["validate", "--json", "bad.yaml"]).expect(1);
    let answer = ran.json();
    assert_eq!(answer["ok"], false);
    let problems = answer["problems"].as_array().unwrap();
    let golden = include_str!("../golden/bad.txt");
    assert_eq!(problems.len(), golden.lines().count() - 1);
    for (problem, line) in problems.iter().zip(golden.lines()) {
        let text = |key: &str| problem[key].as_str().unwrap();
        let told = format!(
            "bad.yaml:{}:{}: {}: {}: {}; {}",
            problem["line"],
            problem["column"],
            text("severity"),
            text("path"),
            text("what"),
            text("cure")
        );
        assert_eq!(told, line);
    }
    assert_eq!(Home::new().run(&["validate", "--json", GOOD]).expect(0).json()["ok"], true);
}

#[test]
fn a_file_that_is_none_is_told() {
    let ran = Home::new().run(&["validate", "nothing.yaml"]).expect(1);
    assert!(ran.err.contains("nothing.yaml: No such file"), "{ran:#?}");
    let home = Home::new();
    let long = home.file("long.yaml", &"# much\n".repeat(2_500_000));
    let ran = home.run(&["validate", long.to_str().unwrap()]).expect(1);
    assert!(ran.err.contains("16 MiB"), "{ran:#?}");
}

#[test]
fn a_server_that_is_named_is_asked() {
    let verdict = json!({"ok": false, "problems": [{"severity": "error", "line": 3, "column": 9,
        "path": "rounds[0].prizes[0].each", "what": "60000.00 yuan is above 50000.00 yuan", "cure": "lower it"}],
        "disclosure": null});
    let fake = Fake::always(Reply::Json(200, verdict.clone()));
    let home = Home::new().with("HONGBAO_TOKEN", "t");
    let args = ["validate", "bad.yaml", "--jurisdiction", "cn", "--server", &fake.url];
    let ran = home.run(&args).expect(1);
    assert_eq!(
        ran.out,
        "bad.yaml:3:9: error: rounds[0].prizes[0].each: 60000.00 yuan is above 50000.00 yuan; lower it\n\
         bad.yaml: not good\n"
    );
    let ran = home.run(&[&args[..], &["--json"]].concat()).expect(1);
    assert_eq!(ran.json(), verdict);
    let seen = &fake.seen()[0];
    assert_eq!(seen.what(), "POST /v1/validate");
    assert_eq!(seen.query["jurisdiction"], "cn");
    assert_eq!(seen.content_type.as_deref(), Some("text/yaml"));
    assert_eq!(seen.body, include_str!("../golden/bad.yaml"));
}
