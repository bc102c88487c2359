//! The keys that sign tokens: several at once, so that they can be rotated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hmac::{Hmac, Mac};
use parking_lot::RwLock;
use sha2::Sha256;

/// Shortest secret taken: as long as the hash, as RFC 7518, section 3.2 asks.
pub const SECRET_BYTES_MIN: usize = 32;

/// A key with the id that tokens name it by. The secret itself is not kept, only the keyed state made from it.
#[derive(Clone)]
pub struct TokenKey {
    id: String,
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why these keys can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// A short secret can be guessed from one token.
    #[error("token key {id:?} has {bytes} bytes, at least {SECRET_BYTES_MIN} are needed")]
    Short {
        /// Which key.
        id: String,
        /// Its length.
        bytes: usize,
    },
    /// Two keys of one id.
    #[error("token key {0:?} is there twice; every key needs an id of its own")]
    Twice(String),
    /// No id, or one too long to stand in every token.
    #[error("a token key id has 1 to 64 characters, {0:?} does not")]
    Id(String),
    /// Nothing to sign or check with.
    #[error("there is no token key; at least one is needed")]
    None,
}

impl TokenKey {
    /// A key from its secret.
    ///
    /// # Errors
    /// When the id or the secret can't serve.
    pub fn new(id: impl Into<String>, secret: &[u8]) -> Result<Self, KeyError> {
        let id = id.into();
        if id.is_empty() || id.len() > 64 {
            return Err(KeyError::Id(id));
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::Short { id, bytes: secret.len() });
        }
        let mac = <Hmac<Sha256> as Mac>::new_from_slice(secret)
            .map_err(|_| KeyError::Short { id: id.clone(), bytes: secret.len() })?;
        Ok(Self { id, mac })
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn mac(&self) -> &Hmac<Sha256> {
        &self.mac
    }
}

/// All keys whose tokens are taken. The first one signs.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    keys: Vec<TokenKey>,
}

impl TokenKeys {
    /// These keys; the first signs new tokens. To rotate: put the new key in front everywhere, wait until the last
    /// token of the old one has expired, leave the old one out.
    ///
    /// # Errors
    /// When there is none, or two have the same id.
    pub fn new(keys: Vec<TokenKey>) -> Result<Self, KeyError> {
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        for (i, key) in keys.iter().enumerate() {
            if keys[..i].iter().any(|other| other.id == key.id) {
                return Err(KeyError::Twice(key.id.clone()));
            }
        }
        Ok(Self { keys })
    }

    pub(super) fn current(&self) -> &TokenKey {
        // `new` takes no empty list.
        &self.keys[0]
    }

    pub(super) fn key(&self, id: &str) -> Option<&TokenKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Ids of all keys, the signing one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(TokenKey::id)
    }
}

/// The keys as a running server holds them: replaced whole while it runs.
#[derive(Debug)]
pub struct KeyCell {
    version: AtomicU64,
    keys: RwLock<Arc<TokenKeys>>,
}

impl KeyCell {
    /// A cell with its first keys.
    pub fn new(keys: TokenKeys) -> Arc<Self> {
        Arc::new(Self { version: AtomicU64::new(1), keys: RwLock::new(Arc::new(keys)) })
    }

    /// Rises with every replacement: a cache of proved tokens is good for one version.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The keys now.
    pub fn keys(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.keys.read())
    }

    /// Replaces the keys. New logins and requests go by the new ones at once; connections that have logged in
    /// stay until their token expires.
    pub fn replace(&self, keys: TokenKeys) {
        *self.keys.write() = Arc::new(keys);
        self.version.fetch_add(1, Ordering::Release);
    }
}
