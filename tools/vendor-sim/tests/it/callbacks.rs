//! Callbacks reach a real listener: signed, repeated until confirmed, doubled on request.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use vendor_sim::sign::Signer;

use crate::process::{Process, SECRET, now_ms, one_vendor};

/// Answers 500 to the first `fails` calls, 200 to the others; hands on what it could verify.
async fn listener(fails: u32) -> (String, mpsc::Receiver<(String, Value)>, JoinSet<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/cb", socket.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(100);
    let left = Arc::new(AtomicU32::new(fails));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = socket.accept().await {
            let (sender, left) = (sender.clone(), left.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (sender, left) = (sender.clone(), left.clone());
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let signer = Signer::from_secret(SECRET).unwrap();
                    let id = signer.verify(&parts.headers, &body, now_ms() / 1000).unwrap();
                    sender.send((id.to_owned(), serde_json::from_slice(&body).unwrap())).await.unwrap();
                    let fail =
                        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                    let answer = Response::builder().status(if fail { 500 } else { 200 });
                    Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap())
                }
            });
            connections.spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (url, receiver, tasks)
}

async fn next(receiver: &mut mpsc::Receiver<(String, Value)>) -> (String, Value) {
    tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_callback_is_repeated_with_the_same_id_until_it_is_confirmed() {
    let (url, mut receiver, _tasks) = listener(1).await;
    let dir = tempfile::tempdir().unwrap();
    let keys = format!("callback_url = \"{url}\"\nlate_ppm = 1000000\nlate_ms_min = 10\nlate_ms_max = 20");
    let process = Process::start(dir.path(), &one_vendor(&keys)).await;
    assert_eq!(process.pay("N1A", 1, 5).await.unwrap().json()["status"], "accepted");
    let (first, second) = (next(&mut receiver).await, next(&mut receiver).await);
    assert_eq!(first, second);
    assert_eq!(first.0, "cb_N1A_success");
    let body = first.1;
    assert_eq!((&body["type"], &body["number"]), (&"payout.finished".into(), &"N1A".into()));
    assert_eq!((&body["status"], &body["fen"], &body["vendor"]), (&"success".into(), &"5".into(), &1.into()));
    assert_eq!(process.ask("N1A", 1).await.json()["finished_ms"], body["finished_ms"]);
}

#[tokio::test]
async fn an_unconfirmed_callback_is_sent_after_a_kill_and_a_doubled_one_twice() {
    let (url, mut receiver, _tasks) = listener(0).await;
    let dir = tempfile::tempdir().unwrap();
    let keys = "fail_ppm = 1000000\nlate_ms_min = 300\nlate_ms_max = 300\ncallback_duplicate_ppm = 1000000";
    let config = one_vendor(&format!("callback_url = \"{url}\"\n{keys}"));
    let mut process = Process::start(dir.path(), &config).await;
    process.pay("N1A", 1, 5).await.unwrap();
    process.kill();
    let process = Process::start(dir.path(), &config).await;
    assert_eq!(next(&mut receiver).await.0, "cb_N1A_failed");
    process.pay("N2A", 1, 5).await.unwrap();
    let mut copies = 0;
    while copies < 2 {
        // N1A may have come before the kill too, if this machine was slow.
        copies += u32::from(next(&mut receiver).await.0 == "cb_N2A_failed");
    }
    assert_eq!(process.ask("N2A", 1).await.json()["status"], "failed");
}
