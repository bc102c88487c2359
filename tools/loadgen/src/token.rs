//! Tokens for the players, made as docs/tokens.md says: as an app's own login would.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::LoadError;

/// How long tokens are good, in seconds.
const GOOD_S: u64 = 24 * 3600;

/// A signing key.
#[derive(Clone)]
pub struct TokenKey {
    header: String,
    mac: Hmac<Sha256>,
    audience: Option<String>,
}

impl TokenKey {
    /// A key with its id.
    ///
    /// # Errors
    /// When the platform would refuse it.
    pub fn new(kid: &str, secret: &[u8]) -> Result<Self, LoadError> {
        if secret.len() < 32 || kid.is_empty() || kid.len() > 64 {
            let text = format!(
                "token key {kid:?} of {} bytes: an id has 1 to 64 characters and a secret at least 32 bytes",
                secret.len()
            );
            return Err(LoadError::Config(text));
        }
        let header = serde_json::json!({ "alg": "HS256", "typ": "JWT", "kid": kid }).to_string();
        let mac = Hmac::<Sha256>::new_from_slice(secret)
            .map_err(|error| LoadError::Config(format!("token key {kid:?}: {error}")))?;
        Ok(Self { header: URL_SAFE_NO_PAD.encode(header), mac, audience: None })
    }

    /// Tokens name this audience.
    #[must_use]
    pub fn for_audience(mut self, audience: Option<String>) -> Self {
        self.audience = audience;
        self
    }

    /// Reads a key file: the key's id and its secret in hexadecimal, with a space or a colon between.
    ///
    /// # Errors
    /// When it can't be read or is something else.
    pub fn from_file(path: &std::path::Path) -> Result<Self, LoadError> {
        let text =
            std::fs::read_to_string(path).map_err(LoadError::io(format!("reading {}", path.display())))?;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let parts = line.and_then(|line| line.split_once([' ', ':', '\t']));
        let read = parts.and_then(|(kid, secret)| Some((kid, hex::decode(secret.trim()).ok()?)));
        let (kid, secret) = read.ok_or_else(|| {
            let path = path.display();
            LoadError::Config(format!(
                "{path} is no key file: it must have a line 'KEY_ID SECRET', the secret in hexadecimal"
            ))
        })?;
        Self::new(kid, &secret)
    }

    /// A player's token, made at `now_ms` (UTC).
    pub fn user(&self, user: u64, now_ms: u64) -> String {
        self.sign(serde_json::json!({ "sub": user.to_string() }), now_ms)
    }

    /// A gateway's credential, made at `now_ms` (UTC).
    pub fn gateway(&self, name: &str, now_ms: u64) -> String {
        self.sign(serde_json::json!({ "gw": name }), now_ms)
    }

    fn sign(&self, mut claims: serde_json::Value, now_ms: u64) -> String {
        let now_s = now_ms / 1000;
        claims["iat"] = now_s.into();
        claims["exp"] = (now_s + GOOD_S).into();
        if let Some(audience) = &self.audience {
            claims["aud"] = audience.as_str().into();
        }
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut mac = self.mac.clone();
        mac.update(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(mac.finalize().into_bytes(), &mut token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_what_is_said() {
        let key = TokenKey::new("k", &[7; 32]).unwrap();
        let token = key.user(u64::MAX, 5_000);
        let parts: Vec<_> = token.split('.').collect();
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((claims["sub"].as_str(), claims["iat"].as_u64()), (Some("18446744073709551615"), Some(5)));
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        mac.update(format!("{}.{}", parts[0], parts[1]).as_bytes());
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
    }

    #[test]
    fn key_files_are_read_and_mistakes_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, format!("# test\nmain {}\n", "ab".repeat(32))).unwrap();
        assert!(TokenKey::from_file(&path).is_ok());
        std::fs::write(&path, "secret").unwrap();
        assert!(TokenKey::from_file(&path).err().unwrap().to_string().contains("KEY_ID SECRET"));
        assert!(TokenKey::new("k", b"short").err().unwrap().to_string().contains("32"));
    }
}
