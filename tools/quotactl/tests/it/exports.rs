//! CSV: streamed, whole or not at all.

use std::os::unix::fs::PermissionsExt as _;

use crate::fake::{Fake, Reply, problem};
use crate::support::Home;

fn csv() -> String {
    let mut text = String::from("award,user,fen\n");
    for n in 0..20_000 {
        text.push_str(&format!("38G2C7W4Y00G00040000{n:06},{n},50001\n"));
    }
    text
}

#[test]
fn winners_and_tax_come_as_they_are() {
    let fake = Fake::always(Reply::Text(200, "text/csv", csv()));
    let home = Home::at(&fake);
    assert_eq!(home.run(&["winners", "7"]).expect(0).out, csv());
    assert_eq!(home.run(&["winners", "7", "--min-yuan", "0.5"]).expect(0).out, csv());
    assert_eq!(home.run(&["tax", "7", "--json"]).expect(0).out, csv());
    let seen = fake.seen();
    assert_eq!(
        (seen[0].path.as_str(), seen[0].query["min_fen"].as_str()),
        ("/v1/campaigns/7/winners.csv", "50000")
    );
    assert_eq!(seen[1].query["min_fen"], "50");
    assert_eq!(seen[2].what(), "GET /v1/campaigns/7/tax.csv");
}

#[test]
fn a_file_is_private() {
    let fake = Fake::always(Reply::Text(200, "text/csv", csv()));
    let home = Home::at(&fake);
    let path = home.dir.path().join("tax.csv");
    home.run(&["tax", "7", "--out", path.to_str().unwrap()]).expect(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), csv());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn half_an_export_is_a_failure_and_no_file() {
    let fake = Fake::always(Reply::BreakOff("award,user,fen\n1,2,3\n".to_owned()));
    let home = Home::at(&fake);
    let path = home.dir.path().join("winners.csv");
    let ran = home.run(&["winners", "7", "--out", path.to_str().unwrap()]).expect(3);
    assert!(ran.err.contains("broke off after 21 bytes"), "{ran:#?}");
    assert!(!path.exists());
    home.run(&["winners", "7"]).expect(3);
}

#[test]
fn a_refusal_is_no_export() {
    let fake = Fake::always(problem(403, "Not allowed", "operator is needed"));
    let home = Home::at(&fake);
    let path = home.dir.path().join("winners.csv");
    let ran = home.run(&["winners", "7", "--out", path.to_str().unwrap()]).expect(4);
    assert!(ran.err.contains("operator is needed") && !path.exists(), "{ran:#?}");
}
