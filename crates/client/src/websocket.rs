//! A WebSocket's client side over bytes (RFC 6455), without the socket: the same frames of the platform, in binary messages.
//!
//! Messages carry a stream of frames: where one message ends and the next begins means nothing. So payloads are taken out
//! as they come, fragmented or not, and only control messages are looked at.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Hashed behind the key, section 1.3 of the RFC.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Longest head of an answer to the handshake.
const ANSWER_MAX: usize = 8 * 1024;

/// Longest payload of a control message.
const CONTROL_MAX: usize = 125;

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WebSocketError {
    /// The server did not agree.
    #[error("the server did not switch to a WebSocket: {0}")]
    Refused(String),
    /// Bytes that no server may send.
    #[error("the server broke the WebSocket protocol: {0}")]
    Broken(&'static str),
    /// The server closed it.
    #[error("the server closed the WebSocket (code {0})")]
    Closed(u16),
}

/// The request that opens a WebSocket, and the answer that it must have.
#[derive(Clone, Debug)]
pub struct Handshake {
    accept: String,
}

impl Handshake {
    /// Appends the request for `path` at `host`. `nonce`: random.
    pub fn begin(host: &str, path: &str, nonce: [u8; 16], out: &mut Vec<u8>) -> Self {
        let key = STANDARD.encode(nonce);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
        Self { accept: STANDARD.encode(Sha1::digest(format!("{key}{MAGIC}"))) }
    }

    /// Takes what the server has answered so far; gives how long its head is once it is whole.
    ///
    /// # Errors
    /// When the server did not agree.
    pub fn take(&self, input: &[u8]) -> Result<Option<usize>, WebSocketError> {
        let refused = |text: String| Err(WebSocketError::Refused(text));
        let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") else {
            return if input.len() > ANSWER_MAX {
                refused("its answer has no end".to_owned())
            } else {
                Ok(None)
            };
        };
        let head = String::from_utf8_lossy(&input[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return refused(status.chars().take(100).collect());
        }
        let accept = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim().to_owned())
        });
        if accept.as_deref() != Some(&self.accept) {
            return refused("its Sec-WebSocket-Accept is not that of our key".to_owned());
        }
        Ok(Some(end + 4))
    }
}

/// Appends a binary message. `mask`: random, a new one each time.
pub fn put_message(out: &mut Vec<u8>, payload: &[u8], mask: [u8; 4]) {
    put(out, 0x82, payload, mask);
}

/// Appends the end of the conversation.
pub fn put_close(out: &mut Vec<u8>, mask: [u8; 4]) {
    put(out, 0x88, &1000u16.to_be_bytes(), mask);
}

fn put(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The receiving side: a payload may be taken in pieces.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// Bytes of the present data message still to come.
    left: u64,
    /// A fragmented message is under way.
    fragmented: bool,
}

impl Reader {
    /// Takes bytes off `input`: payloads go to `data`, pongs that are due to `reply` (masked by `mask`).
    ///
    /// # Errors
    /// When the server closed it, or broke the protocol.
    pub fn take(
        &mut self,
        input: &mut Vec<u8>,
        data: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        mut mask: impl FnMut() -> [u8; 4],
    ) -> Result<(), WebSocketError> {
        let mut at = 0;
        let done = loop {
            if self.left > 0 {
                let ready = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                data.extend_from_slice(&input[at..at + ready]);
                (at, self.left) = (at + ready, self.left - ready as u64);
                if self.left > 0 {
                    break Ok(());
                }
            }
            match self.head(&input[at..], reply, &mut mask) {
                Ok(Some(used)) => at += used,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        input.drain(..at);
        done
    }

    /// Takes the head of a message, or a control message whole; gives how many bytes that was.
    fn head(
        &mut self,
        input: &[u8],
        reply: &mut Vec<u8>,
        mask: &mut impl FnMut() -> [u8; 4],
    ) -> Result<Option<usize>, WebSocketError> {
        let broken = |what| Err(WebSocketError::Broken(what));
        let [first, second, ..] = *input else { return Ok(None) };
        if first & 0x70 != 0 {
            return broken("reserved bits are set");
        }
        if second & 0x80 != 0 {
            return broken("a server's message is masked");
        }
        let (length, head) = match second {
            126 => match input.get(2..4) {
                Some(bytes) => (u64::from(u16::from_be_bytes([bytes[0], bytes[1]])), 4),
                None => return Ok(None),
            },
            127 => match input.get(2..10).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) {
                Some(bytes) => (u64::from_be_bytes(bytes), 10),
                None => return Ok(None),
            },
            n => (u64::from(n), 2),
        };
        let (last, kind) = (first & 0x80 != 0, first & 0x0f);
        match kind {
            0 if !self.fragmented => return broken("a continuation of nothing"),
            2 if self.fragmented => return broken("a message within another"),
            0 | 2 => {
                (self.left, self.fragmented) = (length, !last);
                return Ok(Some(head));
            }
            1 => return broken("a text message, where only binary ones are spoken"),
            8..=10 => {}
            _ => return broken("a message of unknown kind"),
        }
        if !last || length > CONTROL_MAX as u64 {
            return broken("a control message that is too long or cut");
        }
        let end = head + length as usize;
        let Some(payload) = input.get(head..end) else { return Ok(None) };
        match kind {
            8 => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                Err(WebSocketError::Closed(code))
            }
            9 => {
                put(reply, 0x8a, payload, mask());
                Ok(Some(end))
            }
            _ => Ok(Some(end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_as_the_rfc_shows() {
        let mut out = Vec::new();
        let h = Handshake::begin("server.example.com", "/chat", *b"the sample nonce", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("GET /chat HTTP/1.1\r\n") && text.contains("dGhlIHNhbXBsZSBub25jZQ==\r\n"));
        let yes = b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nmore";
        assert_eq!(h.take(yes), Ok(Some(yes.len() - 4)));
        assert_eq!(h.take(&yes[..40]), Ok(None));
        assert!(h.take(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap_err().to_string().contains("403"));
        assert!(h.take(b"HTTP/1.1 101 OK\r\nSec-WebSocket-Accept: no\r\n\r\n").is_err());
        assert!(h.take(&[b'x'; 9_000]).is_err());
    }

    /// What a server sends: no mask.
    fn message(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        put(&mut masked, first, payload, [0; 4]);
        let head = masked.len() - payload.len() - 4;
        masked[1] &= 0x7f;
        masked.drain(head..head + 4);
        masked
    }

    #[test]
    fn answers_pings_and_hears_farewells() {
        let (mut r, mut data, mut reply) = (Reader::default(), Vec::new(), Vec::new());
        let mut take = |bytes: Vec<u8>| {
            let mut bytes = bytes;
            r.take(&mut bytes, &mut data, &mut reply, || [1, 2, 3, 4])
        };
        assert_eq!(take([message(0x89, b"hi"), message(0x8a, b"")].concat()), Ok(()));
        assert_eq!(take(message(0x88, &1001u16.to_be_bytes())), Err(WebSocketError::Closed(1001)));
        for wrong in [
            message(0x81, b"text"),
            message(0x80, b""),
            message(0xc2, b""),
            vec![0x82, 0x81],
            message(0x09, b""),
        ] {
            assert!(matches!(take(wrong.clone()), Err(WebSocketError::Broken(_))), "{wrong:?}");
        }
        assert_eq!((data.len(), &reply[..2]), (0, &[0x8a, 0x82][..]));
    }

    proptest! {
        #[test]
        fn payloads_come_through_however_they_are_cut(
            payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), any::<bool>()), 1..8),
            cut in 1usize..60,
        ) {
            let mut stream = Vec::new();
            let mut fragmented = false;
            for (payload, last) in &payloads {
                let first = if fragmented { 0 } else { 2 } | if *last { 0x80 } else { 0 };
                fragmented = !last;
                stream.extend(message(first, payload));
                stream.extend(message(0x89, b"ping"));
            }
            let (mut r, mut data, mut reply, mut input) = (Reader::default(), Vec::new(), Vec::new(), Vec::new());
            for piece in stream.chunks(cut) {
                input.extend_from_slice(piece);
                r.take(&mut input, &mut data, &mut reply, || [9; 4]).unwrap();
            }
            let want: Vec<u8> = payloads.iter().flat_map(|(payload, _)| payload.clone()).collect();
            prop_assert_eq!(data, want);
            prop_assert_eq!(reply.len(), payloads.len() * 10);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut input = bytes;
            let _ = Reader::default().take(&mut input, &mut Vec::new(), &mut Vec::new(), || [0; 4]);
        }
    }
}
