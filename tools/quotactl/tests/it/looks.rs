//! Everything that only reads.

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Seen, problem};
use crate::support::{Home, Ran};

fn answering(seen: &Seen, _: usize) -> Reply {
    let value = match seen.path.as_str() {
        "/v1/campaigns/7/versions" => json!({"items": [
            {"seq_no": "13", "author": "li", "role": "operator", "reason": "more \u{1b}[2Jcash", "at_ms": "1771243200000",
             "state": "active", "kind": "file", "approvals": [{"name": "han", "at_ms": "1771243201000"}],
             "sha256": "00", "summary": ["budget +200,000.00 yuan"], "after": "12"}], "next": "13"}),
        "/v1/campaigns/7" => {
            json!({"campaign": 7, "name": "Evening", "seq_no": "13", "rounds": [{"round": 2, "prizes": [
            {"prize": 11, "name": "cash", "units": "100", "budget_fen": "88800"}]}]})
        }
        "/v1/campaigns/7/versions/13" if seen.query.get("source").is_some_and(|v| v == "true") => {
            return Reply::Text(200, "text/yaml", "campaign: 7\n# 红\n".to_owned());
        }
        "/v1/campaigns/7/versions/13" => json!({"seq_no": "13", "author": "li", "diff": []}),
        "/v1/proposals" => {
            json!({"items": [{"id": "p-1", "campaign": 7, "author": "li", "reason": "x"}], "next": null})
        }
        "/v1/campaigns" => json!({"items": [], "next": null}),
        "/v1/audit" => {
            json!({"items": [{"n": "1", "at_ms": "1771243200000", "who": "li", "action": "apply"}], "next": null})
        }
        "/v1/audit/verify" => {
            json!({"ok": false, "rows": "9", "head": null, "broken_at": "4", "why": "its hash differs"})
        }
        "/v1/campaigns/7/disclosure" => json!({"text_zh": "奖品数量", "text_en": "Quantities", "rows": []}),
        "/v1/whoami" => json!({"name": "li", "role": "operator"}),
        "/v1/status" => status(),
        _ => return problem(404, "Not found", "there is no such thing"),
    };
    Reply::Json(200, value)
}

fn status() -> Value {
    let plan = |seq_no: &str| {
        json!([{"campaign": 7, "seq_no": seq_no, "grey": if seq_no == "13" { json!("14") } else { Value::Null },
                "failure": null}])
    };
    json!({"at_ms": "1771243200000",
        "nodes": [{"node": 1, "epoch": 5, "session": true, "seen_ago_ms": "80", "plans": plan("13")},
                  {"node": 2, "epoch": 6, "session": true, "seen_ago_ms": "90", "plans": plan("12")}],
        "prizes": [{"campaign": 7, "at": "2/11", "name": "现金", "vendor": 3, "seq_no": "13", "paused": true,
                    "made": "10000", "budget": "9000", "granted": "4000", "awarded": "3999", "locked": "10",
                    "open_leases": 3, "per_second": 119.6}],
        "vendors": [{"vendor": 3, "name": "wallet", "limit_per_second": 20, "backlog": "9", "cut_off": false,
                     "per_second": 4.5}]})
}

fn run(args: &[&str]) -> (Ran, Vec<Seen>) {
    let fake = Fake::start(answering);
    let ran = Home::at(&fake).run(args);
    (ran, fake.seen())
}

#[test]
fn history_is_a_table_and_harmless() {
    let (ran, seen) = run(&["history", "7", "--limit", "5", "--after", "20"]);
    let ran = ran.expect(0);
    assert_eq!(
        ran.out,
        "SEQNO  WHEN                       STATE   KIND  BY             APPROVED BY  REASON\n   \
           13  2026-02-16 20:00:00+08:00  active  file  li (operator)  han          more \u{fffd}[2Jcash\n       \
               budget +200,000.00 yuan\n\
         more: --after 13\n"
    );
    assert_eq!((seen[0].query["limit"].as_str(), seen[0].query["after"].as_str()), ("5", "20"));
}

#[test]
fn show_tells_what_runs_and_what_ran() {
    let (ran, _) = run(&["show", "7"]);
    assert!(ran.expect(0).out.contains("11  cash  888.00 yuan"));
    let (ran, seen) = run(&["show", "7", "13"]);
    assert!(ran.expect(0).out.starts_with("seq no: 13\n"));
    assert_eq!(seen[0].what(), "GET /v1/campaigns/7/versions/13");
    for args in [&["show", "7", "13", "--source"][..], &["show", "7", "--source"]] {
        assert_eq!(run(args).0.expect(0).out, "campaign: 7\n# 红\n");
    }
}

#[test]
fn lists_say_when_they_are_empty() {
    let (ran, seen) = run(&["proposals"]);
    assert!(ran.expect(0).out.contains("p-1"));
    assert_eq!(seen[0].query["state"], "waiting");
    assert!(run(&["proposals", "--state", "all"]).1[0].query.is_empty());
    assert_eq!(run(&["campaigns"]).0.expect(0).out, "there are no campaigns yet\n");
    assert!(run(&["audit"]).0.expect(0).out.contains("2026-02-16 20:00:00+08:00"));
    assert_eq!(run(&["whoami"]).0.expect(0).out, "name: li\nrole: operator\n");
}

#[test]
fn a_broken_audit_trail_has_the_code_of_a_finding() {
    let (ran, _) = run(&["verify-audit"]);
    assert!(ran.expect(1).out.contains("BROKEN at row 4 of 9: its hash differs"));
    assert_eq!(run(&["verify-audit", "--json"]).0.expect(1).json()["broken_at"], "4");
}

#[test]
fn the_disclosure_comes_in_both_languages() {
    assert_eq!(run(&["disclosure", "7"]).0.expect(0).out, "奖品数量\n\nQuantities\n");
    assert_eq!(run(&["disclosure", "7", "--lang", "zh"]).0.expect(0).out, "奖品数量\n");
}

#[test]
fn status_shows_nodes_prizes_vendors_and_alarms() {
    let ran = run(&["status"]).0.expect(0);
    assert_eq!(
        ran.out,
        "NODE  EPOCH  SESSION  CAMPAIGN:SEQNO\n   \
            1      5  held     7:13 grey 14\n   \
            2      6  held     7:12\n\
         \n\
         CAMPAIGN  PRIZE  NAME  BUDGET  GRANTED  AWARDED  LOCKED  LEASES  UNITS/S  STATE\n       \
                7  2/11   现金   9,000    4,000    3,999      10       3      120  paused\n\
         \n\
         VENDOR  NAME    LIMIT/S  BACKLOG  STATE\n     \
              3  wallet       20        9\n\
         \n\
         ! node 2 runs SeqNo 12 of campaign 7, others 13\n\
         ! prize 2/11 of campaign 7 is paused\n"
    );
}

#[test]
fn json_of_every_look_parses() {
    for args in [
        &["history", "7"][..],
        &["show", "7"],
        &["show", "7", "13"],
        &["proposals"],
        &["campaigns"],
        &["audit"],
        &["disclosure", "7"],
        &["whoami"],
        &["status"],
    ] {
        let (ran, _) = run(&[args, &["--json"]].concat());
        assert!(ran.expect(0).json().is_object(), "{args:?}");
    }
    assert_eq!(run(&["status", "--json"]).0.json(), status());
    assert_eq!(run(&["history", "8", "--json"]).0.expect(1).json()["title"], "Not found");
}
