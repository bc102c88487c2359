//! What was answered stays true, whatever happens to the process.

use http_body_util::Full;
use hyper::{Method, Request};

use crate::process::{Process, command, one_vendor};

#[tokio::test]
async fn a_payout_survives_kill_9_and_is_paid_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = one_vendor("late_ppm = 1000000\nlate_ms_min = 60000\nlate_ms_max = 60000");
    let mut process = Process::start(dir.path(), &config).await;
    let mut first = Vec::new();
    for i in 0..200 {
        first.push(process.pay(&format!("N{i}A"), 1, 100).await.unwrap().json());
    }
    process.kill();
    // The kill may also have cut a line in the middle of being written.
    let journal = dir.path().join("state/vendor-1.jsonl");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes.extend_from_slice(b"{\"payout\":{\"order\":{\"num");
    std::fs::write(&journal, bytes).unwrap();

    let process = Process::start(dir.path(), &config).await;
    for (i, was) in first.iter().enumerate() {
        let number = format!("N{i}A");
        let asked = process.ask(&number, 1).await.json();
        assert_eq!(&asked, was);
        let again = process.pay(&number, 2, 100).await.unwrap().json();
        assert_eq!((&again["duplicate"], &again["vendor_ref"]), (&true.into(), &was["vendor_ref"]));
    }
    let stats = process.stats().await;
    assert_eq!((&stats["accepted"], &stats["accepted_fen"]), (&200.into(), &"20000".into()));
    assert_eq!((&stats["duplicates"], &stats["double_payments"]), (&200.into(), &0.into()));
    assert_eq!(stats["rate"]["stamps"], 200);
    assert_eq!(process.stop().await, Some(0));
}

#[tokio::test]
async fn the_answers_of_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &one_vendor("require_account = true")).await;
    let code = |answer: &crate::process::Answer| (answer.status.as_u16(), answer.json()["code"].clone());
    assert_eq!(code(&process.pay("N1A", 1, 100).await.unwrap()), (404, "NO_ACCOUNT".into()));
    assert_eq!(code(&process.ask("N1A", 1).await), (404, "NOT_FOUND".into()));
    let body = r#"{"payee":"me"}"#.to_owned();
    let made = process.call(Method::POST, "/v/1/accounts", "account_1", body).await.unwrap();
    assert_eq!(made.json()["registered"], true);
    assert_eq!(process.pay("N1A", 2, 100).await.unwrap().json()["status"], "success");
    assert_eq!(code(&process.pay("N1A", 3, 101).await.unwrap()), (409, "MISMATCH".into()));
    assert_eq!(code(&process.pay("N1-", 1, 100).await.unwrap()), (400, "BAD_REQUEST".into()));

    let call =
        |method, path: &'static str, id: &'static str, body: String| process.call(method, path, id, body);
    let odd = call(Method::GET, "/v/1/payouts/N1A", "N2A_1", String::new()).await.unwrap();
    assert_eq!(code(&odd), (400, "BAD_REQUEST".into()));
    let unknown = call(Method::GET, "/v/9/payouts/N1A", "N1A_1", String::new()).await.unwrap();
    assert_eq!(code(&unknown), (404, "NO_VENDOR".into()));
    let path = call(Method::GET, "/v/1/nothing", "N1A_1", String::new()).await.unwrap();
    assert_eq!(code(&path), (404, "NO_PATH".into()));
    let method = call(Method::PUT, "/v/1/payouts", "N1A_1", String::new()).await.unwrap();
    assert_eq!(code(&method), (405, "BAD_METHOD".into()));
    let large = call(Method::POST, "/v/1/payouts", "N1A_1", "x".repeat(4097)).await.unwrap();
    assert_eq!(code(&large), (413, "BODY_TOO_LARGE".into()));
    let unsigned = Request::get(format!("{}/v/1/payouts/N1A", process.base)).body(Full::default()).unwrap();
    assert_eq!(code(&process.send(unsigned).await.unwrap()), (401, "BAD_SIGNATURE".into()));
    let health = Request::get(format!("{}/health", process.base)).body(Full::default()).unwrap();
    assert_eq!(process.send(health).await.unwrap().json()["status"], "ok");
    assert_eq!(process.stats().await["accepted"], 1);
}

#[tokio::test]
async fn a_second_process_on_the_folder_and_a_bad_configuration_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Process::start(dir.path(), &one_vendor("")).await;
    let second = command(dir.path(), &one_vendor("")).output().unwrap();
    let says = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && says.contains("in use by another"), "{says}");
    let bad = command(dir.path(), &one_vendor("late_pmm = 1")).output().unwrap();
    let says = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(2) && says.contains("vendor 1") && says.contains("late_pmm"), "{says}");
}
