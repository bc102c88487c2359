//! A vendor that pays at once, remembers every number, and notices when an award is paid twice.

use crate::http::read_message;
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it has paid: award -> (number, body) of the payment.
type Paid = Arc<Mutex<BTreeMap<String, (String, Value)>>>;

pub struct Vendor {
    at: std::net::SocketAddr,
    paid: Paid,
    doubles: Arc<Mutex<Vec<String>>>,
}

impl Vendor {
    /// Begins to serve, until the test's process ends.
    pub fn start() -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let vendor = Vendor { at, paid: Paid::default(), doubles: Arc::default() };
        let (paid, doubles) = (Arc::clone(&vendor.paid), Arc::clone(&vendor.doubles));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (paid, doubles) = (Arc::clone(&paid), Arc::clone(&doubles));
                std::thread::spawn(move || serve(stream, &paid, &doubles));
            }
        });
        vendor
    }

    /// Configuration of a platform that delivers through it, with a short patience.
    pub fn config(&self) -> String {
        let secret = base64::engine::general_purpose::STANDARD.encode([7u8; 32]);
        format!(
            "[[delivery.vendors]]\nid = 1\nname = \"wallet\"\nbase_url = \"http://{}\"\nsecret = \"whsec_{secret}\"\n\
             merchant_account = \"m-1\"\ncapacity_per_second = 5000\naccount = \"user_id\"\ntimeout_ms = 500\n\
             settle_ms = 100\n\
             retry = {{ delays_ms = [200], spread_permille = 0, slow_down_min_ms = 0 }}\nask = {{ delays_ms = [100, 200, 500], spread_permille = 0, slow_down_min_ms = 0 }}\n\
             [flow]\nrepeat_interval_ms = 1000\nrepeat_grace_ms = 500\n",
            self.at
        )
    }

    /// Awards that were paid, with the fen of each.
    pub fn paid(&self) -> BTreeMap<String, i64> {
        let paid = self.paid.lock().unwrap();
        paid.iter().map(|(award, (_, body))| (award.clone(), fen(body))).collect()
    }

    /// No award was paid under two numbers, none under one number with two contents.
    #[track_caller]
    pub fn check(&self) {
        let doubles = self.doubles.lock().unwrap();
        assert!(doubles.is_empty(), "paid twice: {doubles:?}");
    }
}

fn fen(body: &Value) -> i64 {
    body["fen"].as_str().and_then(|f| f.parse().ok()).unwrap()
}

fn serve(stream: TcpStream, paid: &Paid, doubles: &Mutex<Vec<String>>) {
    let mut connection = BufReader::new(stream);
    while let Ok((head, body)) = read_message(&mut connection) {
        let (status, text) = match statement(&head, paid) {
            Some(text) => (200, text),
            None => {
                let (status, answer) = answer(&head, &body, paid, doubles);
                (status, answer.to_string())
            }
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        if connection.get_mut().write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

/// The statement of everything that was paid, if it is asked for. All of it was paid in the last moment of the span.
fn statement(head: &str, paid: &Paid) -> Option<String> {
    let query = head.split(' ').nth(1)?.split_once("/statement?")?.1;
    let asked: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let (from_ms, to_ms): (u64, u64) = (asked["from_ms"].parse().unwrap(), asked["to_ms"].parse().unwrap());
    let paid = paid.lock().unwrap();
    let mut text = "number,vendor_ref,award,payee,kind,fen,status,accepted_ms,finished_ms\n".to_owned();
    for (award, (number, body)) in paid.iter() {
        let field = |name: &str| body[name].as_str().unwrap().to_owned();
        let (payee, kind, fen, at_ms) = (field("payee"), field("kind"), fen(body), to_ms - 1);
        text += &format!("{number},R1,{award},{payee},{kind},{fen},success,{at_ms},{at_ms}\n");
    }
    let (rows, sum): (usize, i64) = (paid.len(), paid.values().map(|(_, body)| fen(body)).sum());
    text += &format!(
        "#footer rows={rows} fen={sum} success_rows={rows} success_fen={sum} reversed_rows=0 reversed_fen=0 \
         from_ms={from_ms} to_ms={to_ms} cut_ms={to_ms} complete={}\n",
        asked.get("complete").copied().unwrap_or("false")
    );
    Some(text)
}

fn answer(head: &str, body: &[u8], paid: &Paid, doubles: &Mutex<Vec<String>>) -> (u16, Value) {
    let mut paid = paid.lock().unwrap();
    let success = |number: &str, body: &Value| {
        json!({"number": number, "status": "success", "vendor_ref": "R1", "fen": body["fen"],
               "accepted_ms": 1, "finished_ms": 1})
    };
    if head.starts_with("POST") {
        let body: Value = serde_json::from_slice(body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let (award, number) = (text("award"), text("number"));
        let (first, was) = paid.entry(award.clone()).or_insert_with(|| (number.clone(), body.clone()));
        if *first != number || *was != body {
            doubles.lock().unwrap().push(format!("{award}: {was} and {body}"));
        }
        return (200, success(&number, &body));
    }
    let number = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    match paid.values().find(|(known, _)| known == number) {
        Some((_, body)) => (200, success(number, body)),
        None => (404, json!({"code": "NOT_FOUND", "message": "never seen"})),
    }
}
