//! Who is speaking: signed tokens that an app's own login can make.
//!
//! A token is a JWT (RFC 7519) signed with HS256 (RFC 7515) and nothing else: an algorithm named by the token is
//! never believed, so `none` and public-key confusion have nowhere to go. Every token names its key, so keys
//! rotate without a moment in which good tokens fail. A user's token names a user id; a gateway's names the
//! gateway and what one of its connections may do. The format is published in `docs/tokens.md`.
//!
//! It refuses with an error of its own for each thing that can be wrong; none of them repeats the token.

mod cache;
mod claims;
mod keys;

pub use cache::TokenCache;
pub use claims::{GatewayGrant, Speaker, Verified};
pub use keys::{KeyCell, KeyError, SECRET_BYTES_MIN, TokenKey, TokenKeys};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use protocol::error::Code;
use serde::Deserialize;

/// Longest token that is looked at, in bytes. A user's token takes about 150.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// How far ahead of this machine's clock a token's `iat` may be, in seconds: clocks differ a little.
pub const ISSUED_AHEAD_MAX_S: u64 = 60;

/// What is wrong with a token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Longer than any token of ours.
    #[error("the token has {0} bytes, at most {TOKEN_BYTES_MAX} are taken")]
    TooLong(usize),
    /// Not three parts.
    #[error("a token is three base64url parts joined by dots (header.claims.signature); this one has {0}")]
    Parts(usize),
    /// A part is not base64url.
    #[error("the token's {0} is not base64url without padding")]
    Base64(&'static str),
    /// A part is not the JSON it should be.
    #[error("the token's {part} is not as expected: {what}")]
    Json {
        /// Header or claims.
        part: &'static str,
        /// What the JSON reader says.
        what: String,
    },
    /// Signed some other way.
    #[error("the token's alg is {0:?}; only HS256 is taken")]
    Algorithm(String),
    /// Something that is no token for us.
    #[error("the token's typ is {0:?}; it must be JWT or absent")]
    Type(String),
    /// Extensions that must be understood.
    #[error("the token's header has crit; no extension is understood here")]
    Critical,
    /// No key named.
    #[error("the token's header has no kid; it must name the key that signed it")]
    NoKey,
    /// A key nobody knows, or no longer.
    #[error("the token's kid {0:?} is no key of this platform (retired, or never one)")]
    UnknownKey(String),
    /// Forged, or damaged on its way.
    #[error("the token's signature does not match")]
    Signature,
    /// Its time is over.
    #[error("the token expired at {exp} (seconds UTC), it is {now} now; log in again")]
    Expired {
        /// When it expired.
        exp: u64,
        /// The time now.
        now: u64,
    },
    /// From the future.
    #[error("the token was issued at {iat} (seconds UTC), it is {now} now; check the issuer's clock")]
    NotYet {
        /// When it says it was made.
        iat: u64,
        /// The time now.
        now: u64,
    },
    /// For somebody else.
    #[error("the token's aud is {0:?}, not this platform's")]
    Audience(String),
    /// Neither a user's nor a gateway's.
    #[error("the token's claims are wrong: {0}")]
    Claims(String),
}

impl TokenError {
    /// The code that a client sees.
    pub fn code(&self) -> Code {
        match self {
            TokenError::Expired { .. } => Code::TokenExpired,
            _ => Code::Unauthenticated,
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// A token taken apart, nothing of it believed yet.
struct Parts<'a> {
    signed: &'a str,
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

fn take_apart(token: &str) -> Result<Parts<'_>, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong(token.len()));
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Parts(token.split('.').count()));
    };
    let decoded = |part: &str, name| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Base64(name));
    Ok(Parts {
        signed: &token[..header.len() + 1 + claims.len()],
        header: decoded(header, "header")?,
        claims: decoded(claims, "claims")?,
        signature: decoded(signature, "signature")?,
    })
}

fn signature_holds(key: &TokenKey, parts: &Parts<'_>) -> bool {
    let mut mac = key.mac().clone();
    mac.update(parts.signed.as_bytes());
    // Compares in constant time.
    mac.verify_slice(&parts.signature).is_ok()
}

impl TokenKeys {
    /// Proves a token at the instant `now_s` (seconds UTC) and says who speaks. `audience` is this platform's
    /// name: a token that has an `aud` must name it; one without is taken.
    ///
    /// # Errors
    /// What is wrong, first in the token's structure, then its key and signature, then its times and claims:
    /// nothing a forger wrote is answered to beyond 'signature'.
    pub fn verify(&self, token: &str, now_s: u64, audience: Option<&str>) -> Result<Verified, TokenError> {
        let parts = take_apart(token)?;
        let header: Header = read_json("header", &parts.header)?;
        if header.alg != "HS256" {
            return Err(TokenError::Algorithm(shortened(&header.alg)));
        }
        if let Some(typ) = header.typ.filter(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(TokenError::Type(shortened(&typ)));
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let kid = header.kid.ok_or(TokenError::NoKey)?;
        let key = self.key(&kid).ok_or_else(|| TokenError::UnknownKey(shortened(&kid)))?;
        if !signature_holds(key, &parts) {
            return Err(TokenError::Signature);
        }
        claims::read(&parts.claims, now_s, audience)
    }

    /// A user's token, signed with the current key. Times in seconds UTC.
    pub fn mint_user(&self, user: u64, issued_s: u64, expires_s: u64, audience: Option<&str>) -> String {
        self.sign(&claims::user(user, issued_s, expires_s, audience))
    }

    /// A gateway's credential, signed with the current key. Times in seconds UTC.
    pub fn mint_gateway(
        &self,
        grant: &GatewayGrant,
        issued_s: u64,
        expires_s: u64,
        audience: Option<&str>,
    ) -> String {
        self.sign(&claims::gateway(grant, issued_s, expires_s, audience))
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        let key = self.current();
        let header = serde_json::json!({ "alg": "HS256", "typ": "JWT", "kid": key.id() });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let mut mac = key.mac().clone();
        mac.update(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut token);
        token
    }
}

fn read_json<'a, T: Deserialize<'a>>(part: &'static str, bytes: &'a [u8]) -> Result<T, TokenError> {
    serde_json::from_slice(bytes).map_err(|error| TokenError::Json { part, what: error.to_string() })
}

/// What a stranger wrote goes into a message only in part.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
