//! Standard Webhooks 1.0, symmetric signatures (`v1`): <https://www.standardwebhooks.com/>.
//!
//! One secret in both directions: our calls are signed with it, and a vendor's callbacks are believed by it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http::HeaderMap;
use sha2::Sha256;

/// Header with the message's id.
pub const ID: &str = "webhook-id";
/// Header with the second at which it was signed.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signatures.
pub const SIGNATURE: &str = "webhook-signature";
/// How far a timestamp may be from our clock, seconds: beyond it a message may be an old one sent again.
pub const TOLERANCE_S: u64 = 300;
/// Signatures of a list that are looked at.
const SIGNATURES_MAX: usize = 8;

/// Why a secret can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// Another prefix.
    #[error("a secret is `whsec_` followed by base64")]
    Form,
    /// Too few or too many bytes.
    #[error("a secret has 24 to 64 bytes behind `whsec_`, not {0}")]
    Length(usize),
}

/// Why a message is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing, or not text.
    #[error("header {0} is missing or malformed")]
    Header(&'static str),
    /// Signed too long ago, or in the future.
    #[error("signed {0} s away from our clock; at most 300 are allowed")]
    Time(u64),
    /// No signature fits.
    #[error("no v1 signature fits id, timestamp and body")]
    Mismatch,
}

/// A secret, ready to sign and to verify.
#[derive(Clone)]
pub struct Secret {
    keyed: Hmac<Sha256>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// What is wrong with the text; never the text itself.
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        let encoded = text.strip_prefix("whsec_").ok_or(SecretError::Form)?;
        let key = STANDARD.decode(encoded).map_err(|_| SecretError::Form)?;
        if !(24..=64).contains(&key.len()) {
            return Err(SecretError::Length(key.len()));
        }
        let keyed = Hmac::new_from_slice(&key).map_err(|_| SecretError::Length(key.len()))?;
        Ok(Secret { keyed })
    }

    fn over(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }

    /// The value of the signature header.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let tag = self.over(id, &timestamp_s.to_string(), body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(tag))
    }

    /// Believes a message or says why not.
    ///
    /// # Errors
    /// A header is missing, the time is too far away, or no signature fits.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Result<(), SignatureError> {
        let text = |name: &'static str| {
            headers.get(name).and_then(|v| v.to_str().ok()).ok_or(SignatureError::Header(name))
        };
        let (id, timestamp, signatures) = (text(ID)?, text(TIMESTAMP)?, text(SIGNATURE)?);
        // A full stop in the id would let two different messages have the same text to sign.
        if id.is_empty() || id.len() > 128 || id.contains('.') {
            return Err(SignatureError::Header(ID));
        }
        let signed_s: u64 = timestamp.parse().map_err(|_| SignatureError::Header(TIMESTAMP))?;
        let away_s = signed_s.abs_diff(now_ms / 1_000);
        if away_s > TOLERANCE_S {
            return Err(SignatureError::Time(away_s));
        }
        let mac = self.over(id, timestamp, body);
        let fits = |one: &str| {
            let tag = one.strip_prefix("v1,").and_then(|tag| STANDARD.decode(tag).ok());
            tag.is_some_and(|tag| mac.clone().verify_slice(&tag).is_ok())
        };
        if signatures.split(' ').take(SIGNATURES_MAX).any(fits) {
            Ok(())
        } else {
            Err(SignatureError::Mismatch)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ID, SIGNATURE, Secret, SecretError, SignatureError, TIMESTAMP};
    use http::HeaderMap;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const MESSAGE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT_S: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const TAG: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(id: &str, at_s: u64, tags: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ID, id.parse().unwrap());
        headers.insert(TIMESTAMP, at_s.into());
        headers.insert(SIGNATURE, tags.parse().unwrap());
        headers
    }

    #[test]
    fn the_published_vector_holds() {
        let secret = Secret::parse(SECRET).unwrap();
        assert_eq!(secret.sign(MESSAGE, AT_S, BODY), TAG);
        let believed = |h: &HeaderMap, body: &[u8], now_s: u64| secret.verify(h, body, now_s * 1_000);
        assert_eq!(believed(&headers(MESSAGE, AT_S, TAG), BODY, AT_S), Ok(()));
        assert_eq!(
            believed(&headers(MESSAGE, AT_S, &format!("v1a,x v1,eA== {TAG}")), BODY, AT_S + 300),
            Ok(())
        );
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(believed(&headers("msg_2", AT_S, TAG), BODY, AT_S), mismatch);
        assert_eq!(believed(&headers(MESSAGE, AT_S + 1, TAG), BODY, AT_S), mismatch);
        assert_eq!(believed(&headers(MESSAGE, AT_S, TAG), b"{}", AT_S), mismatch);
        assert_eq!(believed(&headers(MESSAGE, AT_S, TAG), BODY, AT_S + 301), Err(SignatureError::Time(301)));
        assert_eq!(believed(&headers("a.b", AT_S, TAG), BODY, AT_S), Err(SignatureError::Header(ID)));
        assert_eq!(believed(&HeaderMap::new(), BODY, AT_S), Err(SignatureError::Header(ID)));
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        assert_eq!(Secret::parse("abc").unwrap_err(), SecretError::Form);
        assert_eq!(Secret::parse("whsec_AAAA").unwrap_err(), SecretError::Length(3));
        assert_eq!(format!("{:?}", Secret::parse(SECRET).unwrap()), "Secret(..)");
    }
}
