//! The request that makes an HTTP connection a WebSocket.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Version};
use protocol::error::Code;
use protocol::v1;
use sha1::{Digest, Sha1};

/// Where WebSockets are opened.
pub const PATH: &str = "/v1/ws";

/// The subprotocol, echoed when it is offered.
pub const SUBPROTOCOL: &str = "hongbao.v1";

/// The only version that there is.
pub const VERSION: &str = "13";

/// What RFC 6455 appends to a key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request does not become a WebSocket.
#[derive(Debug)]
pub(crate) enum Refused {
    /// No request for one, or a wrong one.
    Bad(v1::Error),
    /// Another version: the answer names ours.
    Version(v1::Error),
}

/// Checks the request; gives the headers of the answer.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn accept(
    version: Version,
    headers: &HeaderMap,
    origins: &[String],
) -> Result<Vec<(HeaderName, HeaderValue)>, Refused> {
    let bad = |text: String| Refused::Bad(Code::Invalid.message(text));
    if version < Version::HTTP_11
        || !has(headers, &UPGRADE, "websocket")
        || !has(headers, &CONNECTION, "upgrade")
    {
        return Err(bad(format!(
            "{PATH} is for WebSockets: send 'Connection: Upgrade' and 'Upgrade: websocket'"
        )));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|named| named != VERSION) {
        let text = format!("WebSocket version {VERSION} is spoken here; name it in Sec-WebSocket-Version");
        return Err(Refused::Version(Code::Invalid.message(text)));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64".to_owned()));
    }
    check_origin(headers, origins)?;
    let accepted = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    let mut answer = vec![
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
    ];
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        answer.push((SEC_WEBSOCKET_ACCEPT, accepted));
    }
    if has(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        answer.push((SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL)));
    }
    Ok(answer)
}

/// A browser says which page asks; whoever says nothing is no browser.
fn check_origin(headers: &HeaderMap, origins: &[String]) -> Result<(), Refused> {
    let Some(origin) = headers.get(ORIGIN).filter(|_| !origins.is_empty()) else { return Ok(()) };
    let named = origin.to_str().unwrap_or_default();
    if origins.iter().any(|known| known.eq_ignore_ascii_case(named)) {
        return Ok(());
    }
    let shown: String = named.chars().take(80).collect();
    let text = format!("pages of {shown:?} may not open WebSockets here; see access.websocket.origins");
    Err(Refused::Bad(Code::Forbidden.message(text)))
}

/// Whether a header, a list of words, has this one.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    words.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(change: &[(&'static str, &'static str)]) -> HeaderMap {
        // The example of RFC 6455.
        let mut all = HeaderMap::new();
        let usual = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in usual.iter().chain(change) {
            all.insert(*name, HeaderValue::from_static(value));
        }
        all
    }

    fn answer(change: &[(&'static str, &'static str)], origins: &[&str]) -> Result<HeaderMap, String> {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        match accept(Version::HTTP_11, &headers(change), &origins) {
            Ok(answer) => Ok(answer.into_iter().collect()),
            Err(Refused::Bad(error) | Refused::Version(error)) => Err(error.message),
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let answer = answer(&[("sec-websocket-protocol", "chat, hongbao.v1")], &[]).unwrap();
        assert_eq!(answer["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer["sec-websocket-protocol"], "hongbao.v1");
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(answer(&[("upgrade", "h2c")], &[]).unwrap_err().contains("Upgrade: websocket"));
        assert!(answer(&[("sec-websocket-version", "8")], &[]).unwrap_err().contains("13"));
        assert!(answer(&[("sec-websocket-key", "c2hvcnQ=")], &[]).unwrap_err().contains("16 bytes"));
        let origin = [("origin", "https://evil.example")];
        assert!(answer(&origin, &["https://app.example"]).unwrap_err().contains("evil.example"));
        assert!(answer(&origin, &["https://EVIL.example"]).is_ok() && answer(&origin, &[]).is_ok());
        assert!(answer(&[], &["https://app.example"]).is_ok(), "no browser");
        assert!(
            !answer(&[("sec-websocket-protocol", "chat")], &[])
                .unwrap()
                .contains_key("sec-websocket-protocol")
        );
        assert!(matches!(accept(Version::HTTP_10, &headers(&[]), &[]), Err(Refused::Bad(_))));
    }
}
