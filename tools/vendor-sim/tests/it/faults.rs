//! Misbehaviour on request, as a sender meets it.

use std::time::Duration;

use crate::process::{Process, one_vendor};

#[tokio::test]
async fn a_time_out_after_accepting_is_taken_late_and_not_found_before() {
    let dir = tempfile::tempdir().unwrap();
    let keys = "timeout_after_ppm = 1000000\nhang_ms = 50\naccept_delay_ms_max = 2000";
    let process = Process::start(dir.path(), &one_vendor(keys)).await;
    for i in 0..20 {
        assert!(process.pay(&format!("N{i}A"), 1, 5).await.is_none(), "no answer comes");
        if process.ask(&format!("N{i}A"), 1).await.status == 404 {
            // Lost, as it seems; and yet:
            for n in 2..800 {
                if process.ask(&format!("N{i}A"), n).await.status == 200 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("never taken");
        }
    }
    panic!("20 delays up to 2 s, and all below 50 ms");
}

#[tokio::test]
async fn errors_before_and_after_accepting_look_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &one_vendor("error_before_ppm = 1000000")).await;
    assert_eq!(process.pay("N1A", 1, 5).await.unwrap().status, 500);
    assert_eq!(process.ask("N1A", 1).await.status, 404);
    let changed = process.change(r#"{"error_before_ppm":0,"error_after_ppm":1000000}"#).await;
    assert_eq!(changed.json()["error_after_ppm"], 1_000_000);
    assert_eq!(process.pay("N1A", 2, 5).await.unwrap().status, 500);
    assert_eq!(process.ask("N1A", 2).await.json()["status"], "success");
    let refused = process.change(r#"{"error_before_ppm":1}"#).await;
    assert!(refused.status == 400 && refused.text.contains("1000001"), "{}", refused.text);
    assert_eq!(process.pay("N2A", 1, 5).await.unwrap().status, 500, "nothing was changed");
}

#[tokio::test]
async fn beyond_capacity_nothing_is_taken_and_a_wait_is_named() {
    let dir = tempfile::tempdir().unwrap();
    // Questions have a capacity too, and those here follow each other as fast as the machine is.
    let keys =
        "capacity_per_second = 1\nlimit_per_second = 10\nburst_ms = 0\nquery_capacity_per_second = 1000000";
    let process = Process::start(dir.path(), &one_vendor(keys)).await;
    let (mut turned_away, mut sent) = (0, 0);
    // Four at once, and again where a slow machine left a pause between them.
    while turned_away == 0 {
        assert!(sent < 400, "nobody is turned away");
        let n: [String; 4] = std::array::from_fn(|i| format!("N{}A", sent + i));
        sent += n.len();
        let pay = |i: usize| process.pay(&n[i], 1, 5);
        let answers = tokio::join!(pay(0), pay(1), pay(2), pay(3));
        for (number, answer) in n.iter().zip(<[_; 4]>::from(answers)) {
            let answer = answer.unwrap();
            if answer.status == 429 {
                turned_away += 1;
                assert_eq!(answer.headers["retry-after"], "1");
                assert!((1..=1000).contains(&answer.json()["retry_after_ms"].as_u64().unwrap()));
                assert_eq!(process.ask(number, 1).await.status, 404);
            }
        }
    }
    let stats = process.stats().await;
    assert_eq!(stats["over_capacity"], turned_away);
    assert_eq!(stats["accepted"], sent - turned_away);
}

#[tokio::test]
async fn an_outage_takes_nothing_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let keys = r#"outages = [{ from_ms = 0, to_ms = 600000, mode = "refuse" }]"#;
    let process = Process::start(dir.path(), &one_vendor(keys)).await;
    assert!(process.pay("N1A", 1, 5).await.is_none());
    process.change(r#"{"outages":[{"from_ms":0,"to_ms":600000,"mode":"error"}]}"#).await;
    assert_eq!(process.pay("N1A", 1, 5).await.unwrap().status, 503);
    process.change(r#"{"outages":[]}"#).await;
    assert_eq!(process.ask("N1A", 1).await.status, 404);
    assert_eq!(process.pay("N1A", 1, 5).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_statement_leaves_out_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &one_vendor("row_missing_ppm = 300000")).await;
    for i in 0..100 {
        process.pay(&format!("N{i}A"), 1, 7).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(3)).await; // the default cut leaves out this very instant
    let early = process.statement("").await;
    let rows = early.lines().filter(|l| l.contains(",success,")).count();
    assert!((50..90).contains(&rows), "{rows}");
    assert!(early.lines().last().unwrap().starts_with(&format!("#footer rows={rows} fen={} ", rows * 7)));
    let to = crate::process::now_ms() - 1;
    let path = format!("/v/1/statement?from_ms=0&to_ms={to}&complete=true");
    let id = format!("statement_0_{to}_1");
    let complete = process.call(hyper::Method::GET, &path, &id, String::new()).await.unwrap().text;
    assert!(
        complete.lines().last().unwrap().starts_with("#footer rows=100 fen=700 success_rows=100"),
        "{complete}"
    );
}
