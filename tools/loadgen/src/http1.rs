//! As much HTTP/1.1 as a client needs that asks one thing after the other on a kept-alive connection and is answered
//! with bodies of a stated length. Anything else is an error that says so.

use protocol::frame::FRAME_MAX;

/// Largest head and body taken.
const HEAD_MAX: usize = 8 * 1024;
const BODY_MAX: usize = FRAME_MAX - HEAD_MAX;

/// Appends a request; `body` empty: a GET.
pub(crate) fn put_request(out: &mut Vec<u8>, path: &str, token: &str, media_type: &str, body: &[u8]) {
    let method = if body.is_empty() { "GET" } else { "POST" };
    for part in [method, " ", path, " HTTP/1.1\r\nHost: hongbao\r\nAuthorization: Bearer ", token] {
        out.extend_from_slice(part.as_bytes());
    }
    for part in ["\r\nContent-Type: ", media_type, "\r\nContent-Length: "] {
        out.extend_from_slice(part.as_bytes());
    }
    put_decimal(out, body.len() as u64);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Appends a number.
pub(crate) fn put_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A response within a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HttpAnswer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    pub used: usize,
}

/// The first response of the buffer; `None` when more bytes are needed.
pub(crate) fn next_response(bytes: &[u8]) -> Result<Option<HttpAnswer<'_>>, String> {
    let Some(head) = bytes.windows(4).take(HEAD_MAX).position(|w| w == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_MAX {
            Err(format!("a response head of over {HEAD_MAX} bytes"))
        } else {
            Ok(None)
        };
    };
    let text =
        std::str::from_utf8(&bytes[..head]).map_err(|_| "a response head that is not text".to_owned())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or("a response that does not begin with HTTP/1.1 and a status")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or("a response without Content-Length (other transfers are not understood here)")?;
    if length > BODY_MAX {
        return Err(format!("a response body of {length} bytes; at most {BODY_MAX} are taken"));
    }
    let (from, used) = (head + 4, head + 4 + length);
    Ok(bytes.get(from..used).map(|body| HttpAnswer { status, body, used }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses() {
        let mut out = Vec::new();
        put_request(&mut out, "/v1/submit", "T", "application/json", b"{}");
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("POST /v1/submit HTTP/1.1\r\n") && text.ends_with("Content-Length: 2\r\n\r\n{}")
        );
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP";
        for cut in 0..bytes.len() {
            let answer = next_response(&bytes[..cut]).unwrap();
            assert_eq!(answer.is_some(), cut >= bytes.len() - 4, "{cut}");
        }
        assert_eq!(
            next_response(bytes).unwrap(),
            Some(HttpAnswer { status: 200, body: b"abc", used: bytes.len() - 4 })
        );
        assert!(next_response(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(next_response(b"SMTP\r\n\r\n").is_err());
    }
}
