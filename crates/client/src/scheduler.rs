//! Asks the platform where to connect: `GET /v1/scheduler`, answered by every front door without a token.
//!
//! One request on a connection of its own, because it comes before there is any other. The answer names a node for a while;
//! what kind of connection is made to it stays the app's choice ([`Scheduled::like`]).

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::rustls::ClientConfig;

use crate::transport::{Place, Stream};

/// Longest answer that is read.
const ANSWER_MAX: usize = 64 << 10;

/// Where an answer may be used for at most, in ms: a wrong word must not stick for days.
const TTL_MAX_MS: u32 = 3_600_000;

/// Whom to ask.
#[derive(Clone)]
pub struct Scheduler {
    /// `http://host[:port]` or `https://host[:port]`.
    pub url: String,
    /// Whom to trust; `https` needs it.
    pub tls: Option<Arc<ClientConfig>>,
    /// Where the device is, as the platform names its regions; empty: it doesn't say.
    pub region: String,
    /// Time for everything, in ms.
    pub answer_ms: u64,
}

/// The node to use.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Scheduled {
    /// Its number.
    pub node: u16,
    /// `host:port` for frames; empty: none.
    pub tcp: String,
    /// URL for WebSockets; empty: none.
    pub websocket: String,
    /// Where it stands.
    pub region: String,
    /// For how long this may be used, in ms.
    pub ttl_ms: u32,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// No connection, or it broke.
    #[error("cannot ask {url}: {error}")]
    Io {
        /// Whom.
        url: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// No answer in time.
    #[error("{url} did not answer within {within_ms} ms")]
    Late {
        /// Who.
        url: String,
        /// How long it had.
        within_ms: u64,
    },
    /// An answer that names no node.
    #[error("{url} named no node: {why}")]
    Answer {
        /// Who.
        url: String,
        /// What came instead.
        why: String,
    },
}

impl Scheduler {
    /// Asks for a user's node; 0: for nobody in particular.
    ///
    /// # Errors
    /// When there is no answer that names one.
    pub async fn ask(&self, user: u64) -> Result<Scheduled, SchedulerError> {
        let url = || self.url.clone();
        let answer = tokio::time::timeout(Duration::from_millis(self.answer_ms), self.fetch(user))
            .await
            .map_err(|_| SchedulerError::Late { url: url(), within_ms: self.answer_ms })?
            .map_err(|error| SchedulerError::Io { url: url(), error })?;
        read(&answer).map_err(|why| SchedulerError::Answer { url: url(), why })
    }

    async fn fetch(&self, user: u64) -> std::io::Result<Vec<u8>> {
        let wrong = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
        let place = Place::of_http(&self.url).map_err(wrong)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !self.region.chars().all(plain) {
            return Err(wrong(format!("region {:?}: letters, digits, '-', '_' and '.'", self.region)));
        }
        let mut stream = Stream::open(&place, self.tls.as_ref()).await?;
        let request = format!(
            "GET /v1/scheduler?user={user}&region={} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
            self.region,
            place.authority()
        );
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        loop {
            match stream.read_buf(&mut answer).await {
                Ok(0) => return Ok(answer),
                // Who closes TLS without saying so has said all the same what was asked for.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && is_whole(&answer) => {
                    return Ok(answer);
                }
                Err(error) => return Err(error),
                Ok(_) if is_whole(&answer) => return Ok(answer),
                Ok(_) if answer.len() > ANSWER_MAX => {
                    return Err(std::io::Error::other("an answer without end"));
                }
                Ok(_) => {}
            }
        }
    }
}

impl Scheduled {
    /// Its address for a connection of the same kind as one to `address`; `None`: it has none.
    pub fn like(&self, address: &str) -> Option<String> {
        crate::relocation::same_kind(address, &self.tcp, &self.websocket)
    }
}

/// Head and body of an HTTP answer, as far as it has come.
fn parts(answer: &[u8]) -> Option<(String, &[u8])> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..]))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    pairs.find(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn is_whole(answer: &[u8]) -> bool {
    let Some((head, body)) = parts(answer) else { return false };
    header(&head, "content-length").and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| body.len() >= n)
}

fn read(answer: &[u8]) -> Result<Scheduled, String> {
    let (head, body) = parts(answer).ok_or("it is no HTTP answer")?;
    let status = head.split("\r\n").next().unwrap_or_default();
    let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("{status}: {shown}"));
    }
    if header(&head, "transfer-encoding").is_some() {
        return Err("its answer is in chunks, which nobody asked for".to_owned());
    }
    let mut scheduled: Scheduled =
        serde_json::from_slice(body).map_err(|error| format!("{error}, in: {shown}"))?;
    if scheduled.tcp.is_empty() && scheduled.websocket.is_empty() {
        return Err(format!("no address in: {shown}"));
    }
    scheduled.ttl_ms = scheduled.ttl_ms.min(TTL_MAX_MS);
    Ok(scheduled)
}

#[cfg(test)]
mod tests {
    use super::{Scheduled, is_whole, read};

    #[test]
    fn answers_are_read_and_mistakes_named() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 56\r\n\r\n{\"node\":3,\"tcp\":\"c:1\",\"region\":\"\",\"ttlMs\":4000000000}   ";
        assert!(is_whole(good) && !is_whole(&good[..good.len() - 4]));
        let want = Scheduled { node: 3, tcp: "c:1".into(), ttl_ms: 3_600_000, ..Scheduled::default() };
        assert_eq!(read(good), Ok(want));
        let wrong = |answer: &str| read(answer.as_bytes()).unwrap_err();
        assert!(wrong("HTTP/1.1 503 Busy\r\n\r\nno node").contains("503 Busy: no node"));
        assert!(wrong("HTTP/1.1 200 OK\r\n\r\n{}").contains("no address"));
        assert!(wrong("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}").contains("chunks"));
        assert!(wrong("nonsense").contains("no HTTP"));
    }

    #[test]
    fn the_kind_of_connection_stays() {
        let there =
            Scheduled { tcp: "b:1".into(), websocket: "wss://b/v1/ws".into(), ..Scheduled::default() };
        let like = |address: &str| there.like(address);
        assert_eq!(like("a:1").as_deref(), Some("b:1"));
        assert_eq!(like("tls://a:1").as_deref(), Some("tls://b:1"));
        assert_eq!(like("wss://a/v1/ws").as_deref(), Some("wss://b/v1/ws"));
        let open = Scheduled { websocket: "ws://b/v1/ws".into(), ..Scheduled::default() };
        assert_eq!((open.like("wss://a"), open.like("a:1")), (None, None));
    }
}
