//! Starts the binary, talks to it as a sender does, kills it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use vendor_sim::sign::Signer;

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A running vendor-sim and a client to it. Dropping it kills it.
pub struct Process {
    child: Child,
    pub base: String,
    client: Client<HttpConnector, Full<Bytes>>,
    signer: Signer,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

#[allow(clippy::disallowed_methods)] // a sender has a wall clock
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub fn command(dir: &Path, config: &str) -> Command {
    let file = dir.join("vendors.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vendor-sim"));
    command.args(["run", "--listen", "127.0.0.1:0", "--config"]).arg(file);
    command.arg("--state-dir").arg(dir.join("state")).arg("--port-file").arg(dir.join("port"));
    command.env("VENDOR_SIM_SECRET_1", SECRET).env("RUST_LOG", "warn").stdin(Stdio::null());
    command
}

/// One vendor with these keys; answers come at once.
pub fn one_vendor(keys: &str) -> String {
    format!("[[vendor]]\nid = 1\n{keys}\n[vendor.latency]\nmin_ms = 0\nmean_ms = 0\ntail_ms = 0\n")
}

impl Process {
    pub async fn start(dir: &Path, config: &str) -> Self {
        let port_file = dir.join("port");
        let _ = std::fs::remove_file(&port_file);
        let mut child = command(dir, config).spawn().unwrap();
        for _ in 0..12_000 {
            if let Ok(port) = std::fs::read_to_string(&port_file) {
                let base = format!("http://127.0.0.1:{}", port.trim());
                let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
                return Self { child, base, client, signer: Signer::from_secret(SECRET).unwrap() };
            }
            assert!(child.try_wait().unwrap().is_none(), "ended at start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no port file after a minute");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; the exit code.
    pub async fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        for _ in 0..12_000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("still there a minute after SIGTERM");
    }

    /// A signed call; none if the connection was closed without an answer.
    pub async fn call(&self, method: Method, path: &str, id: &str, body: String) -> Option<Answer> {
        let at = now_ms() / 1000;
        let signature = self.signer.sign(id, at, body.as_bytes());
        self.send(
            Request::builder()
                .method(method)
                .uri(format!("{}{path}", self.base))
                .header("webhook-id", id)
                .header("webhook-timestamp", at)
                .header("webhook-signature", signature)
                .header("x-hb-send-ns", now_ms() * 1_000_000)
                .body(Full::new(body.into()))
                .unwrap(),
        )
        .await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let response = self.client.request(request).await.ok()?;
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.ok()?.to_bytes().to_vec()).unwrap();
        Some(Answer { status: parts.status, headers: parts.headers, text })
    }

    pub async fn pay(&self, number: &str, attempt: u32, fen: u32) -> Option<Answer> {
        let award = &number[..number.len() - 1];
        let body = format!(
            r#"{{"number":"{number}","kind":"cash","merchant_account":"m","payee":"me","fen":"{fen}","prize":1,"award":"{award}"}}"#
        );
        self.call(Method::POST, "/v/1/payouts", &format!("{number}_{attempt}"), body).await
    }

    pub async fn ask(&self, number: &str, n: u32) -> Answer {
        let path = format!("/v/1/payouts/{number}");
        self.call(Method::GET, &path, &format!("{number}_{n}"), String::new()).await.unwrap()
    }

    pub async fn statement(&self, more: &str) -> String {
        let to = now_ms() + 1;
        let path = format!("/v/1/statement?from_ms=0&to_ms={to}{more}");
        let id = format!("statement_0_{to}_1");
        let answer = self.call(Method::GET, &path, &id, String::new()).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    }

    pub async fn change(&self, keys: &str) -> Answer {
        let request = Request::post(format!("{}/admin/vendors/1/faults", self.base));
        self.send(request.body(Full::new(keys.to_owned().into())).unwrap()).await.unwrap()
    }

    /// The vendor's part of /stats.
    pub async fn stats(&self) -> Value {
        let request = Request::get(format!("{}/stats", self.base)).body(Full::default()).unwrap();
        self.send(request).await.unwrap().json()["vendors"][0].clone()
    }
}
