//! Fetches a vendor's statement by the signed call of `docs/vendor-protocol.md`, streamed to a file.
//!
//! The file appears under its name only when the whole answer is there. A call without an answer, 429, 409 (not ready)
//! and 5xx are tried again a few times; anything else is a fault of the settings, and is said.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use campaign::Plan;
use delivery::config::VendorConfig;
use delivery::vendor::sign::{ID, SIGNATURE, Secret, TIMESTAMP};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use runtime::Clock;

/// Tries for one statement.
const TRIES_MAX: u32 = 5;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a vendor may be silent, before its answer and within it.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Bytes of a statement, at most: some 50 million rows.
const STATEMENT_MAX: u64 = 8 << 30;
/// How far a vendor's clock may be behind ours.
const CLOCK_MS: u64 = 60_000;

/// The time that a statement is about: from its first instant to just before the second, ms UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// First instant.
    pub from_ms: u64,
    /// First instant behind it.
    pub to_ms: u64,
}

impl Span {
    /// Everything that was ever paid by these plans, up to now.
    pub fn of(plans: &[Plan], now_ms: u64) -> Span {
        let opens = plans.iter().flat_map(|plan| &plan.rounds).map(|round| round.open_ms);
        Span { from_ms: opens.min().unwrap_or(now_ms).min(now_ms).saturating_sub(CLOCK_MS), to_ms: now_ms }
    }
}

/// Fetches the statement of a span into a file. `complete`: the vendor's final one.
///
/// # Errors
/// When the vendor's settings are wrong, it refuses, it does not answer, or the file can't be written.
pub(crate) async fn fetch(
    vendor: &VendorConfig,
    span: Span,
    complete: bool,
    into: &Path,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    let secret = Secret::parse(&vendor.secret).context("its secret")?;
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let Span { from_ms, to_ms } = span;
    let base = vendor.base_url.trim_end_matches('/');
    let mut url = format!("{base}/v/{}/statement?from_ms={from_ms}&to_ms={to_ms}", vendor.id);
    if complete {
        url += "&complete=true";
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let now_s = clock.now_ms() / 1_000;
        let id = format!("statement_{from_ms}_{to_ms}_{tries}");
        let request = Request::get(&url)
            .header(ID, &id)
            .header(TIMESTAMP, now_s)
            .header(SIGNATURE, secret.sign(&id, now_s, b""))
            .body(Empty::new())
            .with_context(|| format!("base_url `{}`", vendor.base_url))?;
        let why = match tokio::time::timeout(SILENCE_MAX, client.request(request)).await {
            Err(_) => format!("no answer within {} s", SILENCE_MAX.as_secs()),
            Ok(Err(error)) => format!("no answer: {error}"),
            Ok(Ok(answer)) if answer.status() == StatusCode::OK => match keep(answer, into).await? {
                Ok(()) => return Ok(()),
                Err(broken) => broken,
            },
            Ok(Ok(answer)) => refusal(answer).await?,
        };
        ensure!(tries < TRIES_MAX, "{url}: {why}, after {tries} tries");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why it said no, if asking again may help; an error if not.
async fn refusal(answer: Response<Incoming>) -> anyhow::Result<String> {
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), 4_096).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    let why = format!("it answered {status}: {text}");
    if status.is_server_error() || [StatusCode::TOO_MANY_REQUESTS, StatusCode::CONFLICT].contains(&status) {
        return Ok(why);
    }
    bail!("{why}");
}

/// Streams the answer into the file. The inner error is the vendor's and worth another try.
async fn keep(answer: Response<Incoming>, into: &Path) -> anyhow::Result<Result<(), String>> {
    let part = into.with_extension("csv.part");
    let named = || format!("writing {}", part.display());
    let mut file = std::io::BufWriter::new(std::fs::File::create(&part).with_context(named)?);
    let (mut body, mut bytes) = (answer.into_body(), 0);
    loop {
        let frame = match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
            Err(_) => return Ok(Err(format!("silent for {} s within its answer", SILENCE_MAX.as_secs()))),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Ok(Err(format!("the answer broke off: {error}"))),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
            ensure!(
                bytes <= STATEMENT_MAX,
                "the statement has more than {STATEMENT_MAX} bytes; take shorter spans"
            );
            file.write_all(data).with_context(named)?;
        }
    }
    file.into_inner()
        .map_err(|error| error.into_error())
        .and_then(|file| file.sync_all())
        .with_context(named)?;
    std::fs::rename(&part, into).with_context(|| format!("writing {}", into.display()))?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::{Span, fetch};
    use delivery::config::VendorConfig;
    use delivery::vendor::sign::Secret;
    use http::HeaderMap;
    use runtime::ManualClock;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW_MS: u64 = 1_767_196_800_000;

    fn vendor(base_url: &str) -> VendorConfig {
        let text = format!(
            "id = 7\nname = \"w\"\nbase_url = \"{base_url}\"\nsecret = \"{SECRET}\"\nmerchant_account = \"m\"\ncapacity_per_second = 1"
        );
        toml::from_str(&text).unwrap()
    }

    /// Answers one connection after the other with these texts and hands back what was asked.
    fn serve(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let serve_one = |answer: &str| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut asked, mut buffer) = (Vec::new(), [0; 4_096]);
                while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                    let n = stream.read(&mut buffer).unwrap();
                    asked.extend_from_slice(&buffer[..n]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(asked).unwrap()
            };
            answers.into_iter().map(serve_one).collect()
        });
        (base, thread)
    }

    #[tokio::test]
    async fn a_statement_is_asked_for_with_a_signature_and_again_when_it_was_busy() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("s.csv");
        let (base, server) = serve(vec![
            "HTTP/1.1 429 x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nwhole",
        ]);
        let clock = ManualClock::new(NOW_MS);
        let span = Span { from_ms: 5, to_ms: 9 };
        fetch(&vendor(&base), span, true, &into, &*clock).await.unwrap();
        assert_eq!(std::fs::read_to_string(&into).unwrap(), "whole");
        let asked = server.join().unwrap();
        assert!(
            asked[0].starts_with("GET /v/7/statement?from_ms=5&to_ms=9&complete=true HTTP/1.1\r\n"),
            "{}",
            asked[0]
        );
        let mut headers = HeaderMap::new();
        for line in asked[2].lines().skip(1).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        assert_eq!(headers["webhook-id"], "statement_5_9_3");
        Secret::parse(SECRET).unwrap().verify(&headers, b"", NOW_MS).unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_said_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("s.csv");
        let body = r#"{"code":"BAD_SIGNATURE"}"#;
        let (base, server) = serve(vec![
            "HTTP/1.1 401 x\r\ncontent-length: 24\r\nconnection: close\r\n\r\n{\"code\":\"BAD_SIGNATURE\"}",
        ]);
        let clock = ManualClock::new(NOW_MS);
        let error =
            fetch(&vendor(&base), Span { from_ms: 5, to_ms: 9 }, false, &into, &*clock).await.unwrap_err();
        assert!(error.to_string().contains(body), "{error}");
        assert!(!into.exists());
        server.join().unwrap();
    }
}
