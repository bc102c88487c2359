//! The HTTP adapter against a small server that checks what it gets.

use crate::support::{NOW_MS, award};
use ::http::{HeaderMap, Request, Response};
use campaign::{Fen, PrizeId, PrizeKind, VendorId};
use delivery::core::{Answer, AskAnswer, FactKind, number_of};
use delivery::vendor::http::{HttpVendor, SEND_NS};
use delivery::vendor::sign::{ID, SIGNATURE, Secret, TIMESTAMP};
use delivery::vendor::{Call, CallbackError, Payout, Question, Vendor};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Method, path, headers, body.
type Heard = (String, String, HeaderMap, Vec<u8>);

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<Heard>>,
    connections: AtomicUsize,
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes().to_vec();
    let (status, text) = match (head.method.as_str(), body.is_empty()) {
        ("POST", _) if String::from_utf8_lossy(&body).contains("\"prize\":429") => {
            (429, r#"{"code":"OVER_CAPACITY","message":""}"#.to_owned())
        }
        ("POST", _) => {
            let number = number_of(award(1), 0);
            (
                200,
                format!(
                    r#"{{"number":"{number}","status":"processing","vendor_ref":"R1","fen":"880","accepted_ms":1}}"#
                ),
            )
        }
        _ => (404, r#"{"code":"NOT_FOUND","message":""}"#.to_owned()),
    };
    seen.requests.lock().push((head.method.to_string(), head.uri.path().to_owned(), head.headers, body));
    let response = Response::builder().status(status).header("retry-after", "7");
    Ok(response.body(Full::new(Bytes::from(text))).unwrap())
}

/// Serves on a free port until the returned task set is dropped.
async fn serve(tasks: &runtime::Tasks) -> (String, Arc<Seen>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let (served, conns) = (seen.clone(), tasks.clone());
    tasks.spawn("test vendor", runtime::TaskKind::BestEffort, async move {
        loop {
            let (stream, _) = listener.accept().await?;
            served.connections.fetch_add(1, Ordering::SeqCst);
            let seen = served.clone();
            conns.spawn("test connection", runtime::TaskKind::BestEffort, async move {
                let service = hyper::service::service_fn(move |request| answer(request, seen.clone()));
                Ok(hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await?)
            });
        }
    });
    (base, seen)
}

fn payout(prize: u32) -> Payout {
    Payout {
        number: number_of(award(1), 0),
        award: award(1),
        kind: PrizeKind::Cash,
        prize: PrizeId(prize),
        fen: Fen(880),
        merchant: "m-1".into(),
        payee: "openid-1".into(),
    }
}

fn call(vendor: &HttpVendor, attempt: u32, prize: u32) -> Call {
    let payout = payout(prize);
    let body = vendor.body(&payout).unwrap();
    Call { number: payout.number, attempt, body, fen: payout.fen, send_ns: 4_711, now_ms: NOW_MS }
}

#[tokio::test]
async fn calls_are_signed_stamped_and_share_connections() {
    let tasks = runtime::Tasks::new(runtime::Shutdown::new());
    let (base, seen) = serve(&tasks).await;
    let secret = Secret::parse(SECRET).unwrap();
    let vendor = HttpVendor::new(VendorId(7), &base, secret.clone(), 4).unwrap();
    let number = number_of(award(1), 0);

    let pending = Answer::Accepted { is_final: false, vendor_ref: "R1".into() };
    // A connection goes back to the others beside its answer: a moment later, it may be.
    let put_back = || tokio::time::sleep(std::time::Duration::from_millis(50));
    assert_eq!(vendor.submit(call(&vendor, 1, 3)).await, pending);
    put_back().await;
    assert_eq!(vendor.submit(call(&vendor, 2, 3)).await, pending);
    put_back().await;
    let over = Answer::NotTaken { retry_after_ms: 7_000, over_limit: true, code: "OVER_CAPACITY".into() };
    assert_eq!(vendor.submit(call(&vendor, 3, 429)).await, over);
    put_back().await;
    let question = Question { number: number.clone(), ask: 9, fen: Fen(880), now_ms: NOW_MS };
    assert_eq!(vendor.query(question).await, AskAnswer::NotFound);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1, "one after the other, one connection");

    let requests = seen.requests.lock();
    let (method, path, headers, body) = &requests[1];
    assert_eq!((method.as_str(), path.as_str()), ("POST", "/v/7/payouts"));
    assert_eq!(headers[ID], format!("{number}_2").as_str());
    assert_eq!(headers[TIMESTAMP], (NOW_MS / 1_000).to_string().as_str());
    assert_eq!(headers[SEND_NS], "4711");
    assert_eq!(secret.verify(headers, body, NOW_MS), Ok(()));
    assert_eq!(requests[0].3, requests[1].3, "a repeat has the same bytes");
    let (method, path, headers, body) = &requests[3];
    assert_eq!((method.as_str(), path.as_str()), ("GET", format!("/v/7/payouts/{number}").as_str()));
    assert_eq!(headers[ID], format!("{number}_9").as_str());
    assert!(
        body.is_empty() && secret.verify(headers, body, NOW_MS).is_ok() && !headers.contains_key(SEND_NS)
    );
}

#[tokio::test]
async fn no_connection_is_unknown_and_bad_addresses_are_refused() {
    let secret = Secret::parse(SECRET).unwrap();
    let vendor = HttpVendor::new(VendorId(7), "http://127.0.0.1:1", secret.clone(), 4).unwrap();
    assert!(matches!(vendor.submit(call(&vendor, 1, 3)).await, Answer::Unknown { .. }));
    let question = Question { number: number_of(award(1), 0), ask: 1, fen: Fen(880), now_ms: NOW_MS };
    assert!(matches!(vendor.query(question).await, AskAnswer::NoAnswer { .. }));
    for bad in ["", "https://x", "127.0.0.1:80", "http://x?y=1"] {
        assert!(HttpVendor::new(VendorId(7), bad, secret.clone(), 4).is_err(), "{bad}");
    }
}

#[test]
fn callbacks_are_believed_by_signature_and_time() {
    let secret = Secret::parse(SECRET).unwrap();
    let vendor = HttpVendor::new(VendorId(7), "http://127.0.0.1:1", secret.clone(), 4).unwrap();
    let number = number_of(award(1), 2);
    let body = format!(
        r#"{{"type":"payout.finished","vendor":7,"number":"{number}","award":"{}","vendor_ref":"R","status":"failed","code":"X","fen":"880","accepted_ms":1,"finished_ms":2}}"#,
        award(1)
    );
    let mut headers = HeaderMap::new();
    let id = format!("cb_{number}_failed");
    headers.insert(ID, id.parse().unwrap());
    headers.insert(TIMESTAMP, (NOW_MS / 1_000).into());
    headers.insert(SIGNATURE, secret.sign(&id, NOW_MS / 1_000, body.as_bytes()).parse().unwrap());
    let believed = vendor.callback(&headers, body.as_bytes(), NOW_MS + 1_000).unwrap();
    assert_eq!((believed.award, believed.fact.generation), (award(1), 2));
    assert_eq!(believed.fact.kind, FactKind::Failed { code: "X".into() });
    let unbelieved = |body: &str, now_ms| {
        matches!(vendor.callback(&headers, body.as_bytes(), now_ms), Err(CallbackError::Signature(_)))
    };
    assert!(unbelieved(&body.replace("failed", "success"), NOW_MS));
    assert!(unbelieved(&body, NOW_MS + 400_000));
}
