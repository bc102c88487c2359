//! Standard Webhooks 1.0, `v1` only: how callers prove who they are, and how callbacks do.
//!
//! A request is refused when a header is missing or malformed, when its timestamp is further than [`TOLERANCE_S`] from
//! our clock, or when no signature of the list fits. Comparison takes the same time wherever the difference is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use hyper::HeaderMap;
use sha2::Sha256;

/// Header with the id of the message.
pub const ID: &str = "webhook-id";
/// Header with the time of signing, seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the list of signatures.
pub const SIGNATURE: &str = "webhook-signature";
/// Furthest distance of a timestamp from our clock, seconds.
pub const TOLERANCE_S: u64 = 300;
/// Longest id taken.
pub const ID_LEN_MAX: usize = 128;
/// Signatures looked at in one list: enough for a change of keys, too few to make us work.
const SIGNATURES_MAX: usize = 8;

/// Why a secret is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretError {
    /// Wrong or no prefix.
    #[error("a secret begins with `whsec_`")]
    Prefix,
    /// What follows is not base64.
    #[error("behind `whsec_` stands standard base64 with padding")]
    Base64,
    /// Too short or too long.
    #[error("a secret holds 24-64 bytes, this one {0}")]
    Length(usize),
}

/// Why a message is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    /// A header is not there or not text.
    #[error("header {0} is missing or not plain text")]
    Missing(&'static str),
    /// The id has other characters or is too long.
    #[error("webhook-id is 1-128 letters, digits, `_` or `-`")]
    Id,
    /// The timestamp is no number of seconds, or too far from our clock.
    #[error("webhook-timestamp is in whole seconds and within 300 s of our clock, which says {now_s}")]
    Timestamp {
        /// Our clock, seconds.
        now_s: u64,
    },
    /// No `v1` signature fits.
    #[error("no v1 signature fits id, timestamp and body")]
    Mismatch,
}

/// A key, ready for use: hashing its pads is done once.
#[derive(Clone)]
pub struct Signer {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(secret)")
    }
}

impl Signer {
    /// Reads `whsec_` + base64.
    pub fn from_secret(secret: &str) -> Result<Self, SecretError> {
        let text = secret.strip_prefix("whsec_").ok_or(SecretError::Prefix)?;
        let key = STANDARD.decode(text).map_err(|_| SecretError::Base64)?;
        if !(24..=64).contains(&key.len()) {
            return Err(SecretError::Length(key.len()));
        }
        let mac = Hmac::new_from_slice(&key).map_err(|_| SecretError::Length(key.len()))?;
        Ok(Self { mac })
    }

    fn mac_over(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }

    /// The value of `webhook-signature` for a message signed at `timestamp_s`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let tag = self.mac_over(id, &timestamp_s.to_string(), body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(tag))
    }

    /// Checks a message at `now_s` (seconds) and returns its id.
    pub fn verify<'h>(
        &self,
        headers: &'h HeaderMap,
        body: &[u8],
        now_s: u64,
    ) -> Result<&'h str, SignatureError> {
        let id = text(headers, ID)?;
        if id.is_empty()
            || id.len() > ID_LEN_MAX
            || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        {
            return Err(SignatureError::Id);
        }
        let timestamp = text(headers, TIMESTAMP)?;
        let signed_s: u64 = timestamp.parse().map_err(|_| SignatureError::Timestamp { now_s })?;
        if signed_s.abs_diff(now_s) > TOLERANCE_S {
            return Err(SignatureError::Timestamp { now_s });
        }
        let mac = self.mac_over(id, timestamp, body);
        let fits = text(headers, SIGNATURE)?.split(' ').take(SIGNATURES_MAX).any(|one| {
            one.strip_prefix("v1,")
                .and_then(|tag| STANDARD.decode(tag).ok())
                .is_some_and(|tag| mac.clone().verify_slice(&tag).is_ok())
        });
        if fits { Ok(id) } else { Err(SignatureError::Mismatch) }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, SignatureError> {
    headers.get(name).and_then(|v| v.to_str().ok()).ok_or(SignatureError::Missing(name))
}

/// A new secret from the system's randomness.
pub fn make_secret() -> std::io::Result<String> {
    use std::io::Read as _;
    let mut key = [0u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(format!("whsec_{}", STANDARD.encode(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const MESSAGE: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const TAG: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn headers(id: &str, at: &str, tags: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.insert(ID, id.parse().unwrap());
        map.insert(TIMESTAMP, at.parse().unwrap());
        map.insert(SIGNATURE, tags.parse().unwrap());
        map
    }

    #[test]
    fn the_published_vector_holds_both_ways() {
        let signer = Signer::from_secret(SECRET).unwrap();
        assert_eq!(signer.sign(MESSAGE, AT, BODY), TAG);
        let good = headers(MESSAGE, &AT.to_string(), TAG);
        assert_eq!(signer.verify(&good, BODY, AT), Ok(MESSAGE));
    }

    #[test]
    fn one_valid_signature_in_a_list_is_enough() {
        let signer = Signer::from_secret(SECRET).unwrap();
        let tags = format!("v1a,AAAA v1,AAAA {TAG}");
        assert!(signer.verify(&headers(MESSAGE, &AT.to_string(), &tags), BODY, AT).is_ok());
    }

    #[test]
    fn a_change_anywhere_is_refused() {
        let signer = Signer::from_secret(SECRET).unwrap();
        let at = AT.to_string();
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(signer.verify(&headers("msg_other", &at, TAG), BODY, AT), mismatch);
        assert_eq!(signer.verify(&headers(MESSAGE, &(AT + 1).to_string(), TAG), BODY, AT), mismatch);
        assert_eq!(signer.verify(&headers(MESSAGE, &at, TAG), b"{}", AT), mismatch);
        assert_eq!(signer.verify(&headers(MESSAGE, &at, "v1,"), BODY, AT), mismatch);
        let other = Signer::from_secret(&make_secret().unwrap()).unwrap();
        assert_eq!(other.verify(&headers(MESSAGE, &at, TAG), BODY, AT), mismatch);
    }

    #[test]
    fn the_clock_may_be_off_by_five_minutes_and_no_more() {
        let signer = Signer::from_secret(SECRET).unwrap();
        let good = headers(MESSAGE, &AT.to_string(), TAG);
        assert!(signer.verify(&good, BODY, AT + 300).is_ok());
        assert!(signer.verify(&good, BODY, AT - 300).is_ok());
        assert_eq!(signer.verify(&good, BODY, AT + 301), Err(SignatureError::Timestamp { now_s: AT + 301 }));
    }

    #[test]
    fn headers_that_are_missing_or_odd_are_named() {
        let signer = Signer::from_secret(SECRET).unwrap();
        assert_eq!(signer.verify(&HeaderMap::new(), BODY, AT), Err(SignatureError::Missing(ID)));
        assert_eq!(signer.verify(&headers("a.b", "1", TAG), BODY, AT), Err(SignatureError::Id));
    }

    #[test]
    fn secrets_are_checked() {
        assert_eq!(Signer::from_secret("abc").unwrap_err(), SecretError::Prefix);
        assert_eq!(Signer::from_secret("whsec_%%").unwrap_err(), SecretError::Base64);
        assert_eq!(Signer::from_secret("whsec_AAAA").unwrap_err(), SecretError::Length(3));
        assert_ne!(make_secret().unwrap(), make_secret().unwrap());
    }
}
